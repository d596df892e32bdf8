"""What a reviewer's probe found: deep trees, opaque folders with folders in them, seals that fail once."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from irkit.acquire.beneath import DEPTH_LIMIT, open_folder, walk
from irkit.acquire.host import parse_mountinfo
from irkit.acquire.layers import Layers
from irkit.acquire.overlay import scan
from irkit.acquire.taker import DigestTaker
from irkit.errors import CheckFailed
from irkit.evidence import dsse


def test_a_deep_tree_is_a_gap_not_a_crash(tmp_path: Path) -> None:
    descriptor = os.open(tmp_path, os.O_RDONLY)
    for _ in range(DEPTH_LIMIT + 50):
        os.mkdir("d", dir_fd=descriptor)
        inner = os.open("d", os.O_RDONLY, dir_fd=descriptor)
        os.close(descriptor)
        descriptor = inner
    os.close(descriptor)
    errors: list[str] = []
    with open_folder(str(tmp_path)) as root:
        count = sum(1 for _ in walk(root, "", lambda path, error: errors.append(str(error))))
    assert count >= DEPTH_LIMIT and len(errors) == 1 and "deeper" in errors[0]


@pytest.mark.skipif(os.geteuid() != 0, reason="trusted.* attributes need root")
def test_an_opaque_folder_hides_what_lies_deeper(tmp_path: Path) -> None:
    lower, upper = tmp_path / "lower", tmp_path / "upper"
    (lower / "d" / "sub").mkdir(parents=True)
    (lower / "d" / "sub" / "secret").write_text("x")
    (upper / "d" / "sub").mkdir(parents=True)
    os.setxattr(upper / "d", "trusted.overlay.opaque", b"y")
    notes: list[str] = []
    taker = DigestTaker(lambda path, why: notes.append(why))
    found = list(scan(Layers(str(upper), (str(lower),), "test"), taker, lambda path, why: notes.append(why)))
    assert [(one.path, one.change) for one in found] == [("/d", "changed"), ("/d/sub/secret", "deleted")] and not notes
    assert found[0].opaque


def test_mount_points_with_odd_line_ends_are_kept() -> None:
    line = "36 35 0:40 / /a\rb rw - tmpfs tmpfs rw\n"
    assert [mount.point for mount in parse_mountinfo(line)] == ["/a\rb"]


@pytest.mark.parametrize(
    "envelope",
    [b'{"payload":1,"payloadType":"x","signatures":[]}', b'{"payload":"","payloadType":"x","signatures":[{"sig":1}]}'],
)
def test_malformed_envelopes_are_refused(envelope: bytes) -> None:
    with pytest.raises(CheckFailed):
        dsse.parse(envelope)
