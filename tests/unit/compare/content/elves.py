"""ELF files made by hand, byte by byte: the same on every machine, without a compiler."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field

PT_LOAD, PT_DYNAMIC, PT_INTERP, PT_NOTE = 1, 2, 3, 4
R, W, X = 4, 2, 1
BASE = 0x400000


@dataclass
class Elf:
    """A 64-bit file: header, program headers, then one piece of bytes a segment, then sections.  ``memory``: extra bytes in memory."""

    kind: int = 2
    machine: int = 62
    order: str = "<"
    code: bytes = b"\x90" * 256
    code_flags: int = R | X
    memory: int = 0
    interpreter: str = ""
    strings: dict[int, str] = field(default_factory=dict)
    needed: tuple[str, ...] = ()
    notes: bytes = b""
    behind_headers: bytes = b""
    sections: tuple[tuple[str, int], ...] = ()
    overlay: bytes = b""
    flags_1: int = 0

    def build(self) -> bytes:
        """The file's bytes."""
        order = self.order
        table = b"\0"
        dynamic: list[tuple[int, int]] = []
        for tag, text in [*((1, name) for name in self.needed), *self.strings.items()]:
            dynamic.append((tag, len(table)))
            table += text.encode() + b"\0"
        if self.flags_1:
            dynamic.append((0x6FFFFFFB, self.flags_1))
        count = 1 + bool(self.interpreter) + bool(dynamic) + bool(self.notes)
        place = 64 + 56 * count
        body = self.behind_headers
        rows: list[bytes] = []

        def segment(kind: int, flags: int, data: bytes, more: int = 0) -> int:
            nonlocal body
            at = place + len(body)
            body += data
            rows.append(
                struct.pack(order + "IIQQQQQQ", kind, flags, at, BASE + at, BASE + at, len(data), len(data) + more, 1)
            )
            return at

        if self.interpreter:
            segment(PT_INTERP, R, self.interpreter.encode() + b"\0")
        strings_at = place + len(body)
        if dynamic:
            body += table
            pairs = [*dynamic, (5, BASE + strings_at), (0, 0)]
            segment(PT_DYNAMIC, R | W, b"".join(struct.pack(order + "qQ", *pair) for pair in pairs))
        if self.notes:
            segment(PT_NOTE, R, self.notes)
        code_at = place + len(body)
        body += self.code
        # The loaded segment covers the whole file, so that addresses of the others can be found.
        entry = BASE + code_at
        rows.append(
            struct.pack(
                order + "IIQQQQQQ",
                PT_LOAD,
                self.code_flags,
                0,
                BASE,
                BASE,
                place + len(body),
                place + len(body) + self.memory,
                0x1000,
            )
        )
        end = place + len(body)
        names, headers = b"\0", [bytes(64)]
        for name, kind in (*self.sections, *(((".shstrtab", 3),) if self.sections else ())):
            offset = len(names)
            names += name.encode() + b"\0"
            headers.append(struct.pack(order + "IIQQQQIIQQ", offset, kind, 0, 0, end, 0, 0, 0, 1, 0))
        tail = b""
        shoff = 0
        if self.sections:
            last = headers[-1]
            headers[-1] = last[:32] + struct.pack(order + "Q", len(names)) + last[40:]
            tail, shoff = names + b"".join(headers), end + len(names)
        ident = b"\x7fELF\x02" + (b"\x01" if order == "<" else b"\x02") + b"\x01" + bytes(9)
        head = struct.pack(
            order + "HHIQQQIHHHHHH", self.kind, self.machine, 1, entry, 64, shoff, 0, 64, 56, count, 64,
            len(headers) if self.sections else 0, len(headers) - 1 if self.sections else 0,
        )  # fmt: skip
        return ident + head + b"".join(rows) + body + tail + self.overlay


def note(name: bytes, kind: int, data: bytes, order: str = "<") -> bytes:
    """A note: name and data padded to four bytes."""

    def padded(piece: bytes) -> bytes:
        return piece + bytes(-len(piece) % 4)

    return struct.pack(order + "III", len(name), len(data), kind) + padded(name) + padded(data)
