"""A remote engine: irkit sees neither its processes nor its network, and proves the quarantine by helper containers."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from irkit.engine.docker import DockerEngine
from irkit.quarantine.helpers import HELPER, Helpers
from irkit.quarantine.seal import ROLE

from .conftest import Lab
from .leaks import _free
from .test_leaks import ICC, STAY
from .test_modes import BUSYBOX, SLEEP, fixed, place

IMAGE = "irkit-dev/helper:1"
UNSIGNED = "signed by 0 of 1 keys needed"
STAY_AFTER = "import irkit.actions.proof as p; p.leave = lambda *_: None"
"""The next defence out as well: leaving when the proof found a road."""
ELSEWHERE = ("unshare", "--pid", "--fork", "--mount-proc")
"""irkit in a namespace of processes of its own: it can't see the engine's, as from another host."""


def far(
    lab: Lab, *argv: str, code: int | None = 0, net: bool = True, patches: tuple[str, ...] = (), engine: str = ""
) -> Any:
    """irkit as from another host; what it printed, and what it said."""
    script = "\n".join((*patches, "from irkit.cli.main import main", f"raise SystemExit(main({list(argv)!r}))"))
    env = {**lab.environment, **({"DOCKER_HOST": engine} if engine else {})}
    done = subprocess.run(
        [*ELSEWHERE, *(["--net"] if net else []), sys.executable, "-c", script], capture_output=True, text=True, check=False, env=env,
        timeout=180, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    assert "Traceback" not in done.stderr, done.stderr
    assert code is None or done.returncode == code, f"exit {done.returncode}\n{done.stdout}\n{done.stderr}"
    return (json.loads(done.stdout) if "--json" in argv else done.stdout), done.stderr


def proof(run: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((Path(run["bundle"]["path"]) / "data/quarantine/proof.json").read_bytes())
    return found


def reached(attempt: dict[str, Any]) -> set[str]:
    return {one["path"] for one in attempt["probes"] if one["result"] == "reached"}


def helpers(lab: Lab) -> str:
    return lab.docker("ps", "-aq", "--filter", f"label={ROLE}={HELPER}")


@pytest.fixture
def signed(lab: Lab) -> Iterator[Lab]:
    """A helper image that a trusted key has signed."""
    lab.irkit("key", "generate", "--name", "release", "--use", "image")
    lab.irkit("image", "sign", IMAGE, "--key", "release")
    yield lab
    assert not helpers(lab), "helpers are left"


def victim(lab: Lab, *options: str) -> str:
    """With a peer that it talks to, and published ports."""
    net = fixed(lab, "app", 94)
    peer = lab.run(
        "peer",
        "--network",
        net,
        "--network-alias",
        "peer",
        image=BUSYBOX,
        command=("nc", "-ll", "-p", "9000", "-e", "cat"),
    )
    talk = "httpd -p 8080; sleep 0.3; (sleep 600 | nc peer 9000) & sleep 600"
    name = lab.run(
        "t", "--network", net, "--ip", "10.231.94.7", "-p", f"{_free()}:8080", "-p", f"{_free()}:53/udp", *options, image=BUSYBOX,
        command=("sh", "-c", talk),
    )  # fmt: skip
    for _ in range(100):  # until they talk
        if "ESTABLISHED" in lab.docker("exec", peer, "netstat", "-tn"):
            return name
        time.sleep(0.1)
    raise AssertionError("the victim and its peer never talked")


def test_proven_by_helpers_and_given_back(signed: Lab) -> None:
    name = victim(signed)
    before = place(signed, name)
    run, said = far(signed, "contain", name, "--helper", IMAGE, "--json", code=4)
    assert run["quarantine"]["state"] == "proven", said
    told = proof(run)
    assert told["by"]["image"]["reference"] == IMAGE and told["by"]["image"]["key"]["name"] == "release"
    assert told["by"]["not_tried"] and {one["place"] for one in told["by"]["helpers"]} >= {
        "the target's namespace",
        "the host's own network",
    }
    paths = {one["path"] for attempt in (*told["earlier"], told) for one in attempt["probes"]}
    for part in (
        "host address 10.231.94.1, TCP",
        "established tcp 10.231.94.7",
        "old peer",
        "quarantined neighbour",
        "published port",
        "metadata",
        "engine's DNS",
        "raw frame",
    ):
        assert any(part in one for one in paths), (part, sorted(paths))
    assert any("raw frame" in one for one in reached(told["earlier"][0])), "without a firewall frames come through"
    assert all(one["time"] and one["detail"] for one in told["probes"])
    signed.irkit("bundle", "verify", run["bundle"]["path"])
    assert not helpers(signed)
    far(signed, "release", name)
    assert place(signed, name) == before


def test_by_tcp_with_the_image_of_the_configuration(signed: Lab, engine: DockerEngine) -> None:
    """An engine at a ``tcp://`` endpoint; the bridge is in irkit's network, so that the firewall is the next defence."""
    (signed.home / "config.yaml").write_text(f"apiVersion: irkit/v1\nkind: Config\nprobes: {{image: '{IMAGE}'}}\n")
    with _relay(engine.endpoint.removeprefix("unix://")) as url:  # type: ignore[attr-defined]
        run, said = far(signed, "contain", victim(signed), "--json", code=4, net=False, engine=url)
    assert run["target"]["engine"] == url and run["quarantine"]["state"] == "proven", said
    told = proof(run)
    assert told["earlier"][0]["state"] == "open" and told["firewall"] == "up" and len(told["earlier"]) == 1


def test_helpers_prove_the_quarantine_network_behind_its_firewall(signed: Lab) -> None:
    """Asked for where irkit could do it itself: with the firewall up nothing more is needed."""
    run = signed.irkit("contain", victim(signed), "--helper", IMAGE, "--var", "probe=helper", "--json").json
    told = proof(run)
    assert (
        run["quarantine"]["state"] == "proven"
        and told["earlier"] == []
        and told["by"]["why"] == "helpers were asked for"
    )
    assert any("raw frame" in one["path"] for one in told["probes"]) and any(
        "neighbour" in one["path"] for one in told["probes"]
    )
    assert run["quarantine"]["network"] and told["firewall"] == "up"


class _relay:
    """A TCP port on the loopback in front of the engine's socket."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.sock = socket.create_server(("127.0.0.1", 0))

    def __enter__(self) -> str:
        threading.Thread(target=self._accept, daemon=True).start()
        return f"tcp://127.0.0.1:{self.sock.getsockname()[1]}"

    def __exit__(self, *_: object) -> None:
        self.sock.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self.sock.accept()
            except OSError:
                return
            server = socket.socket(socket.AF_UNIX)
            server.connect(self.path)
            for one, other in ((client, server), (server, client)):
                threading.Thread(target=self._pump, args=(one, other), daemon=True).start()

    @staticmethod
    def _pump(source: socket.socket, sink: socket.socket) -> None:
        try:
            while data := source.recv(65536):
                sink.sendall(data)
            sink.shutdown(socket.SHUT_WR)
        except OSError:
            sink.close()


@pytest.mark.parametrize(
    ("patches", "road"),
    [
        pytest.param((ICC,), "quarantined neighbour irkit's helper to", id="icc"),
        pytest.param((STAY, STAY_AFTER), "old peer", id="leaving"),
    ],
)
def test_a_defence_less_is_found(signed: Lab, patches: tuple[str, ...], road: str) -> None:
    """With a defence out the proof says what is open; taken off all networks it is closed, unless that is out as well."""
    run, said = far(signed, "contain", victim(signed), "--helper", IMAGE, "--json", code=None, patches=patches)
    told = proof(run)
    first = told["earlier"][0] if told["earlier"] else told
    assert first["state"] == "open" and any(road in one for one in reached(first)), (said, reached(first))
    if STAY_AFTER in patches:
        assert run["quarantine"]["state"] == "open" and any("established" in one for one in reached(told))
    else:
        assert run["quarantine"]["state"] == "proven"


def test_an_image_that_nobody_signed_is_no_helper(lab: Lab) -> None:
    run, said = far(lab, "contain", victim(lab), "--helper", IMAGE, "--json", code=3)
    assert run["quarantine"]["state"] == "unproven"
    assert f"the helper image {IMAGE} is refused: " in said, said
    assert "no key is trusted for images" in said and "irkit key trust" in said, said
    assert not helpers(lab) and "by" not in proof(run)


def test_how_to_get_there_is_told(lab: Lab) -> None:
    run, _ = far(lab, "contain", victim(lab), "--json", code=3)
    assert "--helper IMAGE" in run["quarantine"]["probes"][0]["detail"]


def test_an_image_signed_by_another_key_or_altered(lab: Lab) -> None:
    """The name alone is nothing: another image under it is refused."""
    lab.irkit("key", "generate", "--name", "release", "--use", "image")
    lab.docker("tag", IMAGE, f"{lab.token}/helper:1")
    lab.irkit("image", "sign", f"{lab.token}/helper:1", "--key", "release")
    lab.docker("tag", BUSYBOX, f"{lab.token}/helper:1")
    try:
        run, said = far(lab, "contain", victim(lab), "--helper", f"{lab.token}/helper:1", "--json", code=3)
    finally:
        lab.docker("rmi", f"{lab.token}/helper:1")
    assert run["quarantine"]["state"] == "unproven" and UNSIGNED in said and not helpers(lab)


def test_a_signed_image_without_python(lab: Lab) -> None:
    lab.irkit("key", "generate", "--name", "release", "--use", "image")
    lab.irkit("image", "sign", BUSYBOX, "--key", "release")
    run, _ = far(lab, "contain", victim(lab), "--helper", BUSYBOX, "--json", code=3)
    assert run["quarantine"]["state"] == "unproven" and not helpers(lab)
    assert "the helpers could not do their work" in run["quarantine"]["probes"][0]["detail"]


def test_rules_of_its_own_can_t_be_read_from_afar(signed: Lab) -> None:
    run, _ = far(signed, "contain", victim(signed, "--cap-add", "NET_ADMIN"), "--helper", IMAGE, "--json", code=3)
    assert run["quarantine"]["state"] == "unproven"
    assert {one["result"] for one in run["quarantine"]["probes"]} == {"unknown"}


def test_its_former_address_is_another_s_now(signed: Lab) -> None:
    """Who is given the former address answers for it: that is no way to the target."""
    name = victim(signed)
    far(signed, "contain", name, "--helper", IMAGE, "--json", code=4)
    signed.run("heir", "--network", f"{signed.token}-app", "--ip", "10.231.94.7", image=BUSYBOX, command=SLEEP)
    run, said = far(signed, "contain", name, "--again", "--helper", IMAGE, "--json", code=4)
    assert run["quarantine"]["state"] == "proven", said
    assert any("the former address 10.231.94.7" in one for one in proof(run)["by"]["not_tried"])


def test_helpers_that_a_killed_run_left_are_removed(lab: Lab, engine: DockerEngine) -> None:
    made = Helpers(engine, engine.image(IMAGE).id, "2026-01-01-gone-0000").start("somewhere", "none")
    assert made.id[:12] in helpers(lab)
    lab.irkit("release", "--leftovers")
    assert made.id[:12] not in helpers(lab)
