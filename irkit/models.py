"""Frozen types that more than one package speaks of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from irkit.target import Gap, Target
from irkit.text import text_fields, text_from


@dataclass(frozen=True, slots=True)
class Probe:
    """One try to get out of, or into, a quarantined namespace.

    ``result``: ``blocked`` (tried, and a control shows that the try was a real one), ``reached``, ``unknown``.
    """

    path: str
    direction: str
    result: str
    detail: str
    time: str
    milliseconds: float = 0.0

    def to_json(self) -> dict[str, Any]:
        """As in ``irkit contain --json``."""
        return {
            "path": self.path, "direction": self.direction, "result": self.result, "detail": self.detail,
            "time": self.time, "ms": round(self.milliseconds, 3),
        }  # fmt: skip

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> Probe:
        """The reverse."""
        return cls(
            str(raw["path"]), str(raw["direction"]), str(raw["result"]), str(raw["detail"]), str(raw["time"]), float(raw["ms"])
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class FileFacts:
    """What is known of one file, before or after.  Times in nanoseconds since the epoch; sizes in bytes."""

    kind: str
    mode: int
    uid: int
    gid: int
    size: int
    mtime_ns: int = 0
    ctime_ns: int = 0
    sha256: str = ""
    target: str = ""
    rdev: str = ""
    nlink: int = 1
    xattrs: Mapping[str, str] = field(default_factory=dict)
    atime_ns: int = 0
    btime_ns: int = 0

    def to_json(self) -> dict[str, Any]:
        """Only what applies to its kind."""
        row: dict[str, Any] = {
            "kind": self.kind, "mode": f"{self.mode:04o}", "uid": self.uid, "gid": self.gid, "size": self.size,
            "mtime_ns": self.mtime_ns, "ctime_ns": self.ctime_ns, "nlink": self.nlink,
        }  # fmt: skip
        if self.atime_ns:
            row["atime_ns"] = self.atime_ns
        if self.btime_ns:
            row["btime_ns"] = self.btime_ns
        if self.sha256:
            row["sha256"] = self.sha256
        if self.kind == "symlink":
            row.update(text_fields("target", self.target))
        if self.rdev:
            row["rdev"] = self.rdev
        if self.xattrs:
            row["xattrs"] = dict(self.xattrs)
        return row

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> FileFacts:
        """The reverse of :meth:`to_json`."""
        return cls(
            kind=str(raw["kind"]), mode=int(raw["mode"], 8), uid=int(raw["uid"]), gid=int(raw["gid"]), size=int(raw["size"]),
            mtime_ns=int(raw.get("mtime_ns", 0)), ctime_ns=int(raw.get("ctime_ns", 0)), sha256=str(raw.get("sha256", "")),
            target=text_from(raw, "target") if raw["kind"] == "symlink" else "", rdev=str(raw.get("rdev", "")),
            nlink=int(raw.get("nlink", 1)), xattrs=dict(raw.get("xattrs", {})),
            atime_ns=int(raw.get("atime_ns", 0)), btime_ns=int(raw.get("btime_ns", 0)),
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Change:
    """A raw difference: ``added``, ``changed`` or ``deleted``.  ``origin``: ``layer`` (on disk), ``tmpfs``, ``volume``,
    or ``mount`` (a file that the engine writes and mounts).

    ``moved_from``: the name in the image of a folder that was renamed, where the overlay says so (a redirect); in a comparison, of an added
    file too, when its bytes no longer lie there.
    ``opaque``: a folder that was removed and made anew, which hides all that the image had in it.
    """

    path: str
    change: str
    before: FileFacts | None
    after: FileFacts | None
    origin: str = "layer"
    moved_from: str = ""
    opaque: bool = False

    @property
    def kind(self) -> str:
        """``file``, ``directory``, ``symlink``, ``fifo``, ``socket``, ``char``, ``block``."""
        facts = self.after or self.before
        return facts.kind if facts else "unknown"

    @property
    def displaced(self) -> str:
        """The digest of the image's bytes that no longer lie here: of a file that was deleted, or a program with other bytes now; else empty."""
        before, after = self.before, self.after
        if before is None or before.kind != "file" or not before.size:
            return ""
        if after is not None and (not before.mode & 0o111 or (after.kind == "file" and after.sha256 == before.sha256)):
            return ""  # settings, logs and accounts are backed up under other names by those that write them
        return before.sha256

    def to_json(self) -> dict[str, Any]:
        """As in ``irkit diff --json``."""
        return {
            **text_fields("path", self.path),
            "change": self.change,
            "kind": self.kind,
            "origin": self.origin,
            **(text_fields("moved_from", self.moved_from) if self.moved_from else {}),
            **({"opaque": True} if self.opaque else {}),
            "before": self.before.to_json() if self.before else None,
            "after": self.after.to_json() if self.after else None,
        }

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> Change:
        """The reverse of :meth:`to_json`."""
        return cls(
            path=text_from(raw, "path"),
            change=str(raw["change"]),
            before=FileFacts.from_json(raw["before"]) if raw["before"] else None,
            after=FileFacts.from_json(raw["after"]) if raw["after"] else None,
            origin=str(raw.get("origin", "layer")),
            moved_from=text_from(raw, "moved_from") if "moved_from" in raw else "",
            opaque=raw.get("opaque") is True,
        )


@dataclass(frozen=True, slots=True)
class Finding:
    """A change, process or socket with a meaning.  ``severity``: critical, high, medium, low, info."""

    rule: str
    severity: str
    title: str
    reason: str
    attack: tuple[str, ...]
    subject: str
    next: str
    kind: str = "change"

    def to_json(self) -> dict[str, Any]:
        """As in ``irkit contain --json``; ``attack`` holds MITRE ATT&CK technique ids."""
        return {
            "rule": self.rule, "severity": self.severity, "title": self.title, "reason": self.reason,
            "attack": list(self.attack), "kind": self.kind, **text_fields("subject", self.subject), "next": self.next,
        }  # fmt: skip

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> Finding:
        """The reverse."""
        return cls(
            str(raw["rule"]), str(raw["severity"]), str(raw["title"]), str(raw["reason"]), tuple(raw["attack"]),
            text_from(raw, "subject"), str(raw["next"]), str(raw["kind"]),
        )  # fmt: skip


__all__ = ("SEVERITIES", "Change", "FileFacts", "Finding", "Gap", "Probe", "Target")

SEVERITIES = ("critical", "high", "medium", "low", "info")
