"""CACAO v2.0: exports hold against OASIS' schemas and irkit's own checks, come back as they were, and anything may be imported."""

from __future__ import annotations

import contextlib
import json
import uuid
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from referencing import Registry, Resource

from irkit import documents, resources
from irkit.cacao.check import check
from irkit.cacao.export import EXTENSION, export
from irkit.cacao.imported import import_, parse
from irkit.cli.main import cli
from irkit.errors import PlaybookInvalid, UsageProblem
from irkit.playbook.model import Playbook
from irkit.playbook.reader import read_playbook

SCHEMAS = Path(__file__).parents[2] / "data/cacao/schemas"
SHIPPED = sorted(resources.shipped("playbooks").glob("*.yaml"))
HEAD = "apiVersion: irkit/v1\nkind: Playbook\nid: own\nname: Own\n"


@cache
def validator() -> Any:
    """OASIS' schemas, as the draft that they name; as 2020-12, which knows `unevaluatedProperties`, they would take no command at all."""
    found = {}
    for path in SCHEMAS.rglob("*.json"):
        raw = json.loads(path.read_text("utf-8"))
        found[raw["$id"]] = raw
    registry: Any = Registry().with_resources([(name, Resource.from_contents(raw)) for name, raw in found.items()])
    top = next(raw for name, raw in found.items() if name.endswith("/schemas/playbook.json"))
    return jsonschema.Draft7Validator(top, registry=registry)


def read(text: str | bytes, name: str = "own.yaml") -> tuple[Playbook, bytes]:
    data = text if isinstance(text, bytes) else text.encode()
    doc, digest = documents.load_bytes(data, name)
    return read_playbook(doc, digest, Path(name)), data


def exported(text: str | bytes, **more: Any) -> dict[str, Any]:
    document, _ = export(*read(text), **more)
    return json.loads(json.dumps(document))  # type: ignore[no-any-return]


def problems(document: dict[str, Any]) -> list[str]:
    return [one.message[:200] for one in validator().iter_errors(document)]


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_shipped_ones_hold_and_come_back(path: Path) -> None:
    document, _ = export(read_playbook(*documents.load(path), path), path.read_bytes())
    document = json.loads(json.dumps(document))
    assert list(check(document)) == []
    assert problems(document) == []
    found = import_(document)
    assert found.exact and found.text == path.read_bytes() and found.lost == ()


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_for_soarca(path: Path) -> None:
    playbook = read_playbook(*documents.load(path), path)
    document, lost = export(playbook, path.read_bytes(), "soarca", host="10.0.0.5")
    assert list(check(document)) == [] and lost and problems(json.loads(json.dumps(document))) == []
    (action,) = [step for step in document["workflow"].values() if step["type"] == "action"]
    assert action["commands"][0]["command"].startswith(f"irkit run {path.stem} '__target__:value' --json")
    assert list(document["agent_definitions"].values()) == [{"type": "soarca", "name": "soarca-ssh"}]
    (target,) = document["target_definitions"].values()
    login = document["authentication_info_definitions"][target["authentication_info"]]
    assert target["address"] == {"ipv4": ["10.0.0.5"]} and login["type"] == "user-auth" and len(login) == 4
    assert {"__target__", "__irkit_user__", "__irkit_password__"} <= set(document["playbook_variables"])
    assert "playbook_extensions" not in document


@pytest.mark.parametrize(
    ("profile", "host", "said"),
    [("soarca", "", "no|not an IPv4"), ("soarca", "irkit.example", "not an IPv4"), ("soarca", "::1", "not an IPv4"), ("full", "10.0.0.5", "soarca")],
)  # fmt: skip
def test_soarca_takes_an_address_alone(profile: str, host: str, said: str) -> None:
    with pytest.raises(UsageProblem, match=said):
        exported(FLOW, profile=profile, host=host)


def test_soarca_names_its_own_variables() -> None:
    taken = HEAD + "vars: {irkit_password: {type: string}}\nsteps: [{id: a, uses: wait_for}]\n"
    with pytest.raises(UsageProblem, match="__irkit_password__"):
        exported(taken, profile="soarca", host="10.0.0.5")


FLOW = (
    HEAD
    + """vars: {mode: {type: string, default: fast}, off: {type: boolean, default: false}}
preflight: [{check: target.running, message: no}]
steps:
  - {id: a, uses: container.freeze, on_failure: continue, when: "vars.mode == 'its' or not vars.off", timeout: 1.5, refs: ["attack:T1611.001", "csf:RS.MI-01"]}
  - {id: b, uses: quarantine.seal, on_failure: {goto: d}}
  - id: p
    parallel: [{id: p1, uses: wait_for}, {id: p2, uses: container.thaw}]
  - {id: c, uses: ask, with: {message: x}, when: run.gaps > 1}
  - {id: d, uses: evidence.seal}
on_exception: [{id: x, uses: container.thaw}]
finally: [{id: z, uses: wait_for}]
"""
)


def test_the_flow() -> None:
    document = exported(FLOW)
    assert list(check(document)) == [] and problems(document) == []
    steps = document["workflow"]
    of = {
        step["step_extensions"][EXTENSION]["id"]: (name, step)
        for name, step in steps.items()
        if "step_extensions" in step
    }
    (condition,) = [step for step in steps.values() if step["type"] == "if-condition"]
    assert condition["condition"] == "((__mode__:value = 'its') OR (NOT (__off__:value = true)))"
    assert condition["on_true"] == of["a"][0] and condition["on_completion"] == of["b"][0]
    assert of["b"][1]["on_failure"] == of["d"][0]
    assert of["d"][1]["on_failure"] == of["x"][0] and of["d"][1]["on_success"] == of["z"][0]
    assert of["x"][1]["on_success"] == of["z"][0] == of["z"][0] and document["workflow_exception"] == of["x"][0]
    (together,) = [step for step in steps.values() if step["type"] == "parallel"]
    assert set(together["next_steps"]) == {of["p1"][0], of["p2"][0]}
    assert of["a"][1]["timeout"] == 1500
    assert of["a"][1]["external_references"][0]["url"] == "https://attack.mitre.org/techniques/T1611/001/"
    _, lost = export(*read(FLOW))
    assert any("run.gaps" in one for one in lost) and any("preflight" in one for one in lost)


def test_the_same_playbook_has_the_same_identifiers() -> None:
    assert set(exported(FLOW)["workflow"]) == set(exported(FLOW)["workflow"])
    assert {uuid.UUID(name.partition("--")[2]).version for name in exported(FLOW)["workflow"]} == {4}


def test_one_that_was_changed_is_read_from_its_steps() -> None:
    document = exported(FLOW)
    next(step for step in document["workflow"].values() if step["type"] == "action")["commands"][0]["command"] = (
        "something else"
    )
    found = import_(document)
    assert not found.exact and "changed after" in found.lost[0]
    playbook, _ = read(found.text)
    assert {step.action.name for step in playbook.steps} == {"ask"}


THEIRS: dict[str, Any] = {
    "type": "playbook", "spec_version": "cacao-2.0", "id": "playbook--a0777575-5c4c-4710-9f01-15776103837f", "name": "Block ${{ vars.x }}\x1b[31m",
    "created_by": "identity--5abe695c-7bd5-4c31-8824-2528696cdbf1", "created": "2024-01-01T00:00:00.000Z", "modified": "2024-01-01T00:00:00.000Z",
    "playbook_variables": {"__n__": {"type": "integer", "value": "5"}, "__bad__": {"type": "integer", "value": "x"}},
    "agent_definitions": {"individual--5abe695c-7bd5-4c31-8824-2528696cdbf1": {"type": "individual", "name": "a"}},
    "workflow_start": "start--5abe695c-7bd5-4c31-8824-2528696cdbf1",
    "workflow": {
        "start--5abe695c-7bd5-4c31-8824-2528696cdbf1": {"type": "start", "on_completion": "while-condition--5abe695c-7bd5-4c31-8824-2528696cdbf1"},
        "while-condition--5abe695c-7bd5-4c31-8824-2528696cdbf1": {
            "type": "while-condition", "condition": "x", "on_true": "action--5abe695c-7bd5-4c31-8824-2528696cdbf1", "on_completion": "end--5abe695c-7bd5-4c31-8824-2528696cdbf1",
        },
        "action--5abe695c-7bd5-4c31-8824-2528696cdbf1": {
            "type": "action", "name": "Block it", "agent": "individual--5abe695c-7bd5-4c31-8824-2528696cdbf1", "on_completion": "end--5abe695c-7bd5-4c31-8824-2528696cdbf1",
            "commands": [{"type": "ssh", "command": "rm -rf / ${{ vars.n }}"}, {"type": "manual", "command": "call ann"}],
        },
        "end--5abe695c-7bd5-4c31-8824-2528696cdbf1": {"type": "end"},
    },
}  # fmt: skip


def test_somebody_elses() -> None:
    assert list(check(THEIRS)) == []
    found = import_(THEIRS)
    playbook, text = read(found.text)
    assert [(step.id, step.action.name) for step in playbook.steps] == [("block-it", "ask"), ("block-it-2", "ask")]
    assert playbook.vars["n"].default == 5 and playbook.vars["bad"].default == 0
    assert b"\x1b" not in text and "rm -rf / $ {{ vars.n }}" in str(playbook.steps[0].arguments["message"])
    assert {"ssh", "while-condition", "__bad__"} <= {word.strip(":") for one in found.lost for word in one.split()}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda d: d["workflow"].pop("end--5abe695c-7bd5-4c31-8824-2528696cdbf1"), "which there is not"),
        (lambda d: d.update(modified="2023-01-01T00:00:00.000Z"), "modified is before created"),
        (lambda d: d.update(created="2024-01-01T00:00:00Z"), "three digits"),
        (lambda d: d["agent_definitions"].clear(), "is not defined"),
        (lambda d: d["workflow"].update({"action--5abe695c-7bd5-4c31-8824-2528696cdbf9": {"type": "action", "on_completion": "x"}}), "nothing leads to it"),
        (lambda d: d["workflow"].update({"start--5abe695c-7bd5-4c31-8824-2528696cdbf9": {"type": "start", "on_completion": d["workflow_start"]}}), "one start step"),
        (lambda d: d["workflow"]["action--5abe695c-7bd5-4c31-8824-2528696cdbf1"].update(on_completion="action--5abe695c-7bd5-4c31-8824-2528696cdbf1"), "back to itself"),
        (lambda d: d["workflow"]["action--5abe695c-7bd5-4c31-8824-2528696cdbf1"]["commands"].append({"type": "manual", "command": "__no__:value"}), "__no__ is not declared"),
        (lambda d: d["workflow"]["action--5abe695c-7bd5-4c31-8824-2528696cdbf1"].update(type="end"), "does not say its type"),
        (lambda d: d.update(workflow={}), "1 to"),
    ],
)  # fmt: skip
def test_what_the_schemas_let_through(change: Any, said: str) -> None:
    document = json.loads(json.dumps(THEIRS))
    change(document)
    assert any(said in one for one in check(document)), list(check(document))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=10) | st.sampled_from(list(THEIRS["workflow"])),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5) | st.sampled_from(["commands", "command", "type", "name", "on_completion", "next_steps", "cases"]), inner, max_size=4),
    max_leaves=10,
)  # fmt: skip


@given(
    st.dictionaries(st.sampled_from(list(THEIRS)), JSON),
    st.dictionaries(st.sampled_from(list(THEIRS["workflow"])), JSON),
)
def test_anything_may_come(top: dict[str, Any], steps: dict[str, Any]) -> None:
    document = {**THEIRS, **top}
    if "workflow" not in top:
        document["workflow"] = {**THEIRS["workflow"], **steps}
    list(check(document))
    with contextlib.suppress(PlaybookInvalid):
        read(import_(document).text)


@pytest.mark.parametrize(
    "data", [b"[" * 100, b"{", b"[]", b'{"a": 1, "a": 2}', b"\xff", b"x" * (5 << 20), b"[" * 1_000_000], ids=range(7)
)
def test_what_is_refused(data: bytes) -> None:
    with pytest.raises(PlaybookInvalid):
        parse(data)


def test_from_the_command_line(tmp_path: Path) -> None:
    run = CliRunner().invoke
    out, back = tmp_path / "c.json", tmp_path / "back.yaml"
    assert run(cli, ["playbook", "export", "contain", "-o", str(out)], standalone_mode=False).return_value == 0
    assert run(cli, ["playbook", "import", str(out), "-o", str(back)], standalone_mode=False).return_value == 0
    assert back.read_bytes() == (resources.shipped("playbooks") / "contain.yaml").read_bytes()
    assert run(cli, ["playbook", "import", str(out), "-o", str(back)], standalone_mode=False).exception is not None
    theirs = tmp_path / "theirs.json"
    theirs.write_text(json.dumps(THEIRS))
    done = run(cli, ["playbook", "import", str(theirs), "-o", str(tmp_path / "t.yaml")], standalone_mode=False)
    assert done.return_value == 4 and "became a question" in done.output
