"""Documents held against irkit's own schemas."""

from __future__ import annotations

import functools
from typing import Any

import jsonschema

from irkit import schemas


@functools.cache
def _validator(name: str) -> jsonschema.Draft202012Validator:
    # Whether the schema itself is valid is asked once, of all of them (tests/unit/test_schemas.py), not for each document.
    return jsonschema.Draft202012Validator(schemas.load(name))


def fits(document: Any, name: str) -> None:
    """Raises ``jsonschema.ValidationError`` unless the document fits the schema of that name."""
    _validator(name).validate(document)
