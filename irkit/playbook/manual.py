"""The manual of the actions, made from what they declare: ``irkit playbook actions`` and ``docs/actions.md``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from irkit import schemas
from irkit.actions.registry import ACTIONS, Action, Param

TYPES: Mapping[type, str] = {
    str: "string",
    int: "integer",
    bool: "boolean",
    list: "list",
    dict: "mapping",
    float: "number",
}
HEAD = """# Actions

What a step may say after `uses`. Made from the code by `irkit playbook actions --markdown`; a test holds this page to it.

*read* changes nothing on the engine; *change* can be taken back, or is planned only in a dry run; *destroy* can't be taken back, and lint wants
evidence sealed and verified, and an approval, before it. *beside*: it may run at the same time as others (`parallel`). *not repeatable*: when irkit was
killed while it was under way, `irkit resume` asks its probe whether it was done, or leaves it and says so (`--again STEP` does it again).
"""


def rows() -> list[dict[str, Any]]:
    """Every action with its declaration, by name."""
    return [_row(ACTIONS[name]) for name in sorted(ACTIONS)]


def _row(action: Action) -> dict[str, Any]:
    return {
        "name": action.name, "effect": action.effect, "summary": action.summary, "needs": action.needs, "undo": action.undo,
        "gives": list(action.gives), "dry_run": "planned" if action.planned else "run", "beside": action.beside,
        "repeatable": action.repeatable and action.probe is None, "probe": action.probe is not None,
        "parameters": [_param(one) for one in action.params],
    }  # fmt: skip


def _param(one: Param) -> dict[str, Any]:
    default = list(one.default) if isinstance(one.default, tuple) else one.default
    return {
        "name": one.name, "type": TYPES[one.type], "required": one.required, "default": None if one.required else default,
        "choices": list(one.choices), "description": one.description,
    }  # fmt: skip


JSON_TYPES: Mapping[type, str] = {
    str: "string", int: "integer", bool: "boolean", list: "array", dict: "object", float: "number",
}  # fmt: skip
REFERENCE: Mapping[str, str] = {"type": "string", "pattern": r"^\$\{\{.*\}\}$"}


def schema() -> dict[str, Any]:
    """The JSON Schema of playbooks for editors: the published one, with each action's parameters and their descriptions."""
    found = schemas.load("playbook")
    step = found["$defs"]["step"]
    step["properties"]["uses"]["description"] = "; ".join(
        f"{name}: {ACTIONS[name].summary}" for name in sorted(ACTIONS)
    )
    step["allOf"] = [
        {"if": {"properties": {"uses": {"const": name}}, "required": ["uses"]}, "then": _with(ACTIONS[name])}
        for name in sorted(ACTIONS)
    ]
    return found


def _with(action: Action) -> dict[str, Any]:
    properties = {one.name: _property(one) for one in action.params}
    required = [one.name for one in action.params if one.required]
    given = {"type": "object", "properties": properties, "required": required, "additionalProperties": False}
    return {"properties": {"with": given}, **({"required": ["with"]} if required else {})}


def _property(one: Param) -> dict[str, Any]:
    plain: dict[str, Any] = {"enum": list(one.choices)} if one.choices else {"type": JSON_TYPES[one.type]}
    default = list(one.default) if isinstance(one.default, tuple) else one.default
    return {
        "description": one.description, "anyOf": [plain, dict(REFERENCE)], **({} if one.required or default is None else {"default": default}),
    }  # fmt: skip


def markdown() -> str:
    """``docs/actions.md``."""
    return "\n".join([HEAD, *(line for row in rows() for line in _section(row))])


def _section(row: Mapping[str, Any]) -> Iterator[str]:
    facts = [f"*{row['effect']}*", f"in a dry run {row['dry_run']}"]
    facts += [f"taken back by `{row['undo']}`"] if row["undo"] else []
    facts += ["beside"] if row["beside"] else []
    facts += ["probed"] if row["probe"] else [] if row["repeatable"] else ["not repeatable"]
    yield f"## `{row['name']}`\n"
    yield f"{row['summary']} ({', '.join(facts)})\n"
    if row["needs"]:
        yield f"Needs {row['needs']}.\n"
    if row["parameters"]:
        yield "| parameter | type | default | |\n|---|---|---|---|"
        for one in row["parameters"]:
            default = (
                "required" if one["required"] else f"`{one['default']!r}`" if one["default"] not in (None, "") else ""
            )
            choices = (
                f" ({', '.join(f'`{word}`' if word else 'empty' for word in one['choices'])})" if one["choices"] else ""
            )
            yield f"| `{one['name']}` | {one['type']} | {default} | {one['description']}{choices} |"
        yield ""
    if row["gives"]:
        yield f"Registers {', '.join(f'`{name}`' for name in row['gives'])}.\n"
