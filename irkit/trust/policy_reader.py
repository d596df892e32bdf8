"""From ``trust.yaml`` to a :class:`irkit.trust.policy.Policy`.  Everything unknown is refused, with its place."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from urllib.parse import urlsplit

from irkit import documents
from irkit.documents import Doc, Place
from irkit.errors import IrkitError, KeyProblem, UsageProblem
from irkit.evidence.validity import Validity, parse_time
from irkit.trust import versions
from irkit.trust.model import KINDS, NAMELESS, TrustKey
from irkit.trust.policy import ACTIONS, IDENTITY, SIGNED, VERSION_LABEL, Policy, RegistrySettings, Rule
from irkit.trust.reference import DIGEST, Pattern, parse_pattern, parse_plain

API_VERSION = "irkit/v1"
MATERIAL = ("public_key", "key_ring", "gpg", "certificate", "notary_root")
RULES, KEYS, LIST_LIMIT = 1000, 500, 10_000
_KEY_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,60}")
_FINGERPRINT = re.compile(r"(?:[0-9A-F]{40}|[0-9A-F]{64})")
_HEX64 = re.compile(r"[0-9a-f]{64}")


def read_file(path: Path) -> Policy:
    """Read and check a file.  Raises ``PlaybookInvalid``."""
    doc, digest = documents.load(path)
    return read_policy(doc, digest, path)


def read_policy(doc: Doc, digest: str, path: Path) -> Policy:
    """A policy from a document; files that it names are relative to its folder."""
    doc.choice("apiVersion", (API_VERSION,))
    doc.choice("kind", ("TrustPolicy",))
    doc.allow("description")
    folder = path.absolute().parent
    revoked = doc.mapping("revoked", None)
    revoked_keys, revoked_digests = revoked.texts("keys", ()), _digests(revoked, "digests")
    revoked.done()
    keys = _keys(doc.mapping("keys", None), folder, revoked_keys)
    for name in revoked_keys:
        if name not in keys and not name.startswith(("sha256:", "gpg:", "notary:")):
            raise revoked.places["keys"].error(f"no key {name!r}", "a key's name here, or its id: sha256:…, gpg:…")
    rules = _rules(doc.items("repositories"), keys)
    registries = doc.mapping("registries", None)
    settings = {
        name: _registry(name, registries.mapping(name), registries.places[name], folder)
        for name in list(registries.values)
    }
    for one in (registries, doc):
        one.done()
    return Policy(path, digest, MappingProxyType(keys), rules, MappingProxyType(settings), revoked_digests)


# -- keys -----------------------------------------------------------------------------------------------------------


def _keys(doc: Doc, folder: Path, revoked: tuple[str, ...]) -> dict[str, TrustKey]:
    if len(doc.values) > KEYS:
        raise doc.place.error(f"more than {KEYS} keys")
    found: dict[str, TrustKey] = {}
    for name in list(doc.values):
        place = doc.places[name]
        if not _KEY_NAME.fullmatch(name):
            raise place.error(f"not a key's name: {name!r}", "letters, digits, dot, dash and underscore")
        key = _key(name, doc.mapping(name), place, folder)
        found[name] = replace(key, place=place, revoked=name in revoked or key.id in revoked)
    revoked_ids = {
        one.id for one in found.values() if one.revoked
    }  # the same material under another name is revoked too
    doc.done()
    return {name: replace(one, revoked=one.id in revoked_ids) for name, one in found.items()}


def _key(name: str, doc: Doc, place: Place, folder: Path) -> TrustKey:
    kinds = [one for one in MATERIAL if one in doc.values]
    if len(kinds) != 1:
        raise place.error(f"the key {name!r} needs exactly one of {', '.join(MATERIAL)}")
    doc.allow("description", "identities", "fingerprint", *MATERIAL)
    limits = Validity(
        _time(doc, "valid_from"), _time(doc, "valid_until"), _time(doc, "revoked_at"), doc.text("why", "")
    )
    if limits.since and limits.until and limits.since >= limits.until:
        raise place.error(f"the key {name!r} would never be good: from {limits.since} until {limits.until}")
    value = doc.text(kinds[0])
    try:
        key = _MAKERS[kinds[0]](name, value, doc, folder)
    except IrkitError as error:
        if error.message.startswith(f"{place.file}:"):
            raise
        raise doc.places[kinds[0]].error(f"the key {name!r}: {error.message}", error.hint) from error
    for odd, fitting in (("identities", "certificate"), ("fingerprint", "gpg")):
        if odd in doc.values and kinds[0] != fitting:
            raise doc.places[odd].error(f"{odd!r} goes with {fitting!r} only")
    doc.done()
    return replace(key, validity=_narrower(key.validity, limits))


def _narrower(known: Validity, said: Validity) -> Validity:
    """The limits that the key ring knows of the same key, and the policy's: whichever is narrower."""
    revoked = min((one for one in (known, said) if one.revoked), key=lambda one: one.revoked, default=said)
    return Validity(
        max(known.since, said.since), min(known.until or said.until, said.until or known.until), revoked.revoked,
        revoked.why or said.why,
    )  # fmt: skip


def _time(doc: Doc, key: str) -> str:
    if key not in doc.values:
        doc.allow(key)
        return ""
    try:
        return parse_time(doc.text(key))
    except UsageProblem as error:
        raise doc.places[key].error(error.message, error.hint) from error


def _public(name: str, value: str, doc: Doc, folder: Path) -> TrustKey:
    from irkit.evidence.keys import public_from_file

    public = replace(public_from_file(folder / value), name=name)
    return TrustKey(name, public.id, public.validity, public)


def _ring(name: str, value: str, doc: Doc, folder: Path) -> TrustKey:
    from irkit.evidence.keyring import find

    public = find(value)
    if "image" not in public.uses:
        raise KeyProblem(f"the key {value!r} of the key ring is not for images", hint="`irkit key trust --use image`")
    return TrustKey(name, public.id, public.validity, public)


def _gpg(name: str, value: str, doc: Doc, folder: Path) -> TrustKey:
    fingerprint = doc.text("fingerprint").replace(" ", "").upper()
    if not _FINGERPRINT.fullmatch(fingerprint):
        raise doc.places["fingerprint"].error("'fingerprint' must be the primary key's, 40 or 64 hexadecimal digits")
    path = folder / value
    if not path.is_file():
        raise KeyProblem(f"no file {path}")
    return TrustKey(name, f"gpg:{fingerprint}", gpg=path)


def _certificate(name: str, value: str, doc: Doc, folder: Path) -> TrustKey:
    from irkit.trust.certificates import key_id, load_store, parse_identity

    certificates = load_store(folder / value)
    identities = doc.texts("identities", ())
    for one in identities:
        parse_identity(one)
    return TrustKey(name, key_id(certificates[0]), certificates=certificates, identities=identities)


def _notary(name: str, value: str, doc: Doc, folder: Path) -> TrustKey:
    if not _HEX64.fullmatch(value):
        raise KeyProblem("a Notary root key's id is 64 hexadecimal digits", hint="`notary key list` prints it")
    return TrustKey(name, f"notary:{value}", notary_root=value)


_MAKERS = {"public_key": _public, "key_ring": _ring, "gpg": _gpg, "certificate": _certificate, "notary_root": _notary}


# -- rules ----------------------------------------------------------------------------------------------------------


def _rules(rows: documents.Items, keys: dict[str, TrustKey]) -> tuple[Rule, ...]:
    docs = rows.docs()
    if len(docs) > RULES:
        raise rows.place.error(f"more than {RULES} rules")
    found: dict[str, Rule] = {}
    for doc in docs:
        rule = _rule(doc, keys)
        if rule.pattern.text in found:
            first = found[rule.pattern.text].place
            raise doc.places["match"].error(f"{rule.pattern.text}: a rule for it stands in line {first.line} already")
        found[rule.pattern.text] = rule
    return tuple(found.values())


def _rule(doc: Doc, keys: dict[str, TrustKey]) -> Rule:
    pattern = _pattern(doc)
    doc.allow("description")
    why = doc.text("why", "")
    if doc.choice("action", ACTIONS, "verify") == "deny":
        doc.done()
        return Rule(pattern, doc.places["match"], True, why)
    named = tuple(_known(name, doc, keys) for name in dict.fromkeys(doc.texts("keys")))
    if not named:
        raise doc.places["keys"].error("a rule without keys accepts nothing", "`action: deny` says so")
    nameless = doc.choice("without_repository", ("refuse", "accept"), "refuse") == "accept"
    accept = _accept(doc, named, nameless)
    threshold = doc.integer("threshold", 1)
    if threshold < 1:
        raise doc.places["threshold"].error("'threshold' must be at least 1")
    minimum = doc.text("minimum_version", "")
    if minimum and versions.sort_key(minimum) is None:
        raise doc.places["minimum_version"].error(f"{minimum!r} is no version", "like 1.4.2 or 1.4.2-rc.1, in quotes")
    rule = Rule(
        pattern, doc.places["match"], False, why, named, accept, threshold, doc.choice("signed", SIGNED, "reference"),
        doc.choice("identity", IDENTITY, "repository"), nameless, _annotations(doc), _digests(doc, "digests"),
        _digests(doc, "revoked_digests"), minimum, doc.text("version_label", VERSION_LABEL),
    )  # fmt: skip
    doc.done()
    return rule


def _pattern(doc: Doc) -> Pattern:
    text = doc.text("match")
    try:
        return parse_pattern(text)
    except UsageProblem as error:
        raise doc.places["match"].error(error.message, error.hint) from error


def _known(name: str, doc: Doc, keys: dict[str, TrustKey]) -> TrustKey:
    if name not in keys:
        raise doc.places["keys"].error(f"no key {name!r}", documents.closest(name, sorted(keys)))
    return keys[name]


def _accept(doc: Doc, keys: tuple[TrustKey, ...], nameless: bool) -> tuple[str, ...]:
    """The kinds; without ``accept`` those that the keys can make."""
    possible = [kind for kind in KINDS if any(kind in key.kinds for key in keys)]
    if "accept" not in doc.values:
        doc.allow("accept")
        return tuple(kind for kind in possible if nameless or kind not in NAMELESS) or tuple(possible)
    found = doc.texts("accept")
    for kind in found:
        if kind not in KINDS:
            raise doc.places["accept"].error(f"no kind of signature {kind!r}", documents.closest(kind, KINDS))
        if kind not in possible:
            raise doc.places["accept"].error(f"none of the rule's keys can make a {kind} signature")
    if not found:
        raise doc.places["accept"].error("'accept' is empty: nothing would be accepted", "`action: deny` says so")
    return tuple(dict.fromkeys(found))


def _annotations(doc: Doc) -> MappingProxyType[str, str]:
    wanted = doc.mapping("annotations", None)
    found = {name: wanted.text(name) for name in list(wanted.values)}
    wanted.done()
    return MappingProxyType(found)


def _digests(doc: Doc, key: str) -> tuple[str, ...]:
    found = doc.texts(key, ())
    if len(found) > LIST_LIMIT:
        raise doc.places[key].error(f"more than {LIST_LIMIT} digests")
    for one in found:
        if not DIGEST.fullmatch(one):
            raise doc.places[key].error(f"{one!r} is no digest", "sha256: and 64 digits, in lower case")
    if key in doc.values and not found:
        raise doc.places[key].error(f"{key!r} is empty")
    return found


# -- registries -----------------------------------------------------------------------------------------------------


def _registry(name: str, doc: Doc, place: Place, folder: Path) -> RegistrySettings:
    try:
        if parse_plain(f"{name}/x").registry != name:
            raise UsageProblem(f"{name!r} is no registry")
    except UsageProblem as error:
        raise place.error(f"{name!r} is no registry's name", "registry.example or 127.0.0.1:5000") from error
    ca = doc.text("ca", "")
    if ca and not (folder / ca).is_file():
        raise doc.places["ca"].error(f"no file {folder / ca}")
    lookaside = doc.text("lookaside", "")
    if "://" in lookaside:
        lookaside = _url(doc, "lookaside", ("https", "http", "file"))
    elif lookaside:
        lookaside = f"file://{(folder / lookaside).absolute()}"
    settings = RegistrySettings(
        name, doc.boolean("plain_http", False), folder / ca if ca else None, _url(doc, "auth", ("https",)), lookaside,
        _url(doc, "notary", ("https", "http")),
    )  # fmt: skip
    if settings.plain and ca:
        raise place.error("'plain_http' and 'ca' contradict each other")
    doc.done()
    return settings


def _url(doc: Doc, key: str, schemes: tuple[str, ...]) -> str:
    text = doc.text(key, "")
    try:
        parts = urlsplit(text)
        good = not text or (
            parts.scheme in schemes and (parts.scheme == "file" or parts.hostname) and not parts.username
        )
        _ = parts.port
    except ValueError:
        good = False
    if not good:
        raise doc.places[key].error(f"{key!r} must be a URL with {' or '.join(schemes)}, without a user's name")
    return text.rstrip("/")
