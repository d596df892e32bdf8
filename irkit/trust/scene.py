"""What a verifier of one kind of signature is given, and the interface that all of them have."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

from irkit.errors import IrkitError
from irkit.text import printable
from irkit.trust.content import ImageContent
from irkit.trust.model import Found, TrustKey
from irkit.trust.reference import Reference
from irkit.trust.registry import Registry
from irkit.trust.resolve import Resolved

TRIES = 100
"""Signatures of one kind that are tried over one digest."""


@dataclass(frozen=True, slots=True)
class Scene:
    """The image in question.  ``targets``: the digests over which a registry's signature would count, the reference's own
    first.  ``content``: what the engine's copy holds; one of ``resolved`` and ``content`` may be missing."""

    reference: Reference
    keys: tuple[TrustKey, ...]
    registry: Registry | None = None
    resolved: Resolved | None = None
    targets: tuple[str, ...] = ()
    content: ImageContent | None = None

    def keys_for(self, kind: str) -> tuple[TrustKey, ...]:
        """The rule's keys that can make a kind of signature."""
        return tuple(one for one in self.keys if kind in one.kinds)


class Verifier(Protocol):
    """One kind of signature: finds what there is, and says which key signed what.  Whether that is enough is not its matter.

    It yields rather than raises: each signature stands alone, and a bad one must not hide a good one.
    """

    kind: str

    def find(self, scene: Scene) -> Iterator[Found]:
        """Every signature, good or bad, with the reason."""


def attempt(kind: str, where: str, check: Callable[[], Found]) -> Found:
    """One signature's check; an error is the reason why it does not count."""
    where = printable(where, 200)
    try:
        return check()
    except IrkitError as error:
        return Found(kind, where, problem=error.message)
    except (
        Exception
    ) as error:  # parsers of certificates have errors of many families; what they can't read is no signature
        return Found(kind, where, problem=f"it can't be read: {type(error).__name__}")
