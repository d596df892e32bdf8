"""The trust policy: which keys vouch for which repositories, and what else an image must be.  Default: nothing is trusted."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

from irkit.documents import Place
from irkit.home import home
from irkit.trust.model import TrustKey
from irkit.trust.reference import Pattern, Reference

NAME = "trust.yaml"
VERSION_LABEL = "org.opencontainers.image.version"
ACTIONS = ("verify", "deny")
SIGNED = ("reference", "platform")
IDENTITY = ("repository", "exact")


@dataclass(frozen=True, slots=True)
class RegistrySettings:
    """How one registry is talked to.  ``plain``: over http; without it only a loopback address is.  ``auth``: another
    origin that may be given the registry's credentials.  ``lookaside``: a folder or URL with GPG signatures.
    ``notary``: the URL of a Notary server."""

    name: str
    plain: bool = False
    ca: Path | None = None
    auth: str = ""
    lookaside: str = ""
    notary: str = ""


@dataclass(frozen=True, slots=True)
class Rule:
    """What is asked of the images of a pattern.

    ``signed``: ``reference``, the digest that the reference has must be signed; ``platform``, a signature of the platform's
    own manifest will do.  ``identity``: ``repository``, a signature's name must be this repository; ``exact``, its tag too.
    ``nameless``: whether kinds that name no repository count.  ``only``: the digests allowed, if not empty.
    """

    pattern: Pattern
    place: Place
    deny: bool = False
    why: str = ""
    keys: tuple[TrustKey, ...] = ()
    accept: tuple[str, ...] = ()
    threshold: int = 1
    signed: str = "reference"
    identity: str = "repository"
    nameless: bool = False
    annotations: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    only: tuple[str, ...] = ()
    revoked: tuple[str, ...] = ()
    minimum_version: str = ""
    version_label: str = VERSION_LABEL


@dataclass(frozen=True, slots=True)
class Policy:
    """A policy file, read."""

    path: Path
    digest: str
    keys: Mapping[str, TrustKey]
    rules: tuple[Rule, ...]
    registries: Mapping[str, RegistrySettings]
    revoked: tuple[str, ...] = ()

    def candidates(self, reference: Reference) -> list[Rule]:
        """The rules that match, the one that applies first; of equal ones the earlier in the file."""
        return sorted(
            (one for one in self.rules if one.pattern.matches(reference.name)), key=lambda one: one.pattern.rank
        )

    def rule(self, reference: Reference) -> Rule | None:
        """The rule that applies: the most specific one, alone.  Rules don't add up."""
        return next(iter(self.candidates(reference)), None)

    def registry(self, name: str) -> RegistrySettings:
        """How to talk to a registry."""
        return self.registries.get(name, RegistrySettings(name))


def default_path() -> Path:
    """``IRKIT_HOME/trust.yaml``."""
    return home() / NAME


def load_policy(path: Path | None = None) -> Policy | None:
    """The policy; ``None`` when none is named and there is no default one.  A link that leads nowhere is no absence.

    Raises ``PlaybookInvalid`` naming line and column, and ``KeyProblem`` for a key that can't be read.
    """
    if path is None and not os.path.lexists(default_path()):
        return None
    from irkit.trust.policy_reader import read_file

    return read_file(path or default_path())
