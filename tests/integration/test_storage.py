"""Changed files, export, volumes and image of a real container; one that is removed while it is exported."""

from __future__ import annotations

import hashlib
import json
import subprocess
import threading
import time
from pathlib import Path

from irkit.acquire.export import acquire_export
from irkit.engine.docker import DockerEngine
from irkit.evidence.reader import BundleReader
from irkit.evidence.writer import BundleWriter

from .conftest import Lab

CHANGES = "echo mine > /root/new; rm /etc/group; ln -s /etc/shadow /root/s; mkfifo /root/p; truncate -s 5G /root/sparse; echo v > /data/f"


def test_all_of_a_container_is_in_its_bundle(lab: Lab, tmp_path: Path) -> None:
    (tmp_path / "own").mkdir()
    (tmp_path / "own/f").write_text("bound")
    name = lab.run("all", "-v", "/data", "-v", f"{tmp_path}/own:/own", "-v", "/:/host:ro")
    lab.docker("exec", name, "sh", "-c", CHANGES)
    run = lab.irkit("snapshot", name, "--image", "--export", "--volumes", "--json", code=4).json
    assert [gap["what"] for gap in run["gaps"] if gap["collector"] == "volumes"] == ["/host (/)"]
    reader = BundleReader(Path(run["bundle"]["path"]))
    changes = {row["path"]: row for row in reader.lines("filesystem/changes.jsonl")}
    assert changes["/root/new"]["after"]["sha256"] == hashlib.sha256(b"mine\n").hexdigest()
    assert changes["/etc/group"]["change"] == "deleted" and changes["/root/s"]["after"]["target"] == "/etc/shadow"
    found = reader.find("filesystem/layer.tar")
    assert found is not None and found["raw"]["size"] < 10**6
    exported = {row["path"]: row for row in reader.lines("filesystem/export.jsonl")}
    assert exported["/root/new"]["sha256"] == changes["/root/new"]["after"]["sha256"] and "/etc/group" not in exported
    listing = subprocess.run(
        ["tar", "-t"], input=b"".join(reader.stream("image/image.tar")), capture_output=True, check=True
    )
    assert b"manifest.json" in listing.stdout
    mounts = {row["destination"]: row for row in reader.json("volumes/index.json")["mounts"]}
    assert (mounts["/data"]["entries"], mounts["/own"]["entries"], mounts["/host"]["taken"]) == (2, 2, False)
    identity = reader.json("image/identity.json")
    assert identity["layers"] and identity["id"] == json.loads(lab.docker("inspect", name))[0]["Image"]


def test_a_container_that_is_removed_while_it_is_exported(lab: Lab, engine: DockerEngine, tmp_path: Path) -> None:
    name = lab.run("gone")
    lab.docker("exec", name, "sh", "-c", "head -c 200000000 /dev/urandom > /root/big")
    container = engine.container(name)
    writer = BundleWriter(tmp_path / "b")
    thread = threading.Thread(target=lambda: (time.sleep(0.15), lab.docker("rm", "-f", name)))
    thread.start()
    acquire_export(engine, container, writer, 10**12)
    thread.join()
    tar = [one for one in writer.artifacts if one.path.endswith("export.tar.zst")]
    assert writer.gaps or tar[0].complete  # whole, or said not to be: never a hang, never a traceback
    assert not tar or tar[0].complete != bool([gap for gap in writer.gaps if "tar" in gap.what])
