"""Alerts of detectors start playbooks on a real engine: over TLS with a token, from the engine's events, once and only once."""

from __future__ import annotations

import contextlib
import datetime
import http.client
import http.server
import ipaddress
import json
import os
import random
import re
import signal
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from prometheus_client.parser import text_string_to_metric_families

from irkit.clock import now

from .conftest import LABEL, Lab

TOKEN = "a-token-of-this-test-0123456789"
RULES = """apiVersion: irkit/v1
kind: Watch
rules:
"""


@dataclass
class Watching:
    """An ``irkit watch`` under way: what it prints, and how to speak to it."""

    process: subprocess.Popen[str]
    log: Path
    lab: Lab

    @property
    def said(self) -> str:
        return self.log.read_text()

    def decisions(self, *words: str) -> list[dict[str, Any]]:
        path = self.lab.home / "watch/journal.jsonl"
        rows = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
        return [row for row in rows if not words or row["type"] in words]

    def until(self, found: Callable[[], Any], seconds: float = 60) -> Any:
        ends = time.monotonic() + seconds
        while not (value := found()):
            assert self.process.poll() is None and time.monotonic() < ends, f"{self.process.poll()}\n{self.said}"
            time.sleep(0.05)
        return value

    def end(self) -> str:
        self.process.send_signal(signal.SIGTERM)
        assert self.process.wait(20) == 0, self.said
        assert "Traceback" not in self.said
        return self.said


@pytest.fixture
def watching(lab: Lab, tmp_path: Path) -> Iterator[Callable[..., Watching]]:
    made: list[Watching] = []

    def start(*argv: str) -> Watching:
        log = tmp_path / f"watch{len(made)}.log"
        with log.open("w") as file:
            process = subprocess.Popen(
                [sys.executable, "-m", "irkit", "watch", *argv], stdout=subprocess.DEVNULL, stderr=file, text=True, env=lab.environment,
                stdin=subprocess.DEVNULL,
            )  # fmt: skip
        made.append(Watching(process, log, lab))
        return made[-1]

    yield start
    for one in made:
        if one.process.poll() is None:
            one.process.kill()
            one.process.wait()


def rules(lab: Lab, *texts: str) -> None:
    lab.home.mkdir(exist_ok=True)
    (lab.home / "watch.yaml").write_text(RULES + "".join(texts))


def alert(lab: Lab, name: str, rule: str = "Terminal shell in container", **fields: Any) -> bytes:
    """As Falco writes it: the first 12 digits of the container's id."""
    identity = lab.docker("inspect", "-f", "{{.Id}}", name)[:12]
    return json.dumps(
        {
            "hostname": "h", "output": f"{now()}: Notice A shell was spawned", "priority": "Notice", "rule": rule, "source": "syscall",
            "tags": ["container", "mitre_execution", "shell"], "time": now(),
            "output_fields": {"container.id": identity, "container.name": name, "proc.name": "sh", "evt.time": 1, **fields},
        }
    ).encode()  # fmt: skip


def certificate(folder: Path) -> tuple[Path, Path]:
    """A self-signed one for 127.0.0.1."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "irkit-test")])
    today = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key()).serial_number(1)
        .not_valid_before(today - datetime.timedelta(hours=1)).not_valid_after(today + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), False).sign(key, hashes.SHA256())
    )  # fmt: skip
    cert, secret = folder / "cert.pem", folder / "key.pem"
    cert.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    secret.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return cert, secret


def post(watching: Watching, cert: Path, body: bytes, token: str = TOKEN) -> int:
    found = watching.until(lambda: re.search(r"listening on https://127\.0\.0\.1:(\d+)", watching.said))
    link = http.client.HTTPSConnection(
        "127.0.0.1", int(found.group(1)), context=ssl.create_default_context(cafile=str(cert)), timeout=20
    )
    with contextlib.closing(link):
        link.request("POST", "/falco", body, {"Authorization": f"Bearer {token}", "Content-Type": "application/json"})
        return link.getresponse().status


def metrics(watching: Watching) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    found = watching.until(lambda: re.search(r"listening on http://127\.0\.0\.1:(\d+)", watching.said))
    link = http.client.HTTPConnection("127.0.0.1", int(found.group(1)), timeout=20)
    with contextlib.closing(link):
        link.request("GET", "/metrics")
        text = link.getresponse().read().decode()
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_an_alert_over_tls_contains_once_it_is_approved(
    lab: Lab, tmp_path: Path, watching: Callable[..., Watching]
) -> None:
    name = lab.run("hit")
    rules(
        lab,
        "  - {id: shell, match: {source: falco, rule: 'Terminal shell*'}, when: fields.proc.name == 'sh', playbook: contain, vars: {profile: quick}}\n",
    )
    lab.irkit("key", "generate", "--name", "ann", "--use", "approval")
    cert, key = certificate(tmp_path)
    (tmp_path / "token").write_text(TOKEN + "\n")
    (tmp_path / "token").chmod(0o600)
    watch = watching(
        "--listen", "127.0.0.1:0", "--token-file", str(tmp_path / "token"), "--tls-cert", str(cert), "--tls-key", str(key),
        "--metrics", "127.0.0.1:0",
    )  # fmt: skip
    body = alert(lab, name)
    assert post(watch, cert, body, "another-token-0123456789") == 401
    assert post(watch, cert, body) == 200
    (asked,) = watch.until(lambda: watch.decisions("asked"))
    assert lab.docker("inspect", "-f", "{{.State.Paused}}", name) == "false", "nothing is done before it is approved"
    (waiting,) = lab.irkit("case", "pending", "--json").json["requests"]
    assert waiting["step"] == asked["step"] and waiting["target"] == asked["container"]
    assert {"freeze", "seal-off"} <= {step["id"] for step in waiting["plan"] if step["outcome"] == "planned"}
    assert post(watch, cert, body) == 200
    assert watch.until(lambda: watch.decisions("duplicate"))
    lab.irkit("case", "approve", waiting["case"], waiting["step"], "--key", "ann")
    (ended,) = watch.until(lambda: watch.decisions("run-ended"))
    assert ended["quarantine"] == "proven" and ended["outcome"] in ("succeeded", "degraded"), ended
    assert lab.docker("inspect", "-f", "{{.State.Paused}}", name) == "true"
    result = json.loads((lab.home / "cases" / ended["case"] / "runs" / ended["run"] / "result.json").read_bytes())
    assert result["quarantine"]["state"] == "proven"
    lab.irkit("bundle", "verify", result["bundle"]["path"])
    seen = metrics(watch)
    assert seen["irkit_watch_alerts_total", (("decision", "accepted"), ("source", "falco"))] == 1
    assert seen["irkit_watch_alerts_total", (("decision", "duplicate"), ("source", "falco"))] == 1
    assert seen["irkit_watch_requests_refused_total", (("code", "401"),)] == 1
    assert seen["irkit_watch_runs_started_total", (("playbook", "contain"),)] == 1
    assert seen["irkit_watch_alert_to_frozen_seconds_count", ()] == 1
    assert post(watch, cert, alert(lab, name, "Terminal shell, another")) == 200
    assert watch.decisions("duplicate", "contained")
    said = watch.end()
    assert TOKEN not in said
    assert len(watch.decisions("accepted")) == 1


def test_a_denied_run_changes_nothing(lab: Lab, tmp_path: Path, watching: Callable[..., Watching]) -> None:
    name = lab.run("no")
    rules(lab, "  - {id: shell, match: {rule: '*'}, playbook: contain, vars: {profile: quick}, dry_run_first: false}\n")
    lab.irkit("key", "generate", "--name", "ann", "--use", "approval")
    (tmp_path / "alerts").write_bytes(alert(lab, name) + b"\n")
    done = lab.irkit("watch", "--file", str(tmp_path / "alerts"), "--once", code=7)
    (waiting,) = lab.irkit("case", "pending", "--json").json["requests"]
    assert f"irkit case approve {waiting['case']} {waiting['step']}" in done.err
    lab.irkit("case", "approve", waiting["case"], waiting["step"], "--key", "ann", "--deny", "--why", "it was me")
    (tmp_path / "none").touch()
    again = lab.irkit("watch", "--file", str(tmp_path / "none"), "--once", "--json")
    rows = [json.loads(line) for line in again.out.splitlines()]
    (denied,) = [row for row in rows if row["decision"] == "denied"]
    assert "it was me" in denied["why"]
    assert lab.docker("inspect", "-f", "{{.State.Paused}}", name) == "false"


def test_an_event_of_the_engine_takes_evidence(lab: Lab, watching: Callable[..., Watching]) -> None:
    name = lab.run("event", "--label", "watched=yes")
    other = lab.run("other")
    rules(
        lab,
        "  - {id: exec, match: {source: events, rule: exec_start, labels: {watched: 'y*'}}, when: fields.detail contains 'id', playbook: evidence-only, vars: {profile: quick}, dry_run_first: false}\n",
    )
    watch = watching("--source", "events", "--engine", os.environ["DOCKER_HOST"])
    watch.until((lab.home / "watch/state.json").exists)
    lab.docker("exec", other, "/bin/busybox", "id")
    lab.docker("exec", name, "/bin/busybox", "true")
    lab.docker("exec", name, "/bin/busybox", "id")
    (ended,) = watch.until(lambda: watch.decisions("run-ended"))
    assert ended["name"] == name and ended["outcome"] in ("succeeded", "degraded"), ended
    assert list((lab.home / "cases" / ended["case"] / "bundles").glob("*/seal.dsse.json"))
    assert lab.docker("inspect", "-f", "{{.State.Paused}}", name) == "false"
    lab.docker("exec", name, "/bin/busybox", "id")
    watch.until(lambda: watch.decisions("duplicate"))
    watch.end()
    # an event while nobody watched is not lost, and none is handled twice
    late = lab.run("late", "--label", "watched=yes")
    lab.docker("exec", late, "/bin/busybox", "id")
    watch = watching("--source", "events", "--engine", os.environ["DOCKER_HOST"])
    watch.until(lambda: len(watch.decisions("run-ended")) == 2)
    watch.end()
    assert [row["name"] for row in watch.decisions("accepted")] == [name, late]
    assert not watch.decisions("gap")


def test_too_few_healthy_replicas(lab: Lab, tmp_path: Path) -> None:
    one = lab.run("one", "--label", "svc=a")
    two = lab.run("two", "--label", "svc=a")
    rule = "  - {{id: shell, match: {{rule: '*'}}, playbook: contain, vars: {{profile: quick}}, dry_run_first: false, approval: none, min_healthy: {{count: 1, by: 'label:svc', otherwise: {0}}}}}\n"
    rules(lab, rule.format("refuse"))
    path = tmp_path / "alerts"
    path.write_bytes(alert(lab, one) + b"\n" + alert(lab, two) + b"\n")
    done = lab.irkit("watch", "--file", str(path), "--once", "--json", code=None)
    rows = [json.loads(line) for line in done.out.splitlines()]
    assert [row["name"] for row in rows if row["decision"] == "run-ended"] == [one]
    assert [row["name"] for row in rows if row["decision"] == "too-few-healthy"] == [two]
    assert lab.docker("inspect", "-f", "{{.State.Paused}}", one, two).split() == ["true", "false"]
    rules(lab, rule.format("ask"))
    path.write_bytes(alert(lab, two, "Another rule") + b"\n")
    done = lab.irkit("watch", "--file", str(path), "--once", code=7)
    assert "too few healthy replicas" in done.err
    assert lab.docker("inspect", "-f", "{{.State.Paused}}", two) == "false"


@pytest.mark.parametrize("when", ["dry-run-started", "run-started", "accepted"])
def test_killed_and_begun_anew_handles_nothing_twice(
    lab: Lab, tmp_path: Path, watching: Callable[..., Watching], when: str
) -> None:
    name = lab.run("kill")
    rules(lab, "  - {id: shell, match: {rule: '*'}, playbook: contain, vars: {profile: quick}, approval: none}\n")
    path = tmp_path / "alerts"
    path.touch()
    watch = watching("--file", str(path))
    watch.until((lab.home / "watch/state.json").exists)
    body = alert(lab, name) + b"\n"
    with path.open("ab") as file:
        file.write(body)
    watch.until(lambda: watch.decisions(when))
    watch.process.kill()
    watch.process.wait()
    with path.open("ab") as file:
        file.write(body)
    watch = watching("--file", str(path))
    (ended,) = watch.until(lambda: watch.decisions("run-ended"))
    assert ended["quarantine"] == "proven", ended
    watch.until(lambda: watch.decisions("duplicate"))
    watch.end()
    assert len(watch.decisions("accepted")) == 1 and len(watch.decisions("run-ended")) == 1
    (case,) = (lab.home / "cases").iterdir()
    runs = [json.loads((run / "result.json").read_bytes())["status"] for run in (case / "runs").iterdir()]
    assert len(runs) == 2, "one dry run and one run"
    assert lab.docker("ps", "-aq", "--filter", f"label={LABEL}={lab.token}").count("\n") == 0


def test_a_run_outlives_the_watch(lab: Lab, tmp_path: Path, watching: Callable[..., Watching]) -> None:
    name = lab.run("long")
    rules(
        lab,
        "  - {id: shell, match: {rule: '*'}, playbook: contain, vars: {profile: quick}, approval: none, dry_run_first: false}\n",
    )
    path = tmp_path / "alerts"
    path.touch()
    watch = watching("--file", str(path))
    watch.until((lab.home / "watch/state.json").exists)
    path.write_bytes(alert(lab, name) + b"\n")
    watch.until(lambda: watch.decisions("run-started"))
    assert "go on by themselves" in watch.end()
    (tmp_path / "none").touch()
    done = lab.irkit("watch", "--file", str(tmp_path / "none"), "--once", "--json")
    (ended,) = [row for row in map(json.loads, done.out.splitlines()) if row["decision"] == "run-ended"]
    assert ended["quarantine"] == "proven"


def test_an_alert_about_what_is_gone(lab: Lab, tmp_path: Path) -> None:
    name = lab.run("gone")
    rules(lab, "  - {id: shell, match: {rule: '*'}, playbook: contain, approval: none}\n")
    path = tmp_path / "alerts"
    path.write_bytes(alert(lab, name) + b"\n" + alert(lab, name, **{"container.id": "host"}) + b'\n{"rule": \n')
    lab.docker("rm", "-f", name)
    done = lab.irkit("watch", "--file", str(path), "--once", "--json", code=4)
    words = [json.loads(line)["decision"] for line in done.out.splitlines()]
    assert words[1:4] == ["gone", "no-container", "malformed"]


@pytest.mark.parametrize("number", range(int(os.environ.get("IRKIT_KILLS", "40")) // 20))
def test_killed_at_random_times(lab: Lab, tmp_path: Path, watching: Callable[..., Watching], number: int) -> None:
    """The watch alone is killed, again and again: each alert has one dry run and one run, and none is lost."""
    names = [lab.run(f"r{one}") for one in range(3)]
    rules(lab, "  - {id: shell, match: {rule: '*'}, playbook: contain, vars: {profile: quick}, approval: none}\n")
    path = tmp_path / "alerts"
    path.touch()
    chance = random.Random(number)
    begun = watching("--file", str(path))
    begun.until((lab.home / "watch/state.json").exists)  # it knows from where on
    begun.process.kill()
    begun.process.wait()
    for name in (*names, None):
        one = watching("--file", str(path))
        if name is not None:
            with path.open("ab") as file:
                file.write(alert(lab, name) + b"\n")
        time.sleep(chance.uniform(0.0, 2.0))
        one.process.kill()
        one.process.wait()
    watch = watching("--file", str(path))
    watch.until(lambda: len({row["name"] for row in watch.decisions("run-ended")}) == 3)
    watch.end()
    assert sorted(row["name"] for row in watch.decisions("accepted")) == sorted(names)
    assert sorted(row["name"] for row in watch.decisions("run-ended")) == sorted(names)
    for case in (lab.home / "cases").iterdir():
        runs = [json.loads((run / "result.json").read_bytes()) for run in (case / "runs").iterdir()]
        assert len(runs) == 2 and {"proven"} == {run["quarantine"]["state"] for run in runs} - {None}


def test_standard_input_sighup_and_traces(lab: Lab, tmp_path: Path) -> None:
    name = lab.run("pipe")
    rules(lab, "  - {id: shell, match: {rule: 'Nothing'}, playbook: contain}\n")
    process = subprocess.Popen(
        [sys.executable, "-m", "irkit", "watch", "--json"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={**lab.environment, "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9"},
    )  # fmt: skip
    assert process.stdin is not None and process.stdout is not None and process.stderr is not None
    lines = process.stdout

    def decided() -> Any:
        return json.loads(lines.readline())

    assert decided()["decision"] == "watch-started"
    (lab.home / "watch.yaml").write_text("rubbish")
    process.send_signal(signal.SIGHUP)
    assert decided()["decision"] == "reload-refused"
    rules(
        lab,
        "  - {id: shell, match: {rule: '*'}, playbook: evidence-only, vars: {profile: quick}, dry_run_first: false}\n",
    )
    process.send_signal(signal.SIGHUP)
    assert decided()["decision"] == "reloaded"
    process.stdin.write(alert(lab, name).decode() + "\n")
    process.stdin.close()
    assert [decided()["decision"] for _ in range(4)] == ["accepted", "run-started", "run-ended", "watch-stopped"]
    assert process.wait(20) in (0, 4)
    process.stdout.close()
    process.stderr.close()


class Collector(http.server.BaseHTTPRequestHandler):
    took: ClassVar[list[bytes]] = []

    def do_POST(self) -> None:
        self.took.append(self.rfile.read(int(self.headers["Content-Length"])))
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        pass


def test_a_contained_target_has_its_trace(lab: Lab) -> None:
    name = lab.run("traced")
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Collector) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        ran = lab.irkit(
            "contain",
            name,
            "--var",
            "profile=quick",
            "--json",
            env={"OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{server.server_address[1]}"},
        )
        server.shutdown()
    (body,) = Collector.took
    found = ExportTraceServiceRequest.FromString(body)
    spans = {span.name: span for one in found.resource_spans for scope in one.scope_spans for span in scope.spans}
    root, prove = spans["run contain"], spans["quarantine.prove"]
    assert (
        prove.parent_span_id == root.span_id
        and root.start_time_unix_nano <= prove.start_time_unix_nano < root.end_time_unix_nano
    )
    told = {one.key: one.value for one in root.attributes}
    assert told["irkit.quarantine"].string_value == "proven" and told["irkit.case"].string_value == ran.json["case"]
    assert "traces" not in ran.err
