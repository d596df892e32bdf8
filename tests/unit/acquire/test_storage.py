"""The export, the API's way to the changes, the image, volumes and bind mounts."""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import zstandard

from irkit.acquire.export import acquire_by_api, acquire_export
from irkit.acquire.filesystem import bound, tmpfs_mounts
from irkit.acquire.host import HostView, Mount
from irkit.acquire.image import acquire_image, acquire_image_identity, chain_ids
from irkit.acquire.layers import Layers, find_layers
from irkit.acquire.volumes import Choice, Mounted, acquire_volumes, refusal
from irkit.compare.evidence import Evidence
from irkit.engine.fake.engine import FakeEngine
from irkit.engine.interface import Container
from irkit.errors import EngineError, UsageProblem
from irkit.evidence import names
from irkit.evidence.reader import BundleReader
from irkit.evidence.writer import BundleWriter
from irkit.profiles import load_profile
from tests.contract.stage import Stage, fake_engine

PLENTY = 10**9


@pytest.fixture
def fake() -> FakeEngine:
    return fake_engine()


@pytest.fixture
def target(fake: FakeEngine) -> Container:
    return fake.container(Stage(fake).run("a"))


@pytest.fixture
def writer(tmp_path: Path) -> BundleWriter:
    return BundleWriter(tmp_path / "b")


def stored(writer: BundleWriter, name: str) -> bytes:
    path = writer.folder / "data" / f"{name}.zst"
    return zstandard.ZstdDecompressor().stream_reader(path.open("rb")).read()


def rows(writer: BundleWriter, name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stored(writer, name).splitlines()]


def members(data: bytes) -> list[str]:
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        return tar.getnames()


def archive(**files: bytes) -> bytes:
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return data.getvalue()


def test_the_export_and_the_digest_of_every_file(fake: FakeEngine, target: Container, writer: BundleWriter) -> None:
    fake._find(target.id).exported = archive(a=b"1", b=b"22")
    assert acquire_export(fake, target, writer, PLENTY) == 2
    assert stored(writer, "filesystem/export.tar") == fake._find(target.id).exported
    assert [(row["path"], row["sha256"]) for row in rows(writer, "filesystem/export.jsonl")] == [
        ("/a", hashlib.sha256(b"1").hexdigest()), ("/b", hashlib.sha256(b"22").hexdigest()),
    ]  # fmt: skip
    assert writer.gaps == []


def test_an_export_over_its_limit_is_incomplete(fake: FakeEngine, target: Container, writer: BundleWriter) -> None:
    fake._find(target.id).exported = archive(a=b"1" * 5000)
    acquire_export(fake, target, writer, 4000)
    assert any("larger than the 4000 bytes" in gap.why for gap in writer.gaps)
    assert not any(one.complete for one in writer.artifacts)


def test_a_container_that_is_removed_while_it_is_exported(
    fake: FakeEngine, target: Container, writer: BundleWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = archive(a=b"1" * 5000)

    def breaks(container: str, idle: float = 0) -> Iterator[bytes]:
        yield whole[:4096]
        raise EngineError("the engine broke off")

    monkeypatch.setattr(fake, "export", breaks)
    acquire_export(fake, target, writer, PLENTY)
    (tar,) = [one for one in writer.artifacts if one.path.endswith(".tar.zst")]
    assert (tar.raw_size, tar.complete) == (4096, False)
    assert any("broke off" in gap.why for gap in writer.gaps)


def test_an_export_that_ends_early_without_a_word(fake: FakeEngine, target: Container, writer: BundleWriter) -> None:
    fake._find(target.id).exported = archive(a=b"1" * 5000)[:4096]
    acquire_export(fake, target, writer, PLENTY)
    assert [gap.why for gap in writer.gaps] == ["the stream ended before the archive did: the list ends there"]


def test_the_apis_way_lists_what_is_lost(fake: FakeEngine, target: Container, writer: BundleWriter) -> None:
    fake._find(target.id).exported = archive(new=b"1", old=b"22", same=b"3")
    fake._find(target.id).changes = [
        {"Path": "/new", "Kind": 1},
        {"Path": "/old", "Kind": 0},
        {"Path": "/gone", "Kind": 2},
    ]
    layers = find_layers(target, None)
    assert isinstance(layers, str)
    assert acquire_by_api(fake, target, writer, PLENTY, layers) == 3
    assert [(row["path"], row["change"]) for row in rows(writer, "filesystem/changes.jsonl")] == [
        ("/gone", "deleted"), ("/new", "added"), ("/old", "changed"),
    ]  # fmt: skip
    assert "birth" in writer.gaps[0].why and layers in writer.gaps[0].why


def test_an_engine_that_lists_no_changes_is_not_believed(
    fake: FakeEngine, target: Container, writer: BundleWriter
) -> None:
    fake._find(target.id).exported = archive(new=b"1")
    acquire_by_api(fake, target, writer, PLENTY, "no overlay")
    assert any("lists none" in gap.why for gap in writer.gaps)
    assert len(rows(writer, "filesystem/export.jsonl")) == 1


def test_chain_ids() -> None:
    one, two = "sha256:" + "a" * 64, "sha256:" + "b" * 64
    expected = hashlib.sha256(f"{one} {two}".encode()).hexdigest()
    assert chain_ids([one, two]) == [one, f"sha256:{expected}"] and chain_ids([]) == []


def test_the_image_and_its_identity(fake: FakeEngine, target: Container, writer: BundleWriter) -> None:
    found = acquire_image_identity(fake, target, writer)
    assert found is not None and found["schema"] == "irkit.image-identity/v1" and found["id"] == target.image_id
    size = acquire_image(fake, target, writer, PLENTY)
    tar = stored(writer, "image/image.tar")
    assert len(tar) == size and rows(writer, "image/files.jsonl")
    content = json.loads((writer.folder / "data/image/content.json").read_bytes())
    assert set(content["layers_in_archive"]) == {one["diff_id"] for one in found["layers"]}


def test_an_image_that_is_gone_or_too_large(fake: FakeEngine, target: Container, writer: BundleWriter) -> None:
    gone = Container({**target.raw, "Image": "sha256:" + "0" * 64})
    assert acquire_image_identity(fake, gone, writer) is None and acquire_image(fake, gone, writer, PLENTY) == 0
    assert [gap.collector for gap in writer.gaps] == ["image", "image-save"]


# -- volumes -----------------------------------------------------------------------------------------------------------


def bind(source: str, destination: str = "/x") -> Mounted:
    return Mounted("bind", "", source, destination, writable=True)


@pytest.mark.parametrize(
    "source",
    ["/", "/home", "/etc/ssl", "/var/run/docker.sock", "/run", "//", "/srv/..", "/data/engine", "/data/engine/overlay2/x", "/data/../etc",
     "/var/lib", "/proc/1", "/usr/share"],
)  # fmt: skip
def test_the_hosts_own_is_taken_only_by_name(source: str) -> None:
    assert refusal(bind(source), Choice(1, 1), "/data/engine")
    assert not refusal(bind(source, "/there"), Choice(1, 1, ("/there",)), "/data/engine")
    volume = Mounted("volume", "v", "/data/engine/volumes/v/_data", "/x", writable=True)
    assert refusal(volume, Choice(1, 1), "/data/engine", source)
    assert not refusal(volume, Choice(1, 1), "/data/engine")


def test_names_choose() -> None:
    choice = Choice(1, 1, ("v", "/srv/app"))
    assert not refusal(Mounted("volume", "v", "/s", "/x", writable=True), choice, "")
    assert not refusal(bind("/srv/app"), choice, "")
    assert refusal(bind("/srv/other"), choice, "") and not refusal(bind("/srv/other"), Choice(1, 1), "")


def with_mounts(target: Container, *mounts: tuple[str, Path]) -> Container:
    rows = [
        {"Type": kind, "Name": path.name, "Source": str(path), "Destination": f"/m{number}"}
        for number, (kind, path) in enumerate(mounts)
    ]
    return Container({**target.raw, "Mounts": rows})


@pytest.mark.skipif(os.geteuid() != 0, reason="as the engine's host")
def test_volumes_are_read_beneath_their_folder(
    fake: FakeEngine, target: Container, writer: BundleWriter, tmp_path: Path
) -> None:
    (tmp_path / "secret").write_text("SECRET")
    folder = tmp_path / "v"
    folder.mkdir()
    (folder / "f").write_text("fine")
    (folder / "up").symlink_to("../secret")
    (folder / "root").symlink_to("/")
    (tmp_path / "w").symlink_to("/etc")
    (tmp_path / "one").write_text("a file alone")
    mounts = with_mounts(
        target, ("volume", folder), ("bind", tmp_path / "w"), ("bind", tmp_path / "one"), ("tmpfs", tmp_path)
    )
    assert acquire_volumes(fake, mounts, None, writer, Choice(PLENTY, PLENTY)) == 5
    tar = stored(writer, "volumes/0.tar")
    assert b"SECRET" not in tar
    assert members(tar) == ["m0", "m0/f", "m0/root", "m0/up"]
    assert members(stored(writer, "volumes/2.tar")) == ["m2"]
    index = json.loads((writer.folder / "data/volumes/index.json").read_bytes())["mounts"]
    assert [(row["taken"], row["entries"]) for row in index] == [(True, 4), (False, 0), (True, 1)]
    assert [gap.what.partition(" ")[0] for gap in writer.gaps] == ["/m1", "what"], "and what the image has in them"
    assert {row["origin"] for row in rows(writer, "volumes/0.jsonl")} == {"volume"}


@pytest.mark.thorough
def test_limits_hold_over_all_volumes(
    fake: FakeEngine, target: Container, writer: BundleWriter, tmp_path: Path
) -> None:
    for name in ("v", "w"):
        (tmp_path / name).mkdir()
        for number in range(3):
            (tmp_path / name / f"f{number}").write_bytes(b"x" * 100)
    mounts = with_mounts(target, ("volume", tmp_path / "v"), ("volume", tmp_path / "w"))
    assert acquire_volumes(fake, mounts, None, writer, Choice(PLENTY, 7)) == 7
    whys = [gap.why for gap in writer.gaps]
    assert any("no more files" in why for why in whys) and len(members(stored(writer, "volumes/1.tar"))) == 3
    writer2 = BundleWriter(tmp_path / "b2")
    acquire_volumes(fake, mounts, None, writer2, Choice(450, 100))
    assert [gap.what for gap in writer2.gaps] == ["/m1/f1", "/m1/f2", "what the image has in volumes"]


@pytest.mark.skipif(os.geteuid() != 0, reason="as the engine's host")
def test_a_volume_is_held_against_what_the_image_has_there(
    fake: FakeEngine, target: Container, writer: BundleWriter, tmp_path: Path
) -> None:
    image, upper, volume, other = (tmp_path / name for name in ("image", "upper", "volume", "other"))
    for folder in (image / "m0/under", image / "m1", upper, volume, other):
        folder.mkdir(parents=True)
    for name, text in (
        ("m0/same", "s"),
        ("m0/changed", "old\n"),
        ("m0/gone", "g"),
        ("m0/under/x", "x"),
        ("m1/never-copied", "n"),
    ):
        (image / name).write_text(text)
    shutil.copy2(image / "m0/same", volume / "same")
    (volume / "changed").write_text("new\n")
    (volume / "added").write_text("a")
    (volume / "under").mkdir()
    shutil.copystat(image / "m0/under", volume / "under")
    raw = {
        **with_mounts(target, ("volume", volume), ("volume", other)).raw,
        "GraphDriver": {"Data": {"UpperDir": str(upper), "LowerDir": str(image)}},
    }
    raw["HostConfig"] = {**raw["HostConfig"], "Tmpfs": {"/m0/under": ""}}
    acquire_volumes(fake, Container(raw), None, writer, Choice(PLENTY, PLENTY))
    assert writer.gaps == []
    writer.put(names.INDEX, json.dumps(writer.index({"target": {}})).encode())
    side = Evidence(BundleReader(writer.folder))
    assert {(one.path, one.change) for one in side.changes()} == {
        ("/m0/added", "added"),
        ("/m0/changed", "changed"),
        ("/m0/gone", "deleted"),
    }
    assert {one.change.path: one.stream.read() for one in side.taken() if one.stream} == {
        "/m0/added": b"a",
        "/m0/changed": b"new\n",
    }
    assert side.volumes_before.read("/m0/changed", PLENTY) == b"old\n"
    with_no_copy = Container({**raw, "HostConfig": {**raw["HostConfig"], "Binds": ["volume:/m0:nocopy"]}})
    second = BundleWriter(tmp_path / "b2")
    acquire_volumes(fake, with_no_copy, None, second, Choice(PLENTY, 3))
    second.put(names.INDEX, json.dumps(second.index({"target": {}})).encode())
    assert {one.change for one in Evidence(BundleReader(second.folder)).changes()} == {"added"}


def test_a_remote_engines_volumes_are_a_gap(
    fake: FakeEngine, target: Container, writer: BundleWriter, tmp_path: Path
) -> None:
    mounts = with_mounts(target, ("volume", tmp_path / "none"))
    assert acquire_volumes(fake, mounts, None, writer, Choice(1, 1)) == 0
    assert len(writer.gaps) == 1


def test_a_tmpfs_of_the_host_is_not_the_containers() -> None:
    view = HostView("x" * 64, 1)
    view.__dict__["mounts"] = tuple(Mount(point, "tmpfs", {}) for point in ("/tmp", "/hr", "/host/run", "/hosts"))
    container = Container(
        {"Mounts": [{"Type": "bind", "Destination": "/hr"}, {"Type": "bind", "Destination": "/host"}]}
    )
    assert [mount.point for mount in tmpfs_mounts(view, bound(container))] == ["/tmp", "/hosts"]


def test_a_profile_with_more() -> None:
    profile = load_profile("quick+export+image-save")
    assert profile.id == "quick+export+image-save" and profile.limit("export") and profile.find("volumes") is None
    with pytest.raises(UsageProblem, match="no collector 'exprot'"):
        load_profile("quick+exprot")


def test_the_containers_own_mount_table_is_not_believed(target: Container, monkeypatch: pytest.MonkeyPatch) -> None:
    """An attacker with CAP_SYS_ADMIN can mount an overlay of paths that mean something else on the host."""
    view = HostView(target.id, os.getpid())
    own = Mount("/", "overlay", {"upperdir": "/etc", "lowerdir": "/root"})
    view.__dict__["mounts"] = (own,)
    assert isinstance(find_layers(target, view), str)
    monkeypatch.setattr(
        "irkit.acquire.mounted.engine_mounts",
        lambda but, name: iter([Mount(f"/run/{target.id}/rootfs", "overlay", own.options)]),
    )
    found = find_layers(target, view)
    assert isinstance(found, Layers) and found.upper == "/etc"
