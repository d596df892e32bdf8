"""The JSON Schemas of rules and of noise, made from the vocabulary: ``python -m irkit.compare.rules_schema`` writes them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any

from irkit.compare import vocabulary as words
from irkit.compare.noise import ALSO
from irkit.compare.vocabulary import ALIASES, KINDS, Fact
from irkit.models import SEVERITIES

DRAFT = "https://json-schema.org/draft/2020-12/schema"
_TEXT: Mapping[str, Any] = {"type": "string", "minLength": 1}
_TECHNIQUE: Mapping[str, Any] = {"type": "string", "pattern": "^T[0-9]{4}(\\.[0-9]{3})?$"}


def _one_or_more(item: Mapping[str, Any]) -> dict[str, Any]:
    return {"anyOf": [dict(item), {"type": "array", "items": dict(item), "minItems": 1, "maxItems": 200}]}


def _condition(fact: Fact) -> dict[str, Any]:
    strings: dict[str, Any] = {"type": "string"}
    if fact.words:
        return {"description": fact.meaning, **_one_or_more({"enum": list(fact.words)})}
    if fact.type == words.FLAG:
        return {"description": fact.meaning, "type": "boolean"}
    if fact.type == words.NUMBER:
        limits = {
            "type": "object",
            "minProperties": 1,
            "additionalProperties": False,
            "properties": {"min": {"type": "integer"}, "max": {"type": "integer"}},
        }
        return {"description": fact.meaning, "anyOf": [*_one_or_more({"type": "integer"})["anyOf"], limits]}
    if fact.type == words.REGEX:
        return {"description": fact.meaning, **_one_or_more(strings)}
    pattern = {
        "type": "object",
        "required": ["regex"],
        "additionalProperties": False,
        "properties": {"regex": _one_or_more(strings)},
    }
    return {"description": fact.meaning, "anyOf": [*_one_or_more(strings)["anyOf"], pattern]}


def _where(kind: str) -> dict[str, Any]:
    own = {"$ref": f"#/$defs/{kind}"}
    return {
        "type": "object", "minProperties": 1, "additionalProperties": False,
        "properties": {
            **{fact.name: _condition(fact) for fact in KINDS[kind].values()},
            "any": {"type": "array", "items": own, "minItems": 1, "maxItems": 200},
            "not": {"anyOf": [own, {"type": "array", "items": own, "minItems": 1, "maxItems": 200}]},
        },
    }  # fmt: skip


def _document(
    name: str, title: str, kind: str, items: str, item: Mapping[str, Any], kinds: Iterable[str]
) -> dict[str, Any]:
    return {
        "$schema": DRAFT, "$id": f"https://irkit.example/schemas/{name}.schema.json", "title": title, "type": "object",
        "required": ["apiVersion", "kind", items], "additionalProperties": False,
        "properties": {
            "apiVersion": {"const": "irkit/v1"}, "kind": {"const": kind}, "description": {"type": "string"},
            items: {"type": "array", "items": dict(item)},
        },
        "$defs": {one: _where(one) for one in kinds},
    }  # fmt: skip


def rules() -> dict[str, Any]:
    """The schema of a file of rules."""
    kinds = {**{kind: kind for kind in KINDS}, **{name: kind for name, (kind, _) in ALIASES.items()}}
    item = {
        "type": "object", "additionalProperties": False,
        "required": ["id", "on", "severity", "title", "where", "reason", "next"],
        "properties": {
            "id": _TEXT, "on": {"enum": list(kinds)}, "severity": {"enum": list(SEVERITIES)}, "title": _TEXT, "reason": _TEXT, "next": _TEXT,
            "attack": {"anyOf": [_TECHNIQUE, {"type": "array", "items": _TECHNIQUE}]}, "where": {"type": "object"},
        },
        "allOf": [
            {"if": {"properties": {"on": {"const": name}}}, "then": {"properties": {"where": {"$ref": f"#/$defs/{kind}"}}}}
            for name, kind in kinds.items()
        ],
    }  # fmt: skip
    return _document("rules", "irkit rules: which facts have a meaning", "Rules", "rules", item, KINDS)


def noise() -> dict[str, Any]:
    """The schema of a file of noise."""
    item = {
        "type": "object", "additionalProperties": False, "required": ["id", "title", "where"],
        "properties": {"id": _TEXT, "title": _TEXT, "where": {"$ref": "#/$defs/change"}, "also": _one_or_more({"enum": list(ALSO)})},
    }  # fmt: skip
    return _document("noise", "irkit noise: which changes are folded", "Noise", "groups", item, ["change"])


def texts() -> dict[str, str]:
    """``name → text`` of both files."""
    return {name: json.dumps(made, indent=1) + "\n" for name, made in (("rules", rules()), ("noise", noise()))}


if __name__ == "__main__":
    for name, text in texts().items():
        Path(str(files("irkit.schemas") / f"{name}.schema.json")).write_text(text)
