"""Traces: a span a run and a span a step, from what was recorded; sent to the operator's collector and nowhere else."""

from __future__ import annotations

import http.server
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode

from irkit import tracing
from irkit.cli import running

TIMES = {
    name: f"2026-01-31T03:00:0{number}.250000Z"
    for number, name in enumerate(("started", "frozen", "sealed_off", "proven", "bundled", "finished"))
}
RUN: dict[str, Any] = {
    "case": "c-1", "run": "r-1", "status": "degraded", "playbook": {"id": "contain", "digest": "sha256:0"}, "timeline": TIMES,
    "target": {"id": "i" * 64, "name": "we\x1bb", "image": "shop/web:1"}, "quarantine": {"state": "proven"}, "findings": [1], "gaps": [],
}  # fmt: skip
STEPS: list[dict[str, Any]] = [
    {"id": "freeze", "uses": "container.freeze", "outcome": "succeeded", "conclusion": "succeeded", "started": TIMES["started"], "finished": TIMES["frozen"], "message": "secret"},
    {"id": "logs", "uses": "acquire.logs", "outcome": "failed", "conclusion": "tolerated", "started": TIMES["frozen"], "finished": TIMES["proven"], "message": "secret"},
    {"id": "left", "uses": "acquire.tmpfs", "outcome": "skipped", "conclusion": "skipped", "started": "", "finished": "", "message": "x"},
]  # fmt: skip


def test_a_span_a_run_and_a_span_a_step() -> None:
    exporter = InMemorySpanExporter()
    assert tracing.send(RUN, STEPS, 4, exporter)
    freeze, logs, run = exporter.get_finished_spans()
    assert run.name == "run contain" and run.parent is None and run.attributes is not None
    assert run.attributes["irkit.status"] == "degraded" and run.attributes["irkit.exit_code"] == 4
    assert run.attributes["container.name"] == "we\\x1bb" and run.attributes["irkit.quarantine"] == "proven"
    assert [event.name for event in run.events] == ["frozen", "sealed_off", "proven", "bundled"]
    assert run.end_time is not None and run.start_time is not None and run.end_time - run.start_time == 5 * 10**9
    assert (
        freeze.name == "container.freeze" and freeze.parent is not None and freeze.parent.span_id == run.context.span_id
    )
    assert freeze.start_time == run.start_time == 1769828400_250_000_000
    assert logs.status.status_code is StatusCode.ERROR and freeze.status.status_code is StatusCode.OK
    assert logs.attributes is not None and logs.attributes["irkit.step.outcome"] == "failed"
    assert "secret" not in str([span.to_json() for span in (freeze, logs, run)])
    assert run.resource.attributes["service.name"] == "irkit"


class Collector(http.server.BaseHTTPRequestHandler):
    """Takes spans, or sends who brings them elsewhere."""

    took: list[tuple[str, bytes]]
    elsewhere = ""

    def do_POST(self) -> None:
        self.took.append((self.path, self.rfile.read(int(self.headers["Content-Length"]))))
        self.send_response(307 if self.elsewhere else 200)
        if self.elsewhere:
            self.send_header("Location", self.elsewhere)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def do_GET(self) -> None:
        self.took.append((self.path, b""))
        self.send_error(404)

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture
def collectors() -> Iterator[list[Any]]:
    made = []
    for _ in range(2):
        handler = type("One", (Collector,), {"took": []})
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        made.append(SimpleNamespace(server=server, handler=handler, url=f"http://127.0.0.1:{server.server_address[1]}"))
    yield made
    for one in made:
        one.server.shutdown()
        one.server.server_close()


def finished(warned: list[str]) -> Any:
    context = SimpleNamespace(steps=STEPS, warn=warned.append)
    return SimpleNamespace(context=context, outcome=SimpleNamespace(exit_code=4), to_json=lambda: RUN)


def test_they_go_to_the_operator_s_collector(collectors: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collectors[0].url)
    warned: list[str] = []
    running._trace(finished(warned))
    ((path, body),) = collectors[0].handler.took
    found = ExportTraceServiceRequest.FromString(body)
    spans = [span.name for one in found.resource_spans for scope in one.scope_spans for span in scope.spans]
    assert path == "/v1/traces" and spans == ["container.freeze", "acquire.logs", "run contain"] and not warned


def test_they_go_nowhere_else(collectors: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    collectors[0].handler.elsewhere = f"{collectors[1].url}/v1/traces"
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collectors[0].url)
    warned: list[str] = []
    running._trace(finished(warned))
    assert collectors[0].handler.took and not collectors[1].handler.took and len(warned) == 1


def test_a_collector_that_is_away_is_a_warning_and_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tracing, "SECONDS", 0.5)
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://127.0.0.1:9/v1/traces")
    warned: list[str] = []
    begun = time.monotonic()
    running._trace(finished(warned))
    assert len(warned) == 1 and time.monotonic() - begun < 3


def test_the_extra_may_be_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setitem(sys.modules, "opentelemetry.exporter.otlp.proto.http.trace_exporter", None)
    warned: list[str] = []
    running._trace(finished(warned))
    assert "irkit[otel]" in warned[0]


@pytest.mark.parametrize("given", [{}, {"OTEL_TRACES_EXPORTER": "none"}, {"OTEL_EXPORTER_OTLP_ENDPOINT": ""}])
def test_nothing_is_sent_unasked(given: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    if "OTEL_TRACES_EXPORTER" in given:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr(tracing, "export", lambda *args: pytest.fail("sent"))
    running._trace(finished([]))


@pytest.mark.thorough
def test_nothing_is_imported_before_a_run_has_ended(tmp_path: Path) -> None:
    script = "import sys, irkit.cli.main, irkit.cli.contain, irkit.cli.running, irkit.cli.run; print([m for m in sys.modules if 'opentelemetry' in m or 'irkit.tracing' in m or 'irkit.watch' in m])"
    done = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        check=True,
        env={"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9"},
    )
    assert done.stdout.strip() == "[]"
