"""Noise is folded and counted; nothing that could matter hides in it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from irkit import documents, resources, schemas
from irkit.compare.noise import ALSO, Tally, load_noise, noise_of, objection
from irkit.errors import PlaybookInvalid

NOISE = load_noise()
PLAIN = {"change": "added", "kind": "file", "type": "data", "size": 5, "mode": 0o644}


def group(path: str, **more: Any) -> str | None:
    found = NOISE.fold({**PLAIN, "path": path, "name": path.rpartition("/")[2], **more})
    return found.id if found else None


@pytest.mark.parametrize(
    ("path", "more", "expected"),
    [
        ("/var/cache/apt/pkgcache.bin", {}, "package-cache"),
        ("/var/cache/apt/archives/x.deb", {"type": "archive"}, "package-cache"),
        ("/var/lib/dpkg/status", {"type": "text"}, "package-database"),
        ("/root/.cache/app/x", {"hidden": True}, "caches"),
        ("/var/log/app/a.log", {"type": "text"}, "logs"),
        ("/var/log/app/a.log.1.gz", {"type": "archive"}, "logs"),
        ("/run/nginx.pid", {"type": "text"}, "pid-files"),
        ("/run/app.sock", {"kind": "socket"}, "pid-files"),
        ("/x/__pycache__/a.cpython-311.pyc", {"type": "bytecode", "source_unchanged": True}, "bytecode"),
        ("/x/__pycache__/a.cpython-311.pyc", {"type": "bytecode", "package_state": "upgraded"}, "package-files"),
        ("/x/__pycache__", {"kind": "directory"}, "bytecode-folders"),
        ("/usr/bin/vim", {"type": "elf", "executable": True, "package_state": "upgraded"}, "package-files"),
        ("/etc/hosts", {"type": "text", "mount": True}, "runtime-mounts"),
        ("/usr/lib/x", {"kind": "directory", "change": "changed", "only": ("times",)}, "times"),
        ("/tmp/empty", {"type": "empty", "size": 0}, "temporary"),
    ],
)
def test_folded(path: str, more: dict[str, Any], expected: str) -> None:
    assert group(path, **more) == expected


@pytest.mark.parametrize(
    "path", ["/var/cache/apt/x", "/var/log/x", "/root/.cache/x", "/var/lib/dpkg/x", "/run/x.pid", "/tmp/x"]
)
@pytest.mark.parametrize(
    "more",
    [
        {"executable": True, "mode": 0o755},
        {"setuid": True},
        {"mode": 0o4755},
        {"mode": 0o2711},
        {"capabilities": ("cap_setuid",)},
        {"type": "elf"},
        {"type": "script"},
        {"type": "pe"},
        {"type": "bytecode"},
        {"type": None},
        {"kind": "symlink"},
        {"kind": "char"},
        {"kind": "block"},
        {"yara": ("x",)},
        {"ioc": ("x",)},
        {"copy_of": "/bin/bash"},
    ],
    ids=str,
)
def test_nothing_hides_in_caches_and_logs(path: str, more: dict[str, Any]) -> None:
    assert group(path, hidden=True, **more) is None
    assert group(path, **more) is None


@pytest.mark.parametrize(
    "path", ["/var/cache/.x", "/var/cache/apt/archives/.x", "/var/lib/dpkg/.x", "/var/lib/systemd/.x", "/var/log/.x"]
)
def test_no_cache_of_the_system_hides_a_name(path: str) -> None:
    assert group(path, hidden=True) is None
    assert group("/root/.cache/app/.x", hidden=True) == "caches"


def test_a_path_proves_no_mount_and_bytecode_needs_its_source() -> None:
    assert group("/etc/hosts", type="text") is None
    assert group("/etc/resolv.conf", type="text", mount=False) is None
    assert group("/x/__pycache__/a.pyc", type="bytecode") is None
    assert group("/x/__pycache__/a.pyc", type="bytecode", package_state="upgraded", package_claimed=True) is None
    assert group("/var/log/auth.log", type="empty", size=0, log="text", log_emptied=True) is None
    assert group("/var/cache/x", kind="directory", opaque=True) is None


def test_a_change_with_a_finding_is_never_folded() -> None:
    values = {**PLAIN, "path": "/var/cache/apt/x", "name": "x"}
    tally = Tally()
    found = NOISE.fold(values)
    assert found is not None
    tally.add(found)
    tally.add(found)
    assert tally.counts == {"package-cache": 2}
    assert NOISE.fold(values, finding=True) is None


@pytest.mark.thorough
@settings(max_examples=300)
@given(
    st.sampled_from(["char", "block"]) | st.just("file"),
    st.integers(0, 0o7777),
    st.sets(st.sampled_from(ALSO)).map(frozenset),
    st.sampled_from([None, "elf", "script", "data", "bytecode"]),
)
def test_what_no_group_can_allow(kind: str, mode: int, also: frozenset[str], what: str | None) -> None:
    values: dict[str, Any] = {"kind": kind, "mode": mode, "type": what, "change": "added"}
    allowed = not objection(values, also)
    assert not (allowed and (kind != "file" or mode & 0o6000 or what == "bytecode"))
    assert not (allowed and what in ("elf", "script") and what not in also)


TEXT = "apiVersion: irkit/v1\nkind: Noise\ngroups:\n  - {id: own, title: T, where: {path: /srv/*}, also: [hidden]}\n"


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("[hidden]", "[setuid]", "no group can fold 'setuid'"),
        ("[hidden]", "[char]", "no group can fold 'char'"),
        ("path: /srv/*", "pth: /srv/*", "unknown key 'pth'"),
        ("title: T, ", "", "'title' is missing"),
        ("kind: Noise", "kind: Rules", "'kind' must be one of"),
    ],
)
def test_bad_noise_is_refused(old: str, new: str, said: str) -> None:
    with pytest.raises(PlaybookInvalid, match=said) as caught:
        list(noise_of(documents.parse(TEXT.replace(old, new).encode(), "n.yaml")))
    assert caught.value.message.startswith("n.yaml:")


@pytest.mark.parametrize("path", list(resources.every("forensics/noise")), ids=lambda path: path.stem)
def test_shipped_noise_fits_the_schema(path: Path) -> None:
    jsonschema.Draft202012Validator(schemas.load("noise")).validate(documents.load(path)[0].plain())
