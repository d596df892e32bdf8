"""What a release needs to give back, saved before the first change."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from irkit.clock import now
from irkit.engine.interface import Container, Endpoint, PortBinding

SHARED = "container:"


class SavedState(NamedTuple):
    """The target's place in the world before irkit touched it.

    ``holder_id`` names the container whose network namespace the target lives in: itself, or the one that
    ``--network container:X`` names, whose endpoints and ports are then the ones that count.  ``sealed_by`` is the case
    that had sealed off the holder before.
    """

    container_id: str
    network_mode: str
    endpoints: tuple[Endpoint, ...]
    ports: tuple[PortBinding, ...]
    restart_policy: Mapping[str, Any]
    running: bool
    paused: bool
    auto_remove: bool
    saved: str
    requested_ports: tuple[PortBinding, ...] = ()
    holder_id: str = ""
    holder_name: str = ""
    holder_mode: str = ""
    sealed_by: str = ""

    @classmethod
    def of(cls, container: Container, holder: Container | None = None, sealed_by: str = "") -> SavedState:
        """From an inspect made before the first change, and one of the namespace's holder if that is another."""
        net = holder or container
        return cls(
            container.id, container.network_mode, () if sealed_by else net.endpoints, net.ports, container.restart_policy,
            container.running, container.paused, container.auto_remove, now(),
            PortBinding.from_inspect(net.host_config.get("PortBindings")), net.id, net.name, net.network_mode, sealed_by,
        )  # fmt: skip

    @property
    def shared(self) -> bool:
        """Whether the network namespace belongs to another container."""
        return self.holder_id != self.container_id

    @property
    def restarts(self) -> bool:
        """Whether the engine would start it again by itself, which a containment switches off."""
        return self.restart_policy.get("Name") not in ("", "no", None) and not self.auto_remove

    @property
    def cannot_leave(self) -> str:
        """Why the target can't leave its network, or an empty string."""
        if self.holder_mode == "host":
            return "it lives in the host's own network namespace, which no container can leave"
        if self.holder_mode.startswith(SHARED):
            return "it shares the network namespace of a container that is gone"
        return ""

    def to_json(self) -> dict[str, Any]:
        """``quarantine.json``."""
        return {
            "schema": "irkit.quarantine/v1", "container_id": self.container_id, "network_mode": self.network_mode,
            "endpoints": [one.to_json() for one in self.endpoints], "ports": [_port(one) for one in self.ports],
            "requested_ports": [_port(one) for one in self.requested_ports],
            "restart_policy": dict(self.restart_policy), "running": self.running, "paused": self.paused,
            "auto_remove": self.auto_remove, "saved": self.saved,
            "holder": {"id": self.holder_id, "name": self.holder_name, "network_mode": self.holder_mode, "sealed_by": self.sealed_by},
        }  # fmt: skip

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> SavedState:
        """The reverse of :meth:`to_json`.  Raises ``KeyError`` or ``TypeError`` for something else."""
        holder = raw["holder"]
        return cls(
            str(raw["container_id"]), str(raw["network_mode"]), tuple(Endpoint.from_json(one) for one in raw["endpoints"]),
            tuple(PortBinding(**one) for one in raw["ports"]), dict(raw["restart_policy"]), bool(raw["running"]), bool(raw["paused"]),
            bool(raw["auto_remove"]), str(raw["saved"]), tuple(PortBinding(**one) for one in raw["requested_ports"]),
            str(holder["id"]), str(holder["name"]), str(holder["network_mode"]), str(holder["sealed_by"]),
        )  # fmt: skip


def _port(one: PortBinding) -> dict[str, Any]:
    return {
        "container_port": one.container_port,
        "protocol": one.protocol,
        "host_ip": one.host_ip,
        "host_port": one.host_port,
    }
