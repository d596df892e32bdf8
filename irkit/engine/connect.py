"""Which engine: ``--engine``, DOCKER_HOST, the Docker CLI's context, the default socket, in this order."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from irkit.engine.docker import DockerEngine
from irkit.errors import EngineError, UsageProblem

DEFAULT = "unix:///var/run/docker.sock"


def find_endpoint(option: str | None) -> str:
    """The endpoint's URL.  Raises ``UsageProblem`` for a scheme or a context that irkit does not know."""
    url = option or os.environ.get("DOCKER_HOST") or _context_endpoint() or DEFAULT
    if url.startswith("/"):
        url = f"unix://{url}"
    if not url.startswith(("unix:///", "tcp://", "ssh://", "http://", "https://")):
        raise UsageProblem(
            f"not an engine's endpoint: {url}",
            hint="for example unix:///var/run/docker.sock or tcp://host:2376",
        )
    return url


def open_engine(option: str | None = None) -> DockerEngine:
    """An engine, not yet talked to.  Raises ``EngineError`` when TLS is set up so that nothing would be verified."""
    url = find_endpoint(option)
    return DockerEngine(url, tls=None if url.startswith("unix://") else _tls())


def _context_endpoint() -> str | None:
    """The endpoint of the Docker CLI's current context; an unknown one is an error, never silently the default."""
    folder = Path(os.environ.get("DOCKER_CONFIG") or Path.home() / ".docker")
    name = os.environ.get("DOCKER_CONTEXT") or _current_context(folder)
    if not name or name == "default":
        return None
    import hashlib

    meta = folder / "contexts" / "meta" / hashlib.sha256(name.encode()).hexdigest() / "meta.json"
    try:
        return str(json.loads(meta.read_bytes())["Endpoints"]["docker"]["Host"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UsageProblem(
            f"the Docker context {name!r} can't be read: {error}",
            hint="`docker context ls`, or give --engine",
        ) from error


def _current_context(folder: Path) -> str:
    try:
        return str(json.loads((folder / "config.json").read_bytes()).get("currentContext") or "")
    except (OSError, ValueError):
        return ""


def _tls() -> Any:
    """The TLS configuration by the Docker CLI's variables.  A certificate path without verification is refused."""
    folder = os.environ.get("DOCKER_CERT_PATH")
    verify = bool(os.environ.get("DOCKER_TLS_VERIFY"))
    if not folder and not verify:
        return None
    if not verify:
        raise EngineError(
            "DOCKER_CERT_PATH is set without DOCKER_TLS_VERIFY: the engine's identity would not be verified",
            hint="set DOCKER_TLS_VERIFY=1",
        )
    from docker.tls import TLSConfig

    base = Path(folder) if folder else Path.home() / ".docker"
    return TLSConfig(
        client_cert=(str(base / "cert.pem"), str(base / "key.pem")), verify=True, ca_cert=str(base / "ca.pem")
    )
