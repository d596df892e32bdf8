"""What of a run's facts goes into its journal: each once, and whenever it is another one."""

from __future__ import annotations

from pathlib import Path

from irkit.actions.context import Facts
from irkit.evidence.seal import Sealed
from irkit.models import Probe
from irkit.playbook.state import PLAIN, WHOLE, Known


def probe(path: str) -> Probe:
    return Probe(path, "out", "blocked", "", "2026-01-01T00:00:00Z")


def test_nothing_is_said_twice() -> None:
    known, facts = Known(), Facts()
    assert set(known.news(facts)) == {*PLAIN, *WHOLE}
    assert known.news(facts) == {}
    facts.timeline["frozen"] = "2026-01-01T00:00:00Z"
    assert known.news(facts) == {"timeline": {"frozen": "2026-01-01T00:00:00Z"}}
    facts.timeline["proven"] = "2026-01-01T00:00:01Z"
    assert set(known.news(facts)["timeline"]) == {"frozen", "proven"}
    facts.probes = (probe("a"),)
    facts.quarantine_state = "proven"
    news = known.news(facts)
    assert set(news) == {"probes", "quarantine_state"} and [one["path"] for one in news["probes"]] == ["a"]
    facts.probes = (probe("b"), probe("c"))
    assert [one["path"] for one in known.news(facts)["probes"]] == ["b", "c"]
    assert known.news(facts) == {}


def test_a_seal_is_told_by_what_a_resume_needs() -> None:
    known, facts = Known(), Facts()
    assert known.news(facts)["sealed"] is None
    facts.sealed = Sealed(Path("/b"), "sha256:x", "complete", "2026-01-01T00:00:00Z", "k")
    assert known.news(facts) == {
        "sealed": {
            "path": "/b",
            "digest": "sha256:x",
            "status": "complete",
            "sealed": "2026-01-01T00:00:00Z",
            "key": "k",
        }
    }
