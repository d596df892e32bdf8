"""A switch under load: from before the freeze on the replacement answers, by irkit's relay first; then no trace is left of that."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from dateutil.parser import isoparse

from irkit import schemas
from irkit.quarantine.diversion import KEPT
from tests.load import PATIENCE, Asked, get, steady

from .conftest import WEB, Lab
from .test_contain import answers, free_port, inspect

MARK = "/mark"
"""A page that the compromised container alone has."""
WHO = (
    "mkdir -p /srv/www/cgi-bin && printf '#!/bin/sh\\necho\\necho from $REMOTE_ADDR\\n' > /srv/www/cgi-bin/who"
    " && chmod +x /srv/www/cgi-bin/who && exec /bin/busybox httpd -f -p 8080 -h /srv/www"
)


@pytest.fixture
def trusted(lab: Lab) -> Lab:
    lab.irkit("key", "generate", "--name", "rel", "--use", "image")
    lab.irkit("image", "sign", WEB, "--key", "rel")
    return lab


def load(netns: str | None, address: str, port: int, path: str = MARK) -> AbstractContextManager[list[Asked]]:
    return steady(netns, partial(get, address, port, path))


def answered(link: socket.socket) -> bool:
    """Whether anybody answers on a connection that was made before."""
    link.settimeout(0.5)
    with link:
        try:
            link.sendall(f"GET {MARK} HTTP/1.0\r\n\r\n".encode())
            return bool(link.recv(1))
        except OSError:
            return False


def tables() -> list[str]:
    listed = subprocess.run(["nft", "list", "tables"], capture_output=True, text=True, check=True).stdout
    return [one for one in listed.splitlines() if "irkit_relay_" in one]


def diverts() -> bool:
    """Whether a set of a relay has a port in it: all of them but the one that tells that its run goes on."""
    listed = [
        subprocess.run(["nft", "-j", "list", *one.split()], capture_output=True, text=True, check=False)
        for one in tables()
    ]
    rows = [row for one in listed if one.returncode == 0 for row in json.loads(one.stdout)["nftables"]]
    return any("elem" in row["set"] and row["set"]["name"] != KEPT for row in rows if "set" in row)


def until(true: Callable[[], bool], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def loopback(lab: Lab, name: str) -> list[str]:
    argv = ["nsenter", "-t", str(inspect(lab, name)["State"]["Pid"]), "-n", "ip", "-4", "-j", "address", "show", "lo"]
    found = json.loads(subprocess.run(argv, capture_output=True, check=True).stdout)
    return [one["local"] for row in found for one in row["addr_info"]]


def test_from_the_freeze_on_the_replacement_answers_every_request(trusted: Lab) -> None:
    """By the loopback address, IPv6 where there is one, the host's own address, and from another network's container."""
    lab, port = trusted, free_port()
    lab.network("app")
    other = lab.network("other")
    peer = lab.run("peer", "--network", other)
    name = lab.run("web", "--network", f"{lab.token}-app", "-p", f"{port}:8080")
    assert answers(port)
    lab.docker("exec", name, "cp", "/etc/hostname", f"/srv/www{MARK}")
    settings = inspect(lab, peer)
    gateway = settings["NetworkSettings"]["Networks"][other]["Gateway"]
    netns = f"/proc/{settings['State']['Pid']}/ns/net"
    old = socket.create_connection(("127.0.0.1", port), PATIENCE)
    with (
        load(None, "127.0.0.1", port) as near, load(None, gateway, port) as own, load(netns, gateway, port) as far,
        load(None, "::1", port) as six,
    ):  # fmt: skip
        run = lab.irkit("failover", name, "--image", WEB, "--json").json
    jsonschema.validate(run, schemas.load("run"))
    done = run["failover"]
    relay, spent = done["relay"], done["downtime"]
    assert relay["ports"] == [f"{port}/tcp"] and relay["clients"] == "all" and relay["connections"] > 0
    assert relay["refused"] == 0 and isoparse(relay["from"]) < isoparse(spent["from"]) < isoparse(relay["to"])
    assert spent["until"] == "relayed" and spent["seconds"] == 0 and spent["networks"] > 0
    frozen = isoparse(spent["from"]).timestamp()
    ways = {"loopback": near, "own": own, "far": far, **({"IPv6": six} if any(one.answer for one in six) else {})}
    for way, rows in ways.items():
        before, after = ([one for one in rows if (one.begun >= frozen) == late] for late in (False, True))
        assert any(" 200 " in one.answer for one in before) and after
        odd = [
            (one.begun - frozen, one.answer)
            for one in after
            if one.answer.split("\r\n")[0].partition(" ")[2] != "404 Not Found"
        ]
        assert not odd, (way, relay, spent)
    assert not answered(old), "what was established is the compromised one's, and is not passed on"
    assert not tables() and loopback(lab, name) == ["127.0.0.1"]
    assert run["quarantine"]["state"] == "proven" and run["status"] == "succeeded"
    assert not [one for one in done["differs"] if one["why"] == "unexpected"] and done["differs"]


def test_strangers_do_not_come_from_the_loopback_address(trusted: Lab) -> None:
    """Who trusts 127.0.0.1 must not be made to trust everybody."""
    lab, port = trusted, free_port()
    name = lab.run("web", "-p", f"127.0.0.1:{port}:8080", command=("/bin/sh", "-c", WHO))
    assert answers(port)
    with load(None, "127.0.0.1", port, "/cgi-bin/who") as rows:
        run = lab.irkit("failover", name, "--image", WEB, "--json").json
    assert run["failover"]["relay"]["connections"] > 0
    told = [one.answer.split("from ")[-1].strip() for one in rows if "from " in one.answer]
    assert any("192.0.2.1" in one for one in told) and not [one for one in told if "127.0.0.1" in one or "::1]" in one]


def test_a_server_of_the_loopback_address_alone_is_not_opened(trusted: Lab) -> None:
    lab, port = trusted, free_port()
    command = ("/bin/busybox", "httpd", "-f", "-p", "127.0.0.1:8080", "-h", "/srv/www")
    name = lab.run("web", "-p", f"127.0.0.1:{port}:8080", command=command)
    run = lab.irkit("failover", name, "--image", WEB, "--json").json
    (step,) = [one for one in run["steps"] if one["uses"] == "recover.relay"]
    assert step["outcome"] == "skipped" and "accepts no connection" in step["message"]
    assert run["failover"]["relay"] is None and run["failover"]["downtime"]["until"] == "connected"


@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
def test_what_is_open_goes_on_after_the_switch_and_is_cut_at_the_end(trusted: Lab, address: str) -> None:
    lab, port = trusted, free_port()
    published = f"[{address}]:{port}:8080" if ":" in address else f"{address}:{port}:8080"
    name = lab.run("web", "-p", published)
    until(lambda: " 200 " in get(address, port))
    idle: list[socket.socket] = []
    asking: list[bytes] = []
    left: list[dict[str, Any]] = []

    def hold() -> None:
        until(diverts)
        idle.append(socket.create_connection((address, port), PATIENCE))
        with socket.create_connection((address, port), PATIENCE) as link:
            until(lambda: not diverts())
            left.append(lab.irkit("release", "--leftovers", "--json").json)
            link.sendall(b"GET / HTTP/1.0\r\n\r\n")
            asking.append(link.recv(12))

    thread = threading.Thread(target=hold)
    thread.start()
    run = lab.irkit("failover", name, "--image", WEB, "--json")
    thread.join()
    assert asking[0].endswith(b"200"), "the answer of the replacement, with new connections the engine's already"
    (case,) = left[0]["relays_in_use"]
    assert case == run.json["case"] and left[0]["relays"] == left[0]["cases"] == []
    assert run.json["failover"]["relay"]["cut"] == 1 and "were cut" in run.err
    assert idle[0].recv(1) == b""
    idle[0].close()
    assert not tables()


@pytest.mark.parametrize("way", ["leftovers", "resume"])
def test_killed_while_it_relays(trusted: Lab, way: str) -> None:
    """The kernel forgets the rules by itself; what is left of them is removed, and the run goes on."""
    lab, port = trusted, free_port()
    name = lab.run("web", "-p", f"127.0.0.1:{port}:8080")
    assert answers(port)
    argv = [sys.executable, "-m", "irkit", "failover", name, "--image", WEB]
    with subprocess.Popen(argv, env=lab.environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        until(lambda: bool(tables()))
        process.send_signal(signal.SIGKILL)
    (case,) = [path.name for path in (Path(lab.home) / "cases").iterdir() if path.is_dir()]
    if way == "leftovers":
        until(
            lambda: (
                not subprocess.run(["nft", "list", "ruleset"], capture_output=True, check=True).stdout.count(b"expires")
            )
        )
        found = lab.irkit("release", "--leftovers", "--json").json
        assert found["relays"] == [case] and found["problems"] == found["replacements"] == []
        frozen = (Path(lab.home) / "cases" / case / "quarantine.json").exists()
        assert len(found["waiting"]) == (0 if frozen else 1), "it was ready: the run goes on with it"
        assert not tables()
    run = lab.irkit("resume", case, "--json").json
    assert not tables() and answers(port)
    assert run["quarantine"]["state"] == "proven" and inspect(lab, name)["Id"] == run["failover"]["id"]
