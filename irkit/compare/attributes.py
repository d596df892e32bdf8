"""What of a file's facts changed, in words: which aspects, what its times say, which file capabilities it carries.

File capabilities: ``security.capability``, struct vfs_cap_data (linux/capability.h), revisions 2 and 3.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

from irkit.models import Change, FileFacts

CAPABILITY = "security.capability"
ACLS = ("system.posix_acl_access", "system.posix_acl_default")
CAPABILITIES = (
    "cap_chown", "cap_dac_override", "cap_dac_read_search", "cap_fowner", "cap_fsetid", "cap_kill", "cap_setgid", "cap_setuid",
    "cap_setpcap", "cap_linux_immutable", "cap_net_bind_service", "cap_net_broadcast", "cap_net_admin", "cap_net_raw", "cap_ipc_lock",
    "cap_ipc_owner", "cap_sys_module", "cap_sys_rawio", "cap_sys_chroot", "cap_sys_ptrace", "cap_sys_pacct", "cap_sys_admin",
    "cap_sys_boot", "cap_sys_nice", "cap_sys_resource", "cap_sys_time", "cap_sys_tty_config", "cap_mknod", "cap_lease",
    "cap_audit_write", "cap_audit_control", "cap_setfcap", "cap_mac_override", "cap_mac_admin", "cap_syslog", "cap_wake_alarm",
    "cap_block_suspend", "cap_audit_read", "cap_perfmon", "cap_bpf", "cap_checkpoint_restore",
)  # fmt: skip
"""By number (linux/capability.h)."""
SECOND = 1_000_000_000
BACKDATED_BY = 24 * 3600 * SECOND
"""How much earlier than its birth a file must claim to have been written to be called backdated."""
FUTURE_BY = 60 * SECOND
"""Clocks of one host don't differ, but a run takes a while."""
ASPECTS = ("kind", "content", "target", "rdev", "mode", "owner", "capabilities", "acl", "xattrs", "times")


def aspects(before: FileFacts, after: FileFacts) -> tuple[str, ...]:
    """What differs, of :data:`ASPECTS`."""
    return tuple(_differing(before, after))


def _differing(before: FileFacts, after: FileFacts) -> Iterator[str]:
    if before.kind != after.kind:
        yield "kind"
    if before.kind == after.kind == "file" and (before.size != after.size or before.sha256 != after.sha256):
        yield "content"
    if before.target != after.target:
        yield "target"
    if before.rdev != after.rdev:
        yield "rdev"
    if before.mode != after.mode:
        yield "mode"
    if (before.uid, before.gid) != (after.uid, after.gid):
        yield "owner"
    known = {CAPABILITY: "capabilities", **dict.fromkeys(ACLS, "acl")}
    names = {name for name in {*before.xattrs, *after.xattrs} if before.xattrs.get(name) != after.xattrs.get(name)}
    found = {known.get(name, "xattrs") for name in names}
    yield from (name for name in ("capabilities", "acl", "xattrs") if name in found)
    if before.kind == after.kind != "directory" and before.mtime_ns != after.mtime_ns:
        yield "times"


def file_capabilities(facts: FileFacts) -> tuple[str, ...]:
    """The capabilities that a file gives whoever starts it (permitted and inheritable); ``unreadable`` for a damaged value."""
    value = facts.xattrs.get(CAPABILITY)
    if not value:
        return ()
    try:
        raw = bytes.fromhex(value)
        _, permitted, inheritable, permitted_high, inheritable_high = struct.unpack_from("<5I", raw)
    except (ValueError, struct.error):
        return ("unreadable",)
    bits = (permitted | inheritable) | (permitted_high | inheritable_high) << 32
    return tuple(name_of(number) for number in range(64) if bits >> number & 1)


def name_of(number: int) -> str:
    """A capability's name; ``cap_N`` for one that is newer than this list."""
    return CAPABILITIES[number] if number < len(CAPABILITIES) else f"cap_{number}"


def is_future(facts: FileFacts, taken_ns: int) -> bool:
    """Whether it claims to have been written after it was taken."""
    return bool(taken_ns) and facts.mtime_ns > taken_ns + FUTURE_BY


def is_backdated(facts: FileFacts) -> bool:
    """Whether it claims to be much older than its name on this disk: its birth, or where that is unknown its inode change.

    Unpacking a package does that as well: that is what the package databases are asked for.
    """
    born = facts.btime_ns or facts.ctime_ns
    return bool(born and facts.mtime_ns) and facts.mtime_ns < born - BACKDATED_BY


def older_than_image(change: Change, created_ns: int) -> bool:
    """Whether something that the image does not have claims to have been written before the image was made."""
    after = change.after
    return change.before is None and after is not None and 0 < after.mtime_ns < created_ns


def capability_names(mask: str) -> tuple[str, ...]:
    """A process's capabilities (``CapEff`` of proc(5), hexadecimal)."""
    try:
        bits = int(mask, 16)
    except ValueError:
        return ()
    return tuple(name_of(number) for number in range(64) if bits >> number & 1)
