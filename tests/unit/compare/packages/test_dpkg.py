"""dpkg's database: owners, digests, and what makes them differ from what one list says."""

from __future__ import annotations

from dataclasses import replace

import pytest

from irkit.compare.files import MemoryFiles
from irkit.compare.packages import Ownership, read_packages
from tests.fakes.packages import INFO, dpkg, md5

BASH = {"bash": {"/bin/bash": b"bash", "/usr/share/doc/bash/README": b"read me"}}


def owned(files: MemoryFiles, path: str) -> tuple[str, str] | None:
    found = read_packages(files).owner(path)
    return (found.package, found.digest) if found else None


def test_owner() -> None:
    found = read_packages(dpkg(BASH)).owner("/bin/bash")
    assert found == Ownership(
        "dpkg", "bash", "1.0-1", "md5", md5(b"bash"), False, "/bin/bash", key=("dpkg", "bash", "amd64", "")
    )
    packages = read_packages(dpkg(BASH))
    assert packages.algorithms("/bin/bash") == packages.copy_algorithms == {"md5"}
    assert packages.owner("/bin/zsh") is None
    assert packages.algorithms("/bin/zsh") == frozenset()
    assert [(one.name, one.version) for one in packages.installed] == [("bash", "1.0-1")]


def test_folders_and_links_have_no_digest() -> None:
    assert owned(dpkg(BASH), "/usr/share/doc") == ("bash", "")
    assert read_packages(dpkg(BASH)).algorithms("/usr/share/doc") == frozenset()


@pytest.mark.parametrize(
    "path",
    [
        "bin/bash",
        "",
        "/",
        "//bin/bash",
        "/bin/../bin/bash",
        "/bin/bash/",
        "/bin/ba\0sh",
        "/bin/\ud800",
        "/" + "a" * 5000,
    ],
)
def test_paths_that_are_not_plain(path: str) -> None:
    assert owned(dpkg(BASH), path) is None


def test_merged_usr() -> None:
    """Where a folder of the root is a link, both names are one place, whichever the database has."""
    assert owned(dpkg(BASH), "/usr/bin/bash") == ("bash", md5(b"bash"))
    assert owned(dpkg({"bash": {"/usr/bin/bash": b"x"}}), "/bin/bash") == ("bash", md5(b"x"))
    assert owned(dpkg(BASH), "/usr/lib/bash") is None


def test_separate_usr() -> None:
    """A file beneath /bin shows that it is a folder of its own: then /usr/bin/bash is another file."""
    files = dpkg(BASH, more={"/bin/ls": b"ls"})
    assert owned(files, "/usr/bin/bash") is None
    assert owned(files, "/bin/bash") == ("bash", md5(b"bash"))


def test_multi_arch() -> None:
    files = dpkg({"libc6": {"/lib/x86_64-linux-gnu/libc.so.6": b"libc"}}, same=["libc6"])
    assert f"{INFO}/libc6:amd64.md5sums" in files.files
    assert owned(files, "/usr/lib/x86_64-linux-gnu/libc.so.6") == ("libc6", md5(b"libc"))


def test_conffile() -> None:
    given = md5(b"as the package has it")
    files = dpkg(
        BASH,
        conffiles={"bash": {"/etc/bash.bashrc": given, "/etc/new": "newconffile", "/etc/old": f"{given} obsolete"}},
    )
    found = read_packages(files).owner("/etc/bash.bashrc")
    assert found is not None
    assert (found.conffile, found.algorithm, found.digest) == (True, "md5", given)
    assert read_packages(files).owner("/etc/old") == replace(found, path="/etc/old")
    assert read_packages(files).owner("/etc/new") == replace(found, path="/etc/new", algorithm="", digest="")


def test_diversion() -> None:
    """dash diverts what belongs to bash: each one's copy is known where it really lies (dpkg-divert(1))."""
    packages = {"bash": {"/bin/sh": b"bash"}, "dash": {"/bin/sh": b"dash"}}
    lines = b"/bin/sh\n/bin/sh.distrib\ndash\n"
    files = dpkg(packages, more={"/var/lib/dpkg/diversions": lines})
    assert owned(files, "/bin/sh") == ("dash", md5(b"dash"))
    assert owned(files, "/bin/sh.distrib") == ("bash", md5(b"bash"))
    local = dpkg(packages, more={"/var/lib/dpkg/diversions": b"/bin/sh\n/bin/sh.distrib\n:\n"})
    assert owned(local, "/bin/sh") is None
    assert owned(local, "/bin/sh.distrib") is not None


def test_what_another_package_took_over() -> None:
    """Replaces takes a path out of the list, but not out of the digests."""
    files = dpkg({"old": {"/usr/bin/tool": b"old"}, "new": {"/usr/bin/tool": b"new"}})
    taken = MemoryFiles({**files.files, f"{INFO}/old.list": b"/.\n/usr\n/usr/bin\n"})
    assert owned(taken, "/usr/bin/tool") == ("new", md5(b"new"))
    assert read_packages(taken).copies("md5", md5(b"old")) == []


def test_two_claims() -> None:
    found = read_packages(dpkg({"one": {"/usr/bin/x": b"1"}, "two": {"/usr/bin/x": b"2"}})).owners("/usr/bin/x")
    assert {(one.package, one.digest) for one in found} == {("one", md5(b"1")), ("two", md5(b"2"))}


def test_no_digests() -> None:
    files = dpkg(BASH)
    left = MemoryFiles({path: data for path, data in files.files.items() if not path.endswith(".md5sums")})
    assert owned(left, "/bin/bash") == ("bash", "")


def test_distroless() -> None:
    """A file a package in status.d, and digests beside it; no list of files."""
    files = MemoryFiles({
        "/var/lib/dpkg/status.d/base": b"Package: base-files\nVersion: 12.4\nArchitecture: amd64\n",
        "/var/lib/dpkg/status.d/base.md5sums": f"{md5(b'x')}  usr/lib/os-release\n{md5(b'y')}  ./etc/debian_version\n".encode(),
        "/var/lib/dpkg/status.d/tzdata": b"Package: tzdata\nVersion: 2024a\n",
    })  # fmt: skip
    assert owned(files, "/usr/lib/os-release") == ("base-files", md5(b"x"))
    assert owned(files, "/etc/debian_version") == ("base-files", md5(b"y"))
    assert [one.path for one in read_packages(files).copies("md5", md5(b"y"))] == ["/etc/debian_version"]
    assert [one.name for one in read_packages(files).installed] == ["base-files", "tzdata"]


def test_removed_with_its_configuration_left() -> None:
    files = dpkg(BASH, conffiles={"bash": {"/etc/bash.bashrc": md5(b"rc")}})
    status = files.files["/var/lib/dpkg/status"].replace(b"install ok installed", b"deinstall ok config-files")
    left = MemoryFiles({**files.files, "/var/lib/dpkg/status": status})
    assert read_packages(left).installed == ()
    assert owned(left, "/etc/bash.bashrc") == ("bash", md5(b"rc"))


@pytest.mark.parametrize(
    ("path", "data", "part"),
    [
        (f"{INFO}/bash.md5sums", b"0" * 32 + b"  ../../etc/shadow\n", "`..`"),
        (f"{INFO}/bash.md5sums", b"0" * 32 + b"  bin/ba\0sh\n", "zero byte"),
        ("/var/lib/dpkg/status", b"Package: ../../etc/passwd\nStatus: install ok installed\nVersion: 1\n\n", "form"),
        ("/var/lib/dpkg/status", b"Package: bash\nStatus: install ok installed\nVersion: 1\n\nPackage: x\nVersion: 1\n\n", "1 packages have none"),
        ("/var/lib/dpkg/status", b"x" * (64 * 1024 * 1024 + 1), "too large"),
    ],
)  # fmt: skip
def test_what_is_said(path: str, data: bytes, part: str) -> None:
    packages = read_packages(MemoryFiles({**dpkg(BASH).files, path: data}))
    packages.owner("/bin/bash")
    assert packages.owner("/etc/shadow") is None
    assert part in " ".join(gap.why for gap in packages.problems)
    assert all(gap.collector == "packages" for gap in packages.problems)


def test_nothing_is_read_before_it_is_asked_for() -> None:
    class Counted:
        def __init__(self) -> None:
            self.files, self.read_paths = dpkg(BASH), [""]

        def read(self, path: str, limit: int) -> bytes | None:
            self.read_paths.append(path)
            return self.files.read(path, limit)

        def names(self, folder: str) -> tuple[str, ...]:
            return self.files.names(folder)

    files = Counted()
    packages = read_packages(files)
    assert files.read_paths == [""]
    packages.owner("/usr/share")
    assert sum(path.endswith(".list") for path in files.read_paths) == 2
    assert f"{INFO}/other.md5sums" not in files.read_paths
