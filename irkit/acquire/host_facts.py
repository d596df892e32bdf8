"""What the host is: kernel and modules, settings that bear on containers, how good its clock is.

A reviewer needs the clock to trust the times, the modules to look for a rootkit, and the settings to judge an escape.
"""

from __future__ import annotations

import ctypes
import os
from typing import Any

from irkit.acquire.host import PROC, boot_time, read_text
from irkit.clock import now, rfc3339
from irkit.evidence.writer import BundleWriter, Origin

COLLECTOR = "host"
SYSCTLS = (
    "kernel/core_pattern", "kernel/kexec_load_disabled", "kernel/kptr_restrict", "kernel/dmesg_restrict", "kernel/modprobe",
    "kernel/modules_disabled", "kernel/perf_event_paranoid", "kernel/randomize_va_space", "kernel/unprivileged_bpf_disabled",
    "kernel/unprivileged_userns_clone", "kernel/yama/ptrace_scope", "kernel/io_uring_disabled", "user/max_user_namespaces",
    "fs/protected_hardlinks", "fs/protected_symlinks", "fs/suid_dumpable", "net/ipv4/ip_forward", "net/ipv6/conf/all/forwarding",
    "net/bridge/bridge-nf-call-iptables", "vm/overcommit_memory",
)  # fmt: skip
TAINTS = (
    "proprietary module", "forced module load", "out-of-spec system", "forced module unload", "machine check", "bad page",
    "user request", "kernel died", "ACPI table overridden", "warning", "staging driver", "firmware workaround",
    "out-of-tree module", "unsigned module", "soft lockup", "live patched", "auxiliary", "built with randstruct", "in-kernel test",
)  # fmt: skip
"""By bit (Documentation/admin-guide/tainted-kernels.rst)."""
STA_UNSYNC = 0x0040


class _Timex(ctypes.Structure):
    """``struct timex`` (adjtimex(2)), as far as we read it."""

    _fields_ = (
        ("modes", ctypes.c_uint), ("offset", ctypes.c_long), ("freq", ctypes.c_long), ("maxerror", ctypes.c_long),
        ("esterror", ctypes.c_long), ("status", ctypes.c_int), ("rest", ctypes.c_char * 256),
    )  # fmt: skip


def clock_quality() -> dict[str, Any]:
    """Whether the kernel's clock is kept by a time service, and its own estimate of the error, in microseconds."""
    timex = _Timex()
    state = ctypes.CDLL(None, use_errno=True).adjtimex(ctypes.byref(timex))
    if state < 0:
        return {"synchronised": None, "max_error_us": None, "estimated_error_us": None}
    return {
        "synchronised": not timex.status & STA_UNSYNC, "max_error_us": timex.maxerror, "estimated_error_us": timex.esterror,
    }  # fmt: skip


def modules(text: str) -> list[dict[str, Any]]:
    """The rows of ``/proc/modules``: name, size in bytes, users, state, taints; other lines are passed over."""
    rows = []
    for line in text.split("\n"):
        fields = line.split()
        if len(fields) >= 6 and fields[1].isdecimal():
            used_by = [name for name in fields[3].split(",") if name and name != "-"]
            taint = fields[6].strip("()") if len(fields) > 6 else ""
            rows.append(
                {"name": fields[0], "size": int(fields[1]), "used_by": used_by, "state": fields[4], "taint": taint}
            )
    return rows


def taints(number: int) -> list[str]:
    """What a taint mask means."""
    return [name for bit, name in enumerate(TAINTS) if number >> bit & 1]


def facts() -> dict[str, Any]:
    """``host/facts.json``."""
    system = os.uname()
    mask = read_text(f"{PROC}/sys/kernel/tainted").strip()
    return {
        "hostname": system.nodename, "kernel": system.release, "version": system.version, "machine": system.machine,
        "os_release": _os_release(), "command_line": read_text(f"{PROC}/cmdline").strip(),
        "booted": rfc3339(boot_time()), "read_at": now(), "clock": clock_quality(),
        "clocksource": read_text("/sys/devices/system/clocksource/clocksource0/current_clocksource").strip(),
        "lsm": read_text("/sys/kernel/security/lsm").strip(),
        "lockdown": read_text("/sys/kernel/security/lockdown").strip(),
        "modules_supported": os.path.exists(f"{PROC}/modules"),  # noqa: PTH110
        "tainted": taints(int(mask)) if mask.isdecimal() else [],
        "cgroup": "v2" if os.path.exists("/sys/fs/cgroup/cgroup.controllers") else "v1",  # noqa: PTH110
        "sysctl": {name.replace("/", "."): value for name in SYSCTLS if (value := read_text(f"{PROC}/sys/{name}").strip())},
    }  # fmt: skip


def _os_release() -> dict[str, str]:
    rows = (line.partition("=") for line in read_text("/etc/os-release").split("\n") if "=" in line)
    return {name: value.strip('"') for name, _, value in rows}


def acquire_host(writer: BundleWriter) -> int:
    """Write ``host/facts.json`` and ``host/modules.json``; how many modules are loaded."""
    writer.add_json("host/facts.json", facts(), Origin(COLLECTOR, "/proc, /sys, uname(2), adjtimex(2)", "read"))
    loaded = modules(read_text(f"{PROC}/modules"))
    writer.add_json("host/modules.json", loaded, Origin(COLLECTOR, f"{PROC}/modules", "read"))
    return len(loaded)
