"""JSON Schemas (2020-12) of what irkit prints, and of the playbooks and rules that it reads."""

from __future__ import annotations

import json
from importlib.resources import files
from typing import Any


def load(name: str) -> dict[str, Any]:
    """The schema ``NAME.schema.json``: run, runs, diff, verify, scope, playbook, profile, watch, decision and so on."""
    schema: dict[str, Any] = json.loads(files(__name__).joinpath(f"{name}.schema.json").read_text())
    return schema
