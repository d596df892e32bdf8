"""Comparisons of sides that are made by hand: where each change goes, and what is told of it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from irkit.compare.comparison import Comparison, Row, nanoseconds
from irkit.errors import EvidenceAltered
from irkit.models import Change
from tests.unit.compare.sides import FOLDER, Made, facts, process, socket, verdicts

RULES = """
bad change high {path: /srv/bad*, change: [added, changed]}
moved change low {moved_from: /bin/tool}
root entry critical {file: passwd, uid0: true, change: added}
deleted process high {deleted: true}
execed process medium {execed: true}
swapped process high {exe_change: changed}
open socket medium {listening: true, exposed: false}
told config low {name: env}
"""
NOISE = "cache {path: /var/cache/*}"


def compared(made: Made, folder: Path, reference: Made | None = None) -> tuple[Comparison, dict[str, Row]]:
    found = Comparison(verdicts(RULES, NOISE), diffs=True)
    other = reference.at(folder / "other") if reference else None
    return found, {row.change.path: row for row in found.of_evidence(made.at(folder / "one"), other)}


def told(found: Comparison) -> list[tuple[str, str]]:
    return [(one.rule, one.subject) for one in found.findings]


def test_every_change_is_accounted_for(tmp_path: Path) -> None:
    made = Made().add("/srv/bad", b"x").add("/var/cache/a", b"text\n").add("/opt/plain", b"y")
    found, rows = compared(made.delete("/etc/motd", b"z"), tmp_path)
    assert {path: (row.rules, row.noise) for path, row in rows.items()} == {
        "/srv/bad": (("bad",), ""), "/var/cache/a": ((), "cache"), "/opt/plain": ((), ""), "/etc/motd": ((), ""),
    }  # fmt: skip
    assert found.counts.to_json() == {
        "total": 4, "added": 3, "changed": 0, "deleted": 1, "in_findings": 1, "folded": 1, "plain": 2, "same": 0,
    }  # fmt: skip
    assert told(found) == [("bad", "/srv/bad")] and not found.gaps


def test_what_has_a_finding_is_never_noise(tmp_path: Path) -> None:
    found = Comparison(verdicts("x change low {path: /var/cache/a}", NOISE))
    (row,) = found.of_evidence(Made().add("/var/cache/a", b"text\n").at(tmp_path / "b"))
    assert (row.rules, row.noise, found.counts.folded) == (("x",), "", {})


def test_entries_of_files_that_matter_and_their_texts(tmp_path: Path) -> None:
    old, new = b"root:x:0:0::/root:/bin/sh\n", b"root:x:0:0::/root:/bin/sh\nevil:x:0:0::/:/bin/sh\n"
    found, rows = compared(Made().change("/etc/passwd", old, new), tmp_path)
    assert told(found) == [("root", "evil in /etc/passwd:2")] and rows["/etc/passwd"].rules == ("root",)
    assert [(path, one.change) for path, one in found.entries] == [("/etc/passwd", "added")]
    diff = rows["/etc/passwd"].diff
    assert diff is not None and "+evil:x:0:0::/:/bin/sh" in diff.lines


def test_a_moved_file_is_told_beside_both_of_its_changes(tmp_path: Path) -> None:
    found, rows = compared(Made().add("/opt/tool", b"same bytes").delete("/bin/tool", b"same bytes"), tmp_path)
    assert told(found) == [("moved", "/opt/tool")] and [row.change.change for row in rows.values()] == ["added", "deleted"]  # fmt: skip


def test_a_program_that_was_moved_aside_for_another_one(tmp_path: Path) -> None:
    """Settings are not: who writes them keeps what they were, as ``passwd-``."""
    made = Made().add("/opt/tool", b"same bytes").change("/bin/tool", b"same bytes", b"other", old_mode=0o755)
    found, rows = compared(made, tmp_path / "a")
    assert told(found) == [("moved", "/opt/tool")] and rows["/opt/tool"].change.moved_from == "/bin/tool"
    made = Made().add("/etc/tool-", b"same bytes").change("/bin/tool", b"same bytes", b"other")
    assert told(compared(made, tmp_path / "b")[0]) == []


@pytest.mark.parametrize(("here", "there"), [(b"", b""), (b"a", b"b")])
def test_what_is_no_move(here: bytes, there: bytes, tmp_path: Path) -> None:
    """Empty files tell nothing."""
    assert told(compared(Made().add("/opt/tool", here).delete("/bin/tool", there), tmp_path)[0]) == []


def test_processes_sockets_and_configuration(tmp_path: Path) -> None:
    container = {"State": {"Pid": 100}, "Config": {"Env": ["TOKEN=secret"], "ExposedPorts": {"80/tcp": {}}}}
    made = Made(
        container, {"Config": {"Env": []}}, originals={},
        processes=[process(100, 1, "/bin/main"), process(101, 100, "/bin/x", exe={"deleted": True}), process(200, 1, "/bin/sh")],
        sockets=[socket([100], "0.0.0.0", 80), socket([101], "0.0.0.0", 81), socket([], "127.0.0.11", 53)],
    )  # fmt: skip
    found, _ = compared(made.change("/bin/main", b"a", b"b"), tmp_path)
    assert told(found) == [
        ("deleted", "pid 101: /bin/x"),
        ("swapped", "pid 100: /bin/main"),
        ("execed", "pid 200: /bin/sh"),
        ("open", "tcp 0.0.0.0:81 held by pid 101 (x)"),
        ("told", "env: TOKEN=***"),
    ]
    assert [one.value for one in found.config] == ["TOKEN=secret"]


def test_root_in_a_user_namespace(tmp_path: Path) -> None:
    """With userns-remap the host's numbers are others; that a process claims a namespace of its own makes it no root."""
    rules = verdicts("root process high {root: true, other_user: true}")
    mapped = {"uid_map": [[0, 100_000, 65_536]]}
    rows = [
        process(100, 1, "/bin/main", **mapped),
        process(101, 100, "/bin/x", **mapped),
        process(102, 100, "/bin/y", uid_map=[[0, 101_000, 1]]),
    ]
    for row, uid in zip(rows, (101_000, 100_000, 101_000), strict=True):
        row["uid"] = [uid] * 4
    container = {"Id": "c" * 64, "State": {"Pid": 100}}
    found = Comparison(rules)
    list(found.of_evidence(Made(container, {"Config": {"User": "1000"}}, processes=rows).at(tmp_path / "b")))
    assert told(found) == [("root", "pid 101: /bin/x")]


def test_a_mount_of_another_namespace_hides_nothing(tmp_path: Path) -> None:
    """A service's private /tmp covers nothing for the others."""
    rows = [process(pid, 1, "/bin/x", namespaces={"mnt": f"mnt:[{pid}]"}) for pid in (100, 101)]
    tables = {"mnt:[100]": [{"point": "/"}, {"point": "/data"}], "mnt:[101]": [{"point": "/tmp"}]}
    made = Made(processes=rows, more={"process/mounts.json": tables})
    _, rows_of = compared(made.add("/tmp/x", b"x").add("/data/x", b"x"), tmp_path)
    assert {path: row.beneath for path, row in rows_of.items()} == {"/tmp/x": "", "/data/x": "/data"}


def test_against_another_side_only_what_is_different(tmp_path: Path) -> None:
    """What both have is counted as the same; what only the other has is seen from here; old processes are no news."""
    alive = [process(101, 1, "/bin/x", exe={"deleted": True})]
    reference = Made(processes=alive).add("/srv/bad-old", b"o").add("/opt/both", b"b").add("/srv/bad-other", b"1")
    now = [process(7, 1, "/bin/x", exe={"deleted": True}), process(8, 1, "/bin/y", exe={"deleted": True})]
    made = Made(processes=now).add("/opt/both", b"b").add("/srv/bad-other", b"2").add("/opt/new", b"n")
    found, rows = compared(made, tmp_path, reference)
    assert {path: row.change.change for path, row in rows.items()} == {
        "/srv/bad-other": "changed", "/opt/new": "added", "/srv/bad-old": "deleted",
    }  # fmt: skip
    assert found.counts.same == 1 and found.counts.total == 3
    assert told(found)[:2] == [("bad", "/srv/bad-other"), ("deleted", "pid 8: /bin/y")]
    assert ("deleted", "pid 7: /bin/x") not in told(found)


def test_tmpfs_is_part_of_it(tmp_path: Path) -> None:
    found, rows = compared(Made().add("/srv/bad", b"#!/bin/sh\n", 0o755, "tmpfs"), tmp_path)
    assert told(found) == [("bad", "/srv/bad")] and rows["/srv/bad"].change.origin == "tmpfs"


def test_contents_stay_with_their_paths(tmp_path: Path) -> None:
    """The list has what the archive has not: a folder, a deletion, a file whose bytes were not kept."""
    made = Made().add("/a", b"one")
    made.changes.append((Change("/b", "added", None, FOLDER), None))
    made.changes.append((Change("/c", "added", None, facts(b"lost")), None))
    made.add("/d", b"four").delete("/e", b"5").add("/f", b"six")
    side = made.at(tmp_path / "b")
    seen = {one.change.path: one.stream.read() if one.stream else None for one in side.taken()}
    assert seen == {"/a": b"one", "/b": None, "/c": None, "/d": b"four", "/e": None, "/f": b"six"}
    assert side.inventory.paths == {"/a", "/b", "/c", "/d", "/f"} and side.inventory.hidden("/e/below")


def test_a_line_that_is_no_change_is_refused(tmp_path: Path) -> None:
    made = Made().add("/a", b"x")
    made.changes[0] = (Change("/a", "added", None, replace(facts(b""), mode="no mode")), b"x")  # type: ignore[arg-type]
    with pytest.raises((EvidenceAltered, ValueError)):
        list(made.at(tmp_path / "b").changes())


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2024-05-01T12:00:00Z", 1714564800_000000000),
        ("2024-05-01T12:00:00.000000001Z", 1714564800_000000001),
        ("2024-05-01T12:00:00.5Z", 1714564800_500000000),
        ("2024-05-01T14:00:00.123456789+02:00", 1714564800_123456789),
        ("2024-05-01T14:00:00+02:00", 1714564800_000000000),
        ("2024-05-01T10:00:00-02:00", 1714564800_000000000),
        ("0001-01-01T00:00:00Z", 0),
        ("", 0),
        ("yesterday", 0),
        ("2024-13-01T12:00:00Z", 0),
    ],
)
def test_moments(text: str, expected: int) -> None:
    """Of an image that somebody made elsewhere the time has a zone of its own."""
    assert nanoseconds(text) == expected
