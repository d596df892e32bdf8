"""The blast radius of real containers."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from tests.fits import fits

from .conftest import Lab

SECRET = "correct-horse-battery"
BUSYBOX = "irkit-dev/busybox:1"


def rows(scope: dict[str, Any], kind: str, subject: str = "") -> list[dict[str, str]]:
    return [row for row in scope["rows"] if row["kind"] == kind and subject in row["subject"]]


def names(scope: dict[str, Any], reason: str) -> set[str]:
    return {one["name"] for one in scope["related"][reason]}


@pytest.fixture
def volume(lab: Lab) -> Iterator[str]:
    name = f"{lab.token}-data"
    lab.docker("volume", "create", name)
    yield name
    for container in lab.docker("ps", "-aq", "--filter", f"label=dev.irkit.test={lab.token}").split():
        lab.docker("rm", "-f", container, check=False)
    lab.docker("volume", "rm", name, check=False)


def connected(lab: Lab, name: str, peer: str, port: int) -> None:
    """Open a connection from ``name`` to ``peer`` that stays, and wait until the kernel has it."""
    address = lab.docker("inspect", "-f", "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}", peer)
    lab.docker("exec", "-d", name, "sh", "-c", f"sleep 300 | busybox nc {address} {port}")
    wanted = f":{port:04X} 01 "
    for _ in range(50):
        if wanted in lab.docker("exec", name, "cat", "/proc/net/tcp"):
            return
        time.sleep(0.1)
    raise AssertionError("no connection came about")


def test_scope_of_a_well_connected_container(lab: Lab, volume: str, tmp_path: Path) -> None:
    network = lab.network("app")
    peer = lab.run("db", "--network", network, "-v", f"{volume}:/var/lib/db", "-e", f"DB_PASS={SECRET}", image=BUSYBOX, command=("nc", "-ll", "-p", "5432", "-e", "sleep", "300"))  # fmt: skip
    name = lab.run(
        "web", "--network", network, "-v", f"{volume}:/data", "-v", f"{tmp_path}/docker.sock:/var/run/docker.sock", "-v", "/proc:/host/proc:ro",
        "-e", f"DATABASE_URL=postgres://app:{SECRET}@db/x", "-p", "127.0.0.1::8080", "--cap-add", "SYS_ADMIN", "--device", "/dev/fuse",
    )  # fmt: skip
    twin = lab.run("twin")
    side = lab.run("side", "--pid", f"container:{name}", "--network", f"container:{name}", image=BUSYBOX, command=("sleep", "300"))  # fmt: skip
    connected(lab, name, peer, 5432)

    ran = lab.irkit("scope", name, "--json")
    scope = ran.json
    fits(scope, "scope")
    assert SECRET not in ran.out + ran.err
    assert scope["target"]["name"] == name
    assert rows(scope, "mount", "docker.sock")[0]["severity"] == "critical"
    assert rows(scope, "mount", "/proc")[0]["severity"] == "high"
    assert rows(scope, "capability", "SYS_ADMIN") and rows(scope, "device", "/dev/fuse")
    assert [row["contained"] for row in rows(scope, "port")] == ["published port: closed and probed"]
    assert [row["subject"] for row in rows(scope, "environment")] == ["DATABASE_URL"]
    (connection,) = rows(scope, "connection")
    assert connection["subject"] == peer and "tcp port 5432" in connection["detail"] and connection["closed"] == "yes"
    (shared,) = rows(scope, "volume")
    assert shared["subject"] == volume and peer in shared["detail"] and shared["closed"] == "frozen"
    assert names(scope, "network") == names(scope, "volume") == names(scope, "secret") == {peer}
    assert names(scope, "namespace") == {side} and twin in names(scope, "image")

    back = lab.irkit("scope", side, "--json").json
    assert names(back, "namespace") == {name} and names(back, "network") == {peer}
    assert {row["subject"] for row in rows(back, "connection")} <= {peer}

    table = lab.irkit("scope", name, "--svg", str(tmp_path / "s.svg"), "--dot", str(tmp_path / "s.dot"))
    assert "CRITICAL" in table.out and peer in table.out and SECRET not in table.out
    assert "1 by volume" in table.err.splitlines()[-1] and f"irkit contain {name}" in table.err
    ElementTree.parse(tmp_path / "s.svg")
    assert (tmp_path / "s.dot").read_text().startswith("digraph scope {")


def test_scope_of_a_container_on_the_hosts_network(lab: Lab) -> None:
    peer = lab.run("peer")
    name = lab.run("host", "--network", "host", image=BUSYBOX, command=("sleep", "300"))
    connected(lab, name, peer, 8080)
    scope = lab.irkit("scope", name, "--json").json
    (mode,) = rows(scope, "network-mode")
    assert mode["closed"] == "frozen" and rows(scope, "peer") == []
    # Of the host's connections only those that the target holds itself.
    assert {(row["subject"], row["closed"]) for row in rows(scope, "connection")} == {(peer, "frozen")}


def test_scope_of_a_contained_and_of_a_stopped_container(lab: Lab) -> None:
    name = lab.run("web", "--network", lab.network("app"))
    lab.irkit("contain", name, code=None)
    scope = lab.irkit("scope", name, "--json").json
    assert "contained already" in rows(scope, "network-mode", "irkit-")[0]["detail"]
    lab.irkit("release", name, "--force", code=None)
    lab.docker("rm", "-f", name)
    stopped = lab.run("gone", image=BUSYBOX, command=("true",))
    lab.docker("wait", stopped)
    (unseen,) = rows(lab.irkit("scope", stopped, "--json").json, "connection")
    assert "not running" in unseen["detail"] and unseen["severity"] == "low"


def test_words_and_documents_do_not_mix(lab: Lab, tmp_path: Path) -> None:
    name = lab.run("web")
    assert lab.irkit("scope", name, "--dot", "-").out.startswith("digraph")
    ElementTree.fromstring(lab.irkit("scope", name, "--svg", "-").out)
    mixed = lab.irkit("scope", name, "--json", "--svg", str(tmp_path / "s.svg"))
    assert json.loads(mixed.out)["schema"] == "irkit.scope/v1"
    assert "only one of" in lab.irkit("scope", name, "--dot", "-", "--json", code=2).err
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    assert "not an ordinary file" in lab.irkit("scope", name, "--svg", str(tmp_path / "link"), code=2).err
    lab.irkit("scope", f"{lab.token}-nobody", code=1)


@pytest.mark.parametrize(
    ("device", "check", "rule"), [("/run", "5.6", "engine-socket"), ("/usr/../etc/", "5.6", "host-folder")]
)
def test_a_volume_that_is_a_folder_of_the_host_in_disguise(lab: Lab, device: str, check: str, rule: str) -> None:
    real = os.path.normpath(device)
    volume = f"{lab.token}-innocent"
    lab.docker("volume", "create", "--opt", "type=none", "--opt", "o=bind", "--opt", f"device={device}", volume)
    try:
        name = lab.run("disguised", "-v", f"{volume}:/mnt", image=BUSYBOX, command=("sleep", "600"))
        (row,) = rows(lab.irkit("scope", name, "--json").json, "mount")
        assert (row["severity"], row["subject"]) == ("critical", real) and f"by the volume {volume}" in row["detail"]
        found = lab.irkit("audit", name, "--json", code=None).json["findings"]
        assert {(one["id"], one["state"], one["evidence"]) for one in found} >= {(check, "fail", f"mounted: {real}")}
        plain = lab.irkit("diff", name, "--json", code=None).json
        assert rule in {one["rule"] for one in plain["findings"]}, "a live comparison asks the engine"
        done = lab.irkit("contain", name, "--json", code=None).json
        assert rule in {one["rule"] for one in done["findings"]}, "the sealed evidence tells"
        kept = lab.irkit("audit", done["bundle"]["path"], "--json", code=None).json["findings"]
        assert {(one["id"], one["state"], one["evidence"]) for one in kept} >= {(check, "fail", f"mounted: {real}")}
        lab.irkit("key", "generate", "--name", "rel", "--use", "image")
        lab.irkit("image", "sign", BUSYBOX, "--key", "rel")
        plan = lab.irkit("rebuild", name, "--image", BUSYBOX, "--harden=docker-socket", "--plan", "--json").json
        told = [one["why"] for one in plan["not_hardened"]]
        assert told == ([f"/run of the host is mounted at /mnt by the volume {volume}, and may have the engine's socket in it"] if real == "/run" else [])  # fmt: skip
    finally:
        for one in lab.docker("ps", "-aq", "--filter", f"label=dev.irkit.test={lab.token}").split():
            lab.docker("rm", "-f", one, check=False)
        lab.docker("volume", "rm", volume, check=False)


def on_the_host(lab: Lab, script: str) -> None:
    """Run in the engine's own root folder, which another flavour has for itself."""
    lab.docker("run", "--rm", "-v", "/var/tmp:/there", BUSYBOX, "sh", "-c", script)


@pytest.mark.parametrize("way", ["volume", "bind"])
def test_a_link_to_a_folder_of_the_host(lab: Lab, way: str) -> None:
    """As it leads now, and as it led when the container was started, which the kernel alone knows."""
    link, volume = f"/var/tmp/{lab.token}-link", f"{lab.token}-linked"
    on_the_host(lab, f"ln -s /etc /there/{lab.token}-link")
    try:
        if way == "volume":
            lab.docker("volume", "create", "--opt", "type=none", "--opt", "o=bind", "--opt", f"device={link}", volume)
        mounted = volume if way == "volume" else link
        name = lab.run("linked", "-v", f"{mounted}:/mnt", image=BUSYBOX, command=("sleep", "600"))
        lab.docker("exec", name, "test", "-e", "/mnt/passwd")
        (row,) = rows(lab.irkit("scope", name, "--json").json, "mount")
        assert row["subject"] == "/etc" and f"by the link {link}" in row["detail"]
        on_the_host(lab, f"ln -sfn /home /there/{lab.token}-link")
        found = rows(lab.irkit("scope", name, "--json").json, "mount")
        assert sorted(one["subject"] for one in found) == ["/etc", "/home"]
        checks = lab.irkit("audit", name, "--json", code=None).json["findings"]
        assert [one["evidence"] for one in checks if one["id"] == "5.6"] == ["mounted: /etc"]
        done = lab.irkit("contain", name, "--var", "profile=standard+volumes", "--json", code=None).json
        assert "host-folder" in {one["rule"] for one in done["findings"]}
        kept = lab.irkit("audit", done["bundle"]["path"], "--json", code=None).json["findings"]
        assert [one["evidence"] for one in kept if one["id"] == "5.6"] == ["mounted: /etc"]
        on_the_host(lab, f"ln -sfn /run /there/{lab.token}-link")
        lab.irkit("key", "generate", "--name", "rel", "--use", "image")
        lab.irkit("image", "sign", BUSYBOX, "--key", "rel")
        plan = lab.irkit("rebuild", name, "--image", BUSYBOX, "--harden=docker-socket", "--plan", "--json").json
        assert any("/run of the host is mounted at /mnt" in one["why"] for one in plan["not_hardened"])
    finally:
        for one in lab.docker("ps", "-aq", "--filter", f"label=dev.irkit.test={lab.token}").split():
            lab.docker("rm", "-f", one, check=False)
        on_the_host(lab, f"rm -f /there/{lab.token}-link")
        lab.docker("volume", "rm", volume, check=False)
