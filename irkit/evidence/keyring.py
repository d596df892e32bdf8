"""What happens to a key that is trusted here: it runs out, is rotated, is revoked."""

from __future__ import annotations

import json
import re
import secrets
from dataclasses import replace

from irkit.clock import now
from irkit.errors import KeyProblem, UsageProblem
from irkit.evidence import keys
from irkit.evidence.keys import PublicKey, Signer
from irkit.evidence.validity import Validity
from irkit.home import sync_folder


def find(name: str) -> PublicKey:
    """A key by its name.  Raises ``KeyProblem``."""
    for key in keys.trusted_keys():
        if key.name == name:
            return key
    raise KeyProblem(f"no key {name!r}", hint="`irkit key list` shows the keys")


def check_limits(since: str, until: str) -> None:
    """Raises ``UsageProblem`` when there is no time between the two."""
    if since and until and since >= until:
        raise UsageProblem(f"the key would never be good: from {since} until {until}")


def limit(name: str, since: str = "", until: str = "") -> PublicKey:
    """Say from when until when a key may vouch.  Raises ``UsageProblem`` when it never could."""
    check_limits(since, until)
    key = find(name)
    return _save(
        replace(
            key, validity=replace(key.validity, since=since or key.validity.since, until=until or key.validity.until)
        )
    )


def revoke(name: str, at: str, why: str) -> PublicKey:
    """Revoke a key as of a time, the earliest at which it may have been in other hands.  It stays known, so that what it
    sealed before, as a timestamp proves, still holds.  An earlier revocation is only ever moved further back."""
    key = find(name)
    if key.validity.revoked and key.validity.revoked <= at:
        raise UsageProblem(f"the key {name!r} is revoked already, as of {key.validity.revoked}")
    return _save(replace(key, validity=replace(key.validity, revoked=at, why=why)))


def rotate(name: str, kind: str | None = None, passphrase: bytes | None = None) -> tuple[Signer, PublicKey]:
    """A new key takes the name; the old one is known as ``NAME-YYYYMMDD…`` and good for what it sealed until now.

    The private part of the old one is removed.  Raises ``KeyProblem`` for a key without one.
    """
    old = find(name)
    if not old.private:
        raise KeyProblem(f"the key {name!r} has no private part here", hint="only your own keys can be rotated")
    moment = now()
    label = f"{name[:40]}-{re.sub('[^0-9]', '', moment)[:17]}"
    until = min(moment, old.validity.until or moment)
    # Whatever happens in between: the old one is written down under its new name, the new one is whole, and only then
    # are its files moved to the name, the private part first: its public part is known under the other name till then.
    retired = _save(replace(old, name=label, private=False, validity=replace(old.validity, until=until)))
    made = keys.generate(f"{name[:40]}-next-{secrets.token_hex(4)}", kind or old.kind, old.uses, passphrase)
    for suffix in (".key", ".json", ".pub"):
        (keys.keys_folder() / (made.public.name + suffix)).replace(keys.keys_folder() / (name + suffix))
    sync_folder(keys.keys_folder())
    return replace(made, public=replace(made.public, name=name)), retired


def _save(key: PublicKey) -> PublicKey:
    keys.save_public(key)
    stored = json.loads((keys.keys_folder() / f"{key.name}.json").read_bytes())
    if Validity.from_json(stored) != key.validity:
        raise KeyProblem(f"what was written for the key {key.name!r} is not what lies there")
    return key
