"""Raw frames and hardware addresses: what a process with ``NET_RAW`` can send without asking the routing table."""

from __future__ import annotations

import fcntl
import socket
import struct

SIOCGIFHWADDR = 0x8927


def hardware_address(interface: str) -> bytes:
    """The 6 bytes of an interface's address in the calling thread's namespace (netdevice(7)).  Raises ``OSError``."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        answer = fcntl.ioctl(sock, SIOCGIFHWADDR, struct.pack("256s", interface.encode()[:15]))
    return answer[18:24]


def udp_frame(source_mac: bytes, target_mac: bytes, source: str, target: str, port: int, data: bytes) -> bytes:
    """Ethernet, IPv4 (RFC 791) and UDP (RFC 768, with no checksum, which IPv4 allows) around ``data``."""
    udp = struct.pack(">HHHH", 40000, port, 8 + len(data), 0) + data
    fields = (0x45, 0, 20 + len(udp), 0, 0, 64, socket.IPPROTO_UDP)
    addresses = socket.inet_aton(source) + socket.inet_aton(target)
    bare = struct.pack(">BBHHHBBH", *fields, 0) + addresses
    header = struct.pack(">BBHHHBBH", *fields, checksum(bare)) + addresses
    return target_mac + source_mac + b"\x08\x00" + header + udp


def checksum(data: bytes) -> int:
    """The Internet checksum (RFC 1071)."""
    padded = data + b"\0" * (len(data) % 2)
    total: int = sum(struct.unpack(f">{len(padded) // 2}H", padded))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF
