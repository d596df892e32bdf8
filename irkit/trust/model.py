"""What the packages of trust speak of: keys of a policy, signatures found, links of the chain, the verdict."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from irkit.errors import NotTrusted
from irkit.evidence.validity import Validity
from irkit.text import printable

if TYPE_CHECKING:
    from cryptography.x509 import Certificate

    from irkit.documents import Place
    from irkit.evidence.keys import PublicKey

KINDS = ("cosign", "bundle", "gpg", "notation", "statement", "content-trust")
"""``cosign``: simple signing payloads by tag and by referrers.  ``bundle``: sigstore bundle v0.3.  ``statement``: irkit's own."""
NAMELESS = ("bundle", "notation")
"""Kinds whose payload names no repository: a signature copied from elsewhere can't be told."""
HELD, BROKEN, UNCHECKED = "held", "broken", "unchecked"


@dataclass(frozen=True, slots=True)
class TrustKey:
    """A key of a policy.  ``id`` names the material (``sha256:`` of a SubjectPublicKeyInfo, ``gpg:FINGERPRINT``,
    ``notary:ID``), so that one key under two names still counts once.  One of the last five is set."""

    name: str
    id: str
    validity: Validity = field(default_factory=Validity)
    public: PublicKey | None = None
    gpg: Path | None = None
    certificates: tuple[Certificate, ...] = ()
    identities: tuple[str, ...] = ()
    notary_root: str = ""
    place: Place | None = None
    revoked: bool = False

    @property
    def kinds(self) -> tuple[str, ...]:
        """The kinds of signature that it can make."""
        if self.public is not None:
            return ("cosign", "bundle", "statement")
        return ("gpg",) if self.gpg else ("content-trust",) if self.notary_root else ("notation",)

    def objection(self) -> str:
        """Why it may not vouch now; empty when it may.  Signatures of images have no time that could be proven."""
        return "the policy revokes it" if self.revoked else self.validity.objection_now()


@dataclass(frozen=True, slots=True)
class Found:
    """A signature, before policy is asked: either ``key`` signed ``over``, or ``problem`` says why it is worth nothing.

    ``names``: the repository in the signed payload, empty for kinds without one.
    """

    kind: str
    where: str
    over: str = ""
    key: TrustKey | None = None
    names: str = ""
    annotations: Mapping[str, str] = field(default_factory=dict)
    problem: str = ""
    time: str = ""


@dataclass(frozen=True, slots=True)
class Tried:
    """A signature that was tried, and why it was taken or not.  ``where``: tag, digest or path, escaped."""

    kind: str
    where: str
    over: str
    key: str
    key_id: str
    accepted: bool
    reason: str
    time: str = ""

    def to_json(self) -> dict[str, Any]:
        """As in ``irkit.image/v1``."""
        return {
            "kind": self.kind, "where": self.where, "over": self.over, "key": self.key, "key_id": self.key_id,
            "accepted": self.accepted, "reason": self.reason, "time": self.time,
        }  # fmt: skip


@dataclass(frozen=True, slots=True)
class Link:
    """One link of the chain from a signature to a process.  ``result``: ``held``, ``broken`` or ``unchecked``."""

    name: str
    result: str
    subject: str
    detail: str

    def to_json(self) -> dict[str, str]:
        """As in ``irkit.image/v1``."""
        return {"name": self.name, "result": self.result, "subject": self.subject, "detail": self.detail}


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether an image may be run: create by ``image_id``, never by the reference, which can move.

    ``resolved``: the digest that the reference has in its registry (an index's or a manifest's); ``manifest``: the
    platform's; ``config``; ``layers``: uncompressed, lowest first.  Empty where it did not come to that.
    """

    reference: str
    accepted: bool
    reason: str
    rule: str
    hint: str = ""
    links: tuple[Link, ...] = ()
    tried: tuple[Tried, ...] = ()
    threshold: int = 1
    resolved: str = ""
    manifest: str = ""
    config: str = ""
    image_id: str = ""
    layers: tuple[str, ...] = ()
    platform: str = ""

    @property
    def keys(self) -> tuple[Tried, ...]:
        """The signatures that count: the first of each distinct key."""
        first: dict[str, Tried] = {}
        for one in self.tried:
            if one.accepted:
                first.setdefault(one.key_id, one)
        return tuple(first.values())

    def require(self) -> Verdict:
        """Itself.  Raises ``NotTrusted`` when it is not accepted."""
        if not self.accepted:
            raise NotTrusted(f"{printable(self.reference, 300)} is not trusted: {self.reason}", hint=self.hint or None)
        return self

    def to_json(self) -> dict[str, Any]:
        """``irkit.image/v1``."""
        first = self.keys[0] if self.keys else None
        return {
            "schema": "irkit.image/v1", "ok": self.accepted, "reference": self.reference, "reason": self.reason, "rule": self.rule,
            "resolved": self.resolved, "manifest": self.manifest, "config": self.config, "image_id": self.image_id,
            "layers": list(self.layers), "platform": self.platform, "threshold": self.threshold,
            "key": {"id": first.key_id, "name": first.key} if first else None,
            "signed": first.time if first else "", "signature": first.where if first else "",
            "keys": [{"id": one.key_id, "name": one.key} for one in self.keys],
            "links": [one.to_json() for one in self.links], "tried": [one.to_json() for one in self.tried],
        }  # fmt: skip
