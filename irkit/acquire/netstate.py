"""The network state of a frozen container: sockets with their owners, routes, neighbours, interfaces."""

from __future__ import annotations

import re
import socket
import struct
from typing import Any

from irkit.acquire.host import PROC, HostView, read_text
from irkit.evidence.writer import BundleWriter, Origin

COLLECTOR = "network-state"
TABLES = ("tcp", "tcp6", "udp", "udp6", "raw", "raw6")
RAW_FILES = (*TABLES, "unix", "route", "ipv6_route", "arp", "dev", "if_inet6", "snmp", "packet", "netlink")
TCP_STATES = {
    1: "established", 2: "syn-sent", 3: "syn-received", 4: "fin-wait-1", 5: "fin-wait-2", 6: "time-wait", 7: "close",
    8: "close-wait", 9: "last-ack", 10: "listen", 11: "closing", 12: "new-syn-received",
}  # fmt: skip
_SOCKET = re.compile(r"socket:\[(\d+)\]")


def parse_address(field: str) -> tuple[str, int]:
    """``0100007F:1F90`` (each 32-bit word in host order) as ``("127.0.0.1", 8080)``.  Raises ``ValueError``."""
    words, _, port = field.partition(":")
    raw = bytes.fromhex(words)
    if len(raw) not in (4, 16):
        raise ValueError(f"not an address: {field!r}")
    packed = b"".join(struct.pack("=I", int.from_bytes(raw[at : at + 4], "big")) for at in range(0, len(raw), 4))
    return socket.inet_ntop(socket.AF_INET if len(raw) == 4 else socket.AF_INET6, packed), int(port, 16)


def parse_table(protocol: str, text: str) -> list[dict[str, Any]]:
    """The rows of ``/proc/PID/net/{tcp,udp,raw}[6]``; lines that are not of its form are passed over."""
    rows = []
    for line in text.split("\n")[1:]:
        fields = line.split()
        try:
            local, remote = parse_address(fields[1]), parse_address(fields[2])
            state, uid, inode = int(fields[3], 16), int(fields[7]), int(fields[9])
        except (IndexError, ValueError):
            continue
        rows.append({
            "protocol": protocol, "local": local[0], "local_port": local[1], "remote": remote[0], "remote_port": remote[1],
            "state": _state(protocol, state), "uid": uid, "inode": inode,
        })  # fmt: skip
    return rows


def _state(protocol: str, number: int) -> str:
    if protocol.startswith("tcp"):
        return TCP_STATES.get(number, str(number))
    return {1: "established", 7: "unconnected"}.get(number, str(number))


def parse_unix(text: str) -> list[dict[str, Any]]:
    """The rows of ``/proc/PID/net/unix``."""
    rows = []
    for line in text.split("\n")[1:]:
        fields = line.split(None, 7)
        if len(fields) >= 7 and fields[6].isdigit():
            path = fields[7] if len(fields) > 7 else ""
            rows.append(
                {
                    "protocol": "unix",
                    "type": fields[4],
                    "state": fields[5],
                    "inode": int(fields[6]),
                    "path": path.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace"),
                }
            )
    return rows


def parse_packet(text: str) -> list[dict[str, Any]]:
    """The rows of ``/proc/PID/net/packet``: whoever reads frames off the wire.  ``type``: 3 raw, 2 datagram."""
    rows = []
    for line in text.split("\n")[1:]:
        fields = line.split()
        if len(fields) >= 9 and fields[8].isdecimal():
            rows.append({"protocol": "packet", "type": fields[2], "state": fields[3], "inode": int(fields[8])})
    return rows


def owners(processes: list[dict[str, Any]]) -> dict[int, list[int]]:
    """Which pids hold which socket inode."""
    found: dict[int, list[int]] = {}
    for process in processes:
        for row in process["fds"]:
            match = _SOCKET.fullmatch(str(row.get("target", "")))
            if match:
                pids = found.setdefault(int(match.group(1)), [])
                if process["pid"] not in pids:
                    pids.append(process["pid"])
    return found


def collect_sockets(view: HostView, processes: list[dict[str, Any]]) -> tuple[list[dict[str, Any]], dict[str, str]]:
    """Parsed sockets with their owners' pids, and the raw tables that they come from."""
    raw = {name: read_text(f"{PROC}/{view.pid}/net/{name}") for name in RAW_FILES}
    rows = [row for name in TABLES for row in parse_table(name, raw[name])] + parse_unix(raw["unix"])
    rows += parse_packet(raw["packet"])
    held = owners(processes)
    for row in rows:
        row["pids"] = held.get(row["inode"], [])
    return rows, raw


def acquire_network(view: HostView, writer: BundleWriter, processes: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Write the sockets, the raw tables, and what ip(8) and tc(8) tell."""
    from irkit.acquire.iproute import collect_ip

    rows, raw = collect_sockets(view, processes)
    writer.add_json(
        "network/sockets.json",
        rows,
        Origin(COLLECTOR, f"{PROC}/{view.pid}/net", "read from the host, with the owners of each inode"),
    )
    text = {
        name: value.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
        for name, value in raw.items()
    }
    writer.add_json("network/proc-net.json", text, Origin(COLLECTOR, f"{PROC}/{view.pid}/net", "read from the host"))
    tables, missing = collect_ip(view)
    writer.add_json(
        "network/ip.json",
        tables,
        Origin(COLLECTOR, view.netns, "ip -j and tc -j of the host, in its network namespace"),
    )
    for what, why in missing:
        writer.gap(COLLECTOR, what, why)
    return rows
