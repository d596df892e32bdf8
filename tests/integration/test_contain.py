"""The main path on a real engine: contain, verify, diff, report, release, rebuild."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from irkit.cases import drill_lock
from irkit.engine.docker import DockerEngine
from irkit.playbook.journal import read_journal
from tests.fits import fits

from .conftest import Lab

STAGE = (
    "cp /bin/sh /usr/local/bin/.h; chmod 4755 /usr/local/bin/.h; echo payload > /dev/shm/p; "
    "echo 'toor:x:0:0::/:/bin/sh' >> /etc/passwd; rm /etc/issue; "
    "ln -s /etc/shadow /tmp/link; printf x > \"$(printf '/tmp/bad\\377\\nname')\"; "
    "cp /bin/sleep /tmp/kworker; setsid /tmp/kworker 600 >/dev/null 2>&1 & sleep 0.5; rm /tmp/kworker"
)


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def answers(port: int) -> bool:
    """Whether the service answers, which it may take a while to do on a busy machine."""
    for _ in range(100):
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=5) as page:
                return b"ok" in page.read()
        except OSError:
            time.sleep(0.1)
    return False


def victim(lab: Lab, *argv: str) -> tuple[str, int]:
    network = lab.network("app", "--subnet", "10.231.91.0/24")
    lab.run("peer", "--network", network)
    port = free_port()
    name = lab.run(
        "web", "--network", network, "--ip", "10.231.91.10", "--network-alias", "web", "-p", f"127.0.0.1:{port}:8080",
        "--restart", "always", "-e", "MODE=prod", *argv,
    )  # fmt: skip
    assert answers(port)
    lab.docker("exec", name, "sh", "-c", STAGE)
    return name, port


def inspect(lab: Lab, name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(lab.docker("inspect", name))[0]
    return found


def test_contain_to_rebuild(lab: Lab) -> None:
    name, port = victim(lab)
    before = inspect(lab, name)
    run = lab.irkit("contain", name, "--json").json
    fits(run, "run")
    assert run["status"] == "succeeded" and run["quarantine"]["state"] == "proven"
    assert len(run["quarantine"]["probes"]) >= 12
    assert {probe["result"] for probe in run["quarantine"]["probes"]} == {"blocked"}
    assert inspect(lab, name)["State"]["Paused"] and not answers_once(port)
    rules = {finding["rule"] for finding in run["findings"]}
    assert {"setuid-file", "uid0-account", "tmpfs-payload", "deleted-executable"} <= rules
    bundle = run["bundle"]["path"]

    verified = lab.irkit("bundle", "verify", bundle, "--json").json
    fits(verified, "verify")
    assert verified["ok"] and verified["problems"] == []

    offline, live = (lab.irkit("diff", what, "--json").json for what in (bundle, name))
    fits(offline, "diff")
    changes = {change["path"]: change for change in offline["changes"]}
    assert changes["/usr/local/bin/.h"]["after"]["mode"] == "4755"
    assert changes["/etc/issue"]["change"] == "deleted" and changes["/etc/issue"]["before"]["sha256"]
    assert changes["/etc/passwd"]["before"]["sha256"] != changes["/etc/passwd"]["after"]["sha256"]
    assert changes["/tmp/link"]["after"]["target"] == "/etc/shadow"
    assert any("path_b64" in change for change in offline["changes"])
    assert {change["path"] for change in live["changes"]} == set(changes)

    again = lab.irkit("contain", name, code=5)
    assert "already contained" in again.err and run["case"] in again.err

    page = lab.home / "report.html"
    lab.irkit("report", bundle, "-o", str(page))
    assert "<script" not in page.read_text() and "setuid" in page.read_text().lower()

    refused = lab.irkit("rebuild", name, "--image", "irkit-dev/web:1", code=3)
    assert "no key is trusted for images" in refused.err and inspect(lab, name)["Id"] == before["Id"]
    lab.irkit("key", "generate", "--name", "rel", "--use", "image")
    lab.irkit("image", "sign", "irkit-dev/web:1", "--key", "rel")
    lab.irkit("rebuild", name, "--image", "irkit-dev/web:1")
    assert answers(port)
    new = inspect(lab, name)
    assert new["Id"] != before["Id"] and "MODE=prod" in new["Config"]["Env"]
    assert new["HostConfig"]["RestartPolicy"]["Name"] == "always"
    assert [one["IPAddress"] for one in new["NetworkSettings"]["Networks"].values()] == ["10.231.91.10"]
    old = [
        one for one in lab.docker("ps", "-a", "--format", "{{.Names}}").split() if one.startswith(f"{name}-compromised")
    ]
    assert len(old) == 1 and inspect(lab, old[0])["State"]["Paused"]


def answers_once(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=0.5):
            return True
    except OSError:
        return False


def test_release_gives_everything_back(lab: Lab) -> None:
    name, port = victim(lab)
    before = inspect(lab, name)
    lab.irkit("contain", name)
    assert inspect(lab, name)["HostConfig"]["RestartPolicy"]["Name"] == "no"
    lab.irkit("release", name)
    after = inspect(lab, name)
    for key in ("IPAddress", "Aliases"):
        assert [one[key] for one in before["NetworkSettings"]["Networks"].values()] == [
            one[key] for one in after["NetworkSettings"]["Networks"].values()
        ]
    assert after["HostConfig"]["RestartPolicy"] == before["HostConfig"]["RestartPolicy"]
    assert not after["State"]["Paused"] and answers(port)
    assert not [
        one
        for one in lab.docker("network", "ls", "--format", "{{.Name}}").split()
        if name in one and one.startswith("irkit-")
    ]
    lab.irkit("release", name, code=5)


def test_a_failed_rebuild_steps_back(lab: Lab) -> None:
    name, _ = victim(lab, "--health-cmd", "false", "--health-interval", "1s", "--health-retries", "1")
    lab.irkit("contain", name)
    lab.irkit("key", "generate", "--name", "rel", "--use", "image")
    lab.irkit("image", "sign", "irkit-dev/web:1", "--key", "rel")
    old = inspect(lab, name)["Id"]
    failed = lab.irkit("rebuild", name, "--image", "irkit-dev/web:1", code=1)
    assert "health check fails" in failed.err and "as it was before" in failed.err
    assert inspect(lab, name)["Id"] == old


def test_open_quarantine_is_said(lab: Lab, tmp_path: Path) -> None:
    """A second road out, made behind irkit's back, and no firewall to close it by: open, exit 3."""
    name, _ = victim(lab)
    lab.irkit("contain", name)
    road(lab, name)
    leaking = lab.irkit("contain", name, "--again", "--json", code=3, env={"PATH": str(tmp_path)}).json
    assert leaking["quarantine"]["state"] == "open" and leaking["status"] == "failed"
    assert any(
        probe["result"] == "reached" and probe["direction"] == "out" for probe in leaking["quarantine"]["probes"]
    )
    closed = lab.irkit("contain", name, "--again", "--json")
    assert closed.json["quarantine"]["state"] == "proven" and "its cables were cut by a firewall" in closed.err


def road(lab: Lab, name: str) -> None:
    """A cable from the host straight into the container's namespace; it goes with the container."""
    pid, cable = str(inspect(lab, name)["State"]["Pid"]), f"r{lab.token[:6]}"
    for words in (
        f"ip link add {cable} type veth peer name road netns {pid}", f"ip addr add 10.231.78.1/24 dev {cable}", f"ip link set {cable} up",
        f"nsenter -t {pid} -n ip addr add 10.231.78.2/24 dev road", f"nsenter -t {pid} -n ip link set road up",
    ):  # fmt: skip
        subprocess.run(words.split(), check=True)


def test_the_next_defence_closes_an_open_road(lab: Lab) -> None:
    """With the firewall taken away and an address on the bridge the host is within reach: the firewall comes back."""
    name, _ = victim(lab)
    first = lab.irkit("contain", name, "--json").json
    network = json.loads(lab.docker("network", "inspect", first["quarantine"]["network"]))[0]
    for row in json.loads(subprocess.check_output(["nft", "-j", "list", "tables"]))["nftables"]:
        if row.get("table", {}).get("name", "").startswith("irkit_"):
            subprocess.run(["nft", "delete", "table", row["table"]["family"], row["table"]["name"]], check=True)
    gateway = network["IPAM"]["Config"][0]["Gateway"]
    subprocess.run(
        ["ip", "addr", "add", f"{gateway}/24", "dev", network["Options"]["com.docker.network.bridge.name"]], check=True
    )
    run = lab.irkit("contain", name, "--again", "--json").json
    assert run["quarantine"]["state"] == "proven"


def test_stopped_container(lab: Lab) -> None:
    name = lab.run(
        "done", "--network", lab.network("app"), command=("/bin/sh", "-c", "echo hello; echo evil > /root/x")
    )
    lab.docker("wait", name)
    run = lab.irkit("contain", name, "--json", code=4).json
    assert run["status"] == "degraded" and run["timeline"]["frozen"] is None
    assert any("not running" in gap["why"] or "not running" in gap["what"] for gap in run["gaps"])
    assert lab.irkit("bundle", "verify", run["bundle"]["path"]).code == 0
    assert "/root/x" in lab.irkit("diff", run["bundle"]["path"], code=4).out


def test_a_firewall_for_a_target_on_the_hosts_network(lab: Lab) -> None:
    """On cgroup v2 what its cgroup sends is dropped, even were it thawed; release takes the rule away again."""
    if lab.docker("info", "-f", "{{.CgroupVersion}}") != "2":
        pytest.skip("cgroup v1 has no such match")
    name = lab.run("host", "--network", "host", image="irkit-dev/busybox:1", command=("sleep", "600"))
    with socket.create_server(("127.0.0.1", 0)) as server:
        ask = ("exec", "-d", name, "sh", "-c", f"echo hello | nc -w 2 127.0.0.1 {server.getsockname()[1]}")
        server.settimeout(3)
        lab.docker(*ask, check=False)
        server.accept()[0].close()
        run = lab.irkit("contain", name, "--json", code=4)
        assert run.json["quarantine"]["state"] == "frozen-only" and "a firewall rule drops" in run.err
        lab.docker("unpause", name)
        lab.docker(*ask, check=False)
        with pytest.raises(TimeoutError):
            server.accept()
        lab.docker("pause", name)
        lab.irkit("release", name)
        lab.docker(*ask, check=False)
        server.accept()[0].close()


def test_host_network_is_frozen_only(lab: Lab) -> None:
    if "name=userns" in lab.docker("info", "-f", "{{.SecurityOptions}}"):
        pytest.skip("an engine with user namespaces refuses the host's network")
    name = lab.run("host", "--network", "host", image="irkit-dev/busybox:1", command=("sleep", "600"))
    run = lab.irkit("contain", name, "--json", code=4).json
    assert run["quarantine"]["state"] == "frozen-only" and inspect(lab, name)["State"]["Paused"]
    lab.irkit("release", name)
    assert not inspect(lab, name)["State"]["Paused"]


def test_snapshot_changes_nothing(lab: Lab) -> None:
    name, port = victim(lab)
    lab.irkit("snapshot", name)
    assert answers(port) and not inspect(lab, name)["State"]["Paused"]


def test_signal_in_the_middle(lab: Lab) -> None:
    name, _ = victim(lab)
    process = subprocess.Popen(
        [sys.executable, "-m", "irkit", "contain", name, "--json"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={**os.environ, "IRKIT_HOME": str(lab.home)},
    )  # fmt: skip
    assert process.stderr is not None
    for line in process.stderr:
        if " freeze " in line:
            break
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 6
    run = json.loads(out)
    assert run["status"] == "interrupted" and inspect(lab, name)["State"]["Paused"]
    folder = lab.home / "cases" / run["case"]
    kinds = [record["type"] for record in read_journal(folder / "runs" / run["run"] / "journal.jsonl")]
    assert "run-interrupted" in kinds
    resumed = lab.irkit("contain", name, "--json").json
    assert resumed["case"] == run["case"] and resumed["quarantine"]["state"] == "proven"
    lab.irkit("release", name)
    assert not inspect(lab, name)["State"]["Paused"]


def test_second_run_at_the_same_time(lab: Lab) -> None:
    name, _ = victim(lab)
    first = subprocess.Popen(
        [sys.executable, "-m", "irkit", "contain", name], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
        env={**os.environ, "IRKIT_HOME": str(lab.home)},
    )  # fmt: skip
    assert first.stderr is not None
    for line in first.stderr:
        if " freeze " in line:
            break
    second = lab.irkit("contain", name, code=5)
    assert "a run is under way" in second.err and "since" in second.err
    first.communicate(timeout=60)
    assert first.returncode == 0


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small disk needs root")
def test_full_disk(lab: Lab) -> None:
    name, _ = victim(lab)
    lab.docker("exec", name, "sh", "-c", "head -c 20000000 /dev/urandom > /root/big")
    lab.home.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m,mode=0700", "tmpfs", str(lab.home)], check=True)
    try:
        run = lab.irkit("contain", name, "--json", code=4).json
        assert run["quarantine"]["state"] == "proven" and run["bundle"]["status"] == "partial"
        assert any("no space left" in gap["why"].lower() for gap in run["gaps"])
        assert lab.irkit("bundle", "verify", run["bundle"]["path"]).code == 0
        changes = lab.irkit("diff", run["bundle"]["path"], "--json", code=4).json["changes"]
        (big,) = [one for one in changes if one["path"] == "/root/big"]
        assert big["after"]["size"] == 20_000_000 and len(big["after"]["sha256"]) == 64  # listed, though not stored
    finally:
        subprocess.run(["umount", str(lab.home)], check=True)


def test_errors_are_sentences(lab: Lab) -> None:
    assert "No such container" in lab.irkit("contain", "nosuch-container", code=1).err
    nowhere = lab.irkit("contain", "x", code=1, env={"DOCKER_HOST": "unix:///nowhere/docker.sock"})
    assert "no engine at" in nowhere.err and "hint" in nowhere.err
    assert "Missing argument" in lab.irkit("contain", code=2).err


def test_by_hand(lab: Lab) -> None:
    """The commands of docs/verify-by-hand.md, run as they stand."""
    name, _ = victim(lab)
    bundle = Path(lab.irkit("contain", name, "--json").json["bundle"]["path"])
    page = (Path(__file__).parents[2] / "docs" / "verify-by-hand.md").read_text()
    script = page.partition("```sh\n")[2].partition("```")[0]
    env = {**os.environ, "BUNDLE": str(bundle), "KEY": str(lab.home / "keys" / "default.pub")}
    good = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script], env=env, capture_output=True, text=True, check=False
    )
    assert good.returncode == 0, good.stderr
    victim_file = next(path for path in sorted((bundle / "data").rglob("*.json")))
    victim_file.write_bytes(victim_file.read_bytes() + b" ")
    bad = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script], env=env, capture_output=True, text=True, check=False
    )
    assert bad.returncode != 0
    assert "altered" in lab.irkit("bundle", "verify", str(bundle), code=3).out


def test_no_right_to_the_socket(lab: Lab, tmp_path: Path) -> None:
    """Without the right to open the engine's socket: a clear message and what to do, exit 1."""
    path = tmp_path / "docker.sock"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        os.chown(path, 65534, 65534)
        path.chmod(0o600)
        done = subprocess.run(
            ["setpriv", "--bounding-set=-dac_override,-dac_read_search", sys.executable, "-m", "irkit", "contain", "any", "--engine", f"unix://{path}"],
            capture_output=True, text=True, check=False, env={**os.environ, "IRKIT_HOME": str(lab.home)},
        )  # fmt: skip
    assert done.returncode == 1, done.stderr
    assert f"no right to talk to the engine at unix://{path}" in done.stderr
    assert "hint:" in done.stderr and "Traceback" not in done.stderr


def test_one_drill_at_a_time(lab: Lab, engine: DockerEngine) -> None:
    with drill_lock(engine.info().id):
        refused = lab.irkit("drill", "run", "first-light", code=5)
    assert "a drill is under way on this engine: by " in refused.err
