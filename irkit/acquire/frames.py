"""The engine's multiplexed stream of a container without a TTY.

Format (Docker Engine API, "Attach to a container", stream format): frames of an 8-byte header and a payload; the
header is the stream (0 stdin, 1 stdout, 2 stderr, 3 the engine's own error), three zeros, and the payload's size as a
big-endian 32-bit number.  Of logs, each frame is one message of the log driver: a line, or 16 KiB of a longer one.
"""

from __future__ import annotations

from collections.abc import Iterator
from struct import Struct
from typing import NamedTuple

from irkit.errors import EngineError

STDOUT, STDERR, SYSTEM = 1, 2, 3
HEADER = Struct(">B3sL")
PIECE = 64 * 1024


class Piece(NamedTuple):
    """A frame, or a part of one that is larger than ``PIECE``."""

    stream: int
    data: bytes
    first: bool
    last: bool


def split_frames(chunks: Iterator[bytes]) -> Iterator[list[Piece]]:
    """The frames of a stream, a list for each chunk that completed any; never more than a piece is kept in memory.

    Raises ``EngineError`` for what is not a frame's header, and when the stream ends inside of a frame.
    """
    buffer = b""
    stream, left, first = 0, 0, True
    for chunk in chunks:
        buffer = buffer + chunk if buffer else bytes(chunk)
        at, end = 0, len(buffer)
        out: list[Piece] = []
        while True:
            if first and not left:
                if end - at < 8:
                    break
                stream, zeros, left = HEADER.unpack_from(buffer, at)
                if stream > SYSTEM or zeros != b"\0\0\0":
                    if out:
                        yield out  # what came before is good
                    raise EngineError("the engine's stream is not one of frames: a header is wrong")
                at += 8
                if not left:
                    continue
            take = min(left, end - at, PIECE)
            if take < left and take < PIECE:
                break
            left -= take
            out.append(Piece(stream, buffer[at : at + take], first, not left))
            first = not left
            at += take
        buffer = buffer[at:]
        if out:
            yield out
    if left and buffer:
        yield [Piece(stream, buffer, first, False)]
    if left or buffer or not first:
        raise EngineError("the engine's stream ended in the middle of a frame")
