"""Programs, requests, notifications, questions and waiting: real sockets, a real SMTP conversation, real processes."""

from __future__ import annotations

import http.server
import json
import socket
import socketserver
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest

from irkit.actions import asking, outgoing, question
from irkit.errors import CheckFailed, Interrupted, IrkitError, Refused, UsageProblem, transient
from irkit.models import Target

HEAD = "apiVersion: irkit/v1\nkind: Config\n"


@pytest.fixture
def ctx(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("IRKIT_HOME", str(tmp_path))
    facts = SimpleNamespace(quarantine_state="proven", findings=[1, 2], sealed=None)
    return SimpleNamespace(
        facts=facts, case=SimpleNamespace(id="c-1"), run="r-1", target=Target("i" * 64, 'we"b]', "shop/web:1", "sha256:1", "unix:x"),
        writer=SimpleNamespace(gaps=[]), checkpoint=lambda: None, run_folder=tmp_path / "run", step="s", warn=lambda text: None,
        launch=None, engine=None,
    )  # fmt: skip


def configure(ctx: Any, text: str) -> None:
    (ctx.run_folder.parent / "config.yaml").write_text(HEAD + text)


def program(ctx: Any, *argv: Any, **more: Any) -> Any:
    configure(ctx, "actions: {run: {programs: [/bin/sh, /bin/cat, /no/such]}}\n")
    return outgoing.run_program(ctx, {"argv": list(argv), "expect": (0,), **more})


def test_a_program_is_off_by_default(ctx: Any) -> None:
    with pytest.raises(Refused, match="may not be started") as caught:
        outgoing.run_program(ctx, {"argv": ["/bin/true"], "expect": (0,)})
    assert "actions.run.programs" in str(caught.value.hint)


def test_a_program_gets_its_words_and_the_run(ctx: Any) -> None:
    assert program(ctx, "/bin/sh", "-c", 'printf %s "$1"', "x", "$(id) ; `id`").data["output"] == "$(id) ; `id`"
    told = json.loads(program(ctx, "/bin/cat").data["output"])
    assert told["case"] == "c-1" and told["quarantine"] == "proven" and told["findings"] == 2


def test_a_program_s_environment_is_small(ctx: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET_TOKEN", "x")
    found = program(ctx, "/bin/sh", "-c", "env").data["output"]
    assert "SECRET" not in found and "IRKIT_CASE=c-1" in found


def test_a_program_that_fails(ctx: Any) -> None:
    with pytest.raises(CheckFailed, match="ended with 3: no"):
        program(ctx, "/bin/sh", "-c", "echo no; exit 3")
    assert program(ctx, "/bin/sh", "-c", "exit 3", expect=[3]).data["exit_code"] == 3
    with pytest.raises(IrkitError, match="can't be started"):
        program(ctx, "/no/such")
    with pytest.raises(UsageProblem, match="NUL"):
        program(ctx, "/bin/cat", "a\0b")


def test_a_deadline_ends_a_program_and_its_children(ctx: Any, tmp_path: Path) -> None:
    ends = time.monotonic() + 0.3

    def checkpoint() -> None:
        if time.monotonic() > ends:
            raise Interrupted("stopped")

    ctx.checkpoint = checkpoint
    with pytest.raises(Interrupted):
        program(ctx, "/bin/sh", "-c", f"sleep 60 & echo $! > {tmp_path}/pid; wait")
    child = int((tmp_path / "pid").read_text())
    time.sleep(0.05)
    with pytest.raises(OSError):
        state = Path(f"/proc/{child}/stat").read_text().split()[2]
        assert state == "Z"
        raise OSError


class Hook(http.server.BaseHTTPRequestHandler):
    """Remembers what it was sent; ``/no`` refuses, ``/elsewhere`` redirects."""

    said: ClassVar[list[tuple[str, dict[str, str], bytes]]] = []

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        Hook.said.append((self.path, dict(self.headers), body))
        self.send_response({"/no": 403, "/busy": 503, "/elsewhere": 302}.get(self.path, 200))
        if self.path == "/elsewhere":
            self.send_header("Location", "/other")
        self.end_headers()
        self.wfile.write(b'{"ok": true}')

    do_GET = do_POST

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def hook() -> Iterator[str]:
    Hook.said = []
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hook) as server:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


def notice(ctx: Any, **more: Any) -> Any:
    return outgoing.notify(ctx, {"channel": "c", "message": "contained\n\x1b[31m", "severity": "critical", **more})


def test_webhook(ctx: Any, hook: str, tmp_path: Path) -> None:
    (tmp_path / "token").write_text("s3cret\n")
    configure(ctx, f"notify: {{c: {{type: webhook, url: {hook}/x, token_file: {tmp_path}/token}}}}\n")
    assert notice(ctx).outcome == "succeeded"
    path, headers, body = Hook.said[0]
    told = json.loads(body)
    assert path == "/x" and headers["Authorization"] == "Bearer s3cret"
    assert told["schema"] == "irkit.notification/v1" and told["severity"] == "critical" and told["case"] == "c-1"
    assert "\x1b" not in told["text"] and "quarantine: proven" in told["text"]


@pytest.mark.parametrize(("path", "passes"), [("no", False), ("busy", True), ("elsewhere", False)])
def test_webhook_that_refuses(ctx: Any, hook: str, path: str, passes: bool) -> None:
    configure(ctx, f"notify: {{c: {{type: webhook, url: {hook}/{path}}}}}\n")
    with pytest.raises(IrkitError, match="answered") as caught:
        notice(ctx)
    assert transient(caught.value) is passes
    assert len(Hook.said) == 1


def test_nobody_answers(ctx: Any) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        configure(ctx, f"notify: {{c: {{type: webhook, url: 'http://127.0.0.1:{taken.getsockname()[1]}/'}}}}\n")
        with pytest.raises(IrkitError) as caught:
            notice(ctx)
    assert transient(caught.value)


def test_no_such_channel(ctx: Any) -> None:
    with pytest.raises(UsageProblem, match="no channel 'c'"):
        notice(ctx)


@pytest.mark.parametrize("transport", ["udp", "tcp", "unix"])
def test_syslog(ctx: Any, transport: str, tmp_path: Path) -> None:
    family = socket.AF_UNIX if transport == "unix" else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM if transport == "tcp" else socket.SOCK_DGRAM) as server:
        server.settimeout(5)
        server.bind(str(tmp_path / "log") if transport == "unix" else ("127.0.0.1", 0))
        port = 0 if transport == "unix" else server.getsockname()[1]
        configure(ctx, f"notify: {{c: {{type: syslog, transport: {transport}, port: {port}, path: {tmp_path}/log}}}}\n")
        if transport == "tcp":
            server.listen()
        assert notice(ctx).outcome == "succeeded"
        data = server.accept()[0].recv(65536) if transport == "tcp" else server.recv(65536)
    if transport == "tcp":
        length, _, data = data.partition(b" ")
        assert int(length) == len(data)
    text = data.decode()
    assert text.startswith("<106>1 20") and " irkit " in text and '[irkit@32473 case="c-1" run="r-1"' in text
    assert "\n" not in text and "\x1b" not in text


class Mail(socketserver.StreamRequestHandler):
    """Enough of RFC 5321 to take one mail."""

    taken: ClassVar[list[bytes]] = []

    def handle(self) -> None:
        self.wfile.write(b"220 here\r\n")
        data = False
        for line in self.rfile:
            if data:
                if line == b".\r\n":
                    data = False
                    self.wfile.write(b"250 ok\r\n")
                else:
                    Mail.taken.append(line)
            elif line.upper().startswith(b"DATA"):
                data = True
                self.wfile.write(b"354 go on\r\n")
            elif line.upper().startswith(b"QUIT"):
                self.wfile.write(b"221 bye\r\n")
                return
            else:
                self.wfile.write(b"250 ok\r\n")


def test_mail(ctx: Any) -> None:
    Mail.taken = []
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Mail) as server:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        port = server.server_address[1]
        configure(
            ctx, f"notify: {{c: {{type: smtp, host: 127.0.0.1, port: {port}, security: none, from: ir@x.example, to: [ops@x.example]}}}}\n"
        )  # fmt: skip
        assert notice(ctx).outcome == "succeeded"
        server.shutdown()
    text = b"".join(Mail.taken).decode()
    assert "Subject: [irkit] critical: contained" in text and "X-Irkit-Case: c-1" in text


def test_http(ctx: Any, hook: str) -> None:
    configure(ctx, f"actions: {{http: {{allow: ['{hook}/']}}}}\n")
    found = outgoing.http(ctx, {"url": f"{hook}/a", "method": "POST", "body": {"x": 1}, "expect": ()})
    assert found.data == {"status": 200, "body": {"ok": True}}
    assert json.loads(Hook.said[0][2]) == {"x": 1}
    with pytest.raises(CheckFailed, match="status 302"):
        outgoing.http(ctx, {"url": f"{hook}/elsewhere", "method": "GET", "body": None, "expect": ()})
    with pytest.raises(Refused, match="may not be asked"):
        outgoing.http(ctx, {"url": "http://169.254.169.254/", "method": "GET", "body": None, "expect": ()})


def asked(ctx: Any, **more: Any) -> Any:
    return asking.ask(ctx, {"message": "why?", "choices": (), "default": "", "seconds": 5, **more})


def test_an_answer_from_another_terminal(ctx: Any) -> None:
    def reply() -> None:
        while not list(question.open_questions(ctx.run_folder)):
            time.sleep(0.02)
        with pytest.raises(UsageProblem, match="none of yes, no"):
            question.answer(ctx.run_folder, "s", "maybe")
        question.answer(ctx.run_folder, "s", "yes")

    other = threading.Thread(target=reply)
    other.start()
    found = asked(ctx, choices=["yes", "no"])
    other.join()
    assert found.data["answer"] == "yes"
    assert list(question.open_questions(ctx.run_folder)) == []
    with pytest.raises(UsageProblem, match="nobody asks"):
        question.answer(ctx.run_folder, "s", "no")


def test_nobody_answers_a_question(ctx: Any) -> None:
    assert asked(ctx, seconds=0, default="later").data["answer"] == "later"
    with pytest.raises(CheckFailed, match="nobody answered"):
        asked(ctx, seconds=0)


def test_waiting(ctx: Any) -> None:
    state = SimpleNamespace(running=False, paused=False, state={})
    ctx.engine = SimpleNamespace(container=lambda ref: state)

    def start() -> None:
        time.sleep(0.1)
        state.running = True

    threading.Thread(target=start).start()
    assert asking.wait_for(ctx, {"state": "running", "container": "", "seconds": 5}).data["seconds"] >= 0.1
    with pytest.raises(CheckFailed, match="not frozen"):
        asking.wait_for(ctx, {"state": "frozen", "container": "", "seconds": 0})
    assert asking.wait_for(ctx, {"state": "", "container": "", "seconds": 0}).outcome == "succeeded"


def test_a_run_without_a_launcher_starts_no_other(ctx: Any) -> None:
    with pytest.raises(Refused):
        outgoing.run_playbook(ctx, {"playbook": "contain", "target": "x", "vars": None})
