"""What a release needs to give back, saved before the first change."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from irkit.clock import now
from irkit.engine.interface import Container, Endpoint, PortBinding

FROZEN_ONLY_MODES = ("host",)


@dataclass(frozen=True, slots=True)
class SavedState:
    """The target's place in the world before irkit touched it."""

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

    @classmethod
    def of(cls, container: Container) -> SavedState:
        """From an inspect made before the first change."""
        return cls(
            container.id, container.network_mode, container.endpoints, container.ports, container.restart_policy,
            container.running, container.paused, container.auto_remove, now(),
            PortBinding.from_inspect(container.host_config.get("PortBindings")),
        )  # fmt: skip

    @property
    def cannot_leave(self) -> str:
        """Why the target can't leave its network, or an empty string."""
        if self.network_mode == "host":
            return "it lives in the host's own network namespace, which no container can leave"
        if self.network_mode.startswith("container:"):
            return "it shares the network namespace of another container, which it can't leave"
        return ""

    def to_json(self) -> dict[str, Any]:
        """``quarantine.json``."""
        return {
            "schema": "irkit.quarantine/v1", "container_id": self.container_id, "network_mode": self.network_mode,
            "endpoints": [one.to_json() for one in self.endpoints], "ports": [_port(one) for one in self.ports],
            "requested_ports": [_port(one) for one in self.requested_ports],
            "restart_policy": dict(self.restart_policy), "running": self.running, "paused": self.paused,
            "auto_remove": self.auto_remove, "saved": self.saved,
        }  # fmt: skip

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> SavedState:
        """The reverse of :meth:`to_json`.  Raises ``KeyError`` or ``TypeError`` for something else."""
        return cls(
            str(raw["container_id"]), str(raw["network_mode"]), tuple(Endpoint.from_json(one) for one in raw["endpoints"]),
            tuple(PortBinding(**one) for one in raw["ports"]), dict(raw["restart_policy"]), bool(raw["running"]), bool(raw["paused"]),
            bool(raw["auto_remove"]), str(raw["saved"]), tuple(PortBinding(**one) for one in raw["requested_ports"]),
        )  # fmt: skip


def _port(one: PortBinding) -> dict[str, Any]:
    return {
        "container_port": one.container_port,
        "protocol": one.protocol,
        "host_ip": one.host_ip,
        "host_port": one.host_port,
    }
