"""Lists of indicators in the forms in which they are handed around: plain, CSV, STIX 2.1, MISP.

Sources: OASIS STIX 2.1 (section 9, patterning), of which equality, ``IN``, ``OR`` and ``AND`` are understood; MISP's core format
(``Event``, ``Attribute``, ``to_ids``).  Everything else is counted as not used.  Nothing here raises for what a file
holds, but ``UsageProblem`` for a file that can't be read or is too large.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from irkit.compare.ioc import LIMIT, Indicators, IocLists, kind_of
from irkit.errors import UsageProblem
from irkit.home import home

FOLDER = "forensics/ioc"
SIZE_LIMIT = 512 * 1024 * 1024
JSON_LIMIT = 128 * 1024 * 1024
PATTERN_LIMIT = 20_000
_WORDS: Mapping[str, str] = {
    "md5": "digest", "sha1": "digest", "sha256": "digest", "sha512": "digest", "hash": "digest", "filehash": "digest",
    "ip": "address", "ipv4": "address", "ipv6": "address", "ipaddress": "address", "address": "address", "ipdst": "address",
    "ipsrc": "address", "dstip": "address", "srcip": "address", "cidr": "address", "ipv4addr": "address", "ipv6addr": "address",
    "domain": "domain", "domainname": "domain", "hostname": "domain", "host": "domain", "fqdn": "domain", "url": "url",
    "uri": "url", "link": "url", "filename": "name", "file": "name", "name": "name", "filepath": "path", "path": "path",
}  # fmt: skip
"""Headers of columns, and words in a column of types, without case and punctuation."""
_VALUES = frozenset({"indicator", "value", "ioc", "iocvalue", "indicatorvalue", "observable"})
_TYPES = frozenset({"type", "indicatortype", "ioctype", "category", "datatype"})
_MISP: Mapping[str, Sequence[str]] = {
    **dict.fromkeys(("md5", "sha1", "sha256", "sha512"), ("digest",)),
    **{f"filename|{name}": ("", "digest") for name in ("md5", "sha1", "sha256", "sha512")},
    "ip-dst": ("address",), "ip-src": ("address",), "ip-dst|port": ("address", ""), "ip-src|port": ("address", ""),
    "domain": ("domain",), "hostname": ("domain",), "domain|ip": ("domain", "address"), "hostname|port": ("domain", ""),
    "url": ("url",), "uri": ("url",), "filename": ("name",),
}  # fmt: skip
"""What the parts of a MISP attribute are; "" for a part that says too little by itself (a name beside a digest, a port)."""


def load_ioc(paths: Iterable[Path] = ()) -> IocLists:
    """A user's lists in ``IRKIT_HOME/forensics/ioc``, and these.  Raises ``UsageProblem``."""
    folder = home() / FOLDER
    own = (
        sorted(path for path in folder.iterdir() if path.is_file() and not path.name.startswith("."))
        if folder.is_dir()
        else []
    )
    return IocLists([read_ioc(path) for path in (*own, *paths)])


def read_ioc(path: Path) -> Indicators:
    """One list, of whichever form."""
    try:
        with path.open("rb") as file:
            data = file.read(SIZE_LIMIT + 1)
    except OSError as error:
        raise UsageProblem(f"can't read {path}: {error.strerror}") from error
    if len(data) > SIZE_LIMIT:
        raise UsageProblem(f"{path}: larger than {SIZE_LIMIT} bytes", hint="split it")
    return ioc_from(data, path.name)


def ioc_from(data: bytes, name: str) -> Indicators:
    """One list from bytes; ``name`` is what answers call it."""
    found = Indicators(name)
    text = data.decode("utf-8", "replace").removeprefix("\ufeff")
    if text.lstrip()[:1] in ("{", "["):
        document = _json(text, name)
        if document is not None:
            _of_json(document, found)
            return found
    delimiter = _delimiter(text)
    if delimiter:
        _of_csv(text, delimiter, found)
    else:
        _of_lines(text, found)
    return found


def _json(text: str, name: str) -> Any:
    if len(text) > JSON_LIMIT:
        raise UsageProblem(f"{name}: JSON larger than {JSON_LIMIT} characters", hint="split it, or export it as CSV")
    try:
        return json.loads(text)
    except RecursionError as error:
        raise UsageProblem(f"{name}: nested too deep") from error
    except ValueError as error:
        if text.lstrip().startswith("{"):
            raise UsageProblem(f"{name}: {error}", hint="STIX bundles and MISP events are JSON") from error
        return None  # a plain list may begin with a defanged address: [2001:db8::1]


def _full(found: Indicators) -> bool:
    return len(found) >= LIMIT


def _of_lines(text: str, found: Indicators) -> None:
    known = 0
    for line in text.splitlines():
        value = line.strip()
        if not value or value.startswith(("#", "//", ";")):
            continue
        known += 1
        if known > LIMIT:
            found.skip(f"beyond the {LIMIT} that one list may hold", value)
            continue
        if found.add_digest(value):
            continue
        value = re.split(r"\s+#", value, maxsplit=1)[0]
        word, colon, rest = value.partition(":")
        kind = _WORDS.get(_bare(word), "") if colon and not rest.startswith("//") else ""
        if kind and rest.strip():
            found.add(rest, kind)
        elif found_digest := _summed(value):
            found.add(found_digest, "digest")
        else:
            found.add(value)


def _summed(value: str) -> str:
    """The digest of a line as sha256sum writes it."""
    parts = value.split(None, 1)
    return parts[0] if len(parts) == 2 and kind_of(parts[0]) == "digest" else ""


def _bare(word: str) -> str:
    return re.sub(r"[^a-z0-9]", "", word.lower())


def _delimiter(text: str) -> str:
    """The delimiter of a CSV file, "" when it does not look like one: by its first line that is no comment."""
    first = next((line for line in text[:65536].splitlines() if line.strip() and not line.lstrip().startswith("#")), "")
    for delimiter in (",", ";", "\t", "|"):
        cells = [cell.strip().strip('"') for cell in first.split(delimiter)]
        heads = {_bare(cell) for cell in cells}
        if len(cells) > 1 and (heads & (_VALUES | set(_WORDS)) or any(_sure(cell) for cell in cells)):
            return delimiter
        if len(cells) == 1 and delimiter == "," and heads & (_VALUES | set(_WORDS)):
            return ","
    return ""


def _sure(cell: str) -> bool:
    return kind_of(cell) in ("digest", "address", "url")


def _of_csv(text: str, delimiter: str, found: Indicators) -> None:
    lines = (line for line in io.StringIO(text) if line.strip() and not line.lstrip().startswith("#"))
    rows = csv.reader(lines, delimiter=delimiter, skipinitialspace=True)
    columns: list[str] | None = None
    for number, row in enumerate(_rows(rows, found)):
        if number == 0:
            heads = [_bare(cell) for cell in row]
            if any(head in _VALUES or head in _WORDS for head in heads):
                columns = heads
                continue
        if _full(found):
            found.skip(f"beyond the {LIMIT} that one list may hold", delimiter.join(row))
        else:
            _row(row, columns, found)


def _rows(rows: Iterator[list[str]], found: Indicators) -> Iterator[list[str]]:
    while True:
        try:
            yield next(rows)
        except StopIteration:
            return
        except csv.Error as error:
            found.skip(f"a row that is no CSV: {error}", "")


def _row(row: list[str], columns: list[str] | None, found: Indicators) -> None:
    if columns is None:
        sure = [cell for cell in row if _sure(cell.strip())]
        for cell in sure:
            found.add(cell)
        if not sure:
            found.skip("a row without a digest, address or URL, under no header", ",".join(row))
        return
    named = dict(zip(columns, row, strict=False))
    said = next((_WORDS.get(_bare(named[name]), "") for name in columns if name in _TYPES and name in named), "")
    used = False
    for head, cell in zip(columns, row, strict=False):
        if cell.strip() and head in _VALUES:
            found.add(cell, said)
        elif (
            cell.strip()
            and head in _WORDS
            and not (head in ("name", "file") and any(one in _VALUES for one in columns))
        ):
            found.add(cell, _WORDS[head])
        else:
            continue
        used = True
    if not used:
        found.skip("a row with no value in a column that irkit knows", ",".join(row))


def _of_json(document: Any, found: Indicators) -> None:
    if isinstance(document, dict) and document.get("type") == "bundle":
        _of_stix(document, found)
    elif isinstance(document, dict) and ("Event" in document or "response" in document):
        events = document.get("response", document)
        for event in events if isinstance(events, list) else [events]:
            _of_misp(event.get("Event", event) if isinstance(event, dict) else None, found)
    elif isinstance(document, list) and all(isinstance(one, str) for one in document):
        for one in document[:LIMIT]:
            found.add(one)
    elif isinstance(document, list) and any(isinstance(one, dict) and "Event" in one for one in document):
        for event in document:
            _of_misp(event.get("Event") if isinstance(event, dict) else None, found)
    else:
        found.skip("JSON that is neither a STIX bundle nor a MISP event nor a list of texts", "")


def _of_stix(bundle: Mapping[str, Any], found: Indicators) -> None:
    objects = bundle.get("objects")
    for one in objects if isinstance(objects, list) else []:
        if not isinstance(one, dict) or one.get("type") != "indicator":
            continue
        pattern = one.get("pattern")
        if one.get("revoked") is True:
            found.skip("a revoked indicator", str(pattern))
        elif one.get("pattern_type", "stix") != "stix" or not isinstance(pattern, str):
            found.skip(f"a pattern of type {str(one.get('pattern_type'))[:40]}", str(pattern))
        elif _full(found):
            found.skip(f"beyond the {LIMIT} that one list may hold", pattern)
        else:
            _of_pattern(pattern, found)


_TOKEN = re.compile(
    r"\s*(?:(?P<path>[a-z0-9-]+:[A-Za-z0-9_.'\"\-\[\]*]+)|(?P<text>'(?:[^'\\]|\\.)*')|(?P<word>[A-Za-z]+)|(?P<number>-?[0-9][0-9.]*)|(?P<sign>[\[\]()=,]|!=|[<>]=?))"
)
_PATHS: Mapping[str, str] = {
    "file:name": "name", "ipv4-addr:value": "address", "ipv6-addr:value": "address", "domain-name:value": "domain", "url:value": "url",
}  # fmt: skip
_HASH = re.compile(r"(?:file|artifact):hashes\.['\"]?(MD5|SHA-?1|SHA-?256|SHA-?512)['\"]?", re.IGNORECASE)


def _of_pattern(pattern: str, found: Indicators) -> None:
    """``[a = 'x' OR b IN ('y', 'z')] OR [c = 'w' AND d = 'v']``.  Of an ``AND``, a digest decides alone; without one it is not used."""
    tokens = _tokens(pattern)
    if tokens is None:
        found.skip("a STIX pattern beyond equality, OR and AND", pattern)
        return
    alternatives: list[list[tuple[str, list[str]]]] = [[]]
    place, good = 0, True
    while place < len(tokens) and good:
        kind, text = tokens[place]
        if kind == "path":
            values, place = _values(tokens, place + 1)
            good = bool(values)
            alternatives[-1].append((text, values))
            continue
        if kind == "word" and text == "OR":
            alternatives.append([])
        elif (kind, text) not in (("word", "AND"), ("sign", "["), ("sign", "]"), ("sign", "(")) and text != ")":
            good = False
        place += 1
    mixed = "AND" in (text for _, text in tokens) and any(
        text == "(" and tokens[number - 1][1] not in ("IN",) for number, (_, text) in enumerate(tokens)
    )
    if not good or mixed:
        found.skip("a STIX pattern beyond equality, OR and AND", pattern)
        return
    for parts in alternatives:
        _of_parts(parts, pattern, found)


def _of_parts(parts: list[tuple[str, list[str]]], pattern: str, found: Indicators) -> None:
    digests = [values for path, values in parts if _HASH.fullmatch(path)]
    if digests:
        for value in digests[0] if len(digests) == 1 or len(parts) > 1 else []:
            found.add(value, "digest")
    elif len(parts) == 1 and parts[0][0] in _PATHS:
        for value in parts[0][1]:
            found.add(value, _PATHS[parts[0][0]])
    else:
        found.skip("a STIX pattern on what irkit does not know, or an AND without a digest", pattern)


def _tokens(pattern: str) -> list[tuple[str, str]] | None:
    tokens: list[tuple[str, str]] = []
    place, pattern = 0, pattern[: PATTERN_LIMIT + 1].strip()
    if len(pattern) > PATTERN_LIMIT:
        return None
    while place < len(pattern):
        match = _TOKEN.match(pattern, place)
        if match is None or match.lastgroup is None:
            return None
        tokens.append((match.lastgroup, match[match.lastgroup]))
        place = match.end()
    return tokens


def _values(tokens: list[tuple[str, str]], place: int) -> tuple[list[str], int]:
    """The texts of ``= 'x'`` or ``IN ('x', 'y')`` that begin at ``place``, and the place behind them; none for anything else."""
    if place + 1 < len(tokens) and tokens[place] == ("sign", "=") and tokens[place + 1][0] == "text":
        return [_unquoted(tokens[place + 1][1])], place + 2
    if place + 1 < len(tokens) and tokens[place] == ("word", "IN") and tokens[place + 1][1] == "(":
        found: list[str] = []
        for number in range(place + 2, len(tokens)):
            kind, text = tokens[number]
            if text == ")":
                return found, number + 1
            if kind == "text":
                found.append(_unquoted(text))
            elif text != ",":
                break
    return [], place


def _unquoted(text: str) -> str:
    return re.sub(r"\\(.)", r"\1", text[1:-1])


def _of_misp(event: Any, found: Indicators) -> None:
    if not isinstance(event, dict):
        found.skip("a MISP event without content", "")
        return
    objects = event.get("Object")
    groups = [event, *(one for one in (objects if isinstance(objects, list) else []) if isinstance(one, dict))]
    for group in groups:
        attributes = group.get("Attribute")
        for one in attributes if isinstance(attributes, list) else []:
            if isinstance(one, dict):
                _attribute(one, found)


def _attribute(one: Mapping[str, Any], found: Indicators) -> None:
    kind, value = str(one.get("type")), one.get("value")
    if one.get("to_ids") not in (True, "1", 1, "true") or one.get("deleted") in (True, "1", 1):
        found.skip("a MISP attribute that is not for detection (to_ids)", str(value))
    elif kind not in _MISP or not isinstance(value, str):
        found.skip(f"a MISP attribute of type {kind[:40]}", str(value))
    elif _full(found):
        found.skip(f"beyond the {LIMIT} that one list may hold", value)
    else:
        for part, what in zip(value.split("|"), _MISP[kind], strict=False):
            if what:
                found.add(part, what)
