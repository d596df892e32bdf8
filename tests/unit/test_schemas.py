"""The published schemas: valid, and saying the same as the code."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from irkit import documents, resources, schemas
from irkit.actions.registry import ACTIONS
from irkit.errors import PlaybookInvalid
from irkit.playbook import manual
from irkit.playbook.reader import load_playbook, read_playbook
from tests.fits import fits

NAMES = sorted(
    path.name.removesuffix(".schema.json") for path in files(schemas).iterdir() if path.name.endswith(".schema.json")
)


@pytest.mark.thorough
@pytest.mark.parametrize("name", NAMES)
def test_schemas_are_valid(name: str) -> None:
    jsonschema.Draft202012Validator.check_schema(schemas.load(name))


def plain(path: Path) -> dict[str, Any]:
    return documents.load(path)[0].plain()


@pytest.mark.parametrize("path", list(resources.every("playbooks")), ids=lambda path: path.stem)
def test_shipped_playbooks_fit(path: Path) -> None:
    fits(plain(path), "playbook")
    assert load_playbook(path).id == path.stem


def test_unknown_keys_are_refused_by_both() -> None:
    text = b"apiVersion: irkit/v1\nkind: Playbook\nid: x\nname: x\nsteps:\n  - {id: a, uses: container.freeze, onfailure: abort}\n"
    with pytest.raises(PlaybookInvalid, match=r"x\.yaml:6:\d+: unknown key 'onfailure'") as caught:
        read_playbook(documents.parse(text, "x.yaml"), "", Path("x.yaml"))
    assert caught.value.hint == "did you mean 'on_failure'?"
    with pytest.raises(jsonschema.ValidationError):
        fits(documents.parse(text, "x.yaml").plain(), "playbook")


@pytest.mark.thorough
def test_the_one_for_editors_knows_the_parameters() -> None:
    full = manual.schema()
    jsonschema.Draft202012Validator.check_schema(full)
    validator = jsonschema.Draft202012Validator(full)
    for path in resources.every("playbooks"):
        validator.validate(plain(path))
    head = b"apiVersion: irkit/v1\nkind: Playbook\nid: x\nname: x\nvars: {n: {type: integer, default: 1}}\nsteps:\n  - {id: a, uses: wait_for, with: {%s}}\n"
    good = (b"seconds: 3", b"seconds: '${{ vars.n }}'", b"state: running", b"")
    bad = (b"seconds: x", b"second: 3", b"state: sleeping")
    for text, good_one in [*((one, True) for one in good), *((one, False) for one in bad)]:
        document = documents.parse(head % text, "x.yaml")
        assert validator.is_valid(document.plain()) is good_one, text
        if good_one:
            read_playbook(documents.parse(head % text, "x.yaml"), "", Path("x.yaml"))
        else:
            with pytest.raises(PlaybookInvalid):
                read_playbook(documents.parse(head % text, "x.yaml"), "", Path("x.yaml"))
    missing = head.replace(b"wait_for, with: {%s}", b"image.verify")
    assert not validator.is_valid(documents.parse(missing, "x.yaml").plain())


def test_the_schema_knows_every_action() -> None:
    assert sorted(schemas.load("playbook")["$defs"]["action"]["enum"]) == sorted(ACTIONS)
