"""A checkpoint by the engine, or a clear refusal; the target is as it was in any case."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import pytest
import zstandard

from irkit.acquire.checkpoint import acquire_checkpoint
from irkit.engine.fake.engine import FakeEngine
from irkit.errors import EngineError
from irkit.evidence.writer import BundleWriter
from tests.contract.stage import Stage, fake_engine

IMAGES = {"core-1.img": b"registers", "pages-1.img": b"pages" * 1000}


@pytest.fixture
def frozen() -> tuple[FakeEngine, str]:
    fake = fake_engine()
    target = Stage(fake).run("target")
    fake.pause(target)
    return fake, target


@pytest.fixture
def writer(tmp_path: Path) -> BundleWriter:
    return BundleWriter(tmp_path / "case/bundles/one")


def test_refused_clearly(frozen: tuple[FakeEngine, str], writer: BundleWriter) -> None:
    fake, target = frozen
    assert acquire_checkpoint(fake, target, writer, 1 << 20) == 0
    assert [gap.why for gap in writer.gaps] == [
        'the engine makes no checkpoints: Docker needs "experimental": true in its configuration and criu on its host'
    ]
    assert not list(writer.folder.parent.glob(".checkpoint-*")) and fake.container(target).paused


def test_criu_fails(frozen: tuple[FakeEngine, str], writer: BundleWriter) -> None:
    fake, target = frozen
    fake.fail("checkpoint", EngineError("criu failed: type DUMP errno 0", status=500))
    acquire_checkpoint(fake, target, writer, 1 << 20)
    assert writer.gaps[0].why.startswith("the engine refused: criu failed")


def test_what_the_engine_wrote_is_kept(frozen: tuple[FakeEngine, str], writer: BundleWriter) -> None:
    fake, target = frozen
    fake.images = IMAGES
    assert acquire_checkpoint(fake, target, writer, 1 << 20) == sum(map(len, IMAGES.values()))
    packed = (writer.folder / "data/memory/checkpoint.tar.zst").read_bytes()
    data = zstandard.ZstdDecompressor().decompressobj().decompress(packed)
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        assert {one.name: tar.extractfile(one).read() for one in tar} == IMAGES  # type: ignore[union-attr]
    assert not writer.gaps and not list(writer.folder.parent.glob(".checkpoint-*"))


def test_over_the_limit(frozen: tuple[FakeEngine, str], writer: BundleWriter) -> None:
    fake, target = frozen
    fake.images = IMAGES
    assert acquire_checkpoint(fake, target, writer, 10) == 0
    assert "over this profile's limit" in writer.gaps[0].why and not writer.artifacts


def test_a_target_that_it_thawed_is_frozen_again(frozen: tuple[FakeEngine, str], writer: BundleWriter) -> None:
    fake, target = frozen
    fake.images = IMAGES
    fake.before("checkpoint", lambda: fake.unpause(target))
    acquire_checkpoint(fake, target, writer, 1 << 20)
    assert fake.container(target).paused and [gap.what for gap in writer.gaps] == ["the freeze"]
