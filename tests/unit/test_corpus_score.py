"""The corpus's own arithmetic: what counts as found, missed, not planted and unaccounted."""

from __future__ import annotations

import ast
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.corpus import image, truth
from tests.corpus.score import names, score
from tests.corpus.stage import Staged
from tests.corpus.truth import Expected, Plant, differing

FACTS = {"kind": "file", "mode": "0644", "uid": 0, "gid": 0, "size": 1, "mtime_ns": 1, "sha256": "a"}
PLANT = Plant(
    "swap",
    "disk",
    (Expected("/bin/x", "changed", frozenset({"content"}), {}, {}),),
    ("/also/*",),
    ("/bin/x",),
    frozenset({"T1554"}),
    "high",
)
BENIGN = Staged("/var/log/x", "added", "layer", "logs")


def row(path: str, change: str = "changed", noise: str | None = None, **after: object) -> dict[str, Any]:
    return {
        "path": path,
        "change": change,
        "origin": "layer",
        "before": FACTS,
        "after": {**FACTS, **after},
        "noise": noise,
    }


def finding(subject: str, severity: str = "high", *attack: str) -> dict[str, Any]:
    return {"rule": "r", "severity": severity, "subject": subject, "attack": list(attack or ("T1554",))}


def document(*findings: dict[str, Any], folded: int = 0) -> dict[str, Any]:
    changes = [row("/bin/x", sha256="b"), row("/var/log/x", "added", "logs")]
    return {"schema": "irkit.diff/v2", "changes": changes, "findings": list(findings), "folded": {"logs": folded or 1}}


def test_found_by_name_technique_and_severity() -> None:
    result = score(
        document(finding("/bin/x"), finding("/also/this"), finding("/etc/other")), [PLANT], [BENIGN], {"disk"}
    )
    assert (result.found, result.missed, result.unplanted) == (("swap",), (), ("high r: /etc/other",))
    assert (result.recall, round(result.precision, 2), result.raw, result.spurious, result.unaccounted) == (
        1.0,
        0.67,
        (),
        (),
        (),
    )


@pytest.mark.parametrize("one", [finding("/bin/x", "medium"), finding("/bin/x", "critical", "T1105")])
def test_too_low_or_of_another_technique_is_weak(one: dict[str, Any]) -> None:
    result = score(document(one), [PLANT], [BENIGN], {"disk"})
    assert (result.found, result.missed, result.weak, result.unplanted, result.recall) == (
        (),
        ("swap",),
        ("swap",),
        (),
        0.0,
    )


def test_only_what_this_side_can_know_is_asked_for() -> None:
    assert score(document(), [PLANT], [BENIGN], {"tmpfs"}).missed == ()


@pytest.mark.parametrize(
    ("subject", "about"),
    [
        ("/bin/x", True), ("pid 7: /bin/x (deleted)", True), ("user y in /bin/x: added", True), ("/bin/x.", True), ("'/bin/x'", True),
        ("/usr/bin/x", False), ("/bin/x2", False), ("/bin/x.new", False), ("/bin/x/y", False), ("/bin/x-y", False),
    ],
)  # fmt: skip
def test_a_subject_names_a_path_as_a_whole(subject: str, about: bool) -> None:
    assert names(finding(subject), ("/bin/x",)) is about


def test_a_port_is_found_in_an_address() -> None:
    assert names(finding("tcp 0.0.0.0:31337 held by pid 4 (sh)"), ("31337",))
    assert not names(finding("tcp 0.0.0.0:8080 held by pid 31337x"), ("31337",))


def test_a_staged_change_is_listed_or_counted() -> None:
    other = Staged("/var/log/y", "added", "layer", "logs")
    assert score(document(), [PLANT], [BENIGN, other], {"disk"}).unaccounted == (other,)
    assert score(document(folded=2), [PLANT], [BENIGN, other], {"disk"}).unaccounted == ()
    wrong = Staged("/var/log/x", "deleted", "layer", "logs")
    assert score(document(), [PLANT], [wrong], {"disk"}).unaccounted == (wrong,)


def test_what_nobody_staged_is_spurious() -> None:
    assert score(document(), [PLANT], [], {"disk"}).spurious == ("/var/log/x",)


def test_wrong_facts_are_said() -> None:
    raw = {**document(), "changes": [row("/bin/x", mode="0755"), row("/var/log/x", "added", "logs")]}
    assert score(raw, [PLANT], [BENIGN], {"disk"}).raw == ("/bin/x: ['mode'] differ, not ['content']",)
    assert PLANT.changes[0].wrong(None) == "/bin/x: not in the list"


def test_aspects() -> None:
    acl = {"xattrs": {"system.posix_acl_access": "02"}}
    assert differing(FACTS, {**FACTS, **acl}) == {"acl"}
    assert differing(FACTS, {**FACTS, "uid": 1, "mtime_ns": 2, "xattrs": {"user.a": ""}}) == {
        "owner",
        "mtime",
        "xattrs",
    }
    assert differing(FACTS, {**FACTS, "kind": "symlink", "uid": 1}) == {"kind"}


def test_the_truth_names_what_the_script_plants() -> None:
    script = Path(truth.__file__).with_name("inside") / "planted.py"
    planted = [
        node.name.replace("_", "-")
        for node in ast.parse(script.read_text()).body
        if isinstance(node, ast.FunctionDef) and node.decorator_list
    ]
    inside = [plant.id for plant in truth.load() if plant.seen != "settings"]
    assert inside == [*planted, "executed-into", "beneath-a-mount"]
    for plant in truth.load():
        assert plant.attack and plant.severity in ("critical", "high", "medium", "low"), plant.id


@pytest.mark.thorough
@pytest.mark.skipif(shutil.which("dpkg-deb") is None, reason="needs dpkg-deb")
def test_the_build_context_is_the_same_each_time(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        image.main(tmp_path / name)
    assert (tmp_path / "a/tree.tar").read_bytes() == (tmp_path / "b/tree.tar").read_bytes()
