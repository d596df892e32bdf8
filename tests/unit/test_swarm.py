"""The update of a Swarm service, against a fake manager: what is asked of it, and what is said when it fails."""

from __future__ import annotations

from typing import Any

import pytest

from irkit.engine.fake.engine import FakeEngine
from irkit.errors import EngineError
from irkit.recover import swarm

SPEC: dict[str, Any] = {
    "Name": "web", "Labels": {"a": "b"},
    "TaskTemplate": {"ContainerSpec": {"Image": "web:1", "Secrets": [{"SecretName": "s"}]}, "ForceUpdate": 0},
    "UpdateConfig": {"Parallelism": 2, "FailureAction": "pause"},
}  # fmt: skip


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> FakeEngine:
    monkeypatch.setattr(swarm, "POLL", 0.0)
    made = FakeEngine()
    made.objects["service", "id"] = {"ID": "id", "Version": {"Index": 7}, "Spec": SPEC}
    return made


def update(fake: FakeEngine) -> swarm.Updated:
    return swarm.update(fake, "id", "web@sha256:x", 0.2, lambda: None)


def spec(fake: FakeEngine) -> dict[str, Any]:
    found: dict[str, Any] = fake.objects["service", "id"]["Spec"]
    return found


def test_only_the_image_changes(fake: FakeEngine) -> None:
    done = update(fake)
    assert (done.name, done.old_image, done.image) == ("web", "web:1", "web@sha256:x")
    asked = fake.changed("update_service")[0][3]
    assert isinstance(asked, dict) and asked["UpdateConfig"] == {"Parallelism": 2, "FailureAction": "rollback"}
    task = {"ContainerSpec": {"Image": "web@sha256:x", "Secrets": [{"SecretName": "s"}]}, "ForceUpdate": 1}
    assert spec(fake) == {**SPEC, "TaskTemplate": task}


@pytest.mark.parametrize("state", ["rollback_completed", "paused", "rollback_paused", "updating"])
def test_a_failed_update_leaves_the_former_spec(fake: FakeEngine, state: str) -> None:
    fake.updates = [state]
    with pytest.raises(EngineError, match="its former spec is back"):
        update(fake)
    assert spec(fake) == SPEC


def test_what_can_not_be_put_back_is_said(fake: FakeEngine) -> None:
    fake.updates = ["paused"]
    fake.fail("update_service", EngineError("no leader", status=503), at=2)
    with pytest.raises(EngineError, match=r"whether its former spec is back is not known \(no leader\)"):
        update(fake)


def test_somebody_else_has_updated_it_meanwhile(fake: FakeEngine) -> None:
    fake.before("update_service", lambda: fake.objects["service", "id"].update(Version={"Index": 8}))
    with pytest.raises(EngineError, match="out of sequence"):
        update(fake)
    assert spec(fake) == SPEC
