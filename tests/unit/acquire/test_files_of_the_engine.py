"""The engine's own files, as evidence: read on the host, within limits, and compared as the bundle has them."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from irkit.acquire.engine_files import LIMIT, acquire_engine_files
from irkit.compare.evidence import Evidence
from irkit.engine.interface import Container
from irkit.evidence import names
from irkit.evidence.reader import BundleReader
from irkit.evidence.writer import BundleWriter, Origin

ID = "3f5a0b1c2d3e" + "0" * 52


def taken(tmp_path: Path, *, local: bool = True, **raw: Any) -> tuple[Evidence, list[str]]:
    raw = {"Id": ID, "Name": "/web-1", "Config": {"Hostname": ID[:12]}, **raw}
    writer = BundleWriter(tmp_path / "bundle")
    acquire_engine_files(Container(raw), local, writer)
    writer.add_json("engine/container-before.json", raw, Origin("engine-state", "", ""))
    writer.put(names.INDEX, json.dumps(writer.index({"target": {}})).encode())
    return Evidence(BundleReader(writer.folder)), [f"{one.what}: {one.why}" for one in writer.gaps]


def files(tmp_path: Path, **data: bytes) -> dict[str, str]:
    keys = {"hosts": "HostsPath", "hostname": "HostnamePath", "resolv": "ResolvConfPath"}
    for name, content in data.items():
        (tmp_path / name).write_bytes(content)
    return {keys[name]: str(tmp_path / name) for name in data}


def test_what_was_written_into_them_is_a_change(tmp_path: Path) -> None:
    resolver = b"nameserver 10.1.1.1\n"
    (tmp_path / "resolv.hash").write_text(f"sha256:{hashlib.sha256(resolver).hexdigest()}")
    evil = b"127.0.0.1\tlocalhost\n203.0.113.9\tdeb.debian.org\n"
    side, gaps = taken(tmp_path, **files(tmp_path, hosts=evil, hostname=b"3f5a0b1c2d3e\n", resolv=resolver))
    (change,) = (one.change for one in side.engine_files.values())
    assert (change.path, change.change, change.origin, gaps) == ("/etc/hosts", "changed", "mount", [])
    assert change.after is not None and change.after.sha256 == hashlib.sha256(evil).hexdigest()
    assert [(one.change.path, one.stream and one.stream.read()) for one in side.taken()] == [("/etc/hosts", evil)]
    assert list(side.changes()) == [change]


def test_what_can_not_be_taken_is_a_gap(tmp_path: Path) -> None:
    raw = files(tmp_path, hosts=b"x" * (LIMIT + 1))
    (tmp_path / "link").symlink_to("hosts")
    side, gaps = taken(tmp_path, **raw, HostnamePath=str(tmp_path / "none"), ResolvConfPath=str(tmp_path / "link"))
    assert [one.partition(":")[0] for one in gaps] == ["/etc/hosts", "/etc/hostname", "/etc/resolv.conf"]
    assert not side.engine_files


def test_of_another_host_or_of_the_user_s_own(tmp_path: Path) -> None:
    raw = files(tmp_path, hosts=b"203.0.113.9\tdeb.debian.org\n")
    side, gaps = taken(tmp_path / "a", local=False, **raw)
    assert len(gaps) == 1 and "another one" in gaps[0] and not side.engine_files
    side, gaps = taken(tmp_path / "b", **raw, Mounts=[{"Type": "bind", "Destination": "/etc/hosts"}])
    assert gaps == [] and not side.engine_files
