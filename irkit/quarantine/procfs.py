"""What this host's kernel says of itself, for the quarantine: small, because it is imported before the target is frozen."""

from __future__ import annotations

import socket
from pathlib import Path


def exists(interface: str) -> bool:
    """Whether an interface is in our own network namespace."""
    try:
        return bool(interface) and socket.if_nametoindex(interface) > 0
    except OSError:
        return False


def read(path: str) -> str:
    """A file of ``/proc``; empty when it can't be read."""
    try:
        return Path(path).read_text(errors="replace")
    except OSError:
        return ""
