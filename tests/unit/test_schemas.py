"""The published schemas: valid, and saying the same as the code."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jsonschema
import pytest

from irkit import documents, resources, schemas
from irkit.actions.registry import ACTIONS
from irkit.errors import PlaybookInvalid
from irkit.playbook import manual
from irkit.playbook.reader import load_playbook, read_playbook


@pytest.mark.parametrize(
    "name",
    [
        "run", "diff", "verify", "playbook", "profile", "created", "encrypted", "timestamp", "key", "watch", "decision", "trust-policy",
        "image", "rebuild-plan", "failover-plan", "policy", "policy-lint", "denied",
    ],
)  # fmt: skip
def test_schemas_are_valid(name: str) -> None:
    jsonschema.Draft202012Validator.check_schema(schemas.load(name))


def plain(path: Path) -> dict[str, Any]:
    return documents.load(path)[0].plain()


@pytest.mark.parametrize("path", list(resources.every("playbooks")), ids=lambda path: path.stem)
def test_shipped_playbooks_fit(path: Path) -> None:
    jsonschema.validate(plain(path), schemas.load("playbook"))
    assert load_playbook(path).id == path.stem


def test_unknown_keys_are_refused_by_both() -> None:
    text = b"apiVersion: irkit/v1\nkind: Playbook\nid: x\nname: x\nsteps:\n  - {id: a, uses: container.freeze, onfailure: abort}\n"
    with pytest.raises(PlaybookInvalid, match=r"x\.yaml:6:\d+: unknown key 'onfailure'") as caught:
        read_playbook(documents.parse(text, "x.yaml"), "", Path("x.yaml"))
    assert caught.value.hint == "did you mean 'on_failure'?"
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(documents.parse(text, "x.yaml").plain(), schemas.load("playbook"))


def test_the_one_for_editors_knows_the_parameters() -> None:
    full = manual.schema()
    jsonschema.Draft202012Validator.check_schema(full)
    for path in resources.every("playbooks"):
        jsonschema.validate(plain(path), full)
    head = b"apiVersion: irkit/v1\nkind: Playbook\nid: x\nname: x\nvars: {n: {type: integer, default: 1}}\nsteps:\n  - {id: a, uses: wait_for, with: {%s}}\n"
    good = (b"seconds: 3", b"seconds: '${{ vars.n }}'", b"state: running", b"")
    bad = (b"seconds: x", b"second: 3", b"state: sleeping")
    for text, fits in [*((one, True) for one in good), *((one, False) for one in bad)]:
        document = documents.parse(head % text, "x.yaml")
        assert jsonschema.Draft202012Validator(full).is_valid(document.plain()) is fits, text
        if fits:
            read_playbook(documents.parse(head % text, "x.yaml"), "", Path("x.yaml"))
        else:
            with pytest.raises(PlaybookInvalid):
                read_playbook(documents.parse(head % text, "x.yaml"), "", Path("x.yaml"))
    missing = head.replace(b"wait_for, with: {%s}", b"image.verify")
    assert not jsonschema.Draft202012Validator(full).is_valid(documents.parse(missing, "x.yaml").plain())


def test_the_schema_knows_every_action() -> None:
    assert sorted(schemas.load("playbook")["$defs"]["action"]["enum"]) == sorted(ACTIONS)
