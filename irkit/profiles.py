"""Acquisition profiles: which collectors run, in which order, with which limits (``forensics/profiles/*.yaml``).

``irkit/schemas/profile.schema.json`` says the same for editors.  A user's own profile lies in
``IRKIT_HOME/forensics/profiles/`` and comes before a shipped one of the same name.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from irkit import documents, resources
from irkit.documents import Doc
from irkit.errors import UsageProblem

WHICH = ("all", "executable", "yara")
"""Of memory: all that a process has, only code that no file on a disk holds, or all of the processes that a rule hits."""
STAGES = ("frozen", "isolated")
"""``frozen``: before the target is sealed off, so that every millisecond delays that; ``isolated``: after the proof."""


class Collector(NamedTuple):
    """What a profile can ask for.  ``action``: the verb that runs it; ``records``: its name in ``data/index.json``.

    ``named``: it takes ``names`` and ``limit_files`` too.
    """

    name: str
    action: str
    title: str
    records: str
    limited: bool = False
    which: tuple[str, ...] = ()
    named: bool = False


COLLECTORS: Mapping[str, Collector] = {
    one.name: one
    for one in (
        Collector("processes", "acquire.processes", "Acquire processes", "processes"),
        Collector("network-state", "acquire.network", "Acquire network state", "network-state"),
        Collector("mapped-files", "acquire.mapped", "Digest the files that run", "mapped-files", limited=True),
        Collector("memory", "acquire.memory", "Acquire memory", "memory", limited=True, which=WHICH),
        Collector("checkpoint", "acquire.checkpoint", "Have the engine make a checkpoint", "checkpoint", limited=True),
        Collector("tmpfs", "acquire.tmpfs", "Acquire tmpfs", "tmpfs", limited=True),
        Collector("filesystem", "acquire.filesystem", "Acquire changed files", "filesystem", limited=True),
        Collector("export", "acquire.export", "Acquire the whole file system as the engine exports it", "export", limited=True),
        Collector("volumes", "acquire.volumes", "Acquire volumes and bind mounts", "volumes", limited=True, named=True),
        Collector("image", "acquire.image", "Acquire the image's identity", "image"),
        Collector("image-save", "acquire.image-save", "Save the image itself", "image-save", limited=True),
        Collector("logs", "acquire.logs", "Acquire logs", "logs", limited=True),
        Collector("host", "acquire.host", "Acquire what the host is", "host"),
        Collector("engine-state", "acquire.engine", "Acquire the engine's view, its events and the image's history", "engine-state"),
    )
}  # fmt: skip


class Chosen(NamedTuple):
    """A collector as a profile wants it.  ``limit_bytes``: ``None`` where it has no limit; ``which``: empty where it has no choice.

    Of memory: ``processes``: patterns (fnmatch) of the name or the program's path, empty for all; ``rules``: YARA rules.
    """

    collector: Collector
    stage: str
    limit_bytes: int | None
    which: str = ""
    processes: tuple[str, ...] = ()
    rules: str = ""
    limit_files: int | None = None
    names: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """A row of ``collectors``."""
        row: dict[str, Any] = {
            "collector": self.collector.name, "stage": self.stage, "limit_bytes": self.limit_bytes, "which": self.which,
        }  # fmt: skip
        if self.collector.which:
            row.update(processes=list(self.processes), rules=self.rules)
        if self.collector.named:
            row.update(limit_files=self.limit_files, names=list(self.names))
        return row


class Profile(NamedTuple):
    """A profile.  ``digest``: sha256 of its file.  ``chosen``: in the order in which they run, stage by stage."""

    id: str
    description: str
    chosen: tuple[Chosen, ...]
    digest: str

    def stage(self, stage: str) -> tuple[Chosen, ...]:
        """The collectors of one stage, in order."""
        return tuple(one for one in self.chosen if one.stage == stage)

    def find(self, name: str) -> Chosen | None:
        """A collector as the profile wants it; ``None`` when it leaves it out."""
        return next((one for one in self.chosen if one.collector.name == name), None)

    def limit(self, name: str) -> int | None:
        """The limit of a collector; ``None`` when the profile sets none."""
        chosen = self.find(name)
        return chosen.limit_bytes if chosen else None

    @property
    def left_out(self) -> tuple[str, ...]:
        """The collectors that it does not ask for."""
        names = {one.collector.name for one in self.chosen}
        return tuple(name for name in COLLECTORS if name not in names)

    def to_json(self) -> dict[str, Any]:
        """As in ``data/index.json``."""
        return {
            "id": self.id, "digest": self.digest, "description": self.description,
            "collectors": [one.to_json() for one in self.chosen],
            "left_out": list(self.left_out),
        }  # fmt: skip


def load_profile(name: str) -> Profile:
    """A profile by name or by path; ``standard+export+volumes`` is one with more collectors, as ``full`` has them.

    Raises ``UsageProblem`` for an unknown one, ``PlaybookInvalid`` for a faulty one.
    """
    base, *more = [name] if Path(name).is_file() else name.split("+")
    profile = _of_file(documents.stamp(resources.find("forensics/profiles", base)))
    if not more:
        return profile
    full = _of_file(documents.stamp(resources.shipped("forensics/profiles") / "full.yaml"))
    for one in more:
        found = full.find(one)
        if found is None:
            raise UsageProblem(f"no collector {one!r}", hint=f"there are: {', '.join(COLLECTORS)}")
        if profile.find(one) is None:
            profile = profile._replace(chosen=(*profile.chosen, found))
    return profile._replace(id=name)


@lru_cache(maxsize=8)
def _of_file(file: documents.Stamp) -> Profile:
    """Read once in a process, and anew when the file was changed: each limited collector of each target asks for it."""
    return read_profile(*documents.load(Path(file[0])))


def read_profile(doc: Doc, digest: str) -> Profile:
    """A profile from a document.  Raises ``PlaybookInvalid`` naming file, line and column."""
    doc.choice("apiVersion", ("irkit/v1",))
    doc.choice("kind", ("Profile",))
    chosen: list[Chosen] = []
    stages = doc.mapping("collectors")
    for stage in STAGES:
        for item in stages.items(stage, ()).docs():
            chosen.append(_chosen(item, stage, {one.collector.name for one in chosen}))
    stages.done()
    profile = Profile(doc.text("id"), doc.text("description", ""), tuple(chosen), digest)
    doc.done()
    if not chosen:
        raise doc.place.error("a profile needs at least one collector")
    return profile


def _chosen(doc: Doc, stage: str, taken: set[str]) -> Chosen:
    name = doc.choice("collect", tuple(COLLECTORS))
    if name in taken:
        raise doc.places["collect"].error(f"the collector {name!r} stands here twice")
    collector = COLLECTORS[name]
    limit = None
    if collector.limited:
        limit = doc.integer("limit_bytes")
        if limit < 0:
            raise doc.places["limit_bytes"].error(f"the limit of {name} is negative")
    which, rules = "", ""
    processes: tuple[str, ...] = ()
    names: tuple[str, ...] = ()
    files: int | None = None
    if collector.which:
        which = doc.choice("which", collector.which)
        processes = doc.texts("processes", ())
        if which == "yara":
            rules = doc.text("rules", "memory")
    if collector.named:
        files, names = doc.integer("limit_files"), doc.texts("names", ())
        if files < 0:
            raise doc.places["limit_files"].error(f"the limit of {name} is negative")
    doc.done()
    return Chosen(collector, stage, limit, which, processes, rules, files, names)


def collectors_report(
    steps: Sequence[Mapping[str, Any]], profile: Profile | None, artifacts: Sequence[Any], gaps: Sequence[Any]
) -> list[dict[str, Any]]:
    """What each collector got, what it did not, and why: ``collectors`` of ``data/index.json``."""
    rows = []
    by_action = {one.action: one for one in COLLECTORS.values()}
    for step in steps:
        collector = by_action.get(str(step["uses"]))
        if collector is None:
            continue
        mine = [one for one in artifacts if one.origin.collector == collector.records]
        rows.append(
            {
                "collector": collector.name, "outcome": step["outcome"], "message": step["message"],
                "started": step["started"], "finished": step["finished"], "artifacts": len(mine),
                "bytes": sum(one.raw_size for one in mine),
                "gaps": sum(1 for one in gaps if one.collector == collector.records),
            }
        )  # fmt: skip
    ran = {row["collector"] for row in rows}
    if profile is None:
        return rows
    for name in profile.left_out:
        if name not in ran:
            rows.append(
                {
                    "collector": name, "outcome": "left-out", "message": f"the profile {profile.id!r} does not ask for it",
                    "started": "", "finished": "", "artifacts": 0, "bytes": 0, "gaps": 0,
                }
            )  # fmt: skip
    return rows
