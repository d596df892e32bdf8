"""An image alone as evidence, on a fake engine."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from irkit import cases
from irkit.actions.listing import survey
from irkit.cli import running
from irkit.cli.options import Signals
from irkit.cli.running import RunConfig, resume_run, run_playbook
from irkit.engine.fake.engine import FakeEngine
from irkit.engine.fake.state import FakeImage
from irkit.errors import Interrupted, NotFound
from irkit.evidence.reader import BundleReader
from irkit.models import Target
from irkit.recover.record import Request


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> FakeEngine:
    fake = FakeEngine()
    fake.add_image(FakeImage("bad:1", layers=(f"sha256:{'a' * 64}",), history=("COPY evil",)))
    monkeypatch.setattr(FakeEngine, "record_calls", lambda self, path: None, raising=False)
    monkeypatch.setattr(running, "open_engine", lambda url: fake)
    return fake


def config(image: str) -> RunConfig:
    return RunConfig(image, "image-snapshot", None, "default", lambda _: None, lambda _: None, {}, image=True)


def test_taken_without_a_container_and_counted(engine: FakeEngine) -> None:
    assert [row.decision for row in survey(engine, Request("bad:1")).rows] == ["refuse"]
    done = run_playbook(config("bad:1"), Signals(), lambda case, container: None)
    assert done.outcome.error is None and done.context.facts.sealed is not None
    reader = BundleReader(Path(done.context.facts.sealed.path), ())
    assert reader.index["target"]["kind"] == "image"
    assert {"engine/image.json", "engine/image-history.json", "image/identity.json", "image/image.tar"} <= {
        str(row["path"]).removeprefix("data/").removesuffix(".zst") for row in reader.index["artifacts"]
    }
    assert not [call for call in engine.calls if call.method not in ("GET", "HEAD")]
    assert [row.decision for row in survey(engine, Request("bad:1")).rows] == ["remove"]


def test_no_such_image_and_no_container_by_accident(engine: FakeEngine) -> None:
    engine.create({"Image": "bad:1"}, "web")
    with pytest.raises(NotFound):
        run_playbook(config("web"), Signals(), lambda case, container: None)
    assert cases.list_cases() == ()


def test_interrupted_and_gone_on_with(engine: FakeEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    signals, real = Signals(), engine.image_history

    def stopped(ref: str) -> Any:
        signals.caught = "SIGTERM"
        return real(ref)

    monkeypatch.setattr(engine, "image_history", stopped)
    first = run_playbook(config("bad:1"), signals, lambda case, container: None)
    assert isinstance(first.outcome.error, Interrupted) or first.outcome.status == "interrupted"
    second = resume_run(config("bad:1"), Signals(), first.context.case.id)
    assert second.outcome.error is None and second.context.facts.sealed is not None


@pytest.mark.parametrize("kind", ["container", "image"])
def test_a_target_is_what_it_was(kind: str) -> None:
    one = Target("sha256:0123456789abcdef", "n", "i", "sha256:0", "e", kind)
    assert Target.from_json(one.to_json()) == one and one.short == "0123456789ab"
    assert ("kind" in one.to_json()) == (kind == "image")
