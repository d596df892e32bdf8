"""CACAO v2.0 as a playbook: irkit's own exports come back as they were, others' commands become questions to a person.

The document is hostile: limited in size and depth, nothing in it is fetched or run, and what irkit has no word for is
told.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import yaml

from irkit.cacao.check import following
from irkit.cacao.export import EXTENSION, digest
from irkit.errors import PlaybookInvalid
from irkit.text import printable

SIZE_LIMIT, DEPTH_LIMIT, STEPS_LIMIT = 4 * 1024 * 1024, 64, 500
TYPES = {"bool": "boolean", "integer": "integer", "long": "integer", "float": "number"}
KINDS = ("action", "start", "end")


@dataclass(frozen=True, slots=True)
class Imported:
    """The playbook's text, and what was lost.  ``exact``: it is the very source that was exported."""

    text: bytes
    lost: tuple[str, ...]
    exact: bool


def parse(data: bytes) -> dict[str, Any]:
    """One JSON object within the limits.  Raises ``PlaybookInvalid``."""
    if len(data) > SIZE_LIMIT:
        raise PlaybookInvalid(f"larger than {SIZE_LIMIT} bytes")
    depth = deepest = 0
    for one in re.sub(rb'"(?:[^"\\]|\\.)*"', b"", data):
        depth += (one in b"[{") - (one in b"]}")
        deepest = max(deepest, depth)
    if deepest > DEPTH_LIMIT:
        raise PlaybookInvalid(f"nested more than {DEPTH_LIMIT} deep")
    try:
        document = json.loads(data.decode("utf-8"), object_pairs_hook=_once)
    except (ValueError, RecursionError) as error:
        raise PlaybookInvalid(f"no JSON: {printable(str(error), 200)}") from error
    if not isinstance(document, dict):
        raise PlaybookInvalid("no JSON object")
    return document


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key stands twice in an object")
    return found


def import_(document: Mapping[str, Any]) -> Imported:
    """Raises ``PlaybookInvalid`` for what is no CACAO playbook."""
    extension = _part(_part(document, "playbook_extensions"), EXTENSION)
    if extension and extension.get("document_digest") == digest(document):
        source = _source(extension)
        if source is not None:
            return Imported(source, (), True)
    lost = ["it was changed after irkit exported it: read from its steps"] if extension else []
    return _foreign(document, lost)


def _source(extension: Mapping[str, Any]) -> bytes | None:
    try:
        data = base64.b64decode(str(extension.get("source", "")), validate=True)
    except (binascii.Error, ValueError):
        return None
    return data if "sha256:" + hashlib.sha256(data).hexdigest() == extension.get("source_digest") else None


def _part(value: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = value.get(name)
    return found if isinstance(found, Mapping) else {}


def _foreign(document: Mapping[str, Any], lost: list[str]) -> Imported:
    workflow = _part(document, "workflow")
    if document.get("type") != "playbook" or not workflow:
        raise PlaybookInvalid("it is no CACAO playbook: it needs a type of 'playbook' and a workflow")
    playbook: dict[str, Any] = {
        "apiVersion": "irkit/v1", "kind": "Playbook", "id": _slug(str(document.get("name", "")), "imported"),
        "name": _words(document.get("name"), "imported"), "description": _words(document.get("description"), "from CACAO"),
    }  # fmt: skip
    variables = _variables(document, lost)
    if variables:
        playbook["vars"] = variables
    steps: list[dict[str, Any]] = []
    for name in _order(document, workflow, lost):
        steps += _step(name, workflow[name], lost, {one["id"] for one in steps})
    if not steps:
        raise PlaybookInvalid("it has no action that its start leads to")
    playbook["steps"] = steps
    for key in (
        "signatures",
        "workflow_exception",
        "target_definitions",
        "data_marking_definitions",
        "authentication_info_definitions",
    ):
        if document.get(key):
            lost.append(f"{key}: not taken over")
    text = yaml.safe_dump(playbook, sort_keys=False, allow_unicode=True, width=150)
    return Imported(text.encode("utf-8"), tuple(printable(one, 300) for one in lost), False)


def _order(document: Mapping[str, Any], workflow: Mapping[str, Any], lost: list[str]) -> list[str]:
    """The steps as they are first met from the start on, each once; other ways than on are lost."""
    seen: dict[str, None] = {}
    todo = [str(document.get("workflow_start"))]
    while todo and len(seen) < STEPS_LIMIT:
        name = todo.pop()
        step = workflow.get(name)
        if name in seen or not isinstance(step, Mapping):
            continue
        seen[name] = None
        kind = step.get("type")
        if kind not in KINDS:
            lost.append(f"{name}: {kind}: its steps stand one after another")
        todo += reversed(following(step))
    if len(seen) >= STEPS_LIMIT:
        lost.append(f"more than {STEPS_LIMIT} steps")
    lost += [f"{name}: nothing leads to it" for name in workflow if name not in seen][:50]
    return [name for name in seen if workflow[name].get("type") == "action"]


def _variables(document: Mapping[str, Any], lost: list[str]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, var in list(_part(document, "playbook_variables").items())[:100]:
        short = _slug(name.strip("_"), "")
        if not short or not isinstance(var, Mapping) or short in found or short == "target":
            continue
        kind = TYPES.get(str(var.get("type")), "string")
        found[short] = {"type": kind, "description": _words(var.get("description"), short)}
        value = _value(var.get("value"), kind)
        found[short]["default"] = (
            value if value is not None else {"boolean": False, "integer": 0, "number": 0.0}.get(kind, "")
        )
        if value is None and var.get("value") is not None:
            lost.append(f"{name}: its value is no {kind}")
    return found


def _value(value: Any, kind: str) -> Any:
    if not isinstance(value, str) or kind == "string":
        return printable(value, 2000) if isinstance(value, str) else None
    try:
        if kind == "boolean":
            return {"true": True, "false": False}[value.lower()]
        return int(value) if kind == "integer" else float(value)
    except (ValueError, KeyError):
        return None


def _step(name: str, step: Mapping[str, Any], lost: list[str], taken: set[str]) -> list[dict[str, Any]]:
    """A question for each command: a person does what it says, or says that it can't be done."""
    title = _words(step.get("name"), "a step")
    commands = step.get("commands")
    found: list[dict[str, Any]] = []
    for number, command in enumerate(commands if isinstance(commands, list) else [], 1):
        kind = str(command.get("type")) if isinstance(command, Mapping) else "none"
        text = command.get("command") or command.get("command_b64") if isinstance(command, Mapping) else ""
        identity = _free(_slug(title, "step"), taken | {one["id"] for one in found})
        if kind != "manual":
            lost.append(f"{name}: a command of the type {kind} became a question to a person")
        question = _words(f"{title}: {text}" if text else title, title)
        found.append(
            {
                "id": identity, "name": title if number == 1 else _words(f"{title} ({number})", title), "uses": "ask",
                "with": {"message": question.replace("${{", "$ {{"), "choices": ["done", "failed"], "seconds": 86400},
                **({"on_failure": "continue"} if "on_completion" in step else {}),
            }
        )  # fmt: skip
    return found


def _slug(text: str, default: str) -> str:
    found = re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:50]
    return found if re.match(r"[a-z]", found) else default and f"{default}-{found}".strip("-")


def _free(name: str, taken: set[str]) -> str:
    number = 2
    found = name
    while found in taken:
        found, number = f"{name}-{number}", number + 1
    return found


def _words(value: Any, default: str) -> str:
    text = printable(value, 1500) if isinstance(value, str) else ""
    return text.replace("${{", "$ {{") or default
