"""Image references in their normalised form, and the patterns of a trust policy over them.

Grammar: distribution/reference (``registry/repository:tag@digest``), stricter: lower case in the registry's name, sha256
digests only.  ``web`` is ``docker.io/library/web``, as with the Docker CLI.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from irkit.errors import UsageProblem
from irkit.text import printable

HUB = "docker.io"
NAME_LIMIT = 255
TEXT_LIMIT = NAME_LIMIT + 1 + 128 + 1 + 71
"""A name, a tag and a digest: what is longer is not looked at."""
_LABEL = r"[a-z0-9](?:[a-z0-9-]*[a-z0-9])?"
_PORT = r":[1-9][0-9]{0,4}"
_REGISTRY = re.compile(rf"(?:{_LABEL}(?:\.{_LABEL})*|\[[0-9a-f:]+\])(?:{_PORT})?")
_COMPONENT = re.compile(r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*")
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_ID = re.compile(r"(sha256:)?[0-9a-f]{12,64}")
_HINT = "REGISTRY/REPOSITORY:TAG or REGISTRY/REPOSITORY@sha256:…, the registry in lower case"


@dataclass(frozen=True, slots=True)
class Reference:
    """A normalised reference: ``registry`` (``docker.io``, ``registry.example:5000``), ``repository`` (``library/web``),
    and a tag, a digest or both; where both are given the digest counts."""

    registry: str
    repository: str
    tag: str = ""
    digest: str = ""

    @property
    def name(self) -> str:
        """``registry/repository``: what patterns and signatures speak of."""
        return f"{self.registry}/{self.repository}"

    @property
    def wanted(self) -> str:
        """What a registry is asked for: the digest, else the tag."""
        return self.digest or self.tag

    def __str__(self) -> str:
        tag = f":{self.tag}" if self.tag else ""
        return f"{self.name}{tag}{'@' if self.digest else ''}{self.digest}"


def is_id(text: str) -> bool:
    """Whether it can only be an image's id, which belongs to no repository."""
    return _ID.fullmatch(text) is not None


def parse_reference(text: str) -> Reference:
    """A reference as a user or a signer writes it.  ``latest`` where neither tag nor digest is given.

    Raises ``UsageProblem``.
    """
    found = parse_plain(text)
    return found if found.tag or found.digest else Reference(found.registry, found.repository, "latest")


def parse_plain(text: str) -> Reference:
    """The same, without a tag put in.  Raises ``UsageProblem``."""
    if len(text) > TEXT_LIMIT:
        raise _bad(text, "it is too long")
    name, at, digest = text.partition("@")
    if at and not DIGEST.fullmatch(digest):
        raise _bad(text, "its digest is not sha256: and 64 digits")
    head, slash, last = name.rpartition("/")
    last, colon, tag = last.partition(":")
    if colon and not _TAG.fullmatch(tag):
        raise _bad(text, "its tag is none")
    registry, repository = split_name(f"{head}{slash}{last}")
    if not _REGISTRY.fullmatch(registry) or int(registry.rpartition(":")[2] if _ends_in_port(registry) else 0) > 65535:
        raise _bad(text, "its registry is none")
    if not all(_COMPONENT.fullmatch(part) for part in repository.split("/")):
        raise _bad(text, "its repository is none")
    if len(registry) + 1 + len(repository) > NAME_LIMIT:
        raise _bad(text, f"its name is longer than {NAME_LIMIT}")
    return Reference(registry, repository, tag, digest)


def _ends_in_port(registry: str) -> bool:
    return re.search(_PORT + r"\Z", registry) is not None


def split_name(name: str) -> tuple[str, str]:
    """``registry`` and ``repository`` by the Docker CLI's rule: the first part is a registry when it looks like a host."""
    first, slash, rest = name.partition("/")
    if not slash or not ("." in first or ":" in first or first == "localhost" or first != first.lower()):
        first, rest = HUB, name
    if first == f"index.{HUB}":
        first = HUB
    return first, f"library/{rest}" if first == HUB and "/" not in rest else rest


def _bad(text: str, why: str) -> UsageProblem:
    return UsageProblem(f"not an image's name: {printable(text, 200)}: {why}", hint=_HINT)


def same_repository(signed: str, wanted: Reference) -> bool:
    """Whether a name inside a signature is the wanted repository.  One that can't be parsed is no name."""
    try:
        return parse_plain(signed).name == wanted.name
    except UsageProblem:
        return False


# -- patterns -------------------------------------------------------------------------------------------------------

_PIECE = re.compile(r"[a-z0-9._*:\[\]-]+")


@dataclass(frozen=True, slots=True)
class Pattern:
    """A pattern over ``registry/repository``: ``*`` stands for any text within one part, ``**`` as the last part for one
    part or more.  Of several that match, the one with the smallest :attr:`rank` counts: literal parts come before parts
    with a ``*`` in them (more literal characters first), then ``*``, then ``**``, from left to right."""

    text: str

    @property
    def parts(self) -> tuple[str, ...]:
        """What stands between the slashes."""
        return tuple(self.text.split("/"))

    @property
    def rank(self) -> tuple[tuple[int, int], ...]:
        """Smaller is more specific."""
        return tuple(_part_rank(part) for part in self.parts)

    def matches(self, name: str) -> bool:
        """Whether a normalised ``registry/repository`` fits."""
        have, want = name.split("/"), self.parts
        if want[-1] == "**":
            want = want[:-1]
            if len(have) <= len(want):
                return False
            have = have[: len(want)]
        return len(have) == len(want) and all(_fits(one, part) for one, part in zip(have, want, strict=True))

    def overlaps(self, other: Pattern) -> bool:
        """Whether some name fits both."""
        mine, theirs = self.parts, other.parts
        short, long = sorted((mine, theirs), key=len)
        if len(short) != len(long) and short[-1] != "**":
            return False
        for a, b in zip(short, long, strict=False):
            if "**" in (a, b):
                return True
            if not _meet(a, b):
                return False
        return True


def parse_pattern(text: str) -> Pattern:
    """A pattern as a policy writes it.  Raises ``UsageProblem`` for one that can't be read or could never match."""
    parts = text.split("/")
    if not all(_PIECE.fullmatch(part) for part in parts) or any(".." in part for part in parts):
        raise UsageProblem(f"not a pattern: {printable(text, 200)}", hint="registry.example/team/*, in lower case")
    for number, part in enumerate(parts):
        if "**" in part and (part != "**" or number != len(parts) - 1):
            raise UsageProblem(f"{text}: `**` must be the whole last part", hint="`*` stands for text within one part")
    first = parts[0]
    if text != "**" and not ("." in first or ":" in first or "*" in first or first == "localhost"):
        raise UsageProblem(f"{text}: the registry is missing", hint=f"did you mean {HUB}/{split_name(text)[1]}?")
    if len(parts) == 1 and first != "**":
        raise UsageProblem(f"{text}: the repository is missing", hint=f"{text}/** is all of that registry")
    if first == HUB and len(parts) == 2 and parts[1] != "**":
        raise UsageProblem(f"{text}: never matches", hint=f"did you mean {HUB}/library/{parts[1]}?")
    if first == f"index.{HUB}":
        raise UsageProblem(f"{text}: never matches", hint=f"its normalised name is {HUB}")
    if not any("*" in part for part in parts):
        plain = parse_plain(text)
        if plain.name != text:
            raise UsageProblem(f"{text}: never matches", hint=f"a pattern has no tag: {plain.name}")
    return Pattern(text)


def _part_rank(part: str) -> tuple[int, int]:
    if "*" not in part:
        return 0, 0
    if part in ("*", "**"):
        return len(part) + 1, 0
    return 1, -sum(char != "*" for char in part)


def _fits(text: str, part: str) -> bool:
    """Whether a part of a name fits a part of a pattern: linear in time, whatever the pattern."""
    pieces = part.split("*")
    if len(pieces) == 1:
        return text == part
    if not text.startswith(pieces[0]):
        return False
    place = len(pieces[0])
    for piece in pieces[1:-1]:
        found = text.find(piece, place)
        if found < 0:
            return False
        place = found + len(piece)
    return len(text) - place >= len(pieces[-1]) and text.endswith(pieces[-1])


def _meet(a: str, b: str) -> bool:
    """Whether some text fits both parts: states reached from (0, 0) in the product of the two."""
    seen, todo = set(), [(0, 0)]
    while todo:
        i, j = todo.pop()
        if (i, j) in seen:
            continue
        seen.add((i, j))
        if i == len(a) and j == len(b):
            return True
        if i < len(a) and a[i] == "*":
            todo.append((i + 1, j))
            if j < len(b):
                todo.append((i, j + 1))
        if j < len(b) and b[j] == "*":
            todo.append((i, j + 1))
            if i < len(a):
                todo.append((i + 1, j))
        if i < len(a) and j < len(b) and a[i] == b[j]:
            todo.append((i + 1, j + 1))
    return False
