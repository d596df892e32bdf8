"""The integration tests' quick way to start irkit: the same as a process that imports everything anew."""

from __future__ import annotations

import os
import re
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.warm import Warm

pytestmark = pytest.mark.thorough


@pytest.fixture(scope="module")
def warm() -> Iterator[Warm]:
    made = Warm()
    yield made
    if made.link is not None:
        made.link.close()


@pytest.mark.parametrize(
    "argv",
    [["--version"], ["key", "generate"], ["key", "list", "--json"], ["contain", "x"], ["no-such-command"]],
    ids=" ".join,
)
def test_says_what_one_started_anew_says(
    warm: Warm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, argv: list[str]
) -> None:
    env = {**os.environ, "IRKIT_HOME": str(tmp_path / "warm"), "DOCKER_HOST": "unix:///nowhere"}
    done = warm.run(argv, env, 60)
    monkeypatch.setenv("IRKIT_TEST_COLD", "1")
    anew = warm.run(argv, env | {"IRKIT_HOME": str(tmp_path / "cold")}, 60)
    told = [
        (one.returncode, one.stdout.replace("/cold", "/warm"), one.stderr.replace("/cold", "/warm"))
        for one in (done, anew)
    ]
    if argv == ["key", "generate"]:  # each key has a digest of its own
        told = [(code, re.sub(r"[0-9a-f]{8,}", "", out), err) for code, out, err in told]
    assert told[0] == told[1]


def test_runs_where_it_is_called(warm: Warm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "note").write_text("x")
    assert warm.run(["key", "generate"], os.environ, 60).returncode == 0
    assert warm.run(["bundle", "create", "note", "-o", "b"], os.environ, 60).returncode == 0
    assert (tmp_path / "b/manifest-sha256.txt").exists()


def test_what_takes_too_long_is_killed(warm: Warm, tmp_path: Path) -> None:
    silent = str(tmp_path / "engine")
    with socket.create_server(silent, family=socket.AF_UNIX), pytest.raises(subprocess.TimeoutExpired):
        warm.run(["contain", "x"], {**os.environ, "DOCKER_HOST": f"unix://{silent}"}, 1)
    assert warm.run(["--version"], os.environ, 60).returncode == 0


def test_another_way_of_the_interpreter_is_started_anew(warm: Warm) -> None:
    done = warm.run(["--version"], {**os.environ, "PYTHONVERBOSE": "1"}, 60)
    assert "import 'click'" in done.stderr
