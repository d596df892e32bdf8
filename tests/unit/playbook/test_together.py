"""Collectors at the same time: the same bundle as one after the other, and each one's failure is its own."""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from irkit.actions.context import Context, Result
from irkit.actions.registry import ACTIONS
from irkit.errors import IrkitError, PlaybookInvalid
from irkit.evidence import keys
from irkit.evidence.keys import trusted_keys
from irkit.evidence.verify import verify_bundle
from irkit.evidence.writer import BundleWriter, Origin
from irkit.playbook.journal import read_journal
from irkit.playbook.lint import lint
from irkit.playbook.resume import OWN, read_past
from tests.unit.playbook.test_handing import Ended, book, play

COLLECTORS = ("acquire.logs", "acquire.tmpfs", "acquire.image")
PARTS = "{id: l, uses: acquire.logs, on_failure: continue}, {id: t, uses: acquire.tmpfs, on_failure: continue}, {id: i, uses: acquire.image, on_failure: continue}"
TOGETHER = f"  - id: all\n    parallel: [{PARTS}]\n"
ALONE = "".join(f"  - {part}}}\n".replace("}}", "}") for part in PARTS.split("}, "))
END = "  - {id: seal, uses: evidence.seal}\n  - {id: verify, uses: evidence.verify}\n"


class Collectors:
    """Each writes many artifacts and a gap; in turn with the others, when they run at the same time."""

    def __init__(self, together: bool) -> None:
        self.turn = threading.Barrier(len(COLLECTORS), timeout=10) if together else None
        self.broken = ""

    def __call__(self, name: str) -> Any:
        def run(ctx: Context, args: Mapping[str, Any]) -> Result:
            before = len(ctx.writer.gaps)
            for number in range(20):
                if self.turn is not None and not self.broken:
                    self.turn.wait()
                with ctx.writer.sink(
                    f"{name}/{number}.bin", Origin(name, "x", "test"), threads=number % 2 == 0
                ) as sink:
                    for block in range(5):
                        sink.write(f"{name} {number} {block}".encode() * 5000)
                        if self.broken == name and number == 3:
                            raise IrkitError(f"{name} is broken")
            ctx.writer.gap(name, "something", "could not be seen")
            assert len(ctx.writer.gaps) == before + 1 and ctx.writer.gaps[-1].collector == name
            assert {one.origin.collector for one in ctx.writer.artifacts[-20:]} == {name}
            return Result("degraded", f"{name} was run", {})

        return run


@pytest.fixture(autouse=True)
def key(irkit_home: Path) -> None:
    keys.generate("default")


def staged(monkeypatch: pytest.MonkeyPatch, steps: str, broken: str = "") -> Ended:
    collectors = Collectors(steps == TOGETHER)
    collectors.broken = broken
    for name in COLLECTORS:
        short = name.removeprefix("acquire.")
        monkeypatch.setitem(ACTIONS, name, replace(ACTIONS[name], run=collectors(short), params=()))  # type: ignore[index]
    return play(steps + END)


def picture(ended: Ended) -> dict[str, Any]:
    """What a bundle says, without times and irkit's own records."""
    assert verify_bundle(ended.bundle, trusted_keys("evidence")).ok
    index = json.loads((ended.bundle / "data/index.json").read_bytes())
    artifacts = [one for one in index["artifacts"] if not one["path"].startswith(OWN)]
    return {
        "artifacts": [(one["path"], one["raw"], one["stored"], one["complete"]) for one in artifacts], "gaps": index["gaps"],
        "status": index["status"],
        "collectors": [{name: row[name] for name in ("collector", "outcome", "message", "artifacts", "gaps")} for row in index["collectors"]],
        "steps": [(row["id"], row["outcome"], row["message"]) for row in ended.outcome.steps if not row["uses"].startswith("evidence.")],
    }  # fmt: skip


def test_the_same_bundle_as_one_after_the_other(monkeypatch: pytest.MonkeyPatch) -> None:
    alone = picture(staged(monkeypatch, ALONE))
    assert len(alone["artifacts"]) == 60 and len(alone["gaps"]) == 3
    assert picture(staged(monkeypatch, TOGETHER)) == alone


@pytest.mark.parametrize("broken", ["logs", "image"])
def test_a_failure_is_that_one_s(monkeypatch: pytest.MonkeyPatch, broken: str) -> None:
    together = staged(monkeypatch, TOGETHER, broken)
    assert {row["id"]: row["outcome"] for row in together.outcome.steps}[broken[0]] == "failed"
    found = picture(together)
    assert found == picture(staged(monkeypatch, ALONE, broken)) and found["status"] == "partial"
    assert [path for path, *_, complete in found["artifacts"] if not complete] == [f"data/{broken}/3.bin.zst"]
    assert sum(one["collector"] == broken and "incomplete" in one["why"] for one in found["gaps"]) == 1


def test_each_record_holds_what_its_step_added(monkeypatch: pytest.MonkeyPatch) -> None:
    ended = staged(monkeypatch, TOGETHER)
    journal = ended.context.run_folder / "journal.jsonl"
    rows = {row["id"]: row for row in read_journal(journal) if row["type"] == "step-finished"}
    for step, name in (("l", "logs"), ("t", "tmpfs"), ("i", "image")):
        assert {one["collector"] for one in rows[step]["state"]["artifacts"]} == {name}
        assert [one["collector"] for one in rows[step]["state"]["gaps"]] == [name]
    assert len({one.path for one in read_past(journal).artifacts if not one.path.startswith(OWN)}) == 60
    assert len(read_past(journal).gaps) == 3


def test_what_can_not_run_beside_an_acquisition() -> None:
    for other in ("evidence.seal", "container.thaw", "quarantine.seal", "acquire.network"):
        with pytest.raises(PlaybookInvalid, match="can't run beside acquire"):
            book(f"  - id: p\n    parallel: [{{id: a, uses: acquire.logs}}, {{id: b, uses: {other}}}]\n")
    fine = book(
        "  - id: p\n    parallel: [{id: a, uses: acquire.logs}, {id: b, uses: wait_for}, {id: c, uses: acquire.image}]\n"
        + END
    )
    assert lint(fine) == []


def test_a_name_is_taken_once(tmp_path: Path) -> None:
    writer = BundleWriter(tmp_path / "b")
    writer.add("x", [b"1"], Origin("c", "s", "m"), compress=False)
    one, other = writer.beside(), writer.beside()
    one.add("y", [b"1"], Origin("c", "s", "m"), compress=False)
    with pytest.raises(IrkitError, match="not a new artifact"):
        one.add("x", [b"2"], Origin("c", "s", "m"), compress=False)
    with pytest.raises(IrkitError, match="can't write"):
        other.add("y", [b"2"], Origin("c", "s", "m"), compress=False)
    writer.absorb(one)
    writer.absorb(other)
    assert [one.path for one in writer.artifacts] == ["data/x", "data/y"] and writer.lost == ["data/y"]
    assert (tmp_path / "b/data/y").read_bytes() == b"1"
