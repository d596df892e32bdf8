"""A registry's user name and password, where ``docker login`` put them: Docker's configuration file or its helpers.

Never taken from the command's words, never printed.
"""

from __future__ import annotations

import base64
import binascii
import json
import os
import re
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from irkit.trust.reference import HUB

HUB_KEY = "https://index.docker.io/v1/"
TIMEOUT = 20
LIMIT = 1024 * 1024
_HELPER = re.compile(r"[a-z0-9][a-z0-9-]{0,60}")


@dataclass(frozen=True, slots=True)
class Credentials:
    """Who irkit is to a registry.  ``trouble``: why there are none although some are kept."""

    user: str = ""
    password: str = field(default="", repr=False)
    trouble: str = ""

    @property
    def basic(self) -> str:
        """The value of an ``Authorization`` header, empty when there is nobody to be."""
        if not self.user:
            return ""
        return "Basic " + base64.b64encode(f"{self.user}:{self.password}".encode()).decode()


def find(registry: str) -> Credentials:
    """The credentials for a registry's name, from ``DOCKER_CONFIG`` or ``~/.docker``."""
    folder = Path(os.environ.get("DOCKER_CONFIG") or Path.home() / ".docker")
    try:
        with (folder / "config.json").open("rb") as file:
            config = json.loads(file.read(LIMIT))
    except FileNotFoundError:
        return Credentials()
    except (OSError, ValueError) as error:
        return Credentials(trouble=f"{folder / 'config.json'} can't be read: {type(error).__name__}")
    if not isinstance(config, dict):
        return Credentials(trouble=f"{folder / 'config.json'} is not of a known form")
    names = [HUB_KEY] if registry == HUB else [registry, f"https://{registry}", f"http://{registry}"]
    helper = _member(config, "credHelpers").get(registry) or config.get("credsStore")
    if isinstance(helper, str) and helper:
        return _ask(helper, names[0])
    auths = _member(config, "auths")
    entry: dict[str, Any] = next((auths[name] for name in names if isinstance(auths.get(name), dict)), {})
    return _decode(str(entry.get("auth") or ""))


def _member(config: dict[str, Any], key: str) -> dict[str, Any]:
    value = config.get(key)
    return value if isinstance(value, dict) else {}


def _decode(auth: str) -> Credentials:
    try:
        user, colon, password = base64.b64decode(auth, validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError):
        return Credentials(trouble="the registry's entry in Docker's configuration can't be read")
    return Credentials(user, password.rstrip("\0")) if colon else Credentials()


def _ask(helper: str, server: str) -> Credentials:
    """``docker-credential-X get``: the server's name on its stdin, an object on its stdout."""
    if not _HELPER.fullmatch(helper):
        return Credentials(trouble="the credential helper's name is none")
    try:
        done = subprocess.run(
            [f"docker-credential-{helper}", "get"],
            input=server.encode(),
            capture_output=True,
            timeout=TIMEOUT,
            check=False,
        )
        if done.returncode != 0:
            return Credentials()  # it keeps nothing for this registry
        found = json.loads(done.stdout[:LIMIT])
        user, secret = str(found["Username"]), str(found["Secret"])
    except (OSError, subprocess.TimeoutExpired, ValueError, KeyError, TypeError) as error:
        return Credentials(trouble=f"docker-credential-{helper} can't be asked: {type(error).__name__}")
    if user == "<token>":
        return Credentials(trouble=f"docker-credential-{helper} keeps an identity token, which irkit can't use")
    return Credentials(user, secret)
