"""No bytes of a database make anything raise, and none make it run long."""

from __future__ import annotations

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from irkit.compare.files import MemoryFiles
from irkit.compare.packages import compare_packages, find_copy, judge, read_packages
from irkit.compare.packages.rpm_store import headers
from irkit.compare.packages.versions import COMPARE
from tests.fakes.packages import APK_INSTALLED, INFO, bdb, md5, ndb, rpm_database

HEADER = next(headers(rpm_database()))
SITE = "/v/site-packages/x-1.dist-info"
PLACES = {
    "/var/lib/dpkg/status": b"Package: x\nStatus: install ok installed\nVersion: 1:2~3-4\nArchitecture: all\nConffiles:\n /etc/x " + b"0" * 32 + b"\n\n",
    f"{INFO}/x.list": b"/.\n/bin\n/bin/x\n/etc/x\n",
    f"{INFO}/x.md5sums": md5(b"x").encode() + b"  bin/x\n",
    "/var/lib/dpkg/status.d/y": b"Package: y\nVersion: 1\n",
    "/var/lib/dpkg/status.d/y.md5sums": md5(b"y").encode() + b"  usr/bin/y\n",
    "/var/lib/dpkg/diversions": b"/bin/x\n/bin/x.real\nz\n",
    "/lib/apk/db/installed": APK_INSTALLED,
    f"{SITE}/METADATA": b"Name: x\nVersion: 1\n\n",
    f"{SITE}/RECORD": b"x.py,sha256=47DEQpj8HBSa-_TImW-5JCeuQeRkm5NMpJWZG3hSuFU,0\n",
    "/v/o.egg-info/installed-files.txt": b"../o.py\n",
    "/v/o.egg-info/PKG-INFO": b"Name: o\nVersion: 1\n",
    "/node_modules/@s/n/package.json": b'{"name": "n", "version": "1.0.0"}',
    "/var/lib/rpm/Packages.db": ndb([HEADER, HEADER]),
}  # fmt: skip
ASKED = ("/bin/x", "/usr/bin/x", "/etc/x", "/bin/x.real", "/usr/bin/y", "/bin/busybox", "/v/site-packages/x.py", "/v/o.py", "/node_modules/@s/n/i.js", "/usr/bin/tiny", "/")  # fmt: skip
DIGESTS = {"md5": md5(b"x"), "sha1": "a" * 40, "sha256": "b" * 64}


def ask_everything(files: MemoryFiles) -> None:
    mine, other = read_packages(files), read_packages(MemoryFiles(PLACES))
    for one, two in ((mine, other), (other, mine)):
        for path in ASKED:
            judge(path, DIGESTS, one, two)
            one.algorithms(path)
        find_copy(DIGESTS, one)
        for change in compare_packages(one, two):
            change.to_json()
        assert all(gap.what and gap.why for gap in one.problems)


@given(
    path=st.sampled_from([*PLACES, "/var/lib/rpm/rpmdb.sqlite", "/var/lib/rpm/Packages"]), data=st.binary(max_size=400)
)
@settings(max_examples=60, deadline=2000)
def test_any_bytes(path: str, data: bytes) -> None:
    ask_everything(MemoryFiles({**PLACES, path: data}))


SAMPLES = {**PLACES, "/var/lib/rpm/Packages": bdb([HEADER], size=512), "/var/lib/rpm/rpmdb.sqlite": rpm_database()}


@given(path=st.sampled_from(list(SAMPLES)), data=st.data())
@settings(max_examples=60, deadline=2000)
def test_real_ones_with_bytes_changed(path: str, data: st.DataObject) -> None:
    forged = bytearray(SAMPLES[path])
    for _ in range(data.draw(st.integers(1, 8))):
        at = data.draw(st.integers(0, min(len(forged), 12_000) - 1))
        forged[at : at + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=4))
        if not forged:
            break
    rest = {
        name: text
        for name, text in PLACES.items()
        if not (path.startswith("/var/lib/rpm") and name.startswith("/var/lib/rpm"))
    }
    ask_everything(MemoryFiles({**rest, path: bytes(forged)}))


@given(
    manager=st.sampled_from(list(COMPARE)),
    one=st.text(max_size=40),
    other=st.text("0123456789.-~^+:abrc_²", max_size=40),
)
@settings(max_examples=200)
def test_any_versions(manager: str, one: str, other: str) -> None:
    found = COMPARE[manager](one, other)
    assert found in (None, -1, 0, 1)
    assert COMPARE[manager](other, one) == (None if found is None else -found)


MEGABYTE = 1024 * 1024
LONG = {
    "one path many times": (f"{INFO}/x.list", b"/bin/x\n" * 500_000),
    "one digest many times": (f"{INFO}/x.md5sums", (md5(b"x").encode() + b"  bin/x\n") * 100_000),
    "one long line": (f"{INFO}/x.md5sums", b"a" * (15 * MEGABYTE)),
    "many packages": ("/var/lib/dpkg/status", b"Package: x\nVersion: 1\n\n" * 40_000),
    "a field of many lines": ("/var/lib/dpkg/status", b"Package: x\nVersion: 1\nConffiles:\n" + b" /a b\n" * 1_000_000),
    "no end of fields": ("/var/lib/dpkg/status", b"Package:" + b"\n " * 2_000_000),
    "many diversions": ("/var/lib/dpkg/diversions", b"/bin/x\n" * 140_000),
    "empty blocks": ("/lib/apk/db/installed", b"\n\n" * 300_000),
    "many fields": ("/lib/apk/db/installed", b"P:x\n" + b"F:bin\nR:x\n" * 100_000),
    "many rows": (f"{SITE}/RECORD", b"x.py,,\n" * 100_000),
    "dots": (f"{SITE}/RECORD", b"../" * 1300 + b"x,,\n"),
    "slots of one blob": ("/var/lib/rpm/Packages.db", b"RpmP" + bytes(8) + b"\x40\0\0\0" + bytes(16) + b"Slot\1\0\0\0\0\x40\0\0\1\0\0\0" * 500_000),
}  # fmt: skip


@pytest.mark.thorough
@pytest.mark.parametrize("kind", LONG)
def test_long_ones_come_back_soon(kind: str) -> None:
    path, data = LONG[kind]
    start = time.process_time()
    ask_everything(MemoryFiles({**PLACES, path: data}))
    assert time.process_time() - start < 6
