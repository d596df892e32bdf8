"""A comparison: every change of a side goes by once, is judged, and is either a finding's, folded as noise, or left as it is.

Nothing is dropped: :attr:`Comparison.counts` accounts for each change.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any

from irkit.compare.against import Reference
from irkit.compare.content import EntryChange
from irkit.compare.contents import Content, Examiner
from irkit.compare.crowd import ranked
from irkit.compare.describe import (
    About,
    Moment,
    Values,
    change_values,
    config_values,
    exposed_ports,
    process_values,
    socket_values,
)  # fmt: skip
from irkit.compare.evidence import Evidence, Taken
from irkit.compare.known import Known
from irkit.compare.ownership import Ownership
from irkit.compare.packages import PackageChange
from irkit.compare.rules import Facts
from irkit.compare.running import Running, exe_path
from irkit.compare.state import ConfigChange, config_changes, masked
from irkit.compare.verdicts import Verdicts
from irkit.compare.yara import Hit
from irkit.models import Change, Finding, Gap
from irkit.text import text_fields

if TYPE_CHECKING:
    from irkit.compare.content import TextDiff

RFC_3339 = re.compile(
    r"([0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2})(?:\.([0-9]+))?(Z|[+-][0-9]{2}:[0-9]{2})?"
)


@dataclass(frozen=True, slots=True)
class Row:
    """A raw change and what became of it: the rules that it met, or the noise that it is folded into, or neither."""

    change: Change
    rules: tuple[str, ...]
    noise: str
    diff: TextDiff | None = None
    beneath: str = ""
    """The mount point under which it lies hidden."""

    def to_json(self) -> dict[str, Any]:
        """As in ``irkit diff --json``."""
        hidden = text_fields("beneath", self.beneath) if self.beneath else {}
        return {**self.change.to_json(), **hidden, "rules": list(self.rules), "noise": self.noise or None}


@dataclass(slots=True)
class Counts:
    """Where every change went."""

    total: int = 0
    by_change: Counter[str] = field(default_factory=Counter)
    in_findings: int = 0
    folded: Counter[str] = field(default_factory=Counter)
    plain: int = 0
    same: int = 0
    """The same on the other side: no difference."""

    def to_json(self) -> dict[str, Any]:
        """As in ``irkit diff --json``."""
        return {
            "total": self.total, **{name: self.by_change[name] for name in ("added", "changed", "deleted")},
            "in_findings": self.in_findings, "folded": sum(self.folded.values()), "plain": self.plain, "same": self.same,
        }  # fmt: skip


class Comparison:
    """Read :meth:`rows` to their end; the rest is whole only then."""

    def __init__(self, verdicts: Verdicts, *, diffs: bool = False) -> None:
        self._verdicts = verdicts
        self._diffs = diffs
        self._found: dict[tuple[str, str], Finding] = {}
        self._known = Known()
        self.gaps: list[Gap] = list(verdicts.gaps)
        self.counts = Counts()
        self.packages: list[PackageChange] = []
        self.config: list[ConfigChange] = []
        self.entries: list[tuple[str, EntryChange]] = []

    @property
    def findings(self) -> list[Finding]:
        """The most severe first, each once; of one severity the rarest rule first."""
        return ranked(self._found.values())

    def of_evidence(self, side: Evidence, reference: Evidence | None = None, *, disk: bool = True) -> Iterator[Row]:
        """A side against its own image, or against ``reference``, another side of the same image.

        Without ``disk``, what ``reference`` has on disk is in ``side`` already: its image is the other one.
        """
        other = None
        if reference is not None:
            other = Reference(one for one in reference.changes() if disk or one.origin != "layer")
        if reference is not None:
            self._known = Known(_others(reference, self._verdicts))
        self.gaps += side.gaps
        view = _View.of(side, self._verdicts, self.gaps, diffs=self._diffs)
        for taken in side.taken():
            change = other.against(taken.change) if other is not None else taken.change
            if change is None:
                self.counts.same += 1
                continue
            yield self._taken(Taken(side.inventory.named(change), taken.stream), view)
        for change in other.rest() if other is not None else ():
            yield self._taken(Taken(change, None), view)
        self._others(view)

    def _taken(self, taken: Taken, view: _View) -> Row:
        change = taken.change
        needed = view.ownership.algorithms(change)
        content = view.examiner.look(change, taken.stream, needed)
        about = About(
            content.values, view.ownership.judge(change, content), view.running.by_path.get(change.path, frozenset())
        )
        told: list[Finding] = []
        for entry in content.entries if about.package.get("package_state") != "intact" else ():
            self.entries.append((change.path, entry))
            told += self._verdicts.entry(change.path, entry)
        row = self._judged(change, content, about, view, told)
        if change.path in view.running.by_path:
            view.exes[change.path] = about_exe(change, about)
        return row

    def _judged(self, change: Change, content: Content, about: About, view: _View, told: Sequence[Finding] = ()) -> Row:
        """What a change is: a finding's, noise, or neither.  ``told``: the findings of the entries of its file."""
        values = change_values(change, view.moment, about, view.running, view.mounts, view.side.covers)
        hits = [hit.finding(change.path) for hit in content.hits]
        found = [*self._verdicts.of(Facts("change", change.path, values)), *hits, *told]
        self._add(found)
        counts = self.counts
        counts.total += 1
        counts.by_change[change.change] += 1
        noise = "" if found else self._verdicts.fold(values)
        if found:
            counts.in_findings += 1
        elif noise:
            counts.folded[noise] += 1
        else:
            counts.plain += 1
        rules = tuple(sorted({one.rule for one in found}))
        return Row(change, rules, noise, content.diff, str(values.get("beneath", "")))

    def _others(self, view: _View) -> None:
        self.packages = view.ownership.changes()
        for one in self.packages:
            self._add(self._verdicts.package(one))
        self.gaps += view.ownership.gaps()
        side = view.side
        self.config = config_changes(side.described, side.image)
        for change in self.config:
            self._add(
                self._verdicts.of(
                    Facts(
                        "config",
                        f"{change.name}: {masked(change.name, change.value or change.before)}",
                        config_values(change),
                    )
                )
            )
        self._add(_alive(view, self._verdicts))
        self.gaps += (*side.missed, *view.examiner.unread.gaps())

    def _add(self, found: Sequence[Finding] | Iterator[Finding]) -> None:
        for one in self._known.without(found):
            self._found.setdefault((one.rule, one.subject), one)


def about_exe(change: Change, about: About) -> Values:
    """What a process's facts say of its program."""
    return {"exe_change": change.change, "exe_package_state": about.package.get("package_state", "")}


@dataclass(slots=True)
class _View:
    """A side with all that is looked up in it again and again."""

    side: Evidence
    running: Running
    mounts: frozenset[str]
    moment: Moment
    ownership: Ownership
    examiner: Examiner
    exes: dict[str, Values] = field(default_factory=dict)

    @classmethod
    def of(cls, side: Evidence, verdicts: Verdicts, gaps: list[Gap], *, diffs: bool = False) -> _View:
        taken = side.reader.index.get("taken") or next(
            (str(one["started"]) for one in side.reader.index["artifacts"] if one["collector"] == "filesystem"), ""
        )
        moment = Moment(nanoseconds(str(taken)), nanoseconds(str(side.image.get("Created") or "")))
        return cls(
            side, Running(side), side.mounts, moment, Ownership.of(side), Examiner(side, verdicts, gaps, diffs=diffs)
        )


def _alive(view: _View, verdicts: Verdicts) -> Iterator[Finding]:
    """Findings of processes and sockets."""
    running, side = view.running, view.side
    programs = _Programs(view)
    for pid, row in running.processes.items():
        seen, hits = programs.of(row)
        peers = tuple(str(one.get("remote") or "") for one in running.sockets if pid in one["pids"])
        found: Values = {**seen, "ioc": (*programs.indicators(row, verdicts), *verdicts.addresses(*peers))}
        values = process_values(pid, running, lambda path: view.exes.get(path, {}), found)
        subject = f"pid {pid}: {values['path']}"
        yield from verdicts.of(Facts("process", subject, values))
        yield from (hit.finding(subject, "process") for hit in hits)
    exposed = exposed_ports(side.container, side.image)
    for socket in running.sockets:
        told, subject = socket_values(socket, running, exposed)
        yield from verdicts.of(Facts("socket", subject, {**told, "ioc": verdicts.addresses(str(told["peer"]))}))


class _Programs:
    """The programs that the side holds as artifacts, because no disk keeps them: each looked at once."""

    def __init__(self, view: _View) -> None:
        self._view = view
        self._seen: dict[str, tuple[Values, Sequence[Hit]]] = {}
        rows = view.side.rows("process/mapped.json")
        self._artifacts = {
            str(one["sha256"]): str(one["artifact"]) for one in rows if one.get("artifact") and one.get("sha256")
        }
        for one in view.side.reader.index["artifacts"]:
            if str(one["path"]).startswith("data/process/exe-"):
                self._artifacts.setdefault(str(one["raw"]["sha256"]), str(one["path"]))

    def of(self, row: Mapping[str, Any]) -> tuple[Values, Sequence[Hit]]:
        """What a process's program is, and the YARA rules that it fits."""
        digest = str(row["exe"].get("sha256") or "")
        if digest not in self._artifacts:
            return {}, ()
        if digest not in self._seen:
            name = self._artifacts[digest].removeprefix("data/").removesuffix(".zst")
            values, hits, _ = self._view.examiner.of_program(name)
            self._seen[digest] = (
                {"type": values["type"], **({"yara": values["yara"]} if "yara" in values else {})},
                hits,
            )
        return self._seen[digest]

    def indicators(self, row: Mapping[str, Any], verdicts: Verdicts) -> tuple[str, ...]:
        """Those that its program's digest or path fits."""
        if not verdicts.lists:
            return ()
        digests = {"sha256": str(row["exe"].get("sha256") or "")}
        return tuple(map(str, verdicts.lists.of_file(exe_path(row), digests)))


def _others(reference: Evidence, verdicts: Verdicts) -> list[Finding]:
    """What the other side shows of processes, sockets, packages and configuration."""
    comparison = Comparison(verdicts)
    comparison._others(_View.of(reference, verdicts, comparison.gaps))
    return comparison.findings


def nanoseconds(text: str) -> int:
    """RFC 3339 as nanoseconds since the epoch; 0 for what is none, or lies before it (Docker writes nine digits, and year 1 for none)."""
    found = RFC_3339.fullmatch(text)
    if found is None:
        return 0
    whole, fraction, zone = found.groups("")
    try:
        moment = datetime.fromisoformat(f"{whole}{'+00:00' if zone in ('', 'Z') else zone}")
    except ValueError:
        return 0
    return max(0, int(moment.timestamp()) * 1_000_000_000 + int((fraction + "0" * 9)[:9]))
