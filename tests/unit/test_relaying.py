"""When connections are relayed, when not and why, and what a failover then says of its downtime."""

from __future__ import annotations

import threading
import time
from types import SimpleNamespace
from typing import Any

import pytest

from irkit.actions import containment, relaying
from irkit.engine.interface import Container, Endpoint
from irkit.errors import EngineError
from irkit.quarantine import firewall
from irkit.recover import failover
from irkit.recover.compared import Meant, differences

TCP = {"8080/tcp": [{"HostIp": "127.0.0.1", "HostPort": "8000"}]}
UDP = {"53/udp": [{"HostIp": "127.0.0.1", "HostPort": "5300"}]}


def container(ports: dict[str, Any], paused: bool = False) -> Container:
    state = {"Running": True, "Paused": paused, "Pid": 1, "Status": "running"}
    return Container({"Id": "a" * 64, "Name": "/web", "State": state, "NetworkSettings": {"Ports": ports}})


def context(start: str = "warm", ports: dict[str, Any] = TCP, *, paused: bool = False, local: bool = True) -> Any:
    before = container(ports, paused)
    case = SimpleNamespace(
        id="case", read_json=lambda name: {"start": start, "id": "b"} if name == "failover.json" else None
    )
    facts = SimpleNamespace(not_seen="not from here", result={})
    engine = SimpleNamespace(local=local, container=lambda name: before)
    return SimpleNamespace(
        case=case, before=before, engine=engine, facts=facts, host_view=None, endings=[], diversion=None
    )


@pytest.mark.parametrize(
    ("ctx", "why"),
    [
        (context("cold"), "started at the switch"),
        (context(paused=True), "does not serve now"),
        (context(ports={}), "publishes no TCP port"),
        (context(ports=UDP), "publishes no TCP port"),
        (
            context(ports={f"{one}/tcp": [{"HostIp": "127.0.0.1", "HostPort": str(one)}] for one in range(1, 200)}),
            "more than",
        ),
        (context(local=False), "on another host"),
        (context(), "not from here"),
    ],
)
def test_where_it_can_not_be_had_nothing_is_done(monkeypatch: pytest.MonkeyPatch, ctx: Any, why: str) -> None:
    monkeypatch.setattr(relaying.os, "geteuid", lambda: 0)
    monkeypatch.setattr(firewall, "available", lambda: True)
    done = relaying.relay(ctx, {})
    assert done.outcome == "skipped" and why in done.message and not ctx.endings and ctx.diversion is None


def test_not_without_root_or_nft(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(relaying.os, "geteuid", lambda: 1000)
    assert "root" in relaying.relay(context(), {}).message
    monkeypatch.setattr(relaying.os, "geteuid", lambda: 0)
    monkeypatch.setattr(firewall, "available", lambda: False)
    assert "nft is not installed" in relaying.relay(context(), {}).message


def test_not_where_the_ports_are_in_another_namespace(monkeypatch: pytest.MonkeyPatch) -> None:
    """irkit's own tries would reach its own rules there, and show nothing."""
    ctx = context()
    ctx.host_view = SimpleNamespace(netns="/proc/1/ns/net")
    monkeypatch.setattr(relaying.os, "geteuid", lambda: 0)
    monkeypatch.setattr(firewall, "available", lambda: True)
    monkeypatch.setattr(relaying, "cables", lambda netns: [])
    assert "no cable" in relaying.relay(ctx, {}).message


def diverted(**more: Any) -> Any:
    return SimpleNamespace(
        **{"since": "2026-01-01T00:00:01Z", "until": "2026-01-01T00:00:03Z", "told": "", "held": True, **more}
    )


@pytest.mark.parametrize(
    ("found", "ports", "all_of_them"),
    [
        (diverted(), TCP, True),
        (diverted(), {**TCP, **UDP}, False),
        (diverted(told="only connections of this host itself"), TCP, False),
        (diverted(since=""), TCP, False),
        (diverted(held=False), TCP, False),
        (diverted(since="2026-01-01T00:00:02.5Z"), TCP, False),
        (None, TCP, False),
    ],
)
def test_relayed_is_said_only_of_all(found: Any, ports: dict[str, Any], all_of_them: bool) -> None:
    ctx = context()
    ctx.diversion = found
    assert relaying.all_relayed(ctx, container(ports), "2026-01-01T00:00:02Z") == all_of_them


class Relaying:
    """As much of a relay as its keeper looks at."""

    works, full, failed = True, False, 0

    def shut(self) -> None:
        """Nothing to shut."""


@pytest.mark.parametrize(
    ("late", "more"), [(True, {}), (False, {"works": False}), (False, {"full": True}), (False, {"failed": 1})]
)
def test_what_lapsed_or_found_no_place_did_not_hold(
    monkeypatch: pytest.MonkeyPatch, late: bool, more: dict[str, Any]
) -> None:
    monkeypatch.setattr(relaying.diversion, "empty", lambda case, doors: None)
    found = object.__new__(relaying.Diversion)
    found.case_id, found.relay, found.held, found._up, found._nft = "case", Relaying(), True, True, threading.Lock()
    found._there, found.doors = True, {}
    found._fresh_until = time.monotonic() + 60
    found._look()
    assert found.held
    for name, value in more.items():
        setattr(found.relay, name, value)
    found._fresh_until -= 120 if late else 0
    found.give_back()
    assert not found.held and found.until


def test_a_freeze_that_fails_gives_the_clients_back(monkeypatch: pytest.MonkeyPatch) -> None:
    ctx = context()
    taken: list[str] = []
    ctx.diversion = SimpleNamespace(give_back=lambda: taken.append("down"))

    def refuse(ctx: object) -> None:
        raise EngineError("the engine refuses")

    monkeypatch.setattr(containment, "_save_once", refuse)
    with pytest.raises(EngineError, match="refuses"):
        containment.freeze(ctx, {})
    assert taken == ["down"]


def test_no_rule_is_left_when_the_proof_begins(monkeypatch: pytest.MonkeyPatch) -> None:
    ctx, said = context(), []
    ctx.warn = said.append
    monkeypatch.setattr(relaying.os, "geteuid", lambda: 0)
    monkeypatch.setattr(firewall, "available", lambda: True)
    monkeypatch.setattr(relaying.diversion, "take_down", lambda case: True)
    relaying.none_left(ctx)
    assert "still there" in said[0]

    def broken(case: str) -> bool:
        raise EngineError("nft refused")

    monkeypatch.setattr(relaying.diversion, "take_down", broken)
    with pytest.raises(EngineError):  # a proof that may have been led astray is none
        relaying.none_left(ctx)


def test_the_run_s_own_rules_are_emptied_before_the_proof_and_removed_at_its_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """With the last NAT chain the kernel would reset what is open."""
    ctx, said, done = context(), [], []
    ctx.warn = said.append
    monkeypatch.setattr(relaying.diversion, "empty", lambda case, doors: done.append("emptied"))
    monkeypatch.setattr(relaying.diversion, "take_down", lambda case: done.append("removed"))
    monkeypatch.setattr(relaying, "take_back", lambda netns, address: None)
    found = object.__new__(relaying.Diversion)
    found.case_id, found.relay, found.held, found._nft, found.doors = "case", Relaying(), True, threading.Lock(), {}
    found.netns, found.address, found.until, found._up, found._there = "", "", "", True, True
    found._fresh_until, found._over, found._keeper = time.monotonic() + 60, threading.Event(), threading.Thread()
    found.relay.close = lambda: done.append("cut") or 1
    ctx.diversion = found
    relaying.give_up(ctx)
    relaying.none_left(ctx)
    found.close()
    assert done == ["emptied", "emptied", "emptied", "cut", "removed"] and not said


def networked(aliases: list[str], **more: Any) -> Container:
    settings = {"Networks": {"app": {"Aliases": aliases}}}
    return Container(
        {
            "Id": "a" * 64,
            "Name": "/web",
            "Config": {},
            "State": {},
            "NetworkSettings": settings,
            "HostConfig": {"PortBindings": {}, **more},
        }
    )


def test_the_comparison_knows_what_a_failover_changes_and_nothing_else() -> None:
    where = (failover.named(Endpoint("app", "", "", "", "", "", ("shop",)), "web"),)
    wanted = failover.expected(networked(["shop"]), where)
    assert not differences(wanted, networked(["shop", "web"]), Meant())
    (more,) = differences(wanted, networked(["shop", "web"], Privileged=True), Meant())
    assert (more.path, more.why) == ("HostConfig.Privileged", "unexpected")
    (less,) = differences(wanted, networked(["web"]), Meant())
    assert (less.path, less.why) == ("Networks[app].Aliases", "unexpected")


@pytest.mark.parametrize("answers", [True, False])
def test_a_replacement_that_does_not_answer_in_its_place_is_not_called_relayed(
    monkeypatch: pytest.MonkeyPatch, answers: bool
) -> None:
    ctx, done = context(), []
    monkeypatch.setattr(relaying, "ANSWERS", 0.01)
    monkeypatch.setattr(relaying, "_answers", lambda address, port: answers)
    port = SimpleNamespace(container_port=8080)
    ctx.diversion = SimpleNamespace(ports=(port,), held=True, give_back=lambda: done.append("given back"))
    relaying.hand_over(ctx, SimpleNamespace(endpoints=(SimpleNamespace(ipv4="10.0.0.2"),)))
    assert ctx.diversion.held is answers and done == ["given back"]
