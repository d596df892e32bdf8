"""Changed files of real overlays: the image with the tar on top is what the container saw, whatever it did."""

from __future__ import annotations

import os
import socket
import struct
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from irkit.acquire.attributes import Marks, acl_text
from irkit.acquire.beneath import Entry, birth_time
from irkit.acquire.filesystem import GAP_LIMIT, acquire_changes
from irkit.acquire.layers import Layers, split_lower
from irkit.acquire.lower import redirect_of
from irkit.acquire.tarwriter import pax_record, seconds
from irkit.evidence.writer import BundleWriter
from tests.unit.acquire.overlays import Overlay, picture

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="overlay mounts and device nodes need root")
RENAMING = "metacopy=on,redirect_dir=on"
FILLED = {"old/f": "data", "old/sub/deep": "deep", "old/gone": "x", "top": "top", "etc/conf": "c", "kept/a": "a"}


def filled(overlay: Overlay, files: dict[str, str] = FILLED) -> Overlay:
    for name, text in files.items():
        path = overlay.lower() / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return overlay


@pytest.mark.thorough
@pytest.mark.parametrize("options", [RENAMING, "metacopy=off,redirect_dir=off", "metacopy=on,redirect_dir=on,index=on"])
@pytest.mark.parametrize(
    "script",
    [
        "mv old new",
        "mv old new; mv new/f new/g; rm new/gone; echo x > new/sub/more; chmod 600 new/sub/deep",
        "mv old kept/inner; mv kept/inner/sub sub; rm sub/deep",
        "mv old new; mkdir old; echo again > old/f",
        "mv old new; mkdir old; mv new/sub old/sub; mv kept new/kept",
        "mv old a; mv kept old; mv a kept",
        "rm -r kept; mkdir -p kept/x; mv kept/x x; rm -r x kept; mv old kept; mv kept/sub/deep kept/sub/a",
        "rm -r etc; mv old etc; rm -r kept; mv etc/sub kept",
        "rm -r old; mkdir old; mkdir old/sub; echo y > old/sub/other",
        "chmod 600 top; chown 5:6 etc/conf; touch -d 2001-02-03T04:05:06.123456789 top",
        "mv top etc/top; chmod 4711 etc/top; rm -r kept; echo f > kept",
        "rm top; mkdir top; echo z > top/z; rm -r old; ln -s /etc old",
        "ln top top2; ln top etc/top3; echo more >> top2",
        "chmod 700 .; mkdir -m 1777 tmp; mkfifo p; mknod n c 1 3; mknod b b 7 300; ln -s / root; ln -s . loop; ln -s /etc/shadow s",
        "printf x > $'new\\nline'; printf x > $'esc\\e[31m'; printf x > $'bad\\xff\\xfe'; mkdir $'\\xff'; printf y > $'\\xff/'$(printf a%.0s {1..200})$'\\xff'",
        "ln -s $(printf b%.0s {1..300}) long; printf c > $(printf d%.0s {1..101}); printf '' > ..x; printf - > -rf",
    ],
)  # fmt: skip
def test_the_image_with_the_tar_is_what_the_container_saw(tmp_path: Path, script: str, options: str) -> None:
    overlay = filled(Overlay(tmp_path, 1, options))
    overlay.change(script)
    taken = overlay.scan()
    assert taken.notes == []
    image, seen = picture(overlay.lower()), picture(overlay.seen)
    assert picture(overlay.rebuilt(taken)) == seen
    plain = dict.fromkeys(seen.keys() - image.keys(), "added") | dict.fromkeys(image.keys() - seen.keys(), "deleted")
    listed = {os.path.relpath(path, "/"): word for path, word in taken.words.items()}
    assert {name: word for name, word in listed.items() if word != "changed"} == plain
    changed = {
        name
        for name in seen.keys() & image.keys()
        if [*seen[name][:6], *seen[name][7:]] != [*image[name][:6], *image[name][7:]]
    }
    moved = {os.path.relpath(path, "/") for path, change in taken.changes.items() if change.moved_from or change.opaque}
    assert changed - moved == {name for name, word in listed.items() if word == "changed"} - {".", *moved}


@pytest.mark.parametrize("options", [RENAMING, "metacopy=off,redirect_dir=off"])
def test_what_lay_in_a_folder_that_is_gone_is_listed(tmp_path: Path, options: str) -> None:
    """One whiteout, one opaque folder or one redirect hides a whole tree from the overlay, never from a reader."""
    files = {
        "log/app/audit": "1",
        "log/app/old/audit": "2",
        "full/sub/deep/f": "3",
        "flat/sub/f": "4",
        "to/sub/x": "5",
        "from/sub/y": "6",
    }
    overlay = filled(Overlay(tmp_path, 1, options), files)
    overlay.change("rm -r log/app full flat to; mkdir full; echo > flat; mv from to")
    taken = overlay.scan()
    assert "/full" in [path for path, change in taken.changes.items() if change.opaque]
    assert type(taken.changes["/full"]).from_json(taken.changes["/full"].to_json()) == taken.changes["/full"]
    deleted = {path for path, word in taken.words.items() if word == "deleted"}
    assert deleted == {
        "/log/app", "/log/app/audit", "/log/app/old", "/log/app/old/audit", "/full/sub", "/full/sub/deep", "/full/sub/deep/f",
        "/flat/sub", "/flat/sub/f", "/to/sub/x", "/from", "/from/sub", "/from/sub/y",
    }  # fmt: skip


def test_a_renamed_folder_says_where_it_was(tmp_path: Path) -> None:
    overlay = filled(Overlay(tmp_path, 1, RENAMING))
    overlay.change("mv old new; mkdir new/fresh; mv new/sub moved")
    taken = overlay.scan()
    assert taken.changes["/new"].moved_from in ("/old", "old")
    assert taken.words == {
        "/new": "added", "/new/f": "added", "/new/gone": "added", "/new/fresh": "added", "/moved": "added", "/moved/deep": "added",
        "/old": "deleted", "/old/f": "deleted", "/old/gone": "deleted", "/old/sub": "deleted", "/old/sub/deep": "deleted",
    }  # fmt: skip
    row = taken.changes["/new"].to_json()
    assert type(taken.changes["/new"]).from_json(row) == taken.changes["/new"] and row["moved_from"]


def test_two_folders_that_change_places(tmp_path: Path) -> None:
    overlay = filled(
        Overlay(tmp_path, 1, RENAMING), {"a/same": "1", "b/same": "2", "a/only": "3", "b/sub/f": "4", "a/sub/f": "4"}
    )
    os.utime(overlay.lower() / "a/sub/f", ns=(0, 10**18))
    os.utime(overlay.lower() / "b/sub/f", ns=(0, 10**18))
    overlay.change("mv a c; mv b a; mv c b")
    taken = overlay.scan()
    found = {path: word for path, word in taken.words.items() if path not in ("/a", "/b")}
    assert found == {"/a/same": "changed", "/a/only": "deleted", "/b/same": "changed", "/b/only": "added"}
    assert picture(overlay.rebuilt(taken)) == picture(overlay.seen)


def test_only_the_metadata_was_copied_up(tmp_path: Path) -> None:
    overlay = filled(Overlay(tmp_path, 1, RENAMING))
    overlay.change("chmod 4755 old/f; mv top elsewhere; chmod 1 elsewhere")
    assert "trusted.overlay.metacopy" in os.listxattr(overlay.upper / "old/f")  # its bytes are in the image
    taken = overlay.scan()
    changes = taken.changes
    after, before = changes["/old/f"].after, changes["/old/f"].before
    assert after and before and (after.sha256, after.mode) == (before.sha256, 0o4755)
    file = taken.tar.extractfile("elsewhere")
    assert file is not None and file.read() == b"top"


def test_metacopy_without_its_layer_is_said(tmp_path: Path) -> None:
    overlay = filled(Overlay(tmp_path, 1, RENAMING))
    overlay.change("chmod 600 top")
    (overlay.lower() / "top").unlink()
    taken = overlay.scan()
    assert [path for path, _ in taken.notes] == ["/top"] and "top" not in taken.names
    assert taken.changes["/top"].after is not None


@pytest.mark.thorough
def test_127_layers(tmp_path: Path) -> None:
    overlay = Overlay(tmp_path, 127, "redirect_dir=off")
    for number in range(127):
        path = overlay.lower(number) / "a/b/c/d"
        path.mkdir(parents=True)
        (path / f"only{number}").write_text(str(number))
        (path / "all").write_text(f"all {number}")
        if number == 60:
            os.mknod(path / "only90", 0o20000, 0)
    overlay.change("echo new > a/b/c/d/all; rm a/b/c/d/only126; echo 5 >> a/b/c/d/only5; mv a/b/c/d/only100 a/x")
    taken = overlay.scan()
    assert taken.words == {
        "/a/b/c/d/all": "changed", "/a/b/c/d/only126": "deleted", "/a/b/c/d/only5": "changed", "/a/b/c/d/only100": "deleted",
        "/a/x": "added",
    }  # fmt: skip
    assert taken.notes == [] and picture(overlay.rebuilt(taken)) == picture(overlay.seen)


@pytest.mark.thorough
def test_a_redirect_through_many_layers_keeps_its_descriptors(tmp_path: Path) -> None:
    overlay = Overlay(tmp_path, 100, RENAMING)
    for number in range(100):
        (overlay.lower(number) / f"old/p{number}/q/r/s").mkdir(parents=True)
        (overlay.lower(number) / f"old/p{number}/q/r/s/f").write_text(str(number))
        (overlay.lower(number) / "old/same").write_text(str(number))
    overlay.change("mv old new")
    before = len(os.listdir("/proc/self/fd"))
    taken = overlay.scan()
    assert len(os.listdir("/proc/self/fd")) == before
    assert taken.notes == [] and picture(overlay.rebuilt(taken)) == picture(overlay.seen)


def test_whiteouts_of_the_second_form(tmp_path: Path) -> None:
    """An empty file with the xattr ``whiteout`` in a folder marked ``x`` (overlayfs.rst, since Linux 6.7)."""
    overlay = filled(Overlay(tmp_path, 2))
    (overlay.lower(1) / "old").mkdir()
    (overlay.lower(1) / "old/f").write_text("below")
    (overlay.lower(0) / "old/f").write_bytes(b"")
    os.setxattr(overlay.lower(0) / "old/f", "trusted.overlay.whiteout", b"")
    os.setxattr(overlay.lower(0) / "old", "trusted.overlay.opaque", b"x")
    overlay.change("test ! -e old/f; echo anew > old/f")
    assert overlay.scan().words == {"/old/f": "added"}


def test_marks_in_a_user_namespace_are_user_attributes(tmp_path: Path) -> None:
    overlay = filled(Overlay(tmp_path, 1, "userxattr"))
    overlay.change("rm -r old; mkdir old; echo x > old/x")
    assert overlay.scan(marks=Marks("user.overlay.")).words["/old/f"] == "deleted"
    assert "/old/f" not in overlay.scan().words


def test_capabilities_acls_and_attributes(tmp_path: Path) -> None:
    overlay = filled(Overlay(tmp_path))
    capability = struct.pack("<IIIII", 0x02000001, 1 << 10, 0, 0, 0)  # cap_net_bind_service, VFS_CAP_REVISION_2
    acl = struct.pack("<I", 2) + b"".join(
        struct.pack("<HHI", *one) for one in ((1, 6, 2**32 - 1), (2, 5, 1000), (4, 4, 2**32 - 1), (16, 7, 2**32 - 1), (32, 0, 2**32 - 1))
    )  # fmt: skip
    overlay.change("echo x > cap; mkdir shared; echo y > acl; ln -s cap link")
    os.setxattr(overlay.upper / "cap", "security.capability", capability)
    os.setxattr(overlay.upper / "cap", "user.a=b%", b"\xff\0\n=")
    os.setxattr(overlay.upper / "acl", "system.posix_acl_access", acl)
    os.setxattr(overlay.upper / "shared", "system.posix_acl_default", acl)
    os.setxattr(overlay.upper / "acl", "trusted.overlay.overlay.opaque", b"y")  # a nested overlay's, escaped
    os.setxattr(overlay.upper / "link", "trusted.l", b"of the link", follow_symlinks=False)
    taken = overlay.scan()
    root = overlay.rebuilt(taken)
    assert os.getxattr(root / "cap", "security.capability") == capability
    assert os.getxattr(root / "cap", "user.a=b%") == b"\xff\0\n="
    assert os.getxattr(root / "acl", "system.posix_acl_access") == acl
    assert os.getxattr(root / "shared", "system.posix_acl_default") == acl
    assert os.getxattr(root / "acl", "trusted.overlay.opaque") == b"y"
    assert acl_text(acl) == "user::rw-,user:1000:r-x,group::r--,mask::rwx,other::---"
    pax = taken.tar.getmember("link").pax_headers
    assert pax["SCHILY.xattr.trusted.l"] == "of the link"


@pytest.mark.thorough
def test_holes_cost_nothing(tmp_path: Path) -> None:
    overlay = Overlay(tmp_path)
    overlay.change("true")
    with (overlay.upper / "sparse").open("wb") as file:
        file.truncate(30 * 1024**2)
        for offset in (0, 10 * 1024**2, 29 * 1024**2 + 5):
            file.seek(offset)
            file.write(b"island")
    (overlay.upper / "hollow").touch()
    os.truncate(overlay.upper / "hollow", 3 * 10**8)
    taken = overlay.scan(budget=200_000)
    assert len(taken.data.getvalue()) < 200_000 and taken.notes == []
    digest = subprocess.run(
        ["sha256sum", overlay.upper / "sparse"], capture_output=True, text=True, check=True
    ).stdout.split()[0]
    after = taken.changes["/sparse"].after
    assert after and after.sha256 == digest
    root = overlay.rebuilt(taken)
    assert (root / "sparse").read_bytes() == (overlay.upper / "sparse").read_bytes()
    assert (root / "hollow").stat().st_size == 3 * 10**8 and (root / "hollow").stat().st_blocks == 0
    assert (root / "sparse").stat().st_blocks * 512 < 10**6


def test_exabytes_of_holes_do_not_hang(tmp_path: Path) -> None:
    overlay = Overlay(tmp_path)
    overlay.change("true")
    (overlay.upper / "huge").touch()
    os.truncate(overlay.upper / "huge", 15 * 1024**4)
    taken = overlay.scan()
    assert [path for path, _ in taken.notes] == ["/huge"] and "digest" in taken.notes[0][1]
    assert taken.tar.getmember("huge").size == 15 * 1024**4


def test_a_name_that_a_layer_would_take_for_a_mark(tmp_path: Path) -> None:
    overlay = filled(Overlay(tmp_path))
    overlay.change("echo mine > .wh.top; mkdir .wh..wh..opq; echo in > .wh..wh..opq/f")
    taken = overlay.scan()
    assert not any(name.startswith(".wh.") for name in taken.names)
    assert {path for path, _ in taken.notes} == {"/.wh.top", "/.wh..wh..opq", "/.wh..wh..opq/f"}
    assert "/.wh.top" in taken.changes


def test_sockets_stand_in_the_list(tmp_path: Path) -> None:
    overlay = filled(Overlay(tmp_path))
    overlay.change("true")
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(str(overlay.upper / "sock"))
    taken = overlay.scan()
    assert taken.changes["/sock"].kind == "socket" and taken.names == [] and taken.notes == []


def test_birth_times_are_not_mixed_up_between_threads(tmp_path: Path) -> None:
    """Collectors, and the targets of one command, run beside each other."""
    names = [f"f{number}" for number in range(8)]
    for name in names:
        (tmp_path / name).touch()
        time.sleep(0.005)
    folder = os.open(tmp_path, os.O_RDONLY)
    try:
        alone = {name: birth_time(folder, name) for name in names}
        assert len(set(alone.values())) == len(names)
        with ThreadPoolExecutor(len(names)) as pool:
            for name, found in pool.map(lambda name: (name, {birth_time(folder, name) for _ in range(4000)}), names):
                assert found == {alone[name]}
    finally:
        os.close(folder)


def test_every_time(tmp_path: Path) -> None:
    overlay = Overlay(tmp_path)
    overlay.change("true")
    path = overlay.upper / "f"
    path.write_text("x")
    os.utime(path, ns=(1_234_567_890_987_654_321, -1_500_000_001))
    info = path.stat()
    taken = overlay.scan()
    after = taken.changes["/f"].after
    assert after is not None and (after.atime_ns, after.mtime_ns, after.ctime_ns) == (
        info.st_atime_ns,
        info.st_mtime_ns,
        info.st_ctime_ns,
    )
    folder = os.open(overlay.upper, os.O_RDONLY)
    born = birth_time(folder, "f")
    os.close(folder)
    shown = subprocess.run(["stat", "-c", "%.9W", path], capture_output=True, text=True, check=True).stdout.strip()
    assert seconds(born).decode() == shown and after.btime_ns == born
    pax = taken.tar.getmember("f").pax_headers
    assert (pax["mtime"], pax["atime"]) == ("-1.500000001", "1234567890.987654321")
    assert (pax["LIBARCHIVE.creationtime"], pax["ctime"]) == (shown, seconds(info.st_ctime_ns).decode())
    assert path.stat().st_atime_ns == info.st_atime_ns  # reading left no trace


def test_files_that_grow_shrink_and_vanish(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    overlay = Overlay(tmp_path)
    overlay.change("true")
    for name in ("grows", "shrinks", "vanishes"):
        (overlay.upper / name).write_bytes(b"1234567890" * 100)
    real = Entry.open

    def opened(entry: Entry) -> int:
        path = overlay.upper / entry.name
        if entry.name == "vanishes":
            path.unlink()
        descriptor = real(entry)
        with path.open("ab") as file:
            file.truncate(10) if entry.name == "shrinks" else file.write(b"more")
        return descriptor

    monkeypatch.setattr(Entry, "open", opened)
    taken = overlay.scan()
    assert sorted(taken.names) == ["grows", "shrinks"]
    assert [path for path, _ in taken.notes] == ["/grows", "/shrinks", "/vanishes"]
    file = taken.tar.extractfile("shrinks")
    assert file is not None and file.read() == b"1234567890" + bytes(990)


@pytest.mark.thorough
def test_a_folder_under_attack_while_it_is_read(tmp_path: Path) -> None:
    """Names are exchanged for links to a secret all the while: not one byte of it enters."""
    overlay = Overlay(tmp_path)
    overlay.change("for i in $(seq 100); do mkdir d$i; echo fine > d$i/f; done")
    (tmp_path / "secret").mkdir()
    (tmp_path / "secret/f").write_text("SECRET")
    stop = threading.Event()

    def attack() -> None:
        while not stop.is_set():
            for number in range(1, 101):
                one = overlay.upper / f"d{number}"
                try:
                    one.rename(overlay.upper / "aside")
                    one.symlink_to("../secret")
                    one.unlink()
                    (overlay.upper / "aside").rename(one)
                    (one / "f").unlink()
                    (one / "f").symlink_to("../../secret/f")
                    (one / "f").unlink()
                    (one / "f").write_text("fine")
                except OSError:
                    pass

    thread = threading.Thread(target=attack)
    thread.start()
    try:
        for _ in range(5):
            assert b"SECRET" not in overlay.scan().data.getvalue()
    finally:
        stop.set()
        thread.join()


def test_a_loop_of_layers_ends(tmp_path: Path) -> None:
    overlay = filled(Overlay(tmp_path))
    overlay.change("true")
    for name, target in (("a", b"/b"), ("b", b"/a"), ("c", b"c"), ("d", b"/d/d/d"), ("e", b"/old/sub/deep/x")):
        (overlay.upper / name).mkdir()
        os.setxattr(overlay.upper / name, "trusted.overlay.redirect", target)
        (overlay.lower() / name).mkdir()
        os.setxattr(overlay.lower() / name, "trusted.overlay.redirect", target)
    assert set("abcde") <= {one.strip("/") for one in overlay.scan().changes} | set("abcde")


def test_redirects_lead_nowhere_else() -> None:
    for value in (b"..", b"../x", b"/../x", b"/a/../b", b"a/b", b"/", b"", b"/a//b", b"."):
        entry = Entry("/x", "x", -1, os.stat("/"), Marks(), _xattrs={"trusted.overlay.redirect": value})
        assert redirect_of(entry) == ""


def test_lowerdir_is_split_as_the_kernel_writes_it() -> None:
    assert split_lower(r"/a:/b\:c:/d::/data") == ["/a", "/b:c", "/d", "/data"]


@pytest.mark.thorough
@given(st.binary(min_size=1, max_size=120).filter(lambda key: b"=" not in key), st.binary(max_size=2000))
@settings(max_examples=200)
def test_a_pax_record_counts_itself(keyword: bytes, value: bytes) -> None:
    record = pax_record(keyword, value)
    length, _, rest = record.partition(b" ")
    assert int(length) == len(record) and rest == keyword + b"=" + value + b"\n"


@given(st.binary(max_size=200))
def test_an_acl_of_any_bytes_is_text_or_nothing(value: bytes) -> None:
    assert acl_text(value).isascii()


@pytest.mark.thorough
def test_a_flood_of_gaps_does_not_swell_the_index(tmp_path: Path) -> None:
    overlay = Overlay(tmp_path)
    overlay.change("mkdir d")
    for number in range(GAP_LIMIT + 7):
        (overlay.upper / f"d/{number:05}").write_bytes(b"12")
    writer = BundleWriter(tmp_path / "bundle")
    layers = Layers(str(overlay.upper), (str(overlay.lower()),), "test")
    assert acquire_changes(layers, writer, 0, lambda _: None) == GAP_LIMIT + 8
    assert len(writer.gaps) == GAP_LIMIT + 1 and writer.gaps[-1].what == "7 more"
    reader = {one.path: one for one in writer.artifacts}
    raw = (
        zstandard.ZstdDecompressor()
        .stream_reader((tmp_path / "bundle" / "data/filesystem/gaps.jsonl.zst").open("rb"))
        .read()
    )
    assert len(raw.splitlines()) == 7 and reader["data/filesystem/gaps.jsonl.zst"].complete


@pytest.mark.thorough
def test_a_full_disk_keeps_the_list(tmp_path: Path) -> None:
    """The contents don't fit, the list of changes does: it is whole, and what is missing is named."""
    overlay = Overlay(tmp_path)
    overlay.change("mkdir d; head -c 9000000 /dev/urandom > d/big; echo x > e")
    (tmp_path / "small").mkdir()
    script = (
        "import sys\nfrom pathlib import Path\nfrom irkit.acquire.filesystem import acquire_changes\n"
        "from irkit.acquire.layers import Layers\nfrom irkit.evidence.writer import BundleWriter\n"
        "writer = BundleWriter(Path(sys.argv[1]) / 'small/b')\n"
        "print(acquire_changes(Layers(sys.argv[1] + '/u', (sys.argv[1] + '/l0',), 'test'), writer, 10**12, lambda change: None))\n"
        "print(sorted(one.path for one in writer.artifacts if one.complete), writer.lost)\n"
    )
    body = 'mount -t tmpfs -o size=4m t "$1/small" && exec "$2" -c "$3" "$1"'
    argv = ["unshare", "-m", "bash", "-c", body, "-", str(tmp_path), sys.executable, script]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    count, rest = done.stdout.splitlines()
    assert count == "3"
    assert rest == (
        "['data/filesystem/changes.jsonl.zst', 'data/filesystem/originals.tar.zst'] ['data/filesystem/layer.tar.zst']"
    )
