"""Shipped documents as they were parsed, kept in ``IRKIT_HOME/cache``: parsing YAML costs more than the rest of a start.

A kept document is used only where it is of the very bytes that the shipped file has now, is whole, and is a regular file
of this user that nobody else may write.  That is no seal: who can write ``IRKIT_HOME`` can put rules of their own there as
well, in front of the shipped ones.  Whatever is odd, the document is parsed anew.  What is kept is JSON, and is read by
the same checks as YAML.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import stat
from pathlib import Path
from typing import Any

from irkit import documents
from irkit.documents import Doc, Items, Place, Value
from irkit.errors import PlaybookInvalid, StorageError
from irkit.home import home, private_folder, write_file

FORM = b"irkit-document-1"
"""Of what follows: changes whenever :func:`_packed` does."""
LIMIT = 16 * 1024 * 1024


def load(path: Path) -> Doc:
    """As :func:`irkit.documents.load`, for a shipped document.  Raises ``PlaybookInvalid``."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise PlaybookInvalid(f"can't read {path}: {error.strerror}") from error
    kept = home() / "cache" / f"{path.parent.name}-{path.stem}.json"
    source = hashlib.sha256(data).hexdigest().encode()
    doc = _kept(kept, source, str(path))
    if doc is None:
        doc = documents.parse(data, str(path))
        _keep(kept, source, doc)
    return doc


def _kept(path: Path, source: bytes, name: str) -> Doc | None:
    """The first line says of which bytes it is and which digest the rest has."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
        with os.fdopen(descriptor, "rb") as file:
            facts = os.fstat(descriptor)
            mine = facts.st_uid == os.geteuid() and not facts.st_mode & 0o022
            if not stat.S_ISREG(facts.st_mode) or not mine or facts.st_size > LIMIT:
                return None
            head, _, body = file.read(LIMIT).partition(b"\n")
        if head != _head(source, body):
            return None
        found = _unpacked(json.loads(body), name)
    except (OSError, ValueError, TypeError, AttributeError, RecursionError):
        return None
    return found if isinstance(found, Doc) else None


def _keep(path: Path, source: bytes, doc: Doc) -> None:
    if not home().is_dir():
        return  # who only looks at rules makes no home
    body = json.dumps(_packed(doc), separators=(",", ":")).encode()
    with contextlib.suppress(StorageError):  # a home that can't be written to costs time only
        write_file(private_folder(path.parent) / path.name, _head(source, body) + b"\n" + body)


def _head(source: bytes, body: bytes) -> bytes:
    return b" ".join((FORM, source, hashlib.sha256(body).hexdigest().encode()))


def _packed(value: Value) -> Any:
    """A mapping: ``[line, column, {key: [value, line, column]}]``; a list: ``[line, column, [[value, line, column]]]``."""
    if isinstance(value, Doc):
        pairs = {key: _placed(one, value.places[key]) for key, one in value.values.items()}
        return [value.place.line, value.place.column, pairs]
    if isinstance(value, Items):
        return [value.place.line, value.place.column, [_placed(one, place) for one, place in value]]
    return value


def _placed(value: Value, place: Place) -> list[Any]:
    return [_packed(value), place.line, place.column]


def _unpacked(value: Any, file: str) -> Value:
    if not isinstance(value, list):
        return value if isinstance(value, str | int | float) or value is None else _bad()
    line, column, held = value
    if isinstance(held, dict):
        doc = Doc(Place(file, line, column))
        for key, (one, at, across) in held.items():
            doc.values[key] = _unpacked(one, file)
            doc.places[key] = Place(file, at, across)
        return doc
    items = Items(Place(file, line, column))
    for one, at, across in held:
        items.values.append(_unpacked(one, file))
        items.places.append(Place(file, at, across))
    return items


def _bad() -> Value:
    raise ValueError("not a document")
