"""Recovery of Swarm tasks: a killed update is rolled out once wherever it was killed, and a restore is refused."""

from __future__ import annotations

import json

import pytest

from .conftest import WEB, Lab
from .test_failover import _force, _image, _spec, _task, swarm, trusted  # noqa: F401 - fixtures
from .test_restore import backup
from .test_restore_killed import killed

BUSYBOX = "irkit-dev/busybox:1"


def tasks(lab: Lab, service: str) -> int:
    """How many were ever started, ended ones too: Swarm keeps the last five of a slot."""
    return len(lab.docker("service", "ps", "-q", "--no-trunc", service).split())


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_killed_update_starts_one_task(trusted: Lab, swarm: str, when: str) -> None:  # noqa: F811
    """Killed right before the engine is asked, and right after it was."""
    lab = trusted
    lab.docker(
        "service", "create", "--detach", "--no-resolve-image", "--name", swarm, "--update-monitor", "2s",
        "--container-label", f"dev.irkit.test={lab.token}", WEB,
    )  # fmt: skip
    task = _task(lab, swarm)
    before = _spec(lab, swarm)
    lab.irkit("contain", task)
    killed(lab, "update_service", when, "run", "update-service", task, "--var", f"image={WEB}")
    assert _force(_spec(lab, swarm)) == _force(before) + (when == "after")
    (case,) = (lab.home / "cases").iterdir()
    done = lab.irkit("resume", case.name, "--json").json
    after = _spec(lab, swarm)
    assert _force(after) == _force(before) + 1 and _image(after) == done["service"]["image"]
    assert after.get("UpdateConfig") == before.get("UpdateConfig") and tasks(lab, swarm) == 2
    _task(lab, swarm, but=task)


def test_a_restore_of_a_task_is_refused_before_anything_is_done(trusted: Lab, swarm: str) -> None:  # noqa: F811
    lab, volume = trusted, f"{trusted.token}-data"
    source = backup(lab.home / "backup")
    lab.docker(
        "service", "create", "--detach", "--no-resolve-image", "--name", swarm, "--mount", f"type=volume,src={volume},dst=/data",
        "--container-label", f"dev.irkit.test={lab.token}", BUSYBOX, "sleep", "600",
    )  # fmt: skip
    try:
        task = _task(lab, swarm)
        for state in ("running", "contained"):
            if state == "contained":
                lab.irkit("contain", task, code=None)
            runs = sorted(lab.home.glob("cases/*/runs/*"))
            refused = lab.irkit("restore", task, "--from", str(source), "--stop", "--image", WEB, code=5)
            assert "is a task of a Swarm service" in refused.err and "irkit run update-service" in refused.err
            assert sorted(lab.home.glob("cases/*/runs/*")) == runs and _task(lab, swarm) == task
        volumes = json.loads(lab.docker("inspect", task))[0]["Mounts"]
        assert [one["Name"] for one in volumes] == [volume]
        alone = lab.irkit("restore", task, "--from", str(source), "--no-recreate", "--json", code=None)
        assert alone.code in (0, 4) and alone.json["restored"]["container"] == "", alone.err
        assert _task(lab, swarm) == task, "the volume alone may be filled; the task stays as it is"
    finally:
        lab.docker("service", "rm", swarm, check=False)
        for one in lab.docker("ps", "-aq", "--filter", f"label=dev.irkit.test={lab.token}").split():
            lab.docker("rm", "-f", one, check=False)
        for one in lab.docker("volume", "ls", "-q", "--filter", f"name={lab.token}").split():
            lab.docker("volume", "rm", one, check=False)
