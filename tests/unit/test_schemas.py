"""The published schemas: valid, and saying the same as the code."""

from __future__ import annotations

import re
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
ROOT = Path(__file__).parents[2]
DOCUMENT = re.compile(r"irkit\.[a-z-]+/v\d+")
NOT_PRINTED = {
    "irkit.answer/v1", "irkit.approval/v1", "irkit.engine-files/v1", "irkit.engine-settings/v1", "irkit.events-window/v1",
    "irkit.failover/v1", "irkit.image-content/v1", "irkit.image-identity/v1", "irkit.logs/v1", "irkit.proof/v1",
    "irkit.quarantine/v1", "irkit.question/v1", "irkit.restore-begun/v1", "irkit.run-record/v1", "irkit.service-update/v1",
    "irkit.taken-down/v1", "irkit.volumes/v1", "irkit.watch-state/v1",
}  # fmt: skip
"""Of files that irkit keeps in a case, a bundle or its home."""


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


def test_every_document_that_is_printed_is_in_the_docs() -> None:
    """And none is in them that irkit does not know."""
    known = {found for path in (ROOT / "irkit").rglob("*.py") for found in DOCUMENT.findall(path.read_text())}
    documented = set(DOCUMENT.findall((ROOT / "docs/json.md").read_text()))
    assert known - documented == NOT_PRINTED
    assert documented - known == set()


def test_the_docs_list_every_schema_on_its_side() -> None:
    """Printed ones say which document they are of; the others which kind of file."""
    text = (ROOT / "docs/json.md").read_text()
    printed, read = (
        sorted(re.findall(r"`([a-z-]+)`", line))
        for line in re.findall(r"^- of what is (?:printed|read): (.*)$", text, re.M)
    )
    of = {name: schemas.load(name)["properties"] for name in NAMES}
    assert printed == [name for name in NAMES if "schema" in of[name]]
    assert read == [name for name in NAMES if "kind" in of[name] and "schema" not in of[name]]
    assert sorted((*printed, *read)) == NAMES
    for name in printed:
        kinds = of[name]["schema"].get("enum") or [of[name]["schema"]["const"]]
        assert f"irkit.{name}/" in " ".join(kinds) and all(f"`{kind}`" in text for kind in kinds)
