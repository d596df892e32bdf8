"""Events around the incident, the engine's state, and irkit's own calls."""

from __future__ import annotations

import json
import stat
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from irkit.acquire.engine_state import acquire_calls, acquire_engine_state, masked, volume_names
from irkit.acquire.engine_state import settings as engine_settings
from irkit.acquire.events import _event, _Names, _seconds, acquire_events
from irkit.clock import rfc3339
from irkit.engine.fake.engine import FakeEngine
from irkit.engine.interface import Call, Container
from irkit.engine.recording import CallLog, without_secrets
from irkit.errors import EngineError, StorageError
from irkit.evidence.writer import BundleWriter
from tests.contract.stage import IMAGE, Stage, fake_engine

NANO = 1_000_000_000


@pytest.fixture
def fake() -> FakeEngine:
    return fake_engine()


@pytest.fixture
def writer(tmp_path: Path) -> BundleWriter:
    return BundleWriter(tmp_path / "b")


def document(writer: BundleWriter, name: str) -> Any:
    return json.loads((writer.folder / "data" / name).read_bytes())


def whys(writer: BundleWriter) -> str:
    return " ".join(f"{one.what}: {one.why}" for one in writer.gaps)


# -- events ----------------------------------------------------------------------------------------------------------


def test_events_of_all_objects(fake: FakeEngine, writer: BundleWriter) -> None:
    target = fake.container(Stage(fake).run("a"))
    now = time.time_ns()
    net = target.endpoints[0].network_id
    fake.remember("container", "create", target.id, now - 5, {"name": "a"})
    fake.remember("container", "exec_create: sh -c 'id: \x1b[2J'", target.id, now - 4, {"name": "a"})
    fake.remember("network", "disconnect", "f" * 64, now - 3, {"container": target.id})
    fake.remember("network", "destroy", net, now - 2, {"name": "bridge"})
    fake.remember("container", "die", "e" * 64, now - 1, {"name": "other"})
    found = acquire_events(fake, target, writer)
    rows = [json.loads(one) for one in (writer.folder / "data/engine/events.jsonl").read_bytes().splitlines()]
    assert [one.to_json() for one in found] == rows
    assert [(row["action"], row["relation"]) for row in rows] == [
        ("create", "target"), ("exec_create", "target"), ("disconnect", "target"), ("destroy", "network"), ("die", "other"),
    ]  # fmt: skip
    assert rows[1]["detail"] == "sh -c 'id: \x1b[2J'" and rows[0]["time"].endswith("Z")
    window = document(writer, "engine/events-window.json")
    assert window["covers_from_creation"] and window["count"] == 5 and not writer.gaps


def test_a_window_that_is_not_covered(fake: FakeEngine, writer: BundleWriter) -> None:
    """256 later events push the target's creation out."""
    target = fake.container(Stage(fake).run("a"))
    now = time.time_ns()
    fake.remember("container", "create", target.id, now - 1000, {})
    for number in range(256):
        fake.remember("volume", "create", "v", now - 500 + number, {})
    assert len(acquire_events(fake, target, writer)) == 256
    window = document(writer, "engine/events-window.json")
    assert "the window isn't covered: the engine keeps its last 256 events" in window["note"]
    assert not window["covers_from_creation"] and not writer.gaps


def test_the_default_window_is_the_earlier_of_both(fake: FakeEngine, writer: BundleWriter) -> None:
    target = fake.container(Stage(fake).run("a"))
    acquire_events(fake, target, writer)
    started = _seconds(document(writer, "engine/events-window.json")["since"])
    assert started is not None and abs(time.time() - 24 * 3600 - started) < 60
    week = Container({**target.raw, "Created": rfc3339(time.time() - 7 * 24 * 3600)})
    other = BundleWriter(writer.folder.parent / "c")
    acquire_events(fake, week, other)
    started = _seconds(document(other, "engine/events-window.json")["since"])
    assert started is not None and abs(time.time() - 7 * 24 * 3600 - started) < 60


def test_event_limits_and_rubbish(fake: FakeEngine, writer: BundleWriter, monkeypatch: pytest.MonkeyPatch) -> None:
    target = fake.container(Stage(fake).run("a"))
    good = b'{"Type":"x","Action":"y","time":5}'
    monkeypatch.setattr(fake, "events", lambda *_: iter([b"[]\n{\n" + good, b"\n" + good + b"\n", good]))
    found = acquire_events(fake, target, writer, limit=2)
    assert [one.time_ns for one in found] == [5 * NANO] * 2
    assert "more than 2 events" in whys(writer) and "2 lines of the engine's were not events" in whys(writer)


def test_an_engine_without_events(fake: FakeEngine, writer: BundleWriter) -> None:
    target = fake.container(Stage(fake).run("a"))
    fake.fail("events", EngineError("no events here"))
    assert acquire_events(fake, target, writer) == () and "no events here" in whys(writer)
    fake.die()
    assert acquire_events(fake, target, BundleWriter(writer.folder.parent / "c")) == ()


def test_an_event_without_end(fake: FakeEngine, writer: BundleWriter, monkeypatch: pytest.MonkeyPatch) -> None:
    target = fake.container(Stage(fake).run("a"))
    monkeypatch.setattr(fake, "events", lambda *_: (b"x" * 300_000 for _ in range(50)))
    acquire_events(fake, target, writer)
    assert "longer than 1048576 bytes" in whys(writer)


TRICKY = st.text(max_size=4) | st.sampled_from(
    ["relation", '"relation": ""', '", "relation": "target', "container", 'a"', "\\"]
)


@settings(max_examples=80, deadline=None)
@given(
    st.one_of(
        st.binary(max_size=60),
        st.recursive(
            st.none() | st.booleans() | st.floats() | st.text(max_size=5) | st.integers(),
            lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["Actor", "Action", "timeNano", "time", "Attributes", "ID"]), inner, max_size=4),
            max_leaves=8,
        ).map(lambda value: json.dumps(value).encode()),
    )
)  # fmt: skip
def test_any_line_is_an_event_or_a_value_error(line: bytes) -> None:
    names = _Names(Container({"Id": "x", "Image": "y", "Config": {"Image": "z"}, "State": {}}))
    try:
        event, text = _event(line, names)
    except ValueError:
        return
    assert json.loads(text) == event.to_json()


@given(st.dictionaries(TRICKY, TRICKY, max_size=3), TRICKY, TRICKY)
def test_an_event_read_once_is_each_targets_own(attributes: dict[str, str], actor: str, kind: str) -> None:
    """Also where names and texts look like the rest of the row."""
    row = {"Type": kind, "Action": actor, "timeNano": 5, "Actor": {"ID": actor, "Attributes": attributes}}
    line = json.dumps(row).encode()
    for target, relation in ((actor, "target"), ("somebody", "other")):
        names = _Names(Container({"Id": target, "Image": "y", "Config": {"Image": "z"}, "State": {}}))
        event, text = _event(line, names)
        assert event.relation == ("target" if attributes.get("container") == target else relation)
        assert text == json.dumps(event.to_json(), sort_keys=True) + "\n"


# -- state -----------------------------------------------------------------------------------------------------------


def test_state_of_all_that_belongs_to_it(fake: FakeEngine, writer: BundleWriter) -> None:
    stage = Stage(fake)
    one, other = stage.run("a", Env=["TOKEN=secret"]), stage.run("peer")
    raw = {
        **fake.container(one).raw,
        "Mounts": [{"Type": "volume", "Name": "data"}, {"Type": "volume", "Name": "gone"}],
    }
    fake.volumes["data"] = {"Name": "data", "Driver": "local"}
    acquire_engine_state(fake, Container(raw), writer)
    names = {one.path.removeprefix("data/engine/") for one in writer.artifacts}
    assert names == {
        "container-before.json", "container-now.json", "image.json", "image-history.json", "info.json", "version.json", "settings.json",
        "plugins.json", "peers.json", "networks.json", "volumes.json",
    }  # fmt: skip
    assert document(writer, "engine/peers.json") == [{"network": "bridge", "id": other, "name": stage.name("peer")}]
    assert document(writer, "engine/volumes.json") == [{"Name": "data", "Driver": "local"}]
    assert whys(writer) == "volumes: gone: get gone: no such volume"
    assert "TOKEN=secret" in document(writer, "engine/container-now.json")["Config"]["Env"]


def test_processes_by_the_engine_only_from_afar(tmp_path: Path) -> None:
    for endpoint, taken in (("unix:///x", False), ("tcp://far:2376", True)):
        far, writer = FakeEngine(IMAGE, endpoint=endpoint), BundleWriter(tmp_path / str(taken))
        acquire_engine_state(far, far.container(Stage(far).run("a")), writer)
        assert ("data/engine/top.json" in {one.path for one in writer.artifacts}) == taken


def test_a_swarm_task(fake: FakeEngine, writer: BundleWriter) -> None:
    labels = {"com.docker.swarm.service.id": "s1", "com.docker.swarm.task.id": "t1", "com.docker.swarm.node.id": "n1"}
    before = fake.container(Stage(fake).run("a"))
    raw = {**before.raw, "Config": {**before.config, "Labels": labels}}
    fake.objects["service", "s1"] = {"ID": "s1"}
    acquire_engine_state(fake, Container(raw), writer)
    assert document(writer, "engine/swarm-service.json") == {"ID": "s1"}
    assert "swarm task: This node is not a swarm manager" in whys(writer) and "swarm node" in whys(writer)


def test_a_dead_engine_leaves_gaps(fake: FakeEngine, writer: BundleWriter) -> None:
    before = fake.container(Stage(fake).run("a"))
    fake.die()
    acquire_engine_state(fake, before, writer)
    assert document(writer, "engine/container-before.json")["Id"] == before.id
    assert {"container-now", "image", "info", "networks"} <= {one.what for one in writer.gaps}


def test_settings() -> None:
    found = engine_settings(
        {
            "LiveRestoreEnabled": True, "SecurityOptions": ["name=seccomp,profile=default", "name=userns"], "Swarm": {"LocalNodeState": "active"},
            "RegistryConfig": {
                "InsecureRegistryCIDRs": ["127.0.0.0/8"], "Mirrors": ["https://m/"],
                "IndexConfigs": {"docker.io": {"Secure": True}, "r.example:5000": {"Secure": False}},
            },
            "Warnings": ["WARNING: API is accessible on http://0.0.0.0:2375 without encryption."],
        }
    )  # fmt: skip
    assert found["live_restore"] and found["userns_remap"] and found["seccomp"] and not found["rootless"]
    assert found["insecure_registries"] == ["127.0.0.0/8", "r.example:5000"] and found["swarm"] == "active"
    assert "2375" in found["warnings"][0] and engine_settings({})["warnings"] == []


def test_masked_for_output() -> None:
    raw = {
        "Config": {"Env": ["TOKEN=secret", "EMPTY=", "NAKED"], "Cmd": ["x"]}, "Spec": [{"ContainerSpec": {"Env": ["A=secret"]}}], "Env": None,
    }  # fmt: skip
    shown = masked(raw)
    assert "secret" not in json.dumps(shown) and shown["Config"]["Env"] == ["TOKEN=***", "EMPTY=***", "NAKED=***"]
    assert shown["Config"]["Cmd"] == ["x"] and raw["Config"]["Env"][0] == "TOKEN=secret"  # type: ignore[index]


def test_volume_names() -> None:
    mounts = [{"Type": "volume", "Name": "b"}, {"Type": "bind", "Source": "/x"}, {"Type": "volume", "Name": "a"}]
    assert volume_names(Container({"Mounts": mounts})) == ("a", "b") and volume_names(Container({})) == ()


# -- irkit's own calls -----------------------------------------------------------------------------------------------


def call(method: str = "GET", path: str = "/x") -> Call:
    return Call(method, path, 200, "2026-01-01T00:00:00.000000Z", 1.0)


def test_calls_go_into_the_bundle(fake: FakeEngine, writer: BundleWriter) -> None:
    fake.pause(Stage(fake).run("a"))
    fake.die("info")
    with pytest.raises(EngineError):
        fake.info()
    count = acquire_calls(fake, writer)
    rows = [json.loads(one) for one in (writer.folder / "data/custody/calls.jsonl").read_bytes().splitlines()]
    assert count == len(rows) == len(fake.calls)
    assert [row["method"] for row in rows[-3:]] == ["POST", "GET", "GET"] and rows[-3]["path"].endswith("/pause")
    assert rows[-1]["status"] == 0 and set(rows[0]) == {"method", "path", "status", "started", "ms"}


def test_reading_calls_past_the_limit_are_counted(
    fake: FakeEngine, writer: BundleWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = CallLog(limit=2)
    for one in (call(), call(), call(), call("POST", "/pause"), call()):
        log.append(one)
    assert [one.method for one in log] == ["GET", "GET", "POST"] and log.dropped == 2 and len(log) == 3
    monkeypatch.setattr(FakeEngine, "calls_dropped", 2)
    acquire_calls(fake, writer)
    assert "2 more reading calls" in whys(writer)


def test_paths_hold_no_secrets() -> None:
    assert without_secrets("/v1.41/containers/x/json") == "/v1.41/containers/x/json"
    assert without_secrets("/build?buildargs=%7BTOKEN%7D&t=a&remote=") == "/build?buildargs=-&t=a&remote=-"
    log = CallLog()
    log.append(call(path="/x?token=abc&force=1"))
    assert next(iter(log)).path == "/x?token=-&force=1"


def test_calls_are_appended_to_a_file_of_the_case(tmp_path: Path) -> None:
    log, path = CallLog(), tmp_path / "calls.jsonl"
    log.append(call(path="/first"))
    path.write_text("earlier\n")
    path.chmod(0o600)
    log.record_to(path)
    log.append(call(path="/second"))
    log.close()
    log.append(call(path="/third"))
    lines = path.read_text().splitlines()
    assert lines[0] == "earlier" and [json.loads(one)["path"] for one in lines[1:]] == ["/first", "/second"]
    fresh = CallLog()
    fresh.record_to(tmp_path / "new.jsonl")
    assert stat.S_IMODE((tmp_path / "new.jsonl").stat().st_mode) == 0o600
    (tmp_path / "link").symlink_to(path)
    with pytest.raises(StorageError):
        fresh.record_to(tmp_path / "link")


def test_a_full_disk_does_not_undo_a_call() -> None:
    log = CallLog()
    log.record_to(Path("/dev/full"))
    log.append(call())
    assert len(log) == 1 and log.unwritten == 1
