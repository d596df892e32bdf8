"""A road is a pair of places; each is tried by TCP, UDP, SCTP and ICMP, with irkit's own listeners at the far end."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Sequence

from irkit.netns import default_gateways, default_gateways6, in_netns
from irkit.quarantine.datagrams import Ear, Frame, Shot, Volley
from irkit.quarantine.neighbours import Neighbour, neighbours
from irkit.quarantine.procfs import read
from irkit.quarantine.scene import Scene
from irkit.quarantine.sctp import InitEar
from irkit.quarantine.tries import Answerer, Try


class Post:
    """irkit's listeners in one namespace, and the controls that show that they would have answered."""

    def __init__(self, netns: str | None, volley: Volley) -> None:
        self.netns = netns
        with contextlib.ExitStack() as undo:
            self.tcp = undo.enter_context(contextlib.closing(Answerer(netns)))
            self.udp = undo.enter_context(contextlib.closing(Ear(netns)))
            self.sctp = undo.enter_context(contextlib.closing(in_netns(netns, InitEar)))
            self._open = undo.pop_all()
        here = "127.0.0.1"
        self.tcp_control = Try("control", "control", here, self.tcp.port, netns=netns, expect=self.tcp.nonce)
        self.udp_control = volley.add(Shot("control", "control", here, netns, self.udp))
        self.sctp_control = volley.add(Shot("control", "control", here, netns, self.sctp))
        self.icmp_control = volley.add(Shot("control", "control", here, netns))

    def close(self) -> None:
        """Stop listening."""
        self._open.close()


class Roads:
    """All tries of a proof.  ``devices``: the target's interfaces that tries are bound to, the first one empty: unbound."""

    def __init__(self, scene: Scene, volley: Volley, devices: Sequence[str]) -> None:
        self.volley = volley
        self.devices = devices
        self.tries: list[Try] = []
        self._scene = scene
        self._silent: dict[tuple[str, str], Neighbour] = {}
        self._answered: set[tuple[str, str]] = set()

    def to_post(
        self, label: str, direction: str, start: str | None, post: Post, address: str, device: str = ""
    ) -> None:
        """Between two places where irkit listens at the far one.  ``device``: bound to that interface."""
        path = f"{label} by {device}" if device else label
        scope = device if address.lower().startswith("fe80:") else ""
        self.tries.append(
            Try(f"{path}, TCP", direction, address, post.tcp.port, netns=start, device=device, scope=scope, expect=post.tcp.nonce, control=post.tcp_control)
        )  # fmt: skip
        self.volley.add(Shot(f"{path}, UDP", direction, address, start, post.udp, device, control=post.udp_control))
        self.volley.add(Shot(f"{path}, SCTP", direction, address, start, post.sctp, device, control=post.sctp_control))
        self.volley.add(Shot(f"{path}, ICMP", direction, address, start, None, device, control=post.icmp_control))

    def frame(self, label: str, post: Post, address: str, device: str, frame: Frame) -> None:
        """A raw UDP frame out of the target's interface, past its routes."""
        shot = Shot(f"{label} by a raw frame on {device}", "out", address, self._scene.victim, post.udp, device, frame)
        shot.control = post.udp_control
        self.volley.add(shot)

    def to_nobody(self, label: str, address: str, ports: tuple[int, ...], device: str, *, udp: int = 0) -> None:
        """From the target to where irkit has no listener: silence counts only when nobody answers ARP or NDP."""
        path = f"{label} {address}" + (f" by {device}" if device else "")
        silent = self.nobody_home(address, device)
        victim = self._scene.victim
        for port in ports:
            self.tries.append(
                Try(f"{path}, TCP {port}", "out", address, port, netns=victim, device=device, silent=silent)
            )
        if udp:
            self.volley.add(Shot(f"{path}, UDP {udp}", "out", address, victim, None, device, silent=silent, port=udp))
        self.volley.add(Shot(f"{path}, ICMP", "out", address, victim, None, device, silent=silent))

    def nobody_home(self, address: str, device: str) -> Callable[[], str]:
        """Silence is a proof when the next hop, the address itself or the default gateway, did not answer ARP or NDP."""

        def explain() -> str:
            gateways = self._gateways
            for row in self._unanswered:
                if device and row.interface != device:
                    continue
                if (row.address, row.interface) in gateways:
                    return f"the way out is by {row.address} on {row.interface}, and nobody answers for it"
                if row.address == address:
                    return f"nobody on {row.interface} answers for it"
            return ""

        return explain

    @functools.cached_property
    def _unanswered(self) -> list[Neighbour]:
        """After the wait: who was asked and has not answered."""
        self.look()
        return list(self._silent.values())

    def look(self) -> None:
        """Note who has not answered by now.  The kernel forgets that after a while, an answer it keeps for longer."""
        with contextlib.suppress(OSError):
            for row in in_netns(self._scene.victim, neighbours):
                key = (row.address, row.interface)
                if row.answered:
                    self._answered.add(key)
                    self._silent.pop(key, None)
                elif key not in self._answered:
                    self._silent[key] = row

    @functools.cached_property
    def _gateways(self) -> set[tuple[str, str]]:
        base = f"/proc/{self._scene.pid}/net"
        return default_gateways(read(f"{base}/route")) | default_gateways6(read(f"{base}/ipv6_route"))
