"""SSH: authorized_keys and known_hosts (sshd(8)), sshd_config(5), ssh_config(5).  Fingerprints are as ``ssh-keygen -lf`` prints them."""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass

from irkit.compare.content.lines import Lines
from irkit.compare.content.model import Entry, Fact
from irkit.compare.content.signs import command_signs

_TYPES = ("ssh-", "ecdsa-", "sk-", "rsa-sha2-")
_ANY = ""
_RISKY = {
    "permitrootlogin": ("yes", "without-password", "prohibit-password", "forced-commands-only"), "permitemptypasswords": ("yes",),
    "passwordauthentication": ("yes",), "permituserenvironment": _ANY, "authorizedkeysfile": _ANY, "authorizedkeyscommand": _ANY,
    "authorizedprincipalscommand": _ANY, "trustedusercakeys": _ANY, "forcecommand": _ANY, "gatewayports": ("yes", "clientspecified"),
    "permittunnel": ("yes", "point-to-point", "ethernet"), "strictmodes": ("no",), "hostbasedauthentication": ("yes",), "ignorerhosts": ("no",),
    "loglevel": ("quiet", "fatal"), "port": _ANY, "listenaddress": _ANY, "subsystem": _ANY, "include": _ANY, "usepam": ("no",),
    "pamservicename": _ANY, "setenv": _ANY, "authenticationmethods": _ANY, "permitopen": _ANY,
    "proxycommand": _ANY, "localcommand": _ANY, "permitlocalcommand": ("yes",), "knownhostscommand": _ANY, "pkcs11provider": _ANY, "securitykeyprovider": _ANY,
    "stricthostkeychecking": ("no", "off"), "userknownhostsfile": _ANY,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Key:
    """A public key.  ``type`` as its blob says; ``bits`` of RSA, else 0; ``fingerprint``: ``SHA256:`` and base64 without padding."""

    type: str
    bits: int
    fingerprint: str


def read_key(blob: str) -> Key | None:
    """A key from its base64 (RFC 4253 section 6.6); ``None`` when it is none."""
    try:
        raw = base64.b64decode(blob, validate=True)
    except (binascii.Error, ValueError):
        return None
    first, rest = _string(raw)
    if first is None or not first.isascii() or not 0 < len(first) <= 100:
        return None
    bits = 0
    if first == b"ssh-rsa":
        _, rest = _string(rest)
        modulus, _ = _string(rest)
        bits = int.from_bytes((modulus or b"")[:8192], "big").bit_length()
    digest = base64.b64encode(hashlib.sha256(raw).digest()).decode().rstrip("=")
    return Key(first.decode(), bits, f"SHA256:{digest}")


def _string(raw: bytes) -> tuple[bytes | None, bytes]:
    size = int.from_bytes(raw[:4], "big")
    return (raw[4 : 4 + size], raw[4 + size :]) if len(raw) >= 4 + size else (None, b"")


def authorized_keys(lines: Lines, _path: str) -> Iterator[Entry]:
    """``key_type``, ``bits``, ``fingerprint``, ``comment``, ``options``, ``forced_command``, ``from``, ``authority``, ``environment``, ``malformed``."""
    for line in lines.statements():
        options: tuple[str, ...] = ()
        rest = line.text
        if not rest.startswith(_TYPES):
            place = _outside_quotes(rest, " \t")
            options, rest = _options(rest[:place]), rest[place:].strip()
        kind, blob, comment = (*rest.split(None, 2), "", "", "")[:3]
        key = read_key(blob)
        names = {one.partition("=")[0].lower(): one.partition("=")[2].strip('"') for one in options}
        command = names.get("command", "").replace('\\"', '"')
        facts: dict[str, Fact] = {
            "key_type": key.type if key else kind, "bits": key.bits if key else 0, "fingerprint": key.fingerprint if key else "",
            "comment": comment.strip(), "options": options, "forced_command": command, "signs": command_signs(command), "from": names.get("from", ""),
            "authority": "cert-authority" in names, "environment": "environment" in names,
            "malformed": key is None or key.type != kind,
        }  # fmt: skip
        subject = key.fingerprint if key else line.text
        yield Entry(subject, subject, line.number, line.text, facts)


def _outside_quotes(text: str, ends: str) -> int:
    """Where the first of ``ends`` stands that is not in double quotes; the length when none does."""
    quoted = skip = False
    for place, char in enumerate(text):
        if skip:
            skip = False
        elif char == "\\" and quoted:
            skip = True
        elif char == '"':
            quoted = not quoted
        elif char in ends and not quoted:
            return place
    return len(text)


def _options(text: str) -> tuple[str, ...]:
    found: list[str] = []
    while text and len(found) < 100:
        place = _outside_quotes(text, ",")
        if text[:place].strip():
            found.append(text[:place].strip())
        text = text[place + 1 :]
    return tuple(found)


def known_hosts(lines: Lines, _path: str) -> Iterator[Entry]:
    """``hosts`` (hashed ones as they stand), ``hashed``, ``marker``, ``key_type``, ``fingerprint``."""
    for line in lines.statements():
        words = line.text.split()
        marker = words.pop(0) if words[0].startswith("@") else ""
        hosts, kind, blob = (*words, "", "", "")[:3]
        key = read_key(blob)
        facts: dict[str, Fact] = {
            "hosts": hosts, "hashed": hosts.startswith("|1|"), "marker": marker, "key_type": key.type if key else kind,
            "fingerprint": key.fingerprint if key else "", "malformed": key is None,
        }  # fmt: skip
        yield Entry(f"{marker} {hosts} {kind}", f"{hosts} {kind}", line.number, line.text, facts)


def config(lines: Lines, _path: str) -> Iterator[Entry]:
    """``keyword`` (small letters), ``value``, ``match`` (the Match or Host block it stands in), ``risky``, ``signs``.

    ``risky``: a setting by which others can come in, hide or run something; whether it does, depends on the rest.
    """
    block = ""
    for line in lines.statements():
        word, _, value = line.text.replace("\t", " ").replace("=", " ", 1).partition(" ")
        keyword, value = word.lower(), value.strip()
        if keyword in ("match", "host"):
            block = f"{keyword} {value}"
        wanted = _RISKY.get(keyword)
        risky = wanted is not None and (wanted == _ANY or value.strip('"').lower() in wanted)
        facts: dict[str, Fact] = {
            "keyword": keyword,
            "value": value,
            "match": block,
            "risky": risky,
            "signs": command_signs(value),
        }
        yield Entry(f"{block} {keyword}", f"{word} {value}", line.number, f"{block} {keyword} {value}", facts)
