"""What ``os.stat`` leaves out: birth time, extended attributes without an overlay's own, ACLs as text."""

from __future__ import annotations

import ctypes
import errno
import os
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass

TRUSTED, USER = "trusted.overlay.", "user.overlay."
"""Where an overlay keeps its own attributes (overlayfs.rst); ``user.`` only when it was mounted with ``userxattr``."""
ACCESS_ACL, DEFAULT_ACL = "system.posix_acl_access", "system.posix_acl_default"
ACL_VERSION = 2

_AT_SYMLINK_NOFOLLOW, _STATX_BTIME = 0x100, 0x800
_BTIME_OFFSET = 80  # of struct statx (statx(2)): the same on every architecture


def _find_statx() -> Callable[..., int] | None:
    try:
        found: Callable[..., int] = ctypes.CDLL(None).statx
    except (OSError, AttributeError):
        return None
    return found


_statx = _find_statx()
_STATX_SIZE = 256


def birth_time(folder: int, name: str) -> int:
    """When a name's inode was made, nanoseconds since the epoch; 0 where neither libc nor file system tell."""
    raw = os.fsencode(name)
    answer = ctypes.create_string_buffer(_STATX_SIZE)  # one a call: collectors run beside each other
    if _statx is None or _statx(folder, raw, _AT_SYMLINK_NOFOLLOW, _STATX_BTIME, answer):
        return 0
    if not struct.unpack_from("=I", answer)[0] & _STATX_BTIME:
        return 0
    seconds, fraction = struct.unpack_from("=qI", answer, _BTIME_OFFSET)
    return int(seconds) * 1_000_000_000 + int(fraction)


def read_xattrs(folder: int, name: str) -> dict[str, bytes]:
    """Every extended attribute of a name in an open folder, never through a link.  Raises ``OSError``."""
    path = f"/proc/self/fd/{folder}/{name}"
    try:
        return {one: os.getxattr(path, one, follow_symlinks=False) for one in os.listxattr(path, follow_symlinks=False)}
    except OSError as error:
        if error.errno in (errno.ENOTSUP, errno.ENODATA):
            return {}
        raise


@dataclass(frozen=True, slots=True)
class Marks:
    """An overlay's own attributes, by the prefix that it was mounted with; an empty prefix where there is no overlay.

    The other prefix is plain data: a process in the container may set ``user.overlay.opaque`` to mislead a reader.
    """

    prefix: str = TRUSTED

    def get(self, xattrs: Mapping[str, bytes], name: str) -> bytes | None:
        """``opaque``, ``redirect``, ``metacopy``, ``whiteout`` …"""
        return xattrs.get(self.prefix + name) if self.prefix else None

    def visible(self, xattrs: Mapping[str, bytes]) -> dict[str, bytes]:
        """What the container sees: without the overlay's own, and with its own nested overlay's names unescaped."""
        if not self.prefix:
            return dict(xattrs)
        escaped = f"{self.prefix}overlay."
        return {
            self.prefix + name.removeprefix(escaped) if name.startswith(escaped) else name: value
            for name, value in xattrs.items()
            if not name.startswith(self.prefix) or name.startswith(escaped)
        }


OVERLAY = Marks()
"""As an engine mounts it."""
NO_OVERLAY = Marks("")


_TAGS = {1: "user:", 2: "user:", 4: "group:", 8: "group:", 0x10: "mask:", 0x20: "other:"}


def acl_text(value: bytes) -> str:
    """A POSIX ACL as acl(5)'s short text form with numeric ids; empty for what is not one (linux/posix_acl_xattr.h)."""
    if len(value) < 4 or len(value) % 8 != 4 or struct.unpack_from("<I", value)[0] != ACL_VERSION:
        return ""
    found = []
    for tag, permissions, identity in struct.iter_unpack("<HHI", value[4:]):
        if tag not in _TAGS:
            return ""
        who = str(identity) if tag in (2, 8) else ""
        bits = "".join(letter if permissions & bit else "-" for letter, bit in (("r", 4), ("w", 2), ("x", 1)))
        found.append(f"{_TAGS[tag]}{who}:{bits}")
    return ",".join(found)
