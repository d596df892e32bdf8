"""Bundles of real runs: encrypted while acquired, as tars, handed over; altered in every file."""

from __future__ import annotations

import itertools
import os
import shutil
from pathlib import Path

from irkit.evidence import age, keys, names
from irkit.evidence.reader import BundleReader
from irkit.evidence.store import Problem
from irkit.evidence.verify import verify_bundle

from .conftest import Lab

SECRET = "irkit-secret-2718"


def staged(lab: Lab, name: str) -> str:
    """A container with a secret in its files, tmpfs, environment and logs."""
    made = lab.run(name, "--tmpfs", "/run/x", "-e", f"TOKEN={SECRET}")
    lab.docker(
        "exec",
        made,
        "sh",
        "-c",
        f"echo {SECRET} >/root/note; echo {SECRET} >/run/x/note; echo {SECRET} >/proc/1/fd/1; echo x >/usr/bin/evil; chmod 4755 /usr/bin/evil",
    )
    return made


def test_nothing_plain_of_an_encrypted_run(lab: Lab, tmp_path: Path) -> None:
    recipient = age.make_identity(tmp_path / "ann.key")
    name = staged(lab, "enc")
    plain = lab.irkit("snapshot", name, "--json").json
    run = lab.irkit("contain", name, "--recipient", recipient, "--json").json
    assert run["status"] == "succeeded" and run["quarantine"]["state"] == "proven"
    assert any("/usr/bin/evil" in one["subject"] for one in run["findings"]), (
        "read back with the key that the run alone has"
    )
    bundle = Path(run["bundle"]["path"])
    for path in bundle.rglob("*"):
        assert path.is_dir() or SECRET.encode() not in path.read_bytes()
        assert path.is_dir() or path.suffix == ".age" or path.parent in (bundle, bundle / "data")
    case = [path for path in bundle.parents[1].rglob("*") if path.is_file() and "/bundles/" not in str(path)]
    leaks = {path.name for path in case if SECRET.encode() in path.read_bytes()}
    assert leaks == {"container.json"}, "what release and rebuild need to know; docs/bundles.md says so"
    assert lab.irkit("bundle", "verify", str(bundle), "--json").json["ok"]
    words = ("--identity", str(tmp_path / "ann.key"))
    assert lab.irkit("bundle", "verify", str(bundle), "--json", *words).json["ok"]
    assert "/usr/bin/evil" in lab.irkit("diff", str(bundle), *words).out
    lab.irkit("report", str(bundle), "-o", str(tmp_path / "page.html"), *words)
    assert "/usr/bin/evil" in (tmp_path / "page.html").read_text()
    lab.irkit("bundle", "decrypt", str(bundle), "-o", str(tmp_path / "out"), *words)
    reader, other = BundleReader(tmp_path / "out"), BundleReader(Path(plain["bundle"]["path"]))
    assert SECRET.encode() in b"".join(reader.stream("filesystem/layer.tar"))
    assert SECRET.encode() in b"".join(reader.stream("tmpfs/contents.tar"))
    names_of = [
        {row["path"] for row in one.index["artifacts"] if "/logs/" not in row["path"]} for one in (other, reader)
    ]
    assert names_of[0] <= names_of[1], "an encrypted run takes what a plain one takes"


def test_a_real_bundle_as_a_tar(lab: Lab, tmp_path: Path) -> None:
    case = lab.irkit("snapshot", staged(lab, "tar"), "--json").json
    packed, bundle = tmp_path / "b.tar", Path(case["bundle"]["path"])
    made = lab.irkit("bundle", "create", case["case"], "-o", str(packed), "--json").json
    assert made["digest"] == case["bundle"]["digest"]
    for words in (("verify",), ("list",), ("show",), ("custody", "add", "--to", "Ann", "--why", "court")):
        place = 2 if words[0] == "custody" else 1
        lab.irkit("bundle", *words[:place], str(packed), *words[place:])
    assert (
        lab.irkit("bundle", "cat", str(packed), "logs/stdout.log").out
        == lab.irkit("bundle", "cat", str(bundle), "logs/stdout.log").out
    )
    assert SECRET in lab.irkit("bundle", "cat", str(packed), "logs/stdout.log").out
    lab.irkit("bundle", "extract", str(packed), "--whole", "-o", str(tmp_path / "again"))
    assert lab.irkit("bundle", "verify", str(tmp_path / "again"), "--json").json["custody"]["entries"] == 1
    lab.irkit("report", str(packed), "-o", str(tmp_path / "page.html"))


def test_every_file_of_a_real_bundle_altered_in_each_way(lab: Lab, tmp_path: Path) -> None:
    run = lab.irkit("snapshot", staged(lab, "alter"), "--json").json
    bundle = tmp_path / "b"
    shutil.copytree(run["bundle"]["path"], bundle)
    lab.irkit("bundle", "custody", "add", str(bundle), "--to", "Ann", "--why", "court")
    key = keys.public_from_file(lab.home / "keys" / "default.pub")
    files = sorted(path for path in bundle.rglob("*") if path.is_file())
    assert len(files) > 15

    def named() -> tuple[Problem, ...]:
        return verify_bundle(bundle, [key], run["head"]).problems

    run["head"] = verify_bundle(bundle, [key]).custody_head
    assert not named()
    for path in files:
        name, whole = str(path.relative_to(bundle)), path.read_bytes()
        middle = len(whole) // 2
        others = {
            "flip first": bytes([whole[0] ^ 1]) + whole[1:] if whole else b"x", "flip middle": whole[:middle] + bytes([(whole or b"x")[middle] ^ 0x80]) + whole[middle + 1 :],
            "flip last": whole[:-1] + bytes([(whole or b"x")[-1] ^ 1]), "truncate": whole[:middle], "empty": b"", "append": whole + b"\0", "other": os.urandom(len(whole) or 1),
        }  # fmt: skip
        for how, data in others.items():
            if data != whole:
                path.write_bytes(data)
                assert name in {one.file for one in named()}, (name, how)
        path.unlink()
        assert name in {one.file for one in named()}, (name, "drop")
        path.write_bytes(whole)
        beside = path.with_name(path.name + ".new")
        beside.write_bytes(whole)
        assert {one.file for one in named()} == {str(beside.relative_to(bundle))}, (name, "add beside")
        beside.unlink()
    for one, other in itertools.pairwise(files):
        kept = one.read_bytes(), other.read_bytes()
        one.write_bytes(kept[1])
        other.write_bytes(kept[0])
        found = {problem.file for problem in named()}
        expected = {str(path.relative_to(bundle)) for path in (one, other)}
        assert kept[0] == kept[1] or (expected <= found or (names.SEAL in expected and names.SEAL in found)), expected
        one.write_bytes(kept[0])
        other.write_bytes(kept[1])
    assert not named()
