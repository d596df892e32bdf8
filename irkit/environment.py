"""Environment variables of a container, and which of them look like secrets.  Values never leave through here."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

SECRET_NAME = re.compile(
    r"passw|passphrase|secret|token|credential|api[_-]?key|private[_-]?key|access[_-]?key|connection[_-]?string"
    r"|(?:^|[_.-])(?:pass|pwd|pw|key|keys|auth|dsn|creds?|pat)(?:$|[_.-])",
    re.IGNORECASE,
)
NO_SECRETS = frozenset({"PWD", "OLDPWD"})
# Bounded, so that a hostile value can't make the search slow.
URL_SECRET = re.compile(r"[A-Za-z][A-Za-z0-9+.-]{0,30}://[^\s/:@]{0,128}:([^\s/@]{1,256})@")
SECRET_VALUE = re.compile(
    r"-----BEGIN [A-Z ]{0,20}PRIVATE KEY|\A(?:AKIA[0-9A-Z]{16}\Z|gh[pousr]_\w{20}|xox[abprs]-|eyJ[\w-]{10,4096}\.)"
)
FINGERPRINTS = re.compile(r"GPG_KEYS?=[0-9A-F]{40}(?: {1,8}[0-9A-F]{40}){0,20}\Z")
"""Of OpenPGP keys (RFC 4880, 12.2), which are public: the official images of Python and PHP have them."""
LINES = 1000
TRIVIAL = frozenset({"true", "false", "none", "null", "default", "yes", "test"})


def variables(config: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Names and values of ``Env`` of a container's or an image's ``Config``; entries without ``=`` are no variables."""
    for entry in config.get("Env") or ():
        name, separator, value = str(entry).partition("=")
        if separator:
            yield name, value


def secret_kind(name: str, value: str) -> str:
    """What makes this variable look like a secret, in words; empty when nothing does.

    A value of several lines (a whole settings file) is looked through line by line, up to :data:`LINES` of them.
    """
    if not value or name in NO_SECRETS or value.lower() in TRIVIAL or FINGERPRINTS.match(f"{name}={value}"):
        return ""
    if URL_SECRET.search(value):
        return "an address with a password in it"
    if SECRET_VALUE.search(value):
        return "its value has the form of a key or token"
    if SECRET_NAME.search(name) and not (name.upper().endswith(("_FILE", "_PATH")) and value.startswith("/")):
        return "by its name"
    lines = value.splitlines()[:LINES] if "\n" in value else ()
    return "a line of it looks like a secret" if any(map(_line, lines)) else ""


def _line(line: str) -> str:
    """What makes ``NAME=VALUE`` or ``NAME: VALUE`` in a value of several lines look like a secret."""
    name, _, value = line.strip().partition("=" if "=" in line.partition(":")[0] else ":")
    return secret_kind(name.strip().removeprefix("export ").strip("\"' "), value.strip().strip("\"',; "))
