"""The engine's multiplexed stream: cut anywhere, standard error in the middle of a line, and any bytes at all."""

from __future__ import annotations

import contextlib

from hypothesis import given
from hypothesis import strategies as st

from irkit.engine.docker import frames, unframe
from irkit.errors import EngineError

SAID = st.lists(st.tuples(st.sampled_from([1, 2]), st.binary(max_size=30)), max_size=8)


def cut(data: bytes, size: int) -> list[bytes]:
    return [data[at : at + size] for at in range(0, len(data), size)]


@given(SAID, st.integers(1, 20))
def test_each_stream_is_whole(said: list[tuple[int, bytes]], size: int) -> None:
    data = b"".join(bytes([stream, 0, 0, 0]) + len(one).to_bytes(4, "big") + one for stream, one in said)
    found = [one for chunk in frames(iter(cut(data, size))) for one in chunk]
    for stream in (1, 2):
        assert b"".join(one for which, one in found if which == stream) == b"".join(
            one for which, one in said if which == stream
        )
    assert b"".join(unframe(iter(cut(data, size)))) == b"".join(one for _, one in said)


@given(st.binary(max_size=100), st.integers(1, 20))
def test_any_bytes(data: bytes, size: int) -> None:
    with contextlib.suppress(EngineError):
        list(frames(iter(cut(data, size))))
