"""Docker Content Trust: The Update Framework through a Notary v1 server, with the root key that the policy pins.

Retired: upstream is archived, and notary.docker.io ends on 2026-12-08.  Where a server still answers, the whole chain is
checked: root (pinned) → timestamp → snapshot → targets → the releases' delegation → the tag's manifest.  Nothing is kept
between two checks, so only the timestamp's expiry protects from older trust data.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from irkit.errors import NotTrusted, RegistryProblem
from irkit.text import printable
from irkit.trust import strict, tuf
from irkit.trust.model import Found, TrustKey
from irkit.trust.reference import HUB, Reference
from irkit.trust.registry import MANIFEST_LIMIT, Registry
from irkit.trust.scene import Scene, attempt
from irkit.trust.transport import is_loopback_name, origin
from irkit.trust.tuf import Role

HUB_SERVER = "https://notary.docker.io"
RETIRED = "Docker Content Trust is retired upstream (notary.docker.io ends on 2026-12-08)"
RELEASES = "targets/releases"


@dataclass(frozen=True, slots=True)
class _Server:
    """The Notary server of one repository; ``gun``: the name that trust data have there."""

    registry: Registry
    base: str
    gun: str

    def fetch(self, name: str) -> bytes:
        loopback = origin(self.base)[0] == "http" and is_loopback_name(origin(self.base)[1])
        answer = self.registry.web.get(
            f"{self.base}/v2/{self.gun}/_trust/tuf/{name}.json", {}, MANIFEST_LIMIT, loopback_only=loopback
        )
        if answer.status != 200:
            known = (
                "knows nothing of this repository"
                if answer.status == 404
                else f"answers {answer.status} for {name}.json"
            )
            raise RegistryProblem(f"the Notary server {known}; {RETIRED}", status=answer.status)
        return answer.body


class ContentTrust:
    """What the repository's trust data say of the reference."""

    kind = "content-trust"

    def find(self, scene: Scene) -> Iterator[Found]:
        """One signature at most: trust data name one manifest for a tag."""
        if scene.registry is None or scene.resolved is None:
            return
        reference, registry = scene.reference, scene.registry
        fallback = HUB_SERVER if reference.registry == HUB else f"https://{reference.registry}"
        server = _Server(registry, registry.settings.notary or fallback, reference.name)

        def check() -> Found:
            return _check(server, reference, scene)

        yield attempt(self.kind, printable(server.base, 200), check)


def _check(server: _Server, reference: Reference, scene: Scene) -> Found:
    body = server.fetch("root")
    key, root = _root(body, reference, scene.keys_for("content-trust"))
    roles = strict.mapping(root, "roles", "Root")
    keys = tuf.read_keys(strict.mapping(root, "keys", "Root"))

    def role(name: str) -> Role:
        return tuf.role_of(keys, strict.mapping(roles, name, "Root"), name)

    stamp = tuf.open_signed(server.fetch("timestamp"), "Timestamp", role("timestamp"))
    snapshot_body = server.fetch("snapshot")
    _named(snapshot_body, stamp, "snapshot")
    snapshot = tuf.open_signed(snapshot_body, "Snapshot", role("snapshot"))
    _named(body, snapshot, "root")
    targets_body = server.fetch("targets")
    _named(targets_body, snapshot, "targets")
    targets = tuf.open_signed(targets_body, "Targets", role("targets"))
    digest, size, where = _target(server, reference, snapshot, targets)
    assert scene.resolved is not None  # noqa: S101 - seen by the caller
    found = scene.resolved.root
    if (digest, size) != (found.digest, found.size):
        raise NotTrusted(f"its {where} has {digest} for {reference.tag or 'no tag'}, not {found.digest}; {RETIRED}")
    return Found(
        "content-trust",
        f"{server.base}, {where}",
        found.digest,
        key,
        f"{reference.name}:{reference.tag}" if reference.tag else reference.name,
    )


def _root(body: bytes, reference: Reference, pinned: tuple[TrustKey, ...]) -> tuple[TrustKey, dict[str, Any]]:
    """The pinned key, and the root that it signed for this repository: with the role's threshold, and by its certificate."""
    signed = tuf.open_signed(body, "Root", None)
    keys = tuf.read_keys(strict.mapping(signed, "keys", "Root"))
    role = tuf.role_of(keys, strict.mapping(strict.mapping(signed, "roles", "Root"), "root", "Root"), "root")
    ours = Role(tuple(one for one in role.keys if one.name == reference.name), role.threshold)
    if not ours.keys:
        raise NotTrusted(f"the root of the trust data is not for {reference.name}; {RETIRED}")
    who = tuf.signers(strict.load_object(body, "root.json"), "Root", ours)
    if len(who) < role.threshold:
        raise NotTrusted(f"the root of the trust data is not signed by its role; {RETIRED}")
    ids = {one.id for one in ours.keys if one.canonical in who} | who
    for key in pinned:
        if key.notary_root in ids:
            return key, signed
    raise NotTrusted(
        f"the root of the trust data is by {', '.join(sorted(who))}, which the policy does not pin; {RETIRED}"
    )


def _named(body: bytes, signed: Mapping[str, Any], name: str) -> None:
    if not tuf.matches(body, strict.mapping(signed, "meta", "the trust data"), name):
        raise NotTrusted(f"the {name} of the trust data is not the one that was signed; {RETIRED}")


def _target(
    server: _Server, reference: Reference, snapshot: Mapping[str, Any], targets: dict[str, Any]
) -> tuple[str, int, str]:
    """What trust data have for the tag.  As Docker's client does: the releases' delegation first, then the targets."""
    delegated = _delegation(targets)
    if delegated is not None:
        body = server.fetch(RELEASES)
        _named(body, snapshot, RELEASES)
        releases = tuf.open_signed(body, "Targets", delegated)
        if (found := _pick(releases, reference)) is not None:
            return *found, RELEASES
    if (found := _pick(targets, reference)) is not None:
        return *found, "targets"
    raise NotTrusted(f"the trust data have no {reference.tag or reference.digest}; {RETIRED}")


def _pick(signed: dict[str, Any], reference: Reference) -> tuple[str, int] | None:
    rows = strict.mapping(signed, "targets", "Targets")
    if reference.tag:
        return tuf.target_digest(rows[reference.tag]) if reference.tag in rows else None
    for row in rows.values():
        if (found := tuf.target_digest(row))[0] == reference.digest:
            return found
    return None


def _delegation(targets: dict[str, Any]) -> Role | None:
    """The role ``targets/releases``, if there is one for every name."""
    delegations = strict.mapping(targets, "delegations", "Targets")
    for row in strict.items(delegations, "roles", "Targets", tuf.KEYS):
        if row.get("name") == RELEASES and "" in (row.get("paths") or []):
            return tuf.role_of(tuf.read_keys(strict.mapping(delegations, "keys", "Targets")), row, RELEASES)
    return None
