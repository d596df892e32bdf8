"""Watch a quarantined target run: the one moment at which a contained container is thawed, and only in a proven quarantine."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from irkit.actions.context import Context, Result
from irkit.actions.inside import HOLDS_FROZEN, mighty
from irkit.clock import rfc3339
from irkit.engine.interface import Engine
from irkit.errors import Conflict, EngineError, NotFound, UsageProblem
from irkit.evidence.writer import Origin, Sink
from irkit.observe.pcap import Recorder, Recording
from irkit.observe.sinkhole import Sinkhole

PCAP = "application/vnd.tcpdump.pcap"
LINES = "application/jsonl"
POLL = 0.1
LONGEST = 24 * 3600
NAMED = 50


@dataclass(slots=True)
class Asked:
    """What the target called for, as the sinkhole saw it; the first of each kind only, the events are all on disk."""

    names: list[str] = field(default_factory=list)
    places: list[str] = field(default_factory=list)
    events: int = 0

    def note(self, event: Mapping[str, Any]) -> None:
        """Take one event of the sinkhole's."""
        self.events += 1
        found, text = self.places, f"{event['to']['address']} port {event['to']['port']}"
        if event["kind"] == "dns":
            found, text = self.names, str(event["name"])
        else:
            text = f"{event['kind']} {text}"
        if text not in found and len(found) < NAMED:
            found.append(text)


def observe(ctx: Context, args: Mapping[str, Any]) -> Result:
    """Thaw, record, and freeze again; the recording is an artifact.  Refused unless the quarantine is proven."""
    seconds, limit = int(args["seconds"]), int(args["limit_bytes"])
    if not 1 <= seconds <= LONGEST or limit < 1:
        raise UsageProblem(f"seconds must be from 1 to {LONGEST}, and limit_bytes above 0")
    view = ctx.host_view
    if ctx.facts.quarantine_state != "proven" or view is None:
        why = ctx.facts.not_seen or f"the quarantine is {ctx.facts.quarantine_state or 'not there'}, not proven"
        ctx.writer.gap("observe", "traffic", f"not observed: {why}; it stays frozen")
        return Result("degraded", f"not observed: {why}; it stays frozen")
    one = mighty(view.pids())
    if one is not None:
        why = f"process {one.pid} ({one.name}) has {one.power}: {HOLDS_FROZEN}"
        ctx.writer.gap("observe", "traffic", f"not observed: {why}; it stays frozen")
        return Result("degraded", f"not observed: {why}; it stays frozen")
    asked, began = Asked(), time.time()
    with _recording(ctx, view.netns, seconds, limit, bool(args["sinkhole"]), asked) as recorder:
        ctx.note(f"{ctx.target.name} runs inside the quarantine for {seconds} s, recorded; Ctrl-C ends it")
        ended = _watch(ctx, recorder, seconds)
    return _told(ctx, recorder.recording, asked, ended, began)


@contextlib.contextmanager
def _recording(
    ctx: Context, netns: str, seconds: int, limit: int, with_sinkhole: bool, asked: Asked
) -> Iterator[Recorder]:
    """Recorder and sinkhole are at work before the target is thawed, and until it is frozen again."""
    with contextlib.ExitStack() as stack:
        origin = Origin("observe", netns, "a packet socket in the target's network namespace", PCAP)
        sink = stack.enter_context(ctx.writer.sink("observe/traffic.pcap", origin))
        recorder = Recorder(netns, sink.write, limit_bytes=limit, limit_seconds=seconds + 60.0, loopback=with_sinkhole)
        stack.enter_context(recorder)
        if with_sinkhole:
            lines = stack.enter_context(
                ctx.writer.sink("observe/sinkhole.jsonl", Origin("observe", netns, "irkit's own listeners", LINES))
            )
            stack.enter_context(Sinkhole(netns, lambda event: _store(lines, event, asked)))
        try:
            ctx.engine.unpause(ctx.target.id)
            yield recorder
        finally:
            _freeze(ctx.engine, ctx.target.id)


def _store(sink: Sink, event: dict[str, Any], asked: Asked) -> None:
    asked.note(event)
    sink.write(json.dumps(event, separators=(",", ":")).encode() + b"\n")


def _freeze(engine: Engine, target: str) -> None:
    """Frozen again, whatever happened; a target that has ended can't be, and needn't."""
    try:
        engine.pause(target)
    except Conflict:
        container = engine.container(target)
        if container.running and not container.paused:
            raise
    except NotFound:
        return


def _watch(ctx: Context, recorder: Recorder, seconds: int) -> str:
    """Why it is over: the time, the recorder, or the target.  Raises ``Interrupted`` when a signal came."""
    end, look = time.monotonic() + seconds, time.monotonic() + 1.0
    while time.monotonic() < end:
        ctx.checkpoint()
        if recorder.wait(POLL):
            return f"the recorder ended: {recorder.recording.ended}"
        if time.monotonic() >= look:
            look = time.monotonic() + 1.0
            try:
                if not ctx.engine.container(ctx.target.id).running:
                    return "the target ended by itself"
            except NotFound:
                return "the target is gone"
            except EngineError as error:
                ctx.warn(f"the engine did not answer while observing: {error.message}")
    return ""


def _told(ctx: Context, recording: Recording, asked: Asked, ended: str, began: float) -> Result:
    lost = recording.dropped + recording.unread
    if lost:
        ctx.writer.gap("observe", "traffic", f"{lost} packets were not recorded: they came too fast, or after a limit")
    if ended:
        ctx.writer.gap("observe", "traffic", f"observed for {time.time() - began:.0f} s only: {ended}")
    ctx.facts.result["observed"] = {
        "started": rfc3339(began), "finished": rfc3339(time.time()), "packets": recording.packets, "lost": lost,
        "events": asked.events, "names": asked.names, "places": asked.places, "ended": ended or None,
    }  # fmt: skip
    called = ", ".join((*asked.names[:3], *asked.places[:3]))
    message = f"{recording.packets} packets recorded" + (f"; it called for {called}" if called else "")
    return Result("degraded" if lost or ended else "succeeded", message, {"packets": recording.packets})
