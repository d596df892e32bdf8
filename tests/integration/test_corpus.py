"""A container of 5,900 benign and 118 planted changes: each is in the list, with the right facts, live and from a bundle, and nothing else is.

Two more have planted settings.  Each side is compared once, and all tests look at what was found.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from irkit.compare.evidence import Evidence
from irkit.compare.rules import load_rules
from irkit.evidence.reader import BundleReader
from tests.corpus import exports, stage
from tests.corpus.score import Score, score
from tests.corpus.truth import Expected, Plant, library, load

from .conftest import Lab

pytestmark = pytest.mark.xdist_group("corpus")  # it is staged once, for one worker
TIMES = ("atime_ns", "ctime_ns", "btime_ns")
GOAL_UNPLANTED = 5
UNMADE = {"device-node", "raw-socket"}
UNKNOWN_TO_PODMAN = {"name-server", "host-device", "host-namespace", "strong-capability"}
"""Settings that its inspect does not tell of a privileged container, or that the command line refuses to it."""
FINDINGS = Path(exports.__file__).with_name("findings.txt")
PODMAN = os.environ.get("IRKIT_ENGINE", "").startswith("podman")
PODMANS_OWN = {
    "/etc/mtab",  # it makes this link itself
    "/run/lock", "/run/mount",  # it copies what the image has into a tmpfs over it
    "/etc/resolv.conf",  # no record of what it wrote, and the engine under test has a root folder of its own
}  # fmt: skip
"""Changes that Podman makes by itself (docs/diff.md)."""
PID = re.compile(r"\bpid \d+")
OWN = re.compile(r"\b(?!0\.0\.0\.0)\d+\.\d+\.\d+\.\d+:\d+(?= held)")
LINE = re.compile(r"( in /.*):\d+$")
GOAL_PRECISION = 0.95


@dataclass(frozen=True)
class Corpus:
    """A staged container, and what was staged in it."""

    name: str
    benign: list[stage.Staged]
    planted: list[str]


@pytest.fixture(scope="module")
def corpus() -> Iterator[Corpus]:
    stage.make_image()
    name = "irkit-test-corpus"
    subprocess.run(["docker", "rm", "-fv", name], capture_output=True, check=False)
    stage.run(name)
    try:
        yield Corpus(name, stage.stage_benign(name), stage.stage_planted(name))
    finally:
        subprocess.run(["docker", "rm", "-fv", name], capture_output=True, check=False)


@pytest.fixture(scope="module")
def bundle(corpus: Corpus, tmp_path_factory: pytest.TempPathFactory) -> tuple[Lab, str]:
    """A bundle of it, volumes too, and the home that has its key."""
    lab = Lab(tmp_path_factory.mktemp("corpus") / "home", "corpus")
    run = lab.irkit("snapshot", corpus.name, "--volumes", "--json", code=None)
    assert run.code in (0, 4), run.err
    return lab, run.json["bundle"]["path"]


@pytest.fixture(scope="module")
def live(corpus: Corpus, bundle: tuple[Lab, str]) -> dict[str, Any]:
    """The container compared while it runs."""
    return compared(bundle[0], corpus.name)


@pytest.fixture(scope="module")
def offline(bundle: tuple[Lab, str]) -> dict[str, Any]:
    """Its bundle compared."""
    return compared(*bundle)


@pytest.fixture(scope="module")
def settings(bundle: tuple[Lab, str]) -> Iterator[list[dict[str, Any]]]:
    """The findings of both containers whose settings are planted."""
    names = ("irkit-test-corpus-settings", "irkit-test-corpus-rights")
    subprocess.run(["docker", "rm", "-fv", *names], capture_output=True, check=False)
    stage.make_settings(*names, devices=not PODMAN)
    try:
        yield [one for name in names for one in compared(bundle[0], name)["findings"]]
    finally:
        subprocess.run(["docker", "rm", "-fv", *names], capture_output=True, check=False)
        subprocess.run(["docker", "rmi", stage.OTHER_USER], capture_output=True, check=False)


def compared(lab: Lab, subject: str) -> dict[str, Any]:
    ran = lab.irkit("diff", subject, "--ioc", str(stage.INDICATORS), "--json", code=None)
    assert ran.code in (0, 3, 4), ran.err
    found: dict[str, Any] = ran.json
    if PODMAN:
        found["changes"] = [row for row in found["changes"] if row["path"] not in PODMANS_OWN]
        found["findings"] = [one for one in found["findings"] if one["rule"] != "resolver"]
    return found


def judged(document: dict[str, Any], corpus: Corpus, *seen: str) -> Score:
    kinds = {*seen, "volume"} if document["schema"] != "irkit.diff/v1" else set(seen)
    return score(document, truth(corpus), corpus.benign, kinds)


def truth(corpus: Corpus) -> list[Plant]:
    """All plants.  In a user namespace owners are the host's numbers, and there is no device node: the kernel makes none there."""
    base = first_id()
    return [
        replace(plant, changes=tuple(_shifted(change, base) for change in plant.changes))
        for plant in load()
        if plant.seen != "settings"
        and (plant.id not in UNMADE or plant.id in corpus.planted)
        and not (PODMAN and plant.id in UNKNOWN_TO_PODMAN)
    ]


def first_id() -> int:
    """What the container's 0 is on the host: an engine with ``userns-remap`` names its folder ``UID.GID``."""
    asked = ["docker", "info", "-f", "{{.DockerRootDir}} {{.SecurityOptions}}"]
    root, _, options = subprocess.run(asked, capture_output=True, text=True, check=True).stdout.partition(" ")
    return int(Path(root).name.partition(".")[0]) if "name=userns" in options else 0


def _shifted(change: Expected, base: int) -> Expected:
    before, after = (
        {name: value + base if name in ("uid", "gid") else value for name, value in side.items()}
        for side in (change.before, change.after)
    )
    return replace(change, before=before, after=after)


def flat(document: dict[str, Any]) -> list[str]:
    """The raw changes without what reading them alters, and what differs between two looks at one container."""
    rows = []
    for change in document["changes"]:
        row = {key: value for key, value in change.items() if key not in ("noise", "rules")}
        for side in ("before", "after"):
            if row[side]:
                row[side] = {key: value for key, value in row[side].items() if key not in TIMES}
        rows.append(json.dumps(row, sort_keys=True))
    return sorted(rows)


def test_the_truth_is_what_is_planted(corpus: Corpus) -> None:
    planted = [plant.id for plant in load() if plant.seen != "settings"]
    unmade = set(planted) - set(corpus.planted)
    assert [one for one in planted if one not in unmade] == corpus.planted
    assert unmade <= UNMADE and ("device-node" in unmade) == bool(first_id())
    assert len(corpus.planted) >= 100 and len(corpus.benign) >= 5000
    techniques = {technique for plant in load() for technique in plant.attack}
    assert len(techniques) >= 30


def test_each_shipped_rule_has_a_planted_change(settings: list[dict[str, Any]]) -> None:
    known = {line.partition(" ")[0] for line in FINDINGS.read_text().splitlines()}
    assert {rule.id for rule in load_rules()} - known - {one["rule"] for one in settings} <= (
        UNKNOWN_TO_PODMAN if PODMAN else set()
    )


def test_every_change_of_a_live_container_is_listed(live: dict[str, Any], corpus: Corpus) -> None:
    result = judged(live, corpus, "disk", "tmpfs")
    assert (result.unaccounted, result.raw, result.spurious) == ((), (), ()), result.words()


def test_every_change_is_in_a_bundle(offline: dict[str, Any], corpus: Corpus) -> None:
    result = judged(offline, corpus, "disk", "tmpfs")
    assert (result.unaccounted, result.raw, result.spurious) == ((), (), ()), result.words()


def test_volumes_are_in_a_bundle_too(corpus: Corpus, bundle: tuple[Lab, str]) -> None:
    changes = [change.to_json() for change in Evidence(BundleReader(Path(bundle[1]))).changes()]
    changes = [row for row in changes if not PODMAN or row["path"] not in PODMANS_OWN]
    result = score({"changes": changes}, truth(corpus), corpus.benign, {"disk", "tmpfs", "volume"})
    assert (result.unaccounted, result.raw, result.spurious) == ((), (), ()), result.words()


def test_live_and_from_a_bundle_are_the_same(live: dict[str, Any], offline: dict[str, Any]) -> None:
    assert flat(live) == flat(offline)


def test_a_plain_compare_of_two_exports_sees_nothing_more(live: dict[str, Any], corpus: Corpus) -> None:
    """An oracle that knows neither overlays nor irkit."""
    plain = exports.compare(exports.tree_of_image(stage.IMAGE), exports.tree(corpus.name))
    listed = {row["path"] for row in live["changes"] if row["origin"] == "layer"}
    made_by_the_engine = {"/.dockerenv", "/etc/hosts", "/etc/hostname", "/etc/resolv.conf", "/etc/mtab", "/dev/console"}
    assert sorted(set(plain) - listed - made_by_the_engine) == []
    assert len(plain) > 5000


def test_docker_diff_is_no_oracle(live: dict[str, Any], corpus: Corpus) -> None:
    """What it does not say, on each engine: it compares sizes and times, not contents; no ACL; no tmpfs, no volume; and nothing but a name."""
    lines = subprocess.run(["docker", "diff", corpus.name], capture_output=True, text=True, check=True).stdout
    listed = {line[2:]: line[0] for line in lines.split("\n") if line}
    rows = {row["path"]: row for row in live["changes"] if row["origin"] == "layer"}
    assert (
        listed["/etc/cron.d/sysstat-collect"] == "A"
        and listed["/etc/passwd"] == "C"
        and listed["/usr/bin/shred"] == "D"
    )
    blind = {"/usr/bin/tac", f"{library()}/libBrokenLocale.so.1", "/etc/gshadow", "/usr/share/rkhunter/rules.dat"}
    assert (PODMAN or blind & listed.keys() == set()) and blind <= rows.keys()  # Podman compares contents
    assert not {"/dev/shm/.x", "/var/lib/app/.plugins/loader"} & listed.keys()
    missed = rows.keys() - listed.keys()
    assert PODMAN or len(missed) > 1000  # most of an upgraded package whose files keep their sizes and times
    beyond = {path for path in listed.keys() - rows.keys() if listed[path] != "C"}
    assert beyond == set()  # it knows of nothing that irkit does not, but folders in which something changed


def test_every_planted_change_is_found_and_little_else(live: dict[str, Any], corpus: Corpus) -> None:
    result = judged(live, corpus, "disk", "tmpfs", "process", "mount")
    assert result.missed == () and len(result.unplanted) <= GOAL_UNPLANTED, result.words()
    assert result.precision >= GOAL_PRECISION, result.words()


def test_every_planted_setting_is_found_and_nothing_else(settings: list[dict[str, Any]]) -> None:
    result = score(
        {"changes": [], "findings": settings},
        [one for one in load() if not PODMAN or one.id not in UNKNOWN_TO_PODMAN],
        [],
        {"settings"},
    )
    assert (result.missed, result.unplanted) == ((), ()), result.words()


def test_a_bundle_gives_the_same_findings(live: dict[str, Any], offline: dict[str, Any]) -> None:
    here, there = ({(one["rule"], one["subject"]) for one in document["findings"]} for document in (live, offline))
    assert here == there and here


def test_every_engine_and_storage_gives_these_findings(live: dict[str, Any], corpus: Corpus) -> None:
    """The same on all of the matrix: rule by rule, subject by subject, as ``findings.txt`` has them."""
    found = {f"{one['rule']}  {_lasting(one['subject'])}" for one in live["findings"]}
    found = {
        one for one in found if not one.startswith("resolver") or "192.0.2.66" in one
    }  # its own comes from the engine's start
    unmade = {*UNMADE - set(corpus.planted), *(["resolver"] if PODMAN else [])}
    known = {one for one in FINDINGS.read_text().splitlines() if one.partition(" ")[0] not in unmade}
    assert (sorted(found - known), sorted(known - found)) == ([], [])


def _lasting(subject: str) -> str:
    """Without pids, addresses, lines and folders that are another run's, another image's or another machine's."""
    return LINE.sub(r"\1", OWN.sub("A:P", PID.sub("pid N", subject))).replace(library(), "{lib}")


def test_a_stopped_container_gives_what_is_on_its_disk(lab: Lab, corpus: Corpus) -> None:
    """Last: it ends the corpus's processes."""
    subprocess.run(["docker", "stop", "-t", "0", corpus.name], check=True, capture_output=True)
    document = compared(lab, corpus.name)
    result = judged(document, corpus, "disk")
    assert (result.unaccounted, result.raw, result.spurious) == ((), (), ()), result.words()
    assert any("tmpfs" in gap["collector"] + gap["what"] for gap in document["gaps"])
