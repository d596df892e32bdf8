"""apk's database."""

from __future__ import annotations

import hashlib

from irkit.compare.files import MemoryFiles
from irkit.compare.packages import find_copy, read_packages
from tests.fakes.packages import APK_INSTALLED

FILES = MemoryFiles({"/lib/apk/db/installed": APK_INSTALLED})


def test_owner() -> None:
    packages = read_packages(FILES)
    found = packages.owner("/bin/busybox")
    assert found is not None
    assert (found.manager, found.package, found.version) == ("apk", "busybox", "1.36.1-r5")
    assert (found.algorithm, found.digest) == ("sha1", hashlib.sha1(b"busybox").hexdigest())
    assert (found.mode, found.conffile) == (0o755, False)
    library = packages.owner("/lib/ld-musl-x86_64.so.1")
    assert library is not None and library.digest == hashlib.sha1(b"musl").hexdigest()
    assert packages.owner("/tmp") is None
    assert packages.owner("/bin/securetty") is None
    assert not packages.problems


def test_configuration_and_the_default_mode() -> None:
    found = read_packages(FILES).owner("/etc/securetty")
    assert found is not None
    assert (found.conffile, found.mode) == (True, 0o644)


def test_sha256_and_the_root_folder() -> None:
    found = read_packages(FILES).owner("/rootfile")
    assert found is not None
    assert (found.algorithm, found.digest) == ("sha256", hashlib.sha256(b"rootfile").hexdigest())
    assert find_copy({"sha256": hashlib.sha256(b"rootfile").hexdigest()}, read_packages(FILES)) == "/rootfile"


def test_a_link_has_the_digest_of_its_text() -> None:
    found = read_packages(FILES).owner("/lib/libc.musl-x86_64.so.1")
    assert found is not None and found.digest == hashlib.sha1(b"ld-musl-x86_64.so.1").hexdigest()


def test_installed() -> None:
    assert [(one.name, one.version, one.architecture) for one in read_packages(FILES).installed] == [
        ("busybox", "1.36.1-r5", "x86_64"),
        ("musl", "1.2.4-r2", "x86_64"),
    ]


def test_merged() -> None:
    packages = read_packages(MemoryFiles({"/usr/lib/apk/db/installed": APK_INSTALLED}))
    found = packages.owner("/usr/bin/busybox")
    assert found is not None and found.package == "busybox"


def test_hostile() -> None:
    text = (
        b"P:evil\nV:1\nF:../../etc\nR:shadow\nZ:Q1AAAA\nF:bin\nR:x\0y\nR:ok\na:0:0:99999999\nZ:"
        + b"A" * 5000
        + b"\n\nX\n"
    )
    packages = read_packages(MemoryFiles({"/lib/apk/db/installed": text}))
    found = packages.owner("/bin/ok")
    assert found is not None
    assert (found.digest, found.mode) == ("", 0o644)
    assert packages.owner("/etc/shadow") is None
    assert {gap.why for gap in packages.problems} >= {
        "a block has no package's name",
        "a digest is not of a known form",
    }
