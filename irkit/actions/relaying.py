"""The verb that has new connections relayed to the replacement, from before the freeze until its ports are its own."""

from __future__ import annotations

import contextlib
import ipaddress
import os
import socket
import subprocess
import threading
import time
from collections.abc import Mapping
from typing import Any

from dateutil.parser import isoparse

from irkit.acquire.host import HostView, locate
from irkit.actions.context import Context, Result
from irkit.clock import now
from irkit.engine.interface import Container, PortBinding
from irkit.errors import EngineError
from irkit.quarantine import diversion, firewall
from irkit.quarantine.links import cables
from irkit.quarantine.ports import listening
from irkit.quarantine.procfs import read
from irkit.recover.failover import WARM
from irkit.recover.relay import Relay, accepts, family_of, lend, renew, take_back

NONE = "no connection is relayed"
PORTS = 128
REFRESH = 1.0
TRIED = 1.0
ANSWERS = 3.0
"""Seconds after its ports were published until the replacement surely answers on them: the relay goes on as long."""


class Diversion:
    """A relay with the rules that lead to it, kept up by a thread of its own.

    ``since``: the moment from which it was seen to work; ``told``: why some are not relayed, in words; ``held``: whether
    neither the rules lapsed meanwhile nor a connection found no place.
    """

    def __init__(self, case_id: str, view: HostView, ports: tuple[PortBinding, ...], near: str) -> None:
        self.case_id, self.netns, self.near = case_id, view.netns, near
        self.address = lend(self.netns)
        self.since, self.until, self.told = "", "", ""
        self.cut = 0
        self.held = True
        self._fresh_until = 0.0
        self._up = self._there = False
        self._over = threading.Event()
        self._nft = threading.Lock()
        try:
            self.ports = tuple(one for one in ports if accepts(self.netns, self.address, one.container_port))
            self.relay = Relay(self.netns, self.address, self.ports, bool(near))
        except OSError:
            take_back(self.netns, self.address)
            raise
        self.doors = {family: self.relay.door(family) for family in self.relay.doors}
        self._keeper = threading.Thread(target=self._keep, name="irkit-diversion", daemon=True)

    def put_up(self) -> PortBinding | None:
        """Divert, and try each port once; the first one at which nothing came through.  Raises ``EngineError``."""
        self._fresh_until = time.monotonic() + diversion.LAPSE
        diversion.put_up(self.case_id, self.ports, self.doors, bool(self.near))
        self._up = self._there = True
        self._keeper.start()
        for one in self.ports:
            with contextlib.suppress(OSError), socket.create_connection((listening(one)[0], one.host_port), TRIED):
                pass
            deadline = time.monotonic() + TRIED
            while not self.relay.arrived[one]:
                if time.monotonic() > deadline:
                    return one
                time.sleep(0.001)
        self.since = now()
        return None

    def _keep(self) -> None:
        """What lapses is refreshed as long as it is needed."""
        while not self._over.wait(REFRESH):
            with contextlib.suppress(EngineError), self._nft:
                if self._up and self.relay.works:
                    self._look()
                    begun = time.monotonic()
                    diversion.keep_up(self.case_id, self.ports, self.doors)
                    self._fresh_until = begun + diversion.LAPSE
                elif self._there:
                    diversion.hold(self.case_id)
            if self._up or self.relay.open:
                with contextlib.suppress(OSError, subprocess.SubprocessError):
                    renew(self.netns, self.address)

    def _look(self) -> None:
        relay = self.relay
        self.held &= time.monotonic() < self._fresh_until and relay.works and not relay.full and not relay.failed

    def give_back(self) -> None:
        """New connections are the engine's from now on; open ones go on.  Raises ``EngineError``."""
        with self._nft:
            if self._up:
                self._look()
                self._up = False
                self.until = now()
            if self._there:
                diversion.empty(self.case_id, self.doors)
        self.relay.shut()

    def close(self) -> None:
        """Nothing is relayed any more; ``cut`` says how many connections were still open."""
        if self._over.is_set():
            return
        self._over.set()
        with contextlib.suppress(EngineError):  # they lapse by themselves
            self.give_back()
        self.cut = self.relay.close()
        if self._there:
            with contextlib.suppress(EngineError):  # it leads nowhere, and `release --leftovers` finds it
                diversion.take_down(self.case_id)
        if self._keeper.ident is not None:
            self._keeper.join(10)
        take_back(self.netns, self.address)

    def to_json(self) -> dict[str, Any]:
        """``failover.relay``: the published ports, whose connections, since and until when, how many."""
        return {
            "ports": sorted({f"{one.host_port}/{one.protocol}" for one in self.ports}), "clients": "local" if self.near else "all",
            "from": self.since, "to": self.until or None, "connections": sum(self.relay.arrived.values()) - len(self.ports),
            "refused": self.relay.refused, "failed": self.relay.failed, "cut": self.cut,
        }  # fmt: skip


def relay(ctx: Context, _: Mapping[str, Any]) -> Result:
    """Relay new connections to published TCP ports to the warm replacement.  Where that can't be had, nothing is done."""
    record = ctx.case.read_json("failover.json") or {}
    raw = ctx.case.read_json("container.json")
    before = Container(raw) if raw else ctx.before
    wanted = tuple(one for one in before.ports if one.protocol == "tcp" and _family_here(one))
    ports = tuple(one for one in wanted if _plain(one))
    try:
        if why := _why_not(ctx, record, ports):
            return Result("skipped", f"{NONE}: {why}")
        view = locate(ctx.engine.container(str(record["id"])))
        if isinstance(view, str):
            return Result("skipped", f"{NONE}: {view}")
        found = Diversion(ctx.case.id, view, ports, diversion.input_filter())
    except (OSError, ValueError, subprocess.SubprocessError, EngineError) as error:
        return Result("skipped", f"{NONE}: {getattr(error, 'message', error)}")
    ctx.endings.append(lambda: _end(ctx, found))
    return _up(ctx, found, wanted)


def _up(ctx: Context, found: Diversion, wanted: tuple[PortBinding, ...]) -> Result:
    if not found.ports:
        return _not(
            found, "the replacement accepts no connection on any of the ports, but on its loopback address perhaps"
        )
    try:
        missing = found.put_up()
    except EngineError as error:
        return _not(found, error.message)
    if missing is not None:
        return _not(found, f"a try at port {missing.host_port} did not come through")
    ctx.diversion = found
    others = sorted({str(one.host_port) for one in wanted if one not in found.ports})
    if others:
        found.told = f"port {', '.join(others)} is not relayed: the replacement accepts no connection on it, or its address has a zone"
    elif found.near:
        found.told = f"only connections of this host itself are relayed: {found.near} may drop those of others"
    if found.told:
        ctx.note(found.told)
    shown = ", ".join(found.to_json()["ports"])
    return Result(
        "succeeded", f"new connections to {shown} go to the replacement{'; ' + found.told if found.told else ''}"
    )


def _not(found: Diversion, why: str) -> Result:
    found.close()
    return Result("skipped", f"{NONE}: {why}")


def _why_not(ctx: Context, record: Mapping[str, Any], ports: tuple[PortBinding, ...]) -> str:
    """Raises ``OSError`` when the target's cables can't be followed."""
    if record.get("start") != WARM:
        return "the replacement is started at the switch" if record else "no replacement was prepared"
    if not ctx.before.running or ctx.before.paused:
        return "the target does not serve now"
    if not ports:
        return "the target publishes no TCP port"
    if len(ports) > PORTS:
        return f"the target publishes more than {PORTS} ports"
    if not ctx.engine.local:
        return "the engine is on another host"
    if os.geteuid() != 0:
        return "only root may load firewall rules"
    if not firewall.available():
        return "nft is not installed (package nftables)"
    if ctx.host_view is None:
        return ctx.facts.not_seen
    # else the rules would hold in another namespace than the ports, and irkit's own tries would not show it
    return "" if cables(ctx.host_view.netns) else "no cable of the target's ends in irkit's network namespace"


def _family_here(port: PortBinding) -> bool:
    """An engine publishes at ``::`` also where the host has no IPv6."""
    return family_of(port) == socket.AF_INET or bool(read("/proc/net/if_inet6"))


def _plain(port: PortBinding) -> bool:
    """Whether a rule can name its address: not one with a zone (RFC 4007)."""
    with contextlib.suppress(ValueError):
        return not port.host_ip or "%" not in str(ipaddress.ip_address(port.host_ip))
    return False


def _end(ctx: Context, found: Diversion) -> None:
    found.close()
    told = ctx.facts.result.get("failover")
    if told is not None and ctx.diversion is found:
        told["relay"] = found.to_json()
        if found.cut:
            ctx.warn(f"{found.cut} relayed connections were still open, and were cut")


def hand_over(ctx: Context, fresh: Container) -> None:
    """The replacement has its ports: once it answers on its networks, no connection is diverted any more."""
    found = ctx.diversion
    if found is None:
        return
    places = [
        (one.ipv4, port.container_port) for one in fresh.endpoints if one.ipv4 for port in found.ports
    ]  # fmt: skip
    deadline = time.monotonic() + ANSWERS
    while not (answers := all(_answers(*one) for one in places)) and time.monotonic() < deadline:
        time.sleep(0.02)
    if not (places and answers):  # whoever comes now may have to wait: then not all were relayed
        found.held = False
    give_up(ctx)


def _answers(address: str, port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection((address, port), TRIED):
        return True
    return False


def all_relayed(ctx: Context, before: Container, silent: str) -> bool:
    """Whether nobody who came by a published port had to wait: all of them relayed, for everybody, since before the freeze."""
    found = ctx.diversion
    if found is None or not silent or found.told or not found.since or not found.until or not found.held:
        return False
    return isoparse(found.since) <= isoparse(silent) and all(one.protocol == "tcp" for one in before.ports)


def give_up(ctx: Context) -> None:
    """No connection is diverted from now on.  What can't be removed lapses within seconds."""
    if ctx.diversion is not None:
        try:
            ctx.diversion.give_back()
        except EngineError as error:
            ctx.warn(f"the rules of the relay could not be removed, and lapse in {diversion.LAPSE} s: {error.message}")


def none_left(ctx: Context) -> None:
    """A proof must try the ports themselves: no rule may lead elsewhere.  Raises ``EngineError`` when that can't be told."""
    found = ctx.diversion
    if found is not None:
        late = not found.until
        found.give_back()
    else:
        late = ctx.engine.local and firewall.available() and os.geteuid() == 0 and diversion.take_down(ctx.case.id)
    if late:
        ctx.warn("the rules of the relay were still there when the proof began: they were removed")


def drop_stale(ctx: Context) -> None:
    """What a killed run has left, if anything."""
    if ctx.engine.local and firewall.available() and os.geteuid() == 0:
        with contextlib.suppress(EngineError):
            diversion.take_down(ctx.case.id)
