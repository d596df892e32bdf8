"""Acquisition profiles: read, checked before anything is touched, and turned into steps in their order."""

from __future__ import annotations

from pathlib import Path

import pytest

from irkit import documents, resources, schemas
from irkit.errors import PlaybookInvalid, UsageProblem
from irkit.playbook.profiled import with_profile
from irkit.playbook.reader import load_playbook
from irkit.profiles import COLLECTORS, collectors_report, load_profile, read_profile
from tests.fits import fits

HEAD = "apiVersion: irkit/v1\nkind: Profile\nid: x\ncollectors:\n"
SHIPPED = sorted(resources.shipped("forensics/profiles").glob("*.yaml"))


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_shipped(path: Path) -> None:
    profile = load_profile(str(path))
    assert profile.id == path.stem and profile.description
    fits(documents.load(path)[0].plain(), "profile")


def test_four_are_shipped_and_full_leaves_out_only_what_intrudes() -> None:
    assert {path.stem for path in SHIPPED} == {"quick", "standard", "full", "image"}
    assert load_profile("full").left_out == ("checkpoint",)


def test_the_schema_knows_every_collector() -> None:
    kinds = schemas.load("profile")["$defs"]["stage"]["items"]["oneOf"]
    forms = ((False, False, False), (True, False, False), (True, True, False), (True, False, True))
    for kind, form in zip(kinds, forms, strict=True):
        known = {one.name for one in COLLECTORS.values() if (one.limited, bool(one.which), one.named) == form}
        assert set(kind["properties"]["collect"]["enum"]) == known


@pytest.mark.parametrize(
    ("body", "message", "place"),
    [
        ("  isolated:\n    - {collect: tmfs}\n", "must be one of", ":6:"),
        ("  isolated:\n    - {collect: tmpfs}\n", "'limit_bytes' is missing", ":6:"),
        ("  isolated:\n    - {collect: tmpfs, limit_bytes: -1}\n", "is negative", ":6:"),
        ("  isolated:\n    - {collect: processes, limit_bytes: 1}\n", "unknown key 'limit_bytes'", ":6:"),
        (
            "  frozen:\n    - {collect: processes}\n  isolated:\n    - {collect: processes}\n",
            "stands here twice",
            ":8:",
        ),
        ("  later:\n    - {collect: processes}\n", "unknown key 'later'", ":5:"),
        ("  frozen: []\n", "at least one collector", ":1:"),
    ],
)
def test_a_faulty_one_is_refused(body: str, message: str, place: str) -> None:
    with pytest.raises(PlaybookInvalid) as caught:
        read_profile(documents.parse((HEAD + body).encode(), "p.yaml"), "")
    assert message in caught.value.message and place in caught.value.message


def test_a_playbook_runs_the_collectors_in_the_profiles_order(tmp_path: Path) -> None:
    own = tmp_path / "own.yaml"
    own.write_text(
        HEAD
        + "  frozen:\n    - {collect: network-state}\n  isolated:\n    - {collect: logs, limit_bytes: 5}\n    - {collect: tmpfs, limit_bytes: 7}\n"
    )
    playbook, profile = with_profile(load_playbook(resources.find("playbooks", "contain")), {"profile": str(own)})
    assert profile is not None and profile.limit("tmpfs") == 7
    assert [step.id for step in playbook.steps] == [
        "freeze", "network-state", "seal-off", "prove", "logs", "tmpfs", "seal-bundle", "verify-bundle", "findings",
    ]  # fmt: skip
    assert all(step.on_failure == "continue" for step in playbook.steps if step.action.name.startswith("acquire."))


def test_what_a_playbook_does_itself_is_not_done_twice() -> None:
    playbook, _ = with_profile(load_playbook(resources.find("playbooks", "contain-and-observe")), {"profile": "full"})
    uses = [step.action.name for step in playbook.steps]
    assert uses.count("acquire.tmpfs") == 1 and uses.index("acquire.tmpfs") < uses.index("quarantine.observe")
    assert uses.index("quarantine.observe") < uses.index("acquire.filesystem")


def test_an_unknown_profile_is_refused_before_anything_is_touched() -> None:
    with pytest.raises(UsageProblem, match="no profile 'ful'"):
        with_profile(load_playbook(resources.find("playbooks", "contain")), {"profile": "ful"})


def test_every_collector_is_reported_the_left_out_ones_too(tmp_path: Path) -> None:
    profile = read_profile(documents.parse((HEAD + "  frozen:\n    - {collect: processes}\n").encode(), "p"), "")
    step = {
        "uses": "acquire.processes",
        "outcome": "succeeded",
        "message": "2 processes",
        "started": "a",
        "finished": "b",
    }
    rows = collectors_report([step], profile, (), ())
    assert [row["collector"] for row in rows] == list(COLLECTORS)
    assert rows[0]["outcome"] == "succeeded"
    assert {row["outcome"] for row in rows[1:]} == {"left-out"} and "does not ask for it" in rows[1]["message"]
