"""Attacks on image trust, and honest images: real signatures by cosign, skopeo, openssl and gpg, in a real registry.

Every attack is refused, for its own reason; every honest image is accepted; and cosign is asked too.  Where it says
something else, the table says why.
"""

from __future__ import annotations

import base64
import json
import os
import re
import secrets
import shutil
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from irkit.cli.main import run
from irkit.evidence import dsse
from irkit.trust import denied
from irkit.trust.model import Verdict
from irkit.trust.policy import load_policy
from irkit.trust.verify import verify
from tests.fakes import signers
from tests.fakes.registry import OCI, Registry, Reply, free_port, serving, sha256
from tests.fakes.signers import Cosign, bundle, jws, put_bundle, put_notation, put_signature, raw_sign, simple


@pytest.fixture(scope="session")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    with serving(tmp_path_factory.mktemp("registry")) as found:
        yield found


@pytest.fixture(scope="session")
def cosign(tmp_path_factory: pytest.TempPathFactory) -> Cosign:
    found = Cosign(signers.tool("cosign"), tmp_path_factory.mktemp("cosign"))
    for name in ("alice", "bob", "mallory"):
        found.key(name)
    return found


@dataclass
class Case:
    """One repository, and the questions about it."""

    registry: Registry
    cosign: Cosign
    folder: Path
    repo: str
    reference: str = ""
    tops: dict[str, Any] = field(default_factory=dict)
    cosign_too: bool = False
    """Whether cosign is asked at the same moment as irkit, while the registry lies; what it said is in ``cosign_said``."""
    cosign_said: bool | None = None

    @property
    def name(self) -> str:
        return f"{self.registry.address}/{self.repo}"

    def image(self, tag: str = "1", **about: Any) -> str:
        return self.registry.image(self.repo, tag, **about)

    def signed(self, tag: str = "1", key: str = "alice", **about: Any) -> str:
        """An image with a real signature by cosign."""
        digest = self.image(tag, **about)
        self.cosign.sign(f"{self.name}@{digest}", key)
        return digest

    def forged(self, digest: str, *payloads: tuple[Any, str]) -> None:
        """Signatures over payloads that cosign would not make: documents or bytes, and the key's name."""
        rows = []
        for document, key in payloads:
            data = document if isinstance(document, bytes) else json.dumps(document).encode()
            rows.append((data, raw_sign(self.cosign.private(key), data)))
        put_signature(self.registry, self.repo, digest, rows)

    def asked(
        self, reference: str = "", *, keys: dict[str, Any] | None = None, seconds: float = 20, **rule: Any
    ) -> Verdict:
        """irkit's verdict by a policy of one rule."""
        self.reference = reference or f"{self.name}:1"
        known = keys or {name: {"public_key": str(self.cosign.folder / f"{name}.pub")} for name in ("alice",)}
        document = {
            "apiVersion": "irkit/v1", "kind": "TrustPolicy", "keys": known, **self.tops,
            "repositories": [{"match": f"{self.registry.address}/**", "keys": list(known), **rule}],
        }  # fmt: skip
        path = self.folder / "trust.yaml"
        path.write_text(json.dumps(document))
        verdict = verify(self.reference, load_policy(path), seconds=seconds)
        if self.cosign_too:
            self.cosign_said = self.cosign.verifies(self.reference)
        return verdict

    def pub(self, name: str, **more: Any) -> dict[str, Any]:
        return {"public_key": str(self.cosign.folder / f"{name}.pub"), **more}


@pytest.fixture
def case(registry: Registry, cosign: Cosign, tmp_path: Path) -> Case:
    return Case(registry, cosign, tmp_path, f"team/r{secrets.token_hex(4)}")


@dataclass(frozen=True)
class Row:
    """``cosign``: what it says of the same reference, ``None`` where it can't be asked; ``why``: of a difference."""

    ask: Callable[[Case], Verdict]
    good: bool
    reason: str
    cosign: bool | None
    why: str


ROWS: dict[str, Row] = {}


def attack(reason: str, *, cosign: bool | None, why: str = "") -> Callable[[Callable[[Case], Verdict]], None]:
    def add(ask: Callable[[Case], Verdict]) -> None:
        assert not cosign or why, "a difference is explained"
        ROWS[ask.__name__] = Row(ask, False, reason, cosign, why)

    return add


def honest(*, cosign: bool | None = True, why: str = "") -> Callable[[Callable[[Case], Verdict]], None]:
    def add(ask: Callable[[Case], Verdict]) -> None:
        assert cosign is not False or why, "a difference is explained"
        ROWS[ask.__name__] = Row(ask, True, "", cosign, why)

    return add


IGNORES_TYPE = "cosign does not look at critical.type"
IGNORES_NAMES = "cosign does not compare docker-reference"
NO_POLICY = "cosign has no such policy"
OTHER_KIND = "cosign 2.5 looks for its own kinds only"


# -- honest images --------------------------------------------------------------------------------------------------


@honest()
def by_tag(case: Case) -> Verdict:
    case.signed()
    return case.asked()


@honest()
def by_digest(case: Case) -> Verdict:
    return case.asked(f"{case.name}@{case.signed()}")


@honest(cosign=False, why="cosign 2.5 looks by referrers only when told to")
def by_referrers(case: Case) -> Verdict:
    digest = case.image()
    case.cosign.sign_as_referrer(f"{case.name}@{digest}")
    return case.asked()


@honest(cosign=False, why="cosign 2.5 verifies such bundles as attestations only")
def a_real_bundle(case: Case) -> Verdict:
    digest = case.image()
    case.cosign.attest(f"{case.name}@{digest}")
    return case.asked(accept=["bundle"], without_repository="accept")


@honest(cosign=False, why="cosign 2.5 verifies such bundles as attestations only")
def a_bundle_as_cosign_3_writes_it(case: Case) -> Verdict:
    digest = case.image()
    put_bundle(case.registry, case.repo, digest, bundle(case.cosign.private("alice"), digest))
    return case.asked(accept=["bundle"], without_repository="accept")


@honest()
def an_index(case: Case) -> Verdict:
    index = case.registry.index(
        case.repo, {p: case.image("", text=p, platform=p) for p in ("linux/amd64", "linux/arm64")}, "1"
    )
    case.cosign.sign(f"{case.name}@{index}")
    return case.asked()


@honest(cosign=False, why="cosign wants the index's own signature; here the policy takes the platform's")
def a_signed_platform_where_the_policy_takes_it(case: Case) -> Verdict:
    child = case.image("", platform="linux/amd64")
    case.registry.index(case.repo, {"linux/amd64": child}, "1")
    case.cosign.sign(f"{case.name}@{child}")
    return case.asked(signed="platform")


@honest()
def a_signed_platform_asked_for_by_its_digest(case: Case) -> Verdict:
    child = case.image("", platform="linux/amd64")
    case.registry.index(case.repo, {"linux/amd64": child}, "1")
    case.cosign.sign(f"{case.name}@{child}")
    return case.asked(f"{case.name}@{child}")


@honest()
def one_good_among_bad_ones(case: Case) -> Verdict:
    digest = case.image()
    good = simple(digest, case.name)
    case.forged(
        digest,
        (good, "mallory"),
        (simple("sha256:" + "0" * 64, case.name), "alice"),
        (good, "alice"),
        (b"not JSON", "alice"),
    )
    return case.asked()


@honest()
def the_good_one_last_of_many(case: Case) -> Verdict:
    digest = case.image()
    bad = [(simple(digest, case.name) | {"optional": {"n": str(n)}}, "mallory") for n in range(60)]
    case.forged(digest, *bad, (simple(digest, case.name), "alice"))
    return case.asked()


@honest()
def two_of_two_keys(case: Case) -> Verdict:
    digest = case.signed()
    case.cosign.sign(f"{case.name}@{digest}", "bob")
    return case.asked(keys={"alice": case.pub("alice"), "bob": case.pub("bob")}, threshold=2)


@honest()
def with_its_annotation(case: Case) -> Verdict:
    case.cosign.sign(f"{case.name}@{case.image()}", "alice", "-a", "env=prod")
    return case.asked(annotations={"env": "prod"})


@honest()
def new_enough(case: Case) -> Verdict:
    case.signed(labels={"org.opencontainers.image.version": "1.10.0"})
    return case.asked(minimum_version="1.9.3")


@honest()
def on_the_allow_list(case: Case) -> Verdict:
    return case.asked(digests=[case.signed()])


@honest(cosign=True)
def by_skopeo(case: Case) -> Verdict:
    """skopeo's sigstore signatures name the tag, too."""
    case.image("plain")
    _skopeo(case, "alice")
    return case.asked()


@honest(cosign=False, why=OTHER_KIND)
def by_gpg(case: Case) -> Verdict:
    gpg, fingerprint = _gpg(case)
    digest = case.image()
    blob = gpg.sign(fingerprint, json.dumps(simple(digest, f"{case.name}:1", "atomic container signature")).encode())
    return _ask_gpg(case, gpg, fingerprint, digest, blob)


@honest(cosign=False, why=OTHER_KIND)
def by_gpg_through_the_extension(case: Case) -> Verdict:
    gpg, fingerprint = _gpg(case)
    digest = case.image()
    blob = gpg.sign(fingerprint, json.dumps(simple(digest, f"{case.name}:1", "atomic container signature")).encode())
    rows = {
        "signatures": [
            {"schemaVersion": 2, "name": f"{digest}@x", "type": "atomic", "content": base64.b64encode(blob).decode()}
        ]
    }

    def serve(path: str, reply: Reply) -> Reply:
        return Reply(200, {"Content-Type": "application/json"}, json.dumps(rows).encode())

    def offer(path: str, reply: Reply) -> Reply:
        return Reply(reply.status, {**reply.headers, "X-Registry-Supports-Signatures": "1"}, reply.body)

    with case.registry.lying(r"/extensions/v2/", serve), case.registry.lying(r"^/v2/$", offer):
        return _ask_gpg(case, gpg, fingerprint, digest, None)


@honest(cosign=False, why=OTHER_KIND)
def by_skopeo_with_gpg(case: Case) -> Verdict:
    gpg, fingerprint = _gpg(case)
    digest = case.image()
    body = case.registry.call("GET", f"/v2/{case.repo}/manifests/{digest}", Accept=OCI).body
    (case.folder / "manifest.json").write_bytes(body)
    done = subprocess.run(
        [signers.tool("skopeo"), "standalone-sign", case.folder / "manifest.json", f"{case.name}:1", fingerprint, "-o", case.folder / "sig"],
        env=os.environ | {"GNUPGHOME": str(gpg.folder)}, capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return _ask_gpg(case, gpg, fingerprint, digest, (case.folder / "sig").read_bytes())


@honest(cosign=False, why=OTHER_KIND)
def by_notation(case: Case) -> Verdict:
    issued, digest = signers.issue(case.folder / "ca"), case.image()
    put_notation(case.registry, case.repo, digest, jws(issued, digest))
    return _ask_notation(case, issued, annotations={"env": "prod"})


@honest(cosign=False, why=OTHER_KIND)
def by_notation_before_its_expiry(case: Case) -> Verdict:
    issued, digest = signers.issue(case.folder / "ca"), case.image()
    put_notation(case.registry, case.repo, digest, jws(issued, digest, headers=_expiry("2099-01-01T00:00:00Z")))
    return _ask_notation(case, issued)


# -- attacks: cosign's kinds ----------------------------------------------------------------------------------------


@attack(r"there is no signature", cosign=False)
def unsigned(case: Case) -> Verdict:
    case.image()
    return case.asked()


@attack(r"none of the rule's keys", cosign=False)
def wrong_key(case: Case) -> Verdict:
    case.signed(key="mallory")
    return case.asked()


@attack(r"none of the rule's keys", cosign=False)
def flipped_byte_in_the_payload(case: Case) -> Verdict:
    digest = case.signed()
    payload, signature = _signature(case, digest)
    put_signature(
        case.registry, case.repo, digest, [(payload.replace(b"cosign container", b"cosigN container"), signature)]
    )
    return case.asked()


@attack(r"none of the rule's keys", cosign=False)
def flipped_byte_in_the_signature(case: Case) -> Verdict:
    digest = case.signed()
    payload, signature = _signature(case, digest)
    flipped = signature[:20] + ("A" if signature[20] != "A" else "B") + signature[21:]
    put_signature(case.registry, case.repo, digest, [(payload, flipped)])
    return case.asked()


@attack(r"its base64 can't be read", cosign=False)
def a_signature_that_is_no_base64(case: Case) -> Verdict:
    digest = case.signed()
    put_signature(case.registry, case.repo, digest, [(_signature(case, digest)[0], "é!")])
    return case.asked()


@attack(r"no signature in it", cosign=False)
def an_empty_signature(case: Case) -> Verdict:
    digest = case.signed()
    put_signature(case.registry, case.repo, digest, [(_signature(case, digest)[0], "")])
    return case.asked()


@attack(r"there are no signatures in it", cosign=False)
def an_empty_list_of_signatures(case: Case) -> Verdict:
    put_signature(case.registry, case.repo, case.image(), [])
    return case.asked()


@attack(r"there is no signature over", cosign=False)
def flipped_byte_in_the_manifest(case: Case) -> Verdict:
    """By the owner of the registry: the tag now leads to a manifest with one more space, which nobody signed."""
    digest = case.signed()
    body = case.registry.call("GET", f"/v2/{case.repo}/manifests/{digest}", Accept=OCI).body
    case.registry.manifest(case.repo, body.replace(b'{"schemaVersion"', b'{ "schemaVersion"'), "1")
    return case.asked()


@attack(r"it is over sha256:", cosign=False)
def a_signature_over_another_digest(case: Case) -> Verdict:
    other = case.signed("other", text="other")
    digest = case.image()
    put_signature(case.registry, case.repo, digest, [_signature(case, other)])
    return case.asked()


@attack(r"it is for .*/team/elsewhere, not for", cosign=True, why=IGNORES_NAMES)
def a_signature_copied_from_another_repository(case: Case) -> Verdict:
    digest = case.image()
    case.registry.image("team/elsewhere", "1")
    case.cosign.sign(f"{case.registry.address}/team/elsewhere@{digest}")
    found = _signature(case, digest, "team/elsewhere")
    put_signature(case.registry, case.repo, digest, [found])
    return case.asked()


@attack(r"it is for .*TEAM", cosign=True, why=IGNORES_NAMES)
def a_name_in_another_case(case: Case) -> Verdict:
    digest = case.image()
    case.forged(digest, (simple(digest, case.name.replace("team", "TEAM")), "alice"))
    return case.asked()


@attack(r"it is for 127\.0\.0\.1/team", cosign=True, why=IGNORES_NAMES)
def a_name_with_another_port(case: Case) -> Verdict:
    digest = case.image()
    case.forged(digest, (simple(digest, f"127.0.0.1/{case.repo}"), "alice"))
    return case.asked()


@attack(r"it is for .*/evil, not for", cosign=True, why=IGNORES_NAMES)
def a_name_with_a_longer_path(case: Case) -> Verdict:
    digest = case.image()
    case.forged(digest, (simple(digest, f"{case.name}/evil"), "alice"))
    return case.asked()


@attack(r"it is for .*\.\./", cosign=True, why=IGNORES_NAMES)
def a_name_with_dots(case: Case) -> Verdict:
    digest = case.image()
    case.forged(digest, (simple(digest, f"{case.registry.address}/x/../{case.repo}"), "alice"))
    return case.asked()


@attack(r"it is for \(none\)", cosign=True, why=IGNORES_NAMES)
def no_name(case: Case) -> Verdict:
    digest = case.image()
    case.forged(digest, (simple(digest, ""), "alice"))
    return case.asked()


@attack(r"it is for .*:2, not for", cosign=True, why="cosign does not compare the tag")
def another_tag_where_the_policy_wants_the_same(case: Case) -> Verdict:
    digest = case.image()
    case.forged(digest, (simple(digest, f"{case.name}:2"), "alice"))
    return case.asked(identity="exact")


@attack(r"the payload is a 'cosign container image something'", cosign=True, why=IGNORES_TYPE)
def an_unexpected_payload_type(case: Case) -> Verdict:
    digest = case.image()
    case.forged(digest, (simple(digest, case.name, "cosign container image something"), "alice"))
    return case.asked()


@attack(r"the payload is a 'atomic container signature'", cosign=True, why=IGNORES_TYPE)
def a_payload_of_gpgs_type_under_cosigns_name(case: Case) -> Verdict:
    digest = case.image()
    case.forged(digest, (simple(digest, case.name, "atomic container signature"), "alice"))
    return case.asked()


@attack(r"stands there twice", cosign=True, why="Go's reader takes the last of equal keys")
def a_key_twice_in_the_payload(case: Case) -> Verdict:
    digest = case.image()
    text = json.dumps(simple("sha256:" + "0" * 64, case.name)).replace(
        '"type"', f'"image": {{"docker-manifest-digest": "{digest}"}}, "type"'
    )
    case.forged(digest, (text.encode(), "alice"))
    return case.asked()


@attack(r"unknown or missing members", cosign=True, why="cosign passes over members that it does not know")
def an_unknown_member_in_the_payload(case: Case) -> Verdict:
    digest = case.image()
    document = simple(digest, case.name)
    document["critical"]["valid-only-until"] = "yesterday"
    case.forged(digest, (document, "alice"))
    return case.asked()


@attack(r"signed by 1 of 2 keys needed: no other key", cosign=True, why=NO_POLICY)
def one_key_signing_twice(case: Case) -> Verdict:
    digest = case.image()
    one, two = simple(digest, case.name), simple(digest, case.name) | {"optional": {"again": "yes"}}
    case.forged(digest, (one, "alice"), (two, "alice"))
    return case.asked(keys={"alice": case.pub("alice"), "bob": case.pub("bob")}, threshold=2)


@attack(r"signed by 1 of 2 keys", cosign=True, why=NO_POLICY)
def one_key_under_two_names(case: Case) -> Verdict:
    case.signed()
    return case.asked(keys={"alice": case.pub("alice"), "again": case.pub("alice")}, threshold=2)


@attack(r"its annotation env is not 'prod' but", cosign=True, why=NO_POLICY)
def a_missing_annotation(case: Case) -> Verdict:
    case.signed()
    return case.asked(annotations={"env": "prod"})


@attack(r"its annotation env is not 'prod' but test", cosign=True, why=NO_POLICY)
def another_annotation(case: Case) -> Verdict:
    case.cosign.sign(f"{case.name}@{case.image()}", "alice", "-a", "env=test")
    return case.asked(annotations={"env": "prod"})


@attack(r"it was good until 2020", cosign=True, why=NO_POLICY)
def an_expired_key(case: Case) -> Verdict:
    case.signed()
    return case.asked(keys={"alice": case.pub("alice", valid_until="2020-01-01")})


@attack(r"it is good from 2099", cosign=True, why=NO_POLICY)
def a_key_that_is_not_good_yet(case: Case) -> Verdict:
    case.signed()
    return case.asked(keys={"alice": case.pub("alice", valid_from="2099-01-01")})


@attack(r"the policy revokes it", cosign=True, why=NO_POLICY)
def a_revoked_key(case: Case) -> Verdict:
    case.signed()
    case.tops = {"revoked": {"keys": ["alice"]}}
    return case.asked()


@attack(r"it was revoked as of", cosign=True, why=NO_POLICY)
def a_key_that_the_key_ring_knows_as_revoked(case: Case) -> Verdict:
    case.signed()
    pub = str(case.cosign.folder / "alice.pub")
    assert run(["key", "trust", pub, "--name", "ring", "--use", "image"]) == 0
    assert run(["key", "revoke", "ring", "--why", "stolen"]) == 0
    return case.asked()


@attack(r"the policy revokes sha256:", cosign=True, why=NO_POLICY)
def a_revoked_digest(case: Case) -> Verdict:
    case.tops = {"revoked": {"digests": [case.signed()]}}
    return case.asked()


@attack(r"is denied here since .*: cryptominer", cosign=True, why=NO_POLICY)
def a_denied_digest(case: Case) -> Verdict:
    denied.add([case.signed()], "cryptominer")
    return case.asked()


@attack(r"is denied here", cosign=True, why=NO_POLICY)
def a_denied_layer(case: Case) -> Verdict:
    digest = case.signed()
    denied.add([case.registry.get(case.repo, digest)["layers"][0]["digest"]], "")
    return case.asked()


@attack(r"it is version 1\.9\.2, and the policy asks for 1\.10\.0", cosign=True, why=NO_POLICY)
def an_older_image_that_was_signed_well(case: Case) -> Verdict:
    label = "org.opencontainers.image.version"
    old = case.signed("old", labels={label: "1.9.2"}, text="old")
    case.signed("1", labels={label: "1.10.0"}, text="new")
    assert case.asked(minimum_version="1.10.0").accepted
    body = case.registry.call("GET", f"/v2/{case.repo}/manifests/{old}", Accept=OCI).body
    case.registry.manifest(case.repo, body, "1")  # the tag is put back
    return case.asked(minimum_version="1.10.0")


@attack(r"its label .* is no version \(''\)", cosign=True, why=NO_POLICY)
def an_image_without_a_version_where_one_is_asked_for(case: Case) -> Verdict:
    case.signed()
    return case.asked(minimum_version="1.0")


@attack(r"not among the 1 digests", cosign=True, why=NO_POLICY)
def not_on_the_allow_list(case: Case) -> Verdict:
    case.signed()
    return case.asked(digests=["sha256:" + "1" * 64])


@attack(r"there is no signature over", cosign=False)
def platform_signed_but_index_not(case: Case) -> Verdict:
    child = case.image("", platform="linux/amd64")
    case.registry.index(case.repo, {"linux/amd64": child}, "1")
    case.cosign.sign(f"{case.name}@{child}")
    return case.asked()


@attack(r"there is no signature over", cosign=False)
def index_signed_and_its_child_asked_for_by_digest(case: Case) -> Verdict:
    """That the child stands in a signed index can't be seen from the child."""
    child = case.image("", platform="linux/amd64")
    case.cosign.sign(f"{case.name}@{case.registry.index(case.repo, {'linux/amd64': child}, '1')}")
    return case.asked(f"{case.name}@{child}")


@attack(
    r"the registry answers sha256:.* with a manifest of the digest", cosign=True, why="cosign verifies the index alone"
)
def index_signed_and_child_swapped(case: Case) -> Verdict:
    child, evil = case.image("", platform="linux/amd64"), case.image("evil", text="evil")
    case.cosign.sign(f"{case.name}@{case.registry.index(case.repo, {'linux/amd64': child}, '1')}")
    with case.registry.lying(re.escape(child), _instead(case, evil)):
        return case.asked()


@attack(
    r"stands in its index for linux/amd64, but is of linux/arm64", cosign=True, why="cosign verifies the index alone"
)
def a_child_of_another_platform(case: Case) -> Verdict:
    child = case.image("", platform="linux/arm64")
    case.cosign.sign(f"{case.name}@{case.registry.index(case.repo, {'linux/amd64': child}, '1')}")
    return case.asked()


@attack(r"has no manifests for linux/amd64", cosign=True, why="cosign verifies the index alone")
def an_index_without_this_platform(case: Case) -> Verdict:
    child = case.image("", platform="linux/arm64")
    case.cosign.sign(f"{case.name}@{case.registry.index(case.repo, {'linux/arm64': child}, '1')}")
    return case.asked()


# -- attacks: a registry that lies ----------------------------------------------------------------------------------


@attack(
    r"the registry says that its manifest has the digest",
    cosign=True,
    why="cosign goes by the bytes that it gets",
)
def a_wrong_content_digest(case: Case) -> Verdict:
    case.signed()

    def lie(path: str, reply: Reply) -> Reply:
        return Reply(reply.status, {**reply.headers, "Docker-Content-Digest": "sha256:" + "0" * 64}, reply.body)

    with case.registry.lying(r"/manifests/1$", lie):
        return case.asked()


@attack(
    r"the registry answers sha256:.* with a manifest of the digest",
    cosign=True,
    why="cosign takes the digest that was asked for, and does not fetch what it names",
)
def another_manifest_for_a_digest(case: Case) -> Verdict:
    digest, evil = case.signed(), case.image("evil", text="evil")
    with case.registry.lying(rf"/manifests/{digest}$", _instead(case, evil)):
        return case.asked(f"{case.name}@{digest}")


@attack(r"the registry's blob sha256:.* has the digest", cosign=True, why="cosign does not read the configuration")
def another_configuration_for_its_digest(case: Case) -> Verdict:
    digest = case.signed()
    config = case.registry.get(case.repo, digest)["config"]["digest"]
    with case.registry.lying(
        config, lambda path, reply: Reply(200, reply.headers, reply.body.replace(b"/bin/sh", b"/bin/ev"))
    ):
        return case.asked()


@attack(r"bytes, 4194304 are the limit", cosign=False)
def an_oversized_manifest(case: Case) -> Verdict:
    case.signed()
    with case.registry.lying(
        r"/manifests/1$", lambda path, reply: Reply(200, reply.headers, reply.body + b" " * (5 << 20))
    ):
        return case.asked()


@attack(r"bytes, 1048576 are the limit", cosign=False)
def an_oversized_signature(case: Case) -> Verdict:
    digest = case.signed()
    blob = sha256(_signature(case, digest)[0])
    with case.registry.lying(blob, lambda path, reply: Reply(200, reply.headers, b" " * (2 << 20))):
        return case.asked()


@attack(r"the tag moved while it was checked", cosign=False)
def the_tag_moves_while_it_is_checked(case: Case) -> Verdict:
    case.signed()
    evil = case.image("evil", text="evil")
    seen: list[str] = []

    def lie(path: str, reply: Reply) -> Reply:
        seen.append(path)
        return reply if len(seen) == 1 else _instead(case, evil)(path, reply)

    with case.registry.lying(r"/manifests/1$", lie):
        return case.asked()


@attack(r"does not answer as it should", cosign=False)
def a_registry_that_breaks_off(case: Case) -> Verdict:
    case.signed()
    with case.registry.lying(case.repo, lambda path, reply: None):
        return case.asked()


@attack(r"no answer within|nothing came for", cosign=None)
def a_registry_that_hangs(case: Case) -> Verdict:
    case.signed()

    def lie(path: str, reply: Reply) -> Reply:
        time.sleep(4)
        return reply

    began = time.monotonic()
    with case.registry.lying(case.repo, lie):
        verdict = case.asked(seconds=1.5)
    assert time.monotonic() - began < 3.5
    return verdict


@attack(r"no answer within", cosign=None)
def a_registry_that_sends_a_byte_at_a_time(case: Case) -> Verdict:
    with _trickling() as address:
        began = time.monotonic()
        verdict = case.asked(f"{address}/team/web:1", seconds=1.5, match="**")
        assert time.monotonic() - began < 4
    return verdict


@attack(r"does not answer as it should: Connection refused", cosign=False)
def a_registry_that_is_down(case: Case) -> Verdict:
    return case.asked(f"127.0.0.1:{free_port()}/team/web:1", match="**")


@attack(r"sends irkit on to http://127\.0\.0\.2", cosign=False)
def a_redirect_to_another_host(case: Case) -> Verdict:
    case.signed()
    away = {"Location": "http://127.0.0.2:9/v2/x/manifests/1"}
    with case.registry.lying(r"/manifests/1$", lambda path, reply: Reply(307, away, b"")):
        return case.asked()


@attack(r"no address of this machine|not an address to be asked|does not answer", cosign=False)
def a_blob_redirected_into_the_network(case: Case) -> Verdict:
    case.signed()
    away = {"Location": "http://10.255.255.1/latest/meta-data"}
    with case.registry.lying(r"/blobs/", lambda path, reply: Reply(307, away, b"")):
        return case.asked(seconds=2)


@attack(r"could be taken for an index", cosign=False)
def a_manifest_that_is_an_index_too(case: Case) -> Verdict:
    digest = case.signed()
    document = case.registry.get(case.repo, digest) | {"manifests": []}
    body = json.dumps(document).encode()
    headers = {"Content-Type": OCI, "Docker-Content-Digest": sha256(body)}
    with case.registry.lying(r"/manifests/1$", lambda path, reply: Reply(200, headers, body)):
        return case.asked()


@attack(r"stands there twice", cosign=False)
def a_manifest_with_config_and_Config(case: Case) -> Verdict:
    digest = case.signed()
    document = case.registry.get(case.repo, digest)
    body = json.dumps(document | {"Config": document["config"]}).encode()
    with case.registry.lying(r"/manifests/1$", lambda path, reply: Reply(200, {"Content-Type": OCI}, body)):
        return case.asked()


# -- attacks: bundles and referrers ---------------------------------------------------------------------------------


@attack(r"it refers to sha256:.*, not to", cosign=False)
def a_referrer_with_another_subject(case: Case) -> Verdict:
    digest, other = case.image(), case.image("other", text="other")
    blob = case.registry.blob(case.repo, json.dumps(bundle(case.cosign.private("alice"), digest)).encode())
    case.registry.refer(
        case.repo, other, [{"mediaType": dsse.SIGSTORE_BUNDLE, **blob}], dsse.SIGSTORE_BUNDLE, listed_under=digest
    )
    return case.asked(accept=["bundle"], without_repository="accept")


@attack(r"it is over sha256:.*, not over", cosign=False)
def a_bundle_over_another_image(case: Case) -> Verdict:
    digest, other = case.image(), case.image("other", text="other")
    put_bundle(case.registry, case.repo, digest, bundle(case.cosign.private("alice"), other))
    return case.asked(accept=["bundle"], without_repository="accept")


@attack(r"it states https://slsa.dev/provenance/v1", cosign=False)
def an_unexpected_predicate_type(case: Case) -> Verdict:
    digest = case.image()
    case.cosign.attest(f"{case.name}@{digest}", kind="https://slsa.dev/provenance/v1")
    return case.asked(accept=["bundle"], without_repository="accept")


@attack(r"the envelope holds text/plain", cosign=False)
def another_payload_type_in_the_envelope(case: Case) -> Verdict:
    digest = case.image()
    put_bundle(case.registry, case.repo, digest, bundle(case.cosign.private("alice"), digest, kind="text/plain"))
    return case.asked(accept=["bundle"], without_repository="accept")


@attack(r"none of the rule's keys made it", cosign=False)
def an_envelope_without_signatures(case: Case) -> Verdict:
    digest = case.image()
    put_bundle(case.registry, case.repo, digest, bundle(case.cosign.private("alice"), digest, signatures=[]))
    return case.asked(accept=["bundle"], without_repository="accept")


@attack(r"none of the rule's keys made it", cosign=False)
def a_bundle_by_another_key(case: Case) -> Verdict:
    digest = case.image()
    put_bundle(case.registry, case.repo, digest, bundle(case.cosign.private("mallory"), digest))
    return case.asked(accept=["bundle"], without_repository="accept")


@attack(r"made with a certificate \(keyless\)", cosign=False)
def a_keyless_bundle(case: Case) -> Verdict:
    digest = case.image()
    document = bundle(case.cosign.private("mallory"), digest) | {
        "verificationMaterial": {"certificate": {"rawBytes": "AA=="}}
    }
    put_bundle(case.registry, case.repo, digest, document)
    return case.asked(accept=["bundle"], without_repository="accept")


@attack(r"it names no repository, and the policy does not accept such", cosign=False)
def a_bundle_where_the_policy_wants_a_name(case: Case) -> Verdict:
    digest = case.image()
    put_bundle(case.registry, case.repo, digest, bundle(case.cosign.private("alice"), digest))
    return case.asked(accept=["cosign", "bundle"])


@attack(r"its envelope is of the type|there is no signature over", cosign=False)
def a_kind_that_the_policy_does_not_accept(case: Case) -> Verdict:
    digest = case.image()
    put_bundle(case.registry, case.repo, digest, bundle(case.cosign.private("alice"), digest))
    return case.asked(accept=["cosign"], without_repository="accept")


# -- attacks: gpg ---------------------------------------------------------------------------------------------------


@attack(r"by an unknown key", cosign=False)
def gpg_by_an_unknown_key(case: Case) -> Verdict:
    gpg, fingerprint = _gpg(case)
    mallory = gpg.key("mallory")
    digest = case.image()
    blob = gpg.sign(mallory, json.dumps(simple(digest, case.name, "atomic container signature")).encode())
    return _ask_gpg(case, gpg, fingerprint, digest, blob)


@attack(r"by a key that has expired", cosign=False)
def gpg_by_an_expired_key(case: Case) -> Verdict:
    gpg, _ = _gpg(case)
    when = ("--faked-system-time", "20200101T120000")
    fingerprint = gpg.key("old", *when)
    digest = case.image()
    blob = gpg.sign(fingerprint, json.dumps(simple(digest, case.name, "atomic container signature")).encode(), *when)
    return _ask_gpg(case, gpg, fingerprint, digest, blob, key="old")


@attack(r"it is by the key|by an unknown key", cosign=False)
def gpg_by_another_key_of_the_same_file(case: Case) -> Verdict:
    gpg, fingerprint = _gpg(case)
    mallory = gpg.key("mallory")
    (gpg.folder / "ops.asc").write_bytes(gpg.run("--armor", "--export", fingerprint, mallory))
    digest = case.image()
    blob = gpg.sign(mallory, json.dumps(simple(digest, case.name, "atomic container signature")).encode())
    return _ask_gpg(case, gpg, fingerprint, digest, blob)


@attack(r"it is for .*/team/elsewhere", cosign=False)
def gpg_copied_from_another_repository(case: Case) -> Verdict:
    gpg, fingerprint = _gpg(case)
    digest = case.image()
    payload = simple(digest, f"{case.registry.address}/team/elsewhere:1", "atomic container signature")
    return _ask_gpg(case, gpg, fingerprint, digest, gpg.sign(fingerprint, json.dumps(payload).encode()))


@attack(r"not over these bytes|no OpenPGP signature|not one message", cosign=False)
def gpg_with_a_flipped_byte(case: Case) -> Verdict:
    gpg, fingerprint = _gpg(case)
    digest = case.image()
    plain = json.dumps(simple(digest, case.name, "atomic container signature")).encode()
    blob = gpg.run("--local-user", fingerprint, "--compress-algo", "none", "--sign", data=plain)
    assert b"atomic" in blob
    return _ask_gpg(case, gpg, fingerprint, digest, blob.replace(b"atomic", b"atomiC"))


@attack(r"no OpenPGP signature|not one message", cosign=False)
def gpg_without_a_signature(case: Case) -> Verdict:
    gpg, fingerprint = _gpg(case)
    digest = case.image()
    return _ask_gpg(case, gpg, fingerprint, digest, gpg.run("--store", data=json.dumps(simple(digest, case.name, "atomic container signature")).encode()))  # fmt: skip


# -- attacks: notation ----------------------------------------------------------------------------------------------


def _notation(case: Case, **how: Any) -> Verdict:
    issued, digest = signers.issue(case.folder / "ca"), case.image()
    put_notation(case.registry, case.repo, digest, jws(issued, digest, **how))
    return _ask_notation(case, issued)


@attack(r"its algorithm is none; its key's is ES256", cosign=False)
def notation_with_alg_none(case: Case) -> Verdict:
    return _notation(case, headers={"alg": "none"})


@attack(r"its algorithm is HS256", cosign=False)
def notation_with_a_symmetric_algorithm(case: Case) -> Verdict:
    return _notation(case, headers={"alg": "HS256"})


@attack(r"it expired at 2020", cosign=False)
def notation_that_expired(case: Case) -> Verdict:
    return _notation(case, headers=_expiry("2020-01-01T00:00:00Z"))


@attack(r"critical headers are not those", cosign=False)
def notation_with_an_expiry_that_is_not_critical(case: Case) -> Verdict:
    return _notation(case, headers={"io.cncf.notary.expiry": "2099-01-01T00:00:00Z"})


@attack(r"critical headers are not those", cosign=False)
def notation_with_an_unknown_critical_header(case: Case) -> Verdict:
    return _notation(case, headers={"crit": ["io.cncf.notary.signingScheme", "io.cncf.notary.verificationPlugin"], "io.cncf.notary.verificationPlugin": "x"})  # fmt: skip


@attack(r"does not say which of its headers are critical", cosign=False)
def notation_without_crit(case: Case) -> Verdict:
    return _notation(case, drop=("crit",))


@attack(r"its signature is not over these bytes", cosign=False)
def notation_with_an_altered_payload(case: Case) -> Verdict:
    return _notation(case, alter=True)


@attack(r"not one for code signing alone", cosign=False)
def notation_by_a_certificate_for_servers(case: Case) -> Verdict:
    issued, digest = signers.issue(case.folder / "ca", eku="serverAuth"), case.image()
    put_notation(case.registry, case.repo, digest, jws(issued, digest))
    return _ask_notation(case, issued)


@attack(r"not one for code signing alone", cosign=False)
def notation_by_a_certificate_for_nothing_in_particular(case: Case) -> Verdict:
    issued, digest = signers.issue(case.folder / "ca", eku=""), case.image()
    put_notation(case.registry, case.repo, digest, jws(issued, digest))
    return _ask_notation(case, issued)


@attack(r"does not lead to a certificate that is trusted here", cosign=False)
def notation_by_another_authority(case: Case) -> Verdict:
    issued, other, digest = signers.issue(case.folder / "ca"), signers.issue(case.folder / "other"), case.image()
    put_notation(case.registry, case.repo, digest, jws(other, digest))
    return _ask_notation(case, issued)


@attack(r"its certificate is of .*CN=release.*, which the policy does not name", cosign=False)
def notation_by_another_identity(case: Case) -> Verdict:
    issued, digest = signers.issue(case.folder / "ca"), case.image()
    put_notation(case.registry, case.repo, digest, jws(issued, digest))
    return _ask_notation(case, issued, identity="C=US,O=Example,CN=somebody")


@attack(r"it is over sha256:.*, not over", cosign=False)
def notation_over_another_image(case: Case) -> Verdict:
    issued, digest, other = signers.issue(case.folder / "ca"), case.image(), case.image("other", text="other")
    put_notation(case.registry, case.repo, digest, jws(issued, other))
    return _ask_notation(case, issued)


@attack(r"it is a COSE envelope, which irkit can't read", cosign=False)
def notation_in_cose(case: Case) -> Verdict:
    issued, digest = signers.issue(case.folder / "ca"), case.image()
    put_notation(case.registry, case.repo, digest, jws(issued, digest), "application/cose")
    return _ask_notation(case, issued)


# -- attacks: what no rule allows -----------------------------------------------------------------------------------


@attack(r"no rule of the policy matches", cosign=True, why=NO_POLICY)
def no_rule(case: Case) -> Verdict:
    case.signed()
    return case.asked(match="registry.example/**")


@attack(r"the policy denies .*: retired", cosign=True, why=NO_POLICY)
def a_rule_that_denies(case: Case) -> Verdict:
    case.signed()
    path = case.folder / "trust.yaml"
    rule = {"match": f"{case.registry.address}/**", "action": "deny", "why": "retired"}
    path.write_text(json.dumps({"apiVersion": "irkit/v1", "kind": "TrustPolicy", "repositories": [rule]}))
    case.reference = f"{case.name}:1"
    return verify(case.reference, load_policy(path))


# -- the table ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", list(ROWS))
def test_verdict(case: Case, name: str) -> None:
    row = ROWS[name]
    case.cosign_too = row.cosign is not None
    verdict = row.ask(case)
    if case.cosign_too and case.cosign_said is None:
        case.cosign_said = case.cosign.verifies(case.reference)
    told = json.dumps(verdict.to_json(), indent=1)
    assert verdict.accepted == row.good, told
    assert verdict.accepted == all(one.result != "broken" for one in verdict.links)
    if row.good:
        assert len(verdict.keys) >= verdict.threshold and verdict.config and verdict.resolved
        assert verdict.require() is verdict
    else:
        assert re.search(row.reason, verdict.reason), verdict.reason
        assert not verdict.image_id
    if row.cosign is not None:
        assert case.cosign_said == row.cosign, row.why


NAMED = {
    "wrong key": ("wrong_key",),
    "flipped byte": ("flipped_byte_in_the_payload", "flipped_byte_in_the_signature", "flipped_byte_in_the_manifest"),
    "other digest": ("a_signature_over_another_digest",),
    "one good among bad ones": ("one_good_among_bad_ones", "the_good_one_last_of_many"),
    "signature copied from another repository": ("a_signature_copied_from_another_repository",),
    "tag moved between check and create": (
        "the_tag_moves_while_it_is_checked",
    ),  # and tests/integration/test_image_chain.py
    "an older validly signed image": ("an_older_image_that_was_signed_well",),
    "platform manifest signed but index not": ("platform_signed_but_index_not",),
    "index signed and child swapped": ("index_signed_and_child_swapped",),
    "expired key": ("an_expired_key",),
    "revoked key": ("a_revoked_key",),
    "unexpected payload type": ("an_unexpected_payload_type", "another_payload_type_in_the_envelope"),
    "unexpected predicate type": ("an_unexpected_predicate_type",),
    "wrong Docker-Content-Digest": ("a_wrong_content_digest",),
    "oversized manifest": ("an_oversized_manifest",),
    "referrer with another subject": ("a_referrer_with_another_subject",),
    "registry down": ("a_registry_that_is_down",),
}
"""What the table must have at least, and its rows for it; cosign's own verdict stands beside each."""


@pytest.mark.parametrize("attacked", NAMED)
def test_each_named_attack_is_in_the_table(attacked: str) -> None:
    for name in NAMED[attacked]:
        assert ROWS[name].good == attacked.startswith("one good")
        assert ROWS[name].cosign is not None, "cosign was asked, too"


def test_the_table_is_long_enough() -> None:
    assert sum(not row.good for row in ROWS.values()) >= 25
    assert sum(row.good for row in ROWS.values()) >= 15


def test_the_command(case: Case, capsys: pytest.CaptureFixture[str]) -> None:
    case.signed()
    case.asked()
    words = ["image", "verify", case.reference, "--registry-only", "--policy", str(case.folder / "trust.yaml")]
    assert run(words) == 0
    said = capsys.readouterr()
    assert "TRUSTED" in said.out and "alice" in said.out and "asking" in said.err and "\x1b" not in said.out
    assert run([*words, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["ok"] is True
    case.image("1", text="evil")
    assert run(words) == 3
    assert "NOT TRUSTED" in capsys.readouterr().out
    assert run([*words, "--json"]) == 3
    assert json.loads(capsys.readouterr().out)["ok"] is False
    assert run([*words, "--reference", "x"]) == 2


# -- helpers --------------------------------------------------------------------------------------------------------


def _signature(case: Case, digest: str, repo: str = "") -> tuple[bytes, str]:
    """The payload and signature that cosign put there."""
    where = repo or case.repo
    row = case.registry.get(where, f"{digest.replace(':', '-')}.sig")["layers"][0]
    payload = case.registry.call("GET", f"/v2/{where}/blobs/{row['digest']}").body
    return payload, row["annotations"]["dev.cosignproject.cosign/signature"]


def _instead(case: Case, digest: str) -> Callable[[str, Reply], Reply]:
    def lie(path: str, reply: Reply) -> Reply:
        return case.registry.call("GET", f"/v2/{case.repo}/manifests/{digest}", Accept=OCI)

    return lie


def _expiry(when: str) -> dict[str, Any]:
    return {"io.cncf.notary.expiry": when, "crit": ["io.cncf.notary.signingScheme", "io.cncf.notary.expiry"]}


def _ask_notation(case: Case, issued: signers.Issued, identity: str = "C=US,O=Example", **rule: Any) -> Verdict:
    keys = {"corp": {"certificate": str(issued.ca), "identities": [identity]}}
    return case.asked(keys=keys, accept=["notation"], without_repository="accept", **rule)


def _gpg(case: Case) -> tuple[signers.Gpg, str]:
    folder = Path(tempfile.mkdtemp(prefix="g"))  # gpg-agent's socket wants a short path
    gpg = signers.Gpg(folder)
    return gpg, gpg.key("ops")


def _ask_gpg(
    case: Case, gpg: signers.Gpg, fingerprint: str, digest: str, blob: bytes | None, key: str = "ops"
) -> Verdict:
    if blob is not None:
        signers.place_lookaside(case.folder / "sigstore", case.repo, digest, 1, blob)
    case.tops = {"registries": {case.registry.address: {"lookaside": "sigstore"}}}
    try:
        return case.asked(keys={"ops": {"gpg": str(gpg.folder / f"{key}.asc"), "fingerprint": fingerprint}})
    finally:
        subprocess.run(["gpgconf", "--homedir", str(gpg.folder), "--kill", "all"], capture_output=True, check=False)
        shutil.rmtree(gpg.folder, ignore_errors=True)


def _skopeo(case: Case, key: str) -> None:
    (case.folder / "registries.d").mkdir()
    (case.folder / "registries.d" / "x.yaml").write_text(
        f"docker:\n  {case.registry.address}:\n    use-sigstore-attachments: true\n"
    )
    (case.folder / "pass").write_text("")
    done = subprocess.run(
        [
            signers.tool("skopeo"), "--registries.d", case.folder / "registries.d", "--insecure-policy", "copy", "--src-tls-verify=false",
            "--dest-tls-verify=false", "--sign-by-sigstore-private-key", case.cosign.folder / f"{key}.key",
            "--sign-passphrase-file", case.folder / "pass", f"docker://{case.name}:plain", f"docker://{case.name}:1",
        ],
        env=os.environ | signers.OFFLINE | {"HOME": str(case.folder)}, capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


@contextmanager
def _trickling() -> Iterator[str]:
    """Sends a header that never ends, a byte at a time: no single wait is long."""
    server = socket.create_server(("127.0.0.1", 0))
    ended = threading.Event()

    def serve() -> None:
        while not ended.is_set():
            try:
                client, _ = server.accept()
                client.sendall(b"HTTP/1.1 200 OK\r\nX: ")
                while not ended.is_set():
                    client.sendall(b"a")
                    time.sleep(0.05)
            except OSError:
                continue

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield f"127.0.0.1:{server.getsockname()[1]}"
    finally:
        ended.set()
        server.close()
        thread.join(3)
