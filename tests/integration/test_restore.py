"""Restore on a real engine: evidence first, a fresh volume, what differs, the container with it."""

from __future__ import annotations

import gzip
import io
import json
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.fits import fits

from .conftest import WEB, Lab


@pytest.fixture
def volume(lab: Lab) -> Iterator[str]:
    name = f"{lab.token}-data"
    yield name
    for container in lab.docker("ps", "-aq").split():
        if lab.token in lab.docker("inspect", "-f", "{{.Name}}", container, check=False):
            lab.docker("rm", "-f", container, check=False)
    for one in lab.docker("volume", "ls", "-q").split():
        if one.startswith(lab.token):
            lab.docker("volume", "rm", one, check=False)


def backup(folder: Path) -> Path:
    folder.mkdir(parents=True)
    (folder / "sub").mkdir(mode=0o750)
    (folder / "same").write_text("same\n")
    (folder / "sub/config").write_text("clean\n")
    (folder / "sub/deleted").write_text("was deleted by the attacker\n")
    (folder / "link").symlink_to("sub/config")
    (folder / "hard").hardlink_to(folder / "same")
    return folder


def victim(lab: Lab, volume: str) -> str:
    web = lab.run("web", "--network", lab.network("net"), "-v", f"{volume}:/data", "-e", "KEPT=yes")
    script = "cd /data && mkdir sub && echo same > same && echo EVIL > sub/config && echo key > backdoor && ln -s sub/config link"
    lab.docker("exec", web, "sh", "-c", script)
    return web


def untouched(lab: Lab) -> bool:
    """Whether irkit refused before it opened a case: nothing was acquired."""
    return not list(lab.home.glob("cases/*/runs/*"))


def paths(rows: Any) -> list[str]:
    return [row["path"] for row in rows]


@pytest.mark.parametrize("packed", ["folder", "tar", "gz", "xz", "zst"])
def test_a_fresh_volume_in_the_place_of_the_suspect_one(lab: Lab, volume: str, packed: str) -> None:
    source = backup(lab.home / "backup")
    if packed != "folder":
        tar = lab.home / "backup.tar"
        subprocess.run(["tar", "-C", str(source), "-cf", str(tar), "."], check=True)
        if packed != "tar":
            tool = {"gz": "gzip", "xz": "xz", "zst": "zstd"}[packed]
            subprocess.run([tool, "-q", str(tar)], check=True)
        source = tar if packed == "tar" else Path(f"{tar}.{packed}")
    web = victim(lab, volume)
    old = lab.docker("inspect", "-f", "{{.Id}}", web)
    refused = lab.irkit("restore", web, "--from", str(source), code=5)
    assert "runs, and writes" in refused.err and "--stop stops it first" in refused.err
    assert lab.docker("inspect", "-f", "{{.Id}}", web) == old and untouched(lab)
    by_playbook = lab.irkit("run", "restore", web, "--var", f"source={source}", code=5)
    assert "stop=true" in by_playbook.err and not list(lab.home.glob("cases/*/bundles/*/data/volumes/*"))
    done = lab.irkit("restore", web, "--from", str(source), "--stop", "--json", code=None)
    assert done.code in (0, 4), done.err
    report = done.json["restored"]
    fits(report, "restored")
    assert paths(report["added"]) == ["/hard", "/sub/deleted"] and paths(report["removed"]) == ["/backdoor"]
    assert paths(report["changed"]) == ["/sub/config"] and report["not_restored"] == []
    assert report["held"]["digest"] == done.json["bundle"]["digest"] and Path(report["path"]).is_file()
    inspected = json.loads(lab.docker("inspect", web))[0]
    assert inspected["Id"] != old and inspected["State"]["Running"] and "KEPT=yes" in inspected["Config"]["Env"]
    assert [one["Name"] for one in inspected["Mounts"]] == [report["fresh"]]
    assert lab.docker("exec", web, "cat", "/data/link") == "clean"
    assert lab.docker("exec", web, "stat", "-c", "%a %h", "/data/sub", "/data/hard").split() == ["750", "2", "644", "2"]
    assert (
        lab.docker("run", "--rm", "-v", f"{volume}:/v", WEB, "cat", "/v/sub/config") == "EVIL"
    )  # the suspect one is as it was
    assert lab.docker("inspect", "-f", "{{.Id}} {{.State.Running}}", report["old_container"]) == f"{old} false"


def test_contained_needs_a_verified_image(lab: Lab, volume: str) -> None:
    source = backup(lab.home / "backup")
    web = victim(lab, volume)
    lab.irkit("contain", web, code=None)
    refused = lab.irkit("restore", web, "--from", str(source), code=5)
    assert "only from a verified image" in refused.err and "run " not in refused.err, "before a run begins"
    assert not [one for one in lab.docker("volume", "ls", "-q").split() if "restored" in one]
    alone = lab.irkit("restore", volume, "--from", str(source), "--no-recreate", "--json", code=None).json
    assert alone["restored"]["container"] == "" and lab.docker("inspect", "-f", "{{.State.Paused}}", web) == "true"
    lab.irkit("key", "generate", "--name", "images", "--use", "image", code=None)
    lab.irkit("image", "sign", WEB, "--key", "images", code=None)
    lab.docker("network", "inspect", f"{lab.token}-net")
    before, rules = set(lab.docker("volume", "ls", "-q").split()), lab.home / "audit.yaml"
    rules.write_text("apiVersion: irkit/v1\nkind: AuditPolicy\nrebuild: low\n")
    stopped = lab.irkit("restore", web, "--from", str(source), "--image", WEB, code=3)
    assert "the audit stops the rebuild" in stopped.err and set(lab.docker("volume", "ls", "-q").split()) == before
    rules.unlink()
    done = lab.irkit("restore", web, "--from", str(source), "--image", WEB, "--json", code=None)
    assert done.code in (0, 4), done.err
    assert lab.docker("exec", web, "cat", "/data/sub/config") == "clean"
    assert "compromised" in done.json["restored"]["old_container"]
    assert lab.docker("inspect", "-f", "{{.State.Paused}}", done.json["restored"]["old_container"]) == "true"


def test_a_burnt_secret_is_refused_before_anything_is_acquired(lab: Lab, volume: str) -> None:
    source, secret = backup(lab.home / "backup"), "hunter2-hunter2"
    web = lab.run("web", "-v", f"{volume}:/data", "-e", f"DB_PASSWORD={secret}")
    lab.irkit("contain", web, code=None)
    lab.irkit("key", "generate", "--name", "images", "--use", "image", code=None)
    lab.irkit("image", "sign", WEB, "--key", "images", code=None)
    runs = sorted(lab.home.glob("cases/*/runs/*"))
    command = ("restore", web, "--from", str(source), "--image", WEB)
    refused = lab.irkit(*command, code=5)
    assert "not carried over" in refused.err and "DB_PASSWORD" in refused.err and secret not in refused.err
    assert sorted(lab.home.glob("cases/*/runs/*")) == runs, "no run was begun"
    assert lab.docker("inspect", "-f", "{{.State.Paused}}", web) == "true"
    assert not [one for one in lab.docker("volume", "ls", "-q").split() if "restored" in one]
    variables = (f"source={source}", f"image={WEB}")
    played = lab.irkit("run", "restore", web, *(word for one in variables for word in ("--var", one)), code=5)
    assert "not carried over" in played.err and secret not in played.err, "the step itself refuses, too"
    assert not [one for one in lab.docker("volume", "ls", "-q").split() if "restored" in one], "nothing is left of it"
    assert lab.docker("inspect", "-f", "{{(index .Mounts 0).Name}} {{.State.Paused}}", web) == f"{volume} true"
    done = lab.irkit(*command, "--drop-secret", "DB_PASSWORD", "--json", code=None)
    assert done.code in (0, 4), done.err
    assert secret not in lab.docker("inspect", web) and lab.docker("exec", web, "cat", "/data/sub/config") == "clean"


def hostile(path: Path) -> Path:
    """A tar whose members try to get out of the volume."""
    with tarfile.open(path, "w") as tar:

        def add(name: str, kind: bytes = tarfile.REGTYPE, link: str = "", data: bytes = b"", **more: Any) -> None:
            entry = tarfile.TarInfo(name)
            entry.type, entry.linkname, entry.size = kind, link, len(data)
            for key, value in more.items():
                setattr(entry, key, value)
            tar.addfile(entry, io.BytesIO(data))

        add("../up", data=b"x")
        add("/absolute", data=b"inside")
        add("etc", tarfile.SYMTYPE, "/etc")
        add("etc/irkit-escaped", data=b"x")
        add("here", tarfile.SYMTYPE, ".")
        add("there", tarfile.SYMTYPE, "here/../..")
        add("there/irkit-escaped", data=b"x")
        add("hard", tarfile.LNKTYPE, "etc/passwd")
        add("up-hard", tarfile.LNKTYPE, "../../../../../etc/passwd")
        add("disk", tarfile.BLKTYPE, devmajor=8, devminor=0)
        add("good", data=b"good")
    return path


def test_a_hostile_backup_stays_in_the_volume(lab: Lab, volume: str) -> None:
    web = victim(lab, volume)
    lab.docker("stop", "-t", "0", web)
    source = hostile(lab.home.parent / "bad.tar")
    done = lab.irkit("restore", web, "--from", str(source), "--json", code=4).json["restored"]
    found = lab.docker("exec", web, "find", "/data", "-mindepth", "1").split()
    assert sorted(found) == ["/data/absolute", "/data/etc", "/data/good", "/data/here", "/data/there"]
    assert len(done["not_restored"]) == 6, done["not_restored"]
    assert not Path("/etc/irkit-escaped").exists()


@pytest.mark.parametrize("kind", ["cut", "limit", "noise", "hook", "bomb"])
def test_nothing_is_left_of_a_failure(lab: Lab, volume: str, kind: str) -> None:
    web = victim(lab, volume)
    lab.docker("stop", "-t", "0", web)
    tar = lab.home / "b.tar"
    subprocess.run(["tar", "-C", str(backup(lab.home / "backup")), "-cf", str(tar), "."], check=True)
    source, more = str(tar), []
    if kind == "cut":
        tar.write_bytes(tar.read_bytes()[:3000])
        lab.docker("start", web)
        more = ["--stop"]
    elif kind == "limit":
        more = ["--limit-files", "3"]
    elif kind == "noise":
        tar.write_bytes(bytes(range(256)) * 40)
    elif kind == "hook":
        source = "hook:none"
    else:
        with gzip.open(f"{tar}.gz", "wb", 1) as packed, tarfile.open(fileobj=packed, mode="w|") as made:
            entry = tarfile.TarInfo("zeros")
            entry.size = 300_000_000
            with Path("/dev/zero").open("rb") as zeros:
                made.addfile(entry, zeros)
        source, more = f"{tar}.gz", ["--limit-bytes", "1000000"]
    done = lab.irkit("restore", web, "--from", source, *more, code=None)
    assert done.code in (3, 5), (done.code, done.err)
    assert (f"`docker start {web}`" in done.err) == (kind == "cut"), "it was stopped for nothing, which is said"
    assert not [one for one in lab.docker("volume", "ls", "-q").split() if "restored" in one]
    assert lab.docker("inspect", "-f", "{{(index .Mounts 0).Name}}", web) == volume


def test_a_hook_of_the_operators(lab: Lab, volume: str) -> None:
    web = victim(lab, volume)
    lab.docker("stop", "-t", "0", web)
    folder = backup(lab.home / "backup")
    text = f"apiVersion: irkit/v1\nkind: Config\nrestore:\n  hooks:\n    nightly: [/usr/bin/tar, -C, {folder}, -cf, '-', .]\n    broken: [/bin/false]\n"
    (lab.home / "config.yaml").write_text(text)
    assert lab.irkit("restore", web, "--from", "hook:broken", code=3)
    done = lab.irkit("restore", web, "--from", "hook:nightly", "--json", code=None).json
    assert done["restored"]["entries"] == 6 and lab.docker("exec", web, "cat", "/data/sub/config") == "clean"
