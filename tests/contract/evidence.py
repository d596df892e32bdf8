"""The contract of what evidence of logs and engine state asks of an engine; every method's calls are recorded."""

from __future__ import annotations

import contextlib
import inspect
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from irkit.acquire.frames import split_frames
from irkit.engine.interface import Engine, NetworkSpec
from irkit.errors import Conflict, EngineError, NotFound

from .stage import IMAGE, SAY, Stage


def spoken(engine: Engine, container: str) -> dict[int, bytes]:
    """What a container printed, by the frames' stream."""
    found: dict[int, bytes] = {}
    for pieces in split_frames(engine.raw_logs(container)):
        for one in pieces:
            found[one.stream] = found.get(one.stream, b"") + one.data
    return found


class EvidenceContract:
    """To be mixed into a class with the fixture ``engine``."""

    @pytest.fixture
    def yard(self, engine: Engine) -> Iterator[Stage]:
        made = Stage(engine)
        yield made
        made.clean()

    def test_raw_logs(self, engine: Engine, yard: Stage) -> None:
        one = yard.run("a", *SAY)
        deadline = time.monotonic() + 10
        while len(found := spoken(engine, one)) < 2 and time.monotonic() < deadline:
            time.sleep(0.05)
        assert found[1].endswith(b"Z out\n") and found[2].endswith(b"Z err\n")
        assert found[1].index(b"Z out") == 29
        engine.pause(one)
        assert spoken(engine, one) == found

    def test_raw_logs_that_nobody_kept(self, engine: Engine, yard: Stage) -> None:
        one = yard.run("a", *SAY, host={"LogConfig": {"Type": "none"}})
        with pytest.raises(EngineError, match="does not support reading"):
            engine.raw_logs(one)

    def test_events_end(self, engine: Engine, yard: Stage) -> None:
        yard.run("a")
        rows = [json.loads(one) for one in b"".join(engine.events("0", f"{time.time():.9f}")).splitlines()]
        assert len(rows) <= 256 and all(row["Type"] and row["timeNano"] for row in rows)
        assert not list(engine.events("1", "2"))

    def test_what_is_not_there(self, engine: Engine, yard: Stage) -> None:
        gone = yard.name("gone")
        tries: list[Callable[[], object]] = [
            lambda: engine.raw_logs(gone), lambda: engine.volume(gone), lambda: engine.top(gone)
        ]  # fmt: skip
        for attempt in tries:
            with pytest.raises(NotFound) as caught:
                attempt()
            assert caught.value.status == 404
        for kind in ("service", "task", "node"):
            with pytest.raises(EngineError, match="swarm"):
                engine.swarm(kind, gone)
        with pytest.raises(EngineError, match="swarm"):
            engine.update_service(gone, 1, {})
        with pytest.raises(EngineError, match="swarm"):
            engine.service_tasks(gone)

    def test_volumes(self, engine: Engine, yard: Stage) -> None:
        name = yard.name("vol")
        made = engine.create_volume(name, yard.labels)
        try:
            assert made["Name"] == name and made["Mountpoint"] and made["Labels"] == yard.labels
            assert name in engine.volume_names() and engine.volume(name)["Driver"] == "local"
            assert engine.create_volume(name, {})["CreatedAt"] == made["CreatedAt"]
            one = yard.make("a", host={"Binds": [f"{name}:/data"]})
            mount = engine.container(one).raw["Mounts"][0]
            assert (mount["Type"], mount["Name"], mount["Destination"]) == ("volume", name, "/data")
            with pytest.raises(Conflict):
                engine.remove_volume(name)
            engine.remove(one)
        finally:
            engine.remove_volume(name)
        assert name not in engine.volume_names()
        with pytest.raises(NotFound):
            engine.remove_volume(name)

    def test_image_ids(self, engine: Engine) -> None:
        found = engine.image_ids()
        assert engine.image(IMAGE).id in found and len(set(found)) == len(found)
        assert all(engine.image(one).id == one for one in found)

    def test_a_container_has_its_own_grace_time(self, engine: Engine, yard: Stage) -> None:
        one = yard.run("a", StopTimeout=1)
        began = time.monotonic()
        engine.stop(one, None)
        assert not engine.container(one).running and time.monotonic() - began < 9

    def test_plugins(self, engine: Engine) -> None:
        assert isinstance(engine.plugins(), tuple)

    def test_top(self, engine: Engine, yard: Stage) -> None:
        one = yard.run("a")
        try:
            found = engine.top(one)
        except EngineError as error:
            assert "ps" in error.message  # not installed on the engine's host
            return
        column = found["Titles"].index("PID")
        assert str(engine.container(one).pid) in [row[column] for row in found["Processes"]]
        engine.pause(one)
        assert engine.top(one)["Processes"]
        engine.stop(one, grace=0)
        with pytest.raises(EngineError):
            engine.top(one)

    def test_every_method_records_its_calls(self, engine: Engine, yard: Stage) -> None:
        """Whatever its outcome."""
        net, one, gone = yard.network(), yard.run("a"), yard.name("gone")
        given: dict[str, tuple[object, ...]] = {
            "set_restart_policy": (gone, {"Name": "no"}), "create": ({"Image": gone}, gone), "image": (IMAGE,), "image_history": (IMAGE,),
            "rename": (gone, gone), "connect": (net.id, gone), "disconnect": (net.id, gone), "image_save": (gone,),
            "create_network": (NetworkSpec(net.name, False, {}, yard.labels),), "logs": (one, "stdout"), "exec": (gone, ["x"]), "checkpoint": (gone, "x", "/nonexistent"),
            "events": ("1", "2"), "swarm": ("node", gone), "info": (), "containers": (), "networks": (), "plugins": (), "image_ids": (), "volume_names": (),
            "create_volume": ("-", {}),
            "update_service": (gone, 1, {}),
        }  # fmt: skip
        methods = [
            name for name, it in inspect.getmembers(Engine) if not name.startswith("_") and inspect.isfunction(it)
        ]
        assert {"raw_logs", "events", "volume", "pause", "image_save"} <= set(methods)
        for name in methods:
            before = len(engine.calls)
            with contextlib.suppress(EngineError):
                answer = getattr(engine, name)(*given.get(name, (gone,)))
                if isinstance(answer, Iterator):
                    next(answer, None)
            made = engine.calls[before:]
            assert made, f"{name} made a call that is not recorded"
            assert all(call.method and call.path.startswith("/") and call.started.endswith("Z") for call in made)
            assert all(call.status for call in made), name

    def test_a_checkpoint_is_refused_with_a_reason(self, engine: Engine, yard: Stage, tmp_path: Path) -> None:
        """No engine of the matrix has CRIU; what it says is what tells a responder what to install."""
        one = yard.run("a")
        with pytest.raises(EngineError, match=r"page not found|experimental|[Cc]heckpoint|Not Found"):
            engine.checkpoint(one, "irkit", str(tmp_path))
