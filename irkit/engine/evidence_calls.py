"""What evidence of logs and of the engine's state asks of an engine, beside :mod:`irkit.engine.interface`'s own."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Protocol

from irkit.streams import IDLE

Json = Mapping[str, Any]


class EvidenceCalls(Protocol):
    """A part of ``Engine``: nothing of it changes a container."""

    @property
    def calls_dropped(self) -> int:
        """How many reading calls were made but not kept in ``calls``, because there were too many."""

    def raw_logs(self, container: str, idle: float = IDLE) -> Iterator[bytes]:
        """Both streams from the beginning, each message with its time, no follow.

        Without a TTY as frames (:mod:`irkit.acquire.frames`), with one as plain text.  Raises at once when the engine
        refuses, and while reading when it breaks off or sends nothing for ``idle`` seconds.
        """

    def events(self, since: str, until: str, idle: float = IDLE) -> Iterator[bytes]:
        """What the engine remembers of a window (``seconds.nanoseconds`` since the epoch): JSON objects, one a line."""

    def volume(self, name: str) -> Json:
        """A volume by name."""

    def plugins(self) -> tuple[Json, ...]:
        """The engine's managed plugins."""

    def swarm(self, kind: str, ref: str) -> Json:
        """A ``service``, ``task`` or ``node`` of the swarm; only a manager answers."""

    def export(self, container: str, idle: float = IDLE) -> Iterator[bytes]:
        """Its whole root file system as one tar stream, without volumes, bind mounts and tmpfs."""

    def image_archive(self, ref: str, idle: float = IDLE) -> Iterator[bytes]:
        """An image as ``docker save`` writes it; the engine may prepare it for minutes before the first byte."""

    def top(self, container: str) -> Json:
        """The container's processes as the engine lists them: ``{"Titles": […], "Processes": [[…], …]}``.

        The engine starts ``ps`` on its host for it, and remembers a ``top`` event.
        """

    def checkpoint(self, container: str, name: str, folder: str) -> None:
        """Have CRIU write its state to ``folder/name`` on the engine's host; it goes on as before, frozen or running.

        ``EngineError`` that names "experimental" where these features of the engine are off, ``NotFound`` ("page not
        found") where it has no such call.
        """
