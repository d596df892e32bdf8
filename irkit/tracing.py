"""OpenTelemetry traces (the extra ``irkit[otel]``): a span a run and a span a step, made from what the run recorded once it has ended.

Nothing is imported, and nothing is sent, unless the operator set ``OTEL_EXPORTER_OTLP_ENDPOINT`` (or its ``…_TRACES_…`` form); and
then not before the run is over, so that no collector can slow down an isolation.  OTLP over HTTP, protobuf
(opentelemetry.io/docs/specs/otel/protocol/exporter).  Steps' messages are left out: they may hold what an attacker wrote.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
    from opentelemetry.sdk.trace.export import SpanExporter

ENDPOINTS = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
SECONDS = 5.0
"""How long the collector is waited for, all tries together."""
GOOD = ("succeeded", "degraded", "planned", "skipped")
MOMENTS = ("frozen", "sealed_off", "proven", "bundled")


def wanted() -> bool:
    """Whether the operator named a collector."""
    return any(os.environ.get(name) for name in ENDPOINTS) and os.environ.get("OTEL_TRACES_EXPORTER") != "none"


def export(
    run: Mapping[str, Any], steps: Sequence[Mapping[str, Any]], exit_code: int, warn: Callable[[str], None]
) -> None:
    """Send a run (``irkit.run/v1``) with its steps.  What goes wrong is a warning, and changes nothing of the run."""
    try:
        exporter = _exporter()
    except ImportError:
        return warn(
            "OTEL_EXPORTER_OTLP_ENDPOINT is set, but OpenTelemetry is not installed: no traces (pip install 'irkit[otel]')"
        )
    try:
        if not send(run, steps, exit_code, exporter):
            warn("the collector did not take the run's traces")
    except Exception as error:  # a library's or a collector's fault must not become the run's
        warn(f"the run's traces could not be sent: {type(error).__name__}")
    finally:
        exporter.shutdown()
    return None


def send(run: Mapping[str, Any], steps: Sequence[Mapping[str, Any]], exit_code: int, exporter: SpanExporter) -> bool:
    """Make the spans and hand them over at once; whether they were taken."""
    from opentelemetry.sdk.trace.export import SpanExportResult

    made = spans(run, steps, exit_code)
    return not made or exporter.export(made) is SpanExportResult.SUCCESS


def spans(run: Mapping[str, Any], steps: Sequence[Mapping[str, Any]], exit_code: int) -> list[ReadableSpan]:
    """The run's span and those of its steps, with the times that the run recorded."""
    from opentelemetry import trace

    provider, made = _provider()
    tracer = provider.get_tracer("irkit")
    timeline = {name: _nanoseconds(text) for name, text in run["timeline"].items() if text}
    root = tracer.start_span(
        f"run {run['playbook']['id']}", context=trace.set_span_in_context(trace.INVALID_SPAN), attributes=_of_run(run, exit_code),
        start_time=timeline["started"],
    )  # fmt: skip
    for moment in MOMENTS:
        if moment in timeline:
            root.add_event(moment, timestamp=timeline[moment])
    _judge(root, str(run["status"]))
    around = trace.set_span_in_context(root)
    for step in steps:
        if not step["started"]:
            continue  # it did not run
        span = tracer.start_span(
            str(step["uses"]), context=around, attributes=_of_step(step), start_time=_nanoseconds(step["started"])
        )
        _judge(span, str(step["outcome"]))
        span.end(_nanoseconds(step["finished"] or step["started"]))
    root.end(timeline.get("finished", timeline["started"]))
    return made


def _of_run(run: Mapping[str, Any], exit_code: int) -> dict[str, Any]:
    from irkit.text import printable

    target = run["target"]
    return {
        "irkit.case": run["case"], "irkit.run": run["run"], "irkit.playbook.id": run["playbook"]["id"],
        "irkit.playbook.digest": run["playbook"]["digest"], "irkit.status": run["status"], "irkit.exit_code": exit_code,
        "irkit.quarantine": run["quarantine"]["state"] or "none", "irkit.findings": len(run["findings"]), "irkit.gaps": len(run["gaps"]),
        "container.id": target["id"], "container.name": printable(target["name"], 200), "container.image.name": printable(target["image"], 200),
    }  # fmt: skip


def _of_step(step: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "irkit.step.id": step["id"], "irkit.step.uses": step["uses"], "irkit.step.outcome": step["outcome"],
        "irkit.step.conclusion": step["conclusion"],
    }  # fmt: skip


def _judge(span: Any, outcome: str) -> None:
    from opentelemetry.trace import Status, StatusCode

    span.set_status(Status(StatusCode.OK) if outcome in GOOD else Status(StatusCode.ERROR, outcome))


def _provider() -> tuple[TracerProvider, list[ReadableSpan]]:
    """A provider of this run's own that keeps what ends: nothing global is set up."""
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import SpanProcessor, TracerProvider

    from irkit import __version__

    made: list[ReadableSpan] = []

    class Keep(SpanProcessor):
        def on_end(self, span: ReadableSpan) -> None:
            made.append(span)

    named = {} if os.environ.get("OTEL_SERVICE_NAME") else {"service.name": "irkit"}
    provider = TracerProvider(
        resource=Resource.create({**named, "service.version": __version__}), shutdown_on_exit=False
    )
    provider.add_span_processor(Keep())
    return provider, made


def _exporter() -> SpanExporter:
    """To the operator's collector and nowhere else: redirects are not followed."""
    import logging

    import requests
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

    logger = logging.getLogger("opentelemetry")  # it would print what the collector answers
    logger.addHandler(logging.NullHandler())
    logger.propagate = False
    session = requests.Session()
    session.max_redirects = 0
    return OTLPSpanExporter(session=session, timeout=SECONDS)


def _nanoseconds(text: str) -> int:
    """RFC 3339 with microseconds, as :mod:`irkit.clock` writes it."""
    from datetime import UTC, datetime

    moment = datetime.strptime(text, "%Y-%m-%dT%H:%M:%S.%fZ").replace(tzinfo=UTC)
    seconds = int(moment.replace(microsecond=0).timestamp())
    return seconds * 1_000_000_000 + moment.microsecond * 1000
