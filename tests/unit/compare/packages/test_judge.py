"""What a file is to its package, in the image's database and in the container's; copies; packages that changed."""

from __future__ import annotations

import hashlib

import pytest

from irkit.compare.files import MemoryFiles
from irkit.compare.packages import (
    Packages,
    PackageState,
    compare_packages,
    find_copy,
    is_database,
    judge,
    read_packages,
)
from irkit.compare.packages.versions import order
from tests.fakes.packages import APK_INSTALLED, INFO, dpkg, md5

BASH = {"bash": {"/bin/bash": b"bash", "/usr/share/empty": b""}}
CONFIG = {"bash": {"/etc/bash.bashrc": md5(b"rc")}}
BEFORE = read_packages(dpkg(BASH, conffiles=CONFIG))


def digests(data: bytes) -> dict[str, str]:
    return {name: hashlib.new(name, data).hexdigest() for name in ("md5", "sha1", "sha256")}


def state(path: str, data: bytes, after: Packages, before: Packages = BEFORE) -> PackageState:
    return judge(path, digests(data), before, after)


def test_intact_and_altered() -> None:
    assert state("/usr/bin/bash", b"bash", BEFORE).state == "intact"
    found = state("/usr/bin/bash", b"trojan", BEFORE)
    assert (found.state, found.claimed) == ("altered", False)
    assert found.owner is not None and found.owner.package == "bash"
    assert state("/usr/bin/other", b"x", BEFORE).state == "unowned"


def test_a_conffile_is_said_to_be_one() -> None:
    assert "administrators" in state("/etc/bash.bashrc", b"mine", BEFORE).detail
    assert state("/etc/bash.bashrc", b"rc", BEFORE).state == "intact"


def test_no_digest() -> None:
    assert judge("/bin/bash", {"sha256": "0" * 64}, BEFORE, BEFORE).state == "unknown"
    bare = read_packages(MemoryFiles({path: data for path, data in dpkg(BASH).files.items() if "md5sums" not in path}))
    assert state("/bin/bash", b"bash", bare, bare).state == "unknown"


def test_upgraded() -> None:
    after = read_packages(dpkg({"bash": {"/bin/bash": b"bash 2"}}, versions={"bash": "2.0-1"}))
    found = state("/bin/bash", b"bash 2", after)
    assert found.state == "upgraded"
    assert "only the container's own database" in found.detail
    assert "can't be known offline" in found.detail
    assert state("/bin/bash", b"trojan", after).state == "altered"
    assert state("/bin/bash", b"bash", after).state == "intact"


def test_installed_in_the_container() -> None:
    after = read_packages(dpkg({**BASH, "nmap": {"/usr/bin/nmap": b"nmap"}}))
    found = state("/usr/bin/nmap", b"nmap", after)
    assert (found.state, found.claimed) == ("upgraded", False)
    assert "not in the image" in found.detail


def test_the_containers_database_is_no_witness() -> None:
    """An attacker who rewrites it convinces nobody: the image's is asked first."""
    rewritten = read_packages(dpkg({"bash": {"/bin/bash": b"trojan", "/usr/bin/backdoor": b"backdoor"}}))
    trojan = state("/bin/bash", b"trojan", rewritten)
    assert (trojan.state, trojan.claimed) == ("altered", True)
    assert "rewritten" in trojan.detail
    added = state("/usr/bin/backdoor", b"backdoor", rewritten)
    assert (added.state, added.claimed) == ("unowned", True)


def test_a_made_up_package_that_takes_a_file_over() -> None:
    after = read_packages(dpkg({"bash": {"/usr/share/empty": b""}, "evil": {"/bin/bash": b"trojan"}}))
    found = state("/bin/bash", b"trojan", after)
    assert (found.state, found.claimed) == ("upgraded", True)
    assert "belongs to bash" in found.detail


def test_a_second_claim_beside_the_owners() -> None:
    """No package takes a file that its owner keeps: a made-up one can't turn "altered" into "upgraded"."""
    evil = {"aaa": {"/bin/bash": b"trojan"}, **BASH}
    found = state("/bin/bash", b"trojan", read_packages(dpkg(evil)))
    assert (found.state, found.claimed) == ("altered", True)
    upgraded = read_packages(dpkg({**evil, "bash": {"/bin/bash": b"bash 2"}}, versions={"bash": "2"}))
    assert state("/bin/bash", b"trojan", upgraded).state == "altered"
    assert state("/bin/bash", b"bash 2", upgraded).state == "upgraded"


def test_managers() -> None:
    assert BEFORE.managers == ("dpkg",)
    assert read_packages(MemoryFiles({})).managers == ()


def test_copies() -> None:
    assert find_copy(digests(b"bash"), BEFORE) == "/bin/bash"
    assert find_copy(digests(b"other"), BEFORE) is None
    assert find_copy(digests(b""), BEFORE) is None
    assert find_copy({"md5": "no digest", "what": "0" * 32, "sha1": ""}, BEFORE) is None


def changes(before: MemoryFiles, after: MemoryFiles) -> list[tuple[str, str, str, str]]:
    found = compare_packages(read_packages(before), read_packages(after))
    return [(one.change, one.name, one.before, one.version) for one in found]


def test_package_changes() -> None:
    def some(**versions: str) -> MemoryFiles:
        names = {name: {f"/usr/bin/{name}": name.encode()} for name in versions}
        return dpkg(names, versions=versions)

    before = some(a="1", b="2", c="1:1", d="1", e="1~rc1")
    after = some(a="1", b="1", c="1:2", e="1", f="3")
    assert changes(before, after) == [
        ("downgraded", "b", "2", "1"), ("upgraded", "c", "1:1", "1:2"), ("removed", "d", "1", ""),
        ("upgraded", "e", "1~rc1", "1"), ("installed", "f", "", "3"),
    ]  # fmt: skip
    assert changes(before, before) == []


def test_reinstalled() -> None:
    before = dpkg(BASH)
    after = MemoryFiles({**before.files, f"{INFO}/bash.md5sums": b"0" * 32 + b"  bin/bash\n"})
    assert changes(before, after) == [("reinstalled", "bash", "1.0-1", "1.0-1")]
    apk = MemoryFiles({"/lib/apk/db/installed": APK_INSTALLED})
    other = MemoryFiles({"/lib/apk/db/installed": APK_INSTALLED.replace(b"C:Q1q", b"C:Q1r")})
    assert changes(apk, other) == [("reinstalled", "busybox", "1.36.1-r5", "1.36.1-r5")]


def test_to_json() -> None:
    (found,) = compare_packages(read_packages(MemoryFiles({})), read_packages(dpkg(BASH)))
    assert found.to_json() == {
        "manager": "dpkg", "name": "bash", "change": "installed", "version": "1.0-1", "before": "", "architecture": "amd64", "folder": "",
    }  # fmt: skip


ORDERS = {
    "dpkg": ("1.0~rc1", "1.0", "1.0-1", "1.0-1+b1", "1.0a", "1.0+dfsg-1", "1.2", "1.10", "0:2", "1:0.5"),
    "rpm": ("1.0~rc1-1", "1.0-1", "1.0^git1-1", "1.0.1-1", "1.2-1", "1.10-1", "1.10-2.el9", "1.10-10.el9", "1:0.1-1"),
    "apk": ("1.0_alpha1", "1.0_rc1-r0", "1.0-r0", "1.0-r1", "1.0_p1-r0", "1.0.1-r0", "1.1-r0", "1.1a-r0", "1.10-r0"),
    "pip": ("1.0.dev1", "1.0a1.dev1", "1.0a1", "1.0b2", "1.0rc1", "1.0", "1.0.post1", "1.1", "1.10", "1!0.1"),
    "npm": ("1.0.0-alpha", "1.0.0-alpha.1", "1.0.0-alpha.beta", "1.0.0-beta.2", "1.0.0-beta.11", "1.0.0-rc.1", "1.0.0", "1.2.0", "1.10.0"),
}  # fmt: skip


@pytest.mark.parametrize("manager", ORDERS)
def test_orders(manager: str) -> None:
    versions = ORDERS[manager]
    for at, one in enumerate(versions):
        assert order(manager, one, one) == 0
        for other in versions[at + 1 :]:
            assert order(manager, one, other) == -1, (one, other)
            assert order(manager, other, one) == 1, (one, other)


def test_orders_that_are_not_known() -> None:
    assert order("pip", "1.0", "what") is order("npm", "1", "2") is order("apk", "x", "1") is None
    assert order("pip", "1.0", "1.0.0") == 0


@pytest.mark.parametrize(
    ("path", "manager"),
    [
        ("/var/lib/dpkg/status", "dpkg"), ("/var/lib/dpkg/info/bash.list", "dpkg"), ("/var/lib/dpkg/info/libc6:amd64.md5sums", "dpkg"),
        ("/var/lib/dpkg/status.d/base", "dpkg"), ("/var/lib/dpkg/diversions", "dpkg"), ("/var/lib/dpkg/info/bash.postinst", None),
        ("/lib/apk/db/installed", "apk"), ("/var/lib/rpm/rpmdb.sqlite", "rpm"), ("/usr/lib/sysimage/rpm/Packages.db", "rpm"),
        ("/usr/lib/python3/dist-packages/six-1.dist-info/RECORD", "pip"), ("/x/six.egg-info", "pip"), ("/x/six.egg-info/PKG-INFO", "pip"),
        ("/x/METADATA", None), ("/app/node_modules/ms/package.json", "npm"), ("/node_modules/ms/package.json", "npm"),
        ("/app/package.json", None), ("/etc/passwd", None),
    ],
)  # fmt: skip
def test_what_has_to_be_kept(path: str, manager: str | None) -> None:
    found = is_database(path)
    assert (found.manager if found else None) == manager
