"""Where the contract is played: containers and networks with names of their own, made through the interface itself."""

from __future__ import annotations

import contextlib
import ipaddress
import secrets
from dataclasses import dataclass, field
from typing import Any

from irkit.engine.fake.engine import FakeEngine
from irkit.engine.fake.state import Program
from irkit.engine.interface import Endpoint, Engine, NetworkSpec
from irkit.errors import EngineError

LABEL = "dev.irkit.test"
IMAGE = "irkit-dev/busybox:1"
WAIT = ("/bin/sleep", "600")
SAY = ("/bin/sh", "-c", "echo out; echo err >&2; sleep 600")
GREET = ("/bin/sh", "-c", "echo hi; exit 3")
END = ("/bin/sh", "-c", "exit 3")


def fake_engine() -> FakeEngine:
    """A fake engine that knows the image and the programs that the contract uses."""
    fake = FakeEngine(IMAGE)
    fake.programs = {SAY: Program(b"out\n", b"err\n"), GREET: Program(b"hi\n", code=3), END: Program(code=3)}
    return fake


def place(**given: Any) -> Endpoint:
    """A wish for a place on a network."""
    return Endpoint("", "", "", "", "", "", **given)


@dataclass(frozen=True)
class Net:
    """A network of a stage.  ``hosts``: the addresses of its subnet, the gateway's first."""

    id: str
    name: str
    hosts: tuple[str, ...] = ()


@dataclass
class Stage:
    """Makes what a test needs on an engine, and removes it."""

    engine: Engine
    token: str = field(default_factory=lambda: f"c{secrets.token_hex(4)}")

    @property
    def labels(self) -> dict[str, str]:
        """What marks the things made here."""
        return {LABEL: self.token}

    @property
    def label(self) -> str:
        """The same as a filter."""
        return f"{LABEL}={self.token}"

    def name(self, short: str) -> str:
        """A name that nobody else has."""
        return f"{self.token}-{short}"

    def body(self, *argv: str, host: dict[str, Any] | None = None, **body: Any) -> dict[str, Any]:
        """What ``create`` takes."""
        return {"Image": IMAGE, "Cmd": list(argv or WAIT), "Labels": self.labels, "HostConfig": host or {}, **body}

    def make(self, short: str, *argv: str, host: dict[str, Any] | None = None, **body: Any) -> str:
        """A container that was never started."""
        return self.engine.create(self.body(*argv, host=host, **body), self.name(short))

    def run(self, short: str, *argv: str, host: dict[str, Any] | None = None, **body: Any) -> str:
        """A running container."""
        made = self.make(short, *argv, host=host, **body)
        self.engine.start(made)
        return made

    def network(self, short: str = "net", *, bits: int = 28, internal: bool = False) -> Net:
        """A network on a subnet of the user's own; another one is tried when the engine has it already."""
        for attempt in range(8):
            base = f"10.{100 + secrets.randbelow(100)}.{secrets.randbelow(256)}.0/{bits}"
            with contextlib.suppress(EngineError):
                made = self.engine.create_network(NetworkSpec(self.name(short), internal, {}, self.labels, base))
                return Net(made, self.name(short), tuple(map(str, ipaddress.ip_network(base).hosts())))
            assert attempt < 7, "no free subnet"
        raise AssertionError

    def plain_network(self, short: str) -> Net:
        """A network on a subnet that the engine chooses."""
        return Net(self.engine.create_network(NetworkSpec(self.name(short), False, {}, self.labels)), self.name(short))

    def clean(self) -> None:
        """Remove all of it."""
        for container in self.engine.containers(self.label):
            with contextlib.suppress(EngineError):
                self.engine.remove(container, force=True)
        for network in self.engine.networks(self.label):
            with contextlib.suppress(EngineError):
                self.engine.remove_network(network.id)
