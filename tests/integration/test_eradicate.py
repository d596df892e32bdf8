"""Eradication on a real engine: what is bad is found, what no bundle holds stays, what goes is denied first."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.fits import fits

from .conftest import LABEL, WEB, Lab

PROFILE = "profile=standard+volumes+image+image-save"


class Bad:
    """A bad image, one built on it, one that only shares its clean base; and what runs of them."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.base = lab.docker("inspect", "-f", "{{.Id}}", WEB)
        self.image = self.build("bad:1", f"FROM {WEB}\nCOPY evil /evil\n", evil="payload")
        self.child = self.build("child:1", f"FROM {self.tag('bad:1')}\nCOPY more /more\n", more="child")
        self.sibling = self.build("sibling:1", f"FROM {WEB}\nCOPY good /good\n", good="clean")
        self.twin = self.build("twin:1", f"FROM {self.tag('bad:1')}\nENV only=configuration\n")

    def tag(self, short: str) -> str:
        return f"{self.lab.token}/{short}"

    def build(self, short: str, dockerfile: str, **files: str) -> str:
        folder = self.lab.home / f"context-{short.partition(':')[0]}"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "Dockerfile").write_text(dockerfile)
        for name, text in files.items():
            (folder / name).write_text(text)
        self.lab.docker("build", "-q", "-t", self.tag(short), str(folder))
        return self.lab.docker("inspect", "-f", "{{.Id}}", self.tag(short))


@pytest.fixture
def bad(lab: Lab) -> Iterator[Bad]:
    made = Bad(lab)
    yield made
    for container in lab.docker("ps", "-aq", "--filter", f"label={LABEL}={lab.token}").split():
        lab.docker("rm", "-f", container, check=False)
    for short in ("twin:1", "child:1", "sibling:1", "bad:2", "bad:1"):
        lab.docker("rmi", "-f", made.tag(short), check=False)
    for volume in lab.docker("volume", "ls", "-q").split():
        if volume.startswith(lab.token):
            lab.docker("volume", "rm", volume, check=False)


def there(lab: Lab, kind: str, ref: str) -> bool:
    return bool(lab.docker(kind, "inspect", "-f", "x", ref, check=False))


def items(done: Any) -> dict[tuple[str, str], dict[str, Any]]:
    return {(row["kind"], row["name"]): row for row in done["items"]}


def test_all_that_carries_the_digests_and_nothing_else(lab: Lab, bad: Bad) -> None:
    alone, shared = lab.network("alone"), lab.network("shared")
    mine, ours = f"{lab.token}-mine", f"{lab.token}-ours"
    lab.docker("tag", bad.tag("bad:1"), bad.tag("bad:2"))
    web = lab.run("web", "--network", alone, "-v", f"{mine}:/data", "-v", f"{ours}:/ours", image=bad.tag("bad:1"))
    lab.docker("network", "connect", shared, web)
    clean = lab.run("clean", "--network", shared, "-v", f"{ours}:/ours", image=bad.tag("sibling:1"))
    built = lab.run("built", image=bad.tag("child:1"))
    lab.docker("exec", web, "sh", "-c", "echo secret > /data/file; echo changed > /changed")
    assert (did := lab.irkit("contain", web, "--var", PROFILE, code=None)).code in (0, 4), did.err

    plan = lab.irkit("eradicate", web, "--dry-run", "--json", code=3).json
    found = items(plan)
    assert found[("container", web)]["decision"] == "remove", json.dumps(found[("container", web)])
    assert found[("container", built)]["decision"] == "refuse"
    assert found[("network", alone)]["decision"] == "remove"
    assert found[("network", shared)]["decision"] == "keep" and clean in found[("network", shared)]["users"]
    assert found[("volume", mine)]["decision"] == "remove"
    assert found[("volume", ours)]["decision"] == "keep"
    names = {row["id"]: row for row in plan["items"] if row["kind"] == "image"}
    assert set(names) == {bad.image, bad.child, bad.twin}  # not the base, not what shares it
    assert names[bad.child]["decision"] == "refuse" and names[bad.image]["decision"] == "keep"
    assert there(lab, "container", web) and not (lab.home / "denied.json").exists()

    refused = lab.irkit("eradicate", web, code=5)  # nobody could be asked
    assert "--yes" in refused.err and there(lab, "container", web)

    done = lab.irkit("eradicate", web, "--yes", "--json", code=3).json
    assert not there(lab, "container", web) and not there(lab, "network", alone) and not there(lab, "volume", mine)
    assert there(lab, "container", clean) and there(lab, "network", shared) and there(lab, "volume", ours)
    assert there(lab, "container", built) and there(lab, "image", bad.image)
    denied = {row["digest"] for row in json.loads((lab.home / "denied.json").read_bytes())["denied"]}
    assert {bad.image, bad.child, bad.twin} <= denied and bad.base not in denied and bad.sibling not in denied
    assert items(done)[("container", web)]["held"]["digest"].startswith("sha256:")
    case = lab.irkit("case", "show", items(done)[("container", web)]["held"]["case"], "--json").json
    assert case["state"] == "eradicated"
    assert not lab.docker(
        "network", "ls", "-q", "--filter", f"label=dev.irkit.case={case['id']}"
    )  # its quarantine is gone

    for one, image in ((built, "child:1"), (lab.run("twin", image=bad.tag("twin:1")), "twin:1")):
        lab.irkit("contain", one, "--var", PROFILE, code=None)
        assert lab.irkit("eradicate", one, "--yes", code=None).code in (0, 4)
        assert not there(lab, "image", bad.tag(image))
    rest = lab.run("rest", image=bad.tag("bad:1"))
    lab.irkit("snapshot", rest, "--var", PROFILE, code=None)
    last = lab.irkit("eradicate", bad.tag("bad:1"), "--yes", "--json", code=None)
    assert last.code == 4 and "ran on after" in items(last.json)[("container", rest)]["reason"], last.err
    assert not there(lab, "image", bad.image) and there(lab, "image", WEB) and there(lab, "image", bad.sibling)


def test_evidence_that_does_not_hold_it(lab: Lab, bad: Bad) -> None:
    web = lab.run("web", image=bad.tag("bad:1"))
    told = lab.irkit("eradicate", web, "--yes", code=3)
    assert "no evidence holds" in told.err and not (lab.home / "denied.json").exists()
    lab.irkit("contain", web, code=None)  # the standard profile: the image's identity alone
    found = items(lab.irkit("eradicate", web, "--dry-run", "--json", code=3).json)
    assert "image-save" in found[("image", bad.tag("bad:1"))]["reason"]
    assert found[("container", web)]["decision"] == "remove"
    bundle = Path(found[("container", web)]["held"]["bundle"])
    (bundle / "data/engine/container-before.json").write_bytes(b"{}")
    altered = lab.irkit("eradicate", web, "--yes", code=3)
    assert "does not verify" in altered.err and there(lab, "container", web)


def test_an_image_that_no_container_uses(lab: Lab, bad: Bad) -> None:
    """Taken alone, in a case of its own; then it may go, and what was not taken stays."""
    name = bad.tag("child:1")
    refused = lab.irkit("eradicate", name, "--yes", code=3)
    assert "irkit image snapshot" in refused.err and there(lab, "image", bad.child)
    taken = lab.irkit("image", "snapshot", name, "--json").json
    fits(taken, "run")
    assert taken["target"]["kind"] == "image" and taken["target"]["id"] == bad.child and taken["gaps"] == []
    bundle = Path(taken["bundle"]["path"])
    assert lab.irkit("bundle", "verify", str(bundle)).code == 0
    history = json.loads((bundle / "data/engine/image-history.json").read_bytes())
    assert any("COPY" in row["CreatedBy"] for row in history)
    assert json.loads((bundle / "data/engine/image.json").read_bytes())["Id"] == bad.child
    done = lab.irkit("eradicate", name, "--yes", "--json", code=None)
    assert done.code in (0, 4), done.err
    row = items(done.json)[("image", name)]
    assert row["outcome"] == "removed" and row["held"]["case"] == taken["case"]
    assert not there(lab, "image", bad.child) and there(lab, "image", bad.image)
    assert lab.irkit("case", "show", taken["case"], "--json").json["state"] == "eradicated"
    assert not lab.docker("ps", "-aq", "--filter", f"ancestor={name}")  # nothing was made of it


def test_a_base_makes_single_layers_bad(lab: Lab, bad: Bad) -> None:
    flat = bad.build(
        "flat:1", f"FROM {WEB}\nCOPY evil /evil\n", evil="payload"
    )  # the very same layer: built from the cache, or anew
    lab.docker("rmi", bad.tag("flat:1"), check=False)
    with_base = lab.irkit("eradicate", bad.tag("bad:1"), "--base", WEB, "--dry-run", "--json", code=None).json
    names = {row["id"] for row in with_base["items"]}
    assert {bad.image, bad.child, bad.twin} <= names and not {bad.base, bad.sibling} & names, flat
    wrong = lab.irkit("eradicate", bad.tag("bad:1"), "--base", bad.tag("sibling:1"), "--dry-run", code=2)
    assert "is not what" in wrong.err


def test_a_file_that_must_not_be_anywhere(lab: Lab) -> None:
    import hashlib

    one, other = lab.run("one"), lab.run("other")
    lab.docker("exec", one, "sh", "-c", "printf miner > /tmp/x")
    digest = hashlib.sha256(b"miner").hexdigest()
    lab.irkit("contain", other, code=None)
    plan = lab.irkit("eradicate", other, "--keep", "image", "--file-digest", digest, "--dry-run", "--json", code=3).json
    assert (
        "/tmp/x" in items(plan)[("container", one)]["why"] and items(plan)[("container", one)]["decision"] == "refuse"
    )
    assert not plan["digests"] and not [row for row in plan["items"] if row["kind"] == "image"]


def test_a_graceful_stop(lab: Lab, bad: Bad) -> None:
    program = "trap 'echo bye > /data/bye; exit 0' USR1; while :; do sleep 0.1; done"
    kept = f"{lab.token}-kept"
    web = lab.run(
        "web", "-v", f"{kept}:/data", "--stop-signal", "USR1", "--stop-timeout", "8", image=bad.tag("bad:1"),
        command=("/bin/sh", "-c", program),
    )  # fmt: skip
    lab.irkit("snapshot", web, "--var", PROFILE, code=None)
    done = lab.irkit("eradicate", web, "--yes", "--keep", "image", "--keep", "volume", "--json", code=4).json
    assert "stopped by USR1, exit code 0" in items(done)[("container", web)]["reason"]
    assert lab.docker("run", "--rm", "-v", f"{kept}:/data", WEB, "cat", "/data/bye") == "bye"


def test_killed_and_gone_on_with(lab: Lab, bad: Bad) -> None:
    """At whatever point it is killed, the second run ends it, and a new volume of an old name is left alone."""
    net, mine = lab.network("net"), f"{lab.token}-mine"
    web = lab.run("web", "--network", net, "-v", f"{mine}:/data", image=bad.tag("twin:1"))
    assert (did := lab.irkit("contain", web, "--var", PROFILE, code=None)).code in (0, 4), did.err
    process = subprocess.Popen(
        [sys.executable, "-m", "irkit", "eradicate", web, "--yes"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
        text=True, env={**lab.environment, "PYTHONUNBUFFERED": "1"},
    )  # fmt: skip
    while there(lab, "container", web):
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    second = lab.irkit("eradicate", web, "--yes", code=None)
    assert second.code == 4, second.err  # what has its base's layers alone is a gap
    assert not there(lab, "network", net) and not there(lab, "volume", mine) and not there(lab, "image", bad.twin)
    records = [json.loads(path.read_bytes()) for path in (lab.home / "eradications").iterdir()]
    assert len(records) == 1 and records[0]["finished"]
    assert {row["outcome"] for row in records[0]["items"]} <= {"removed", "gone"}
