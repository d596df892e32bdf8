"""The update of a Swarm service, against a fake manager: what is asked of it, and what is said when it fails."""

from __future__ import annotations

import json
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


def test_it_is_over_when_the_tasks_run(fake: FakeEngine) -> None:
    """Where no task stood at that moment Swarm says ``completed`` before the new ones run."""
    fake.objects["service", "id"]["Spec"] = {**SPEC, "Mode": {"Replicated": {"Replicas": 2}}}
    fake.task_states = ["preparing", "starting"]
    done = update(fake)
    assert (done.running, done.wanted, done.unsure) == (2, 2, "")
    assert len(fake.changed("update_service")) == 2 and not fake.task_states


def test_tasks_that_do_not_run_are_told(fake: FakeEngine) -> None:
    fake.objects["service", "id"]["Spec"] = {**SPEC, "Mode": {"Global": {}}}
    fake.task_states = ["pending"] * 1_000_000
    done = update(fake)
    assert (done.running, done.wanted) == (0, 1) and "0 of its 1 tasks run" in done.unsure
    assert spec(fake)["TaskTemplate"]["ContainerSpec"]["Image"] == "web@sha256:x"  # the old one was compromised


def test_tasks_that_end_as_soon_as_they_have_begun(fake: FakeEngine) -> None:
    fake.task_states = ["running", "failed"] * 1_000_000
    assert "tasks run" in update(fake).unsure


@pytest.mark.parametrize("image", ["web@sha256:x", "theirs"])
def test_what_somebody_else_updates_meanwhile_is_left_to_them(fake: FakeEngine, image: str) -> None:
    """Swarm forgets the state of an update as soon as the service is updated in any other way, as by a new scale."""
    fake.task_states = ["preparing"] * 3

    def theirs() -> None:
        found = fake.objects["service", "id"]
        task = found["Spec"]["TaskTemplate"]
        changed = {**task, "ContainerSpec": {**task["ContainerSpec"], "Image": image}}
        found["Spec"] = {**found["Spec"], "Mode": {"Replicated": {"Replicas": 2}}, "TaskTemplate": changed}
        found.pop("UpdateStatus", None)

    fake.before("service_tasks", theirs)
    done = update(fake)
    assert spec(fake)["TaskTemplate"]["ContainerSpec"]["Image"] == image
    if image == "theirs":
        assert "somebody else" in done.unsure and len(fake.changed("update_service")) == 1
    else:
        assert (done.running, done.wanted, done.unsure) == (2, 2, "")
        assert spec(fake)["UpdateConfig"] == SPEC["UpdateConfig"]


def test_an_engine_that_does_not_tell_of_tasks(fake: FakeEngine) -> None:
    fake.fail("service_tasks", EngineError("no leader", status=503))
    done = update(fake)
    assert "is not known (no leader)" in done.unsure and spec(fake)["UpdateConfig"] == SPEC["UpdateConfig"]


def test_no_task_need_run_where_none_shall(fake: FakeEngine) -> None:
    fake.objects["service", "id"]["Spec"] = {**SPEC, "Mode": {"Replicated": {"Replicas": 0}}}
    assert update(fake).wanted == 0


def test_tasks_of_another_update_don_t_count(fake: FakeEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    old = {"Spec": SPEC["TaskTemplate"], "Status": {"State": "running"}}
    monkeypatch.setattr(fake, "service_tasks", lambda service: (old,))
    assert update(fake).running == 0


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


@pytest.mark.parametrize("done", [False, True])
@pytest.mark.parametrize("at", [1, 2])
def test_a_killed_update_is_waited_for_and_not_asked_for_again(fake: FakeEngine, at: int, done: bool) -> None:
    """Killed before or after the first update, which rolls the image out, or the second, of the settings alone."""
    kept: list[swarm.Begun] = []
    fake.die("update_service", at=at, done=done)
    with pytest.raises(EngineError):
        swarm.update(fake, "id", "web@sha256:x", 0.2, lambda: None, None, kept.append)
    fake.revive()
    past = swarm.Begun.from_json(json.loads(json.dumps(kept[0].to_json())))
    again = swarm.update(fake, "id", "web@sha256:x", 0.2, lambda: None, past)
    assert (again.old_image, again.image) == ("web:1", "web@sha256:x")
    task = {"ContainerSpec": {"Image": "web@sha256:x", "Secrets": [{"SecretName": "s"}]}, "ForceUpdate": 1}
    assert spec(fake) == {**SPEC, "TaskTemplate": task}


@pytest.mark.parametrize("state", ["rollback_completed", "paused"])
def test_a_killed_update_that_fails_meanwhile_leaves_the_former_spec(fake: FakeEngine, state: str) -> None:
    kept: list[swarm.Begun] = []
    fake.updates = [state]
    fake.die("update_service", done=True)
    with pytest.raises(EngineError):
        swarm.update(fake, "id", "web@sha256:x", 0.2, lambda: None, None, kept.append)
    fake.revive()
    with pytest.raises(EngineError, match=r"the service's update failed.*its former spec is back"):
        swarm.update(fake, "id", "web@sha256:x", 0.2, lambda: None, kept[0])
    assert spec(fake) == SPEC


def test_an_update_of_somebody_else_after_a_kill_is_not_taken_for_ours(fake: FakeEngine) -> None:
    kept: list[swarm.Begun] = []
    fake.die("update_service")
    with pytest.raises(EngineError):
        swarm.update(fake, "id", "web@sha256:x", 0.2, lambda: None, None, kept.append)
    fake.revive()
    theirs = swarm.new_spec(SPEC, "web:2")
    fake.update_service("id", 7, theirs)
    swarm.update(fake, "id", "web@sha256:x", 0.2, lambda: None, kept[0])
    assert spec(fake)["TaskTemplate"]["ContainerSpec"]["Image"] == "web@sha256:x"
    assert spec(fake)["TaskTemplate"]["ForceUpdate"] == 2


def test_the_record_of_an_update_has_no_secret() -> None:
    secret = {**SPEC, "TaskTemplate": {"ContainerSpec": {"Image": "web:1", "Env": ["TOKEN=hunter22"]}}}
    begun = swarm.Begun.of({"Spec": secret}, "id", "web@sha256:x")
    assert "hunter22" not in json.dumps(begun.to_json())
