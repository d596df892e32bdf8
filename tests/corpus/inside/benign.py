"""More than 5,000 changes as a busy container makes them.  Runs in the container; prints ``[[path, change, origin, group], …]``."""

from __future__ import annotations

import os
import subprocess
import sys

from tests.corpus.inside.common import Stage, content, noise

LIB = "irkit-corpus-lib"
stage = Stage()


def quiet(*argv: str) -> None:
    subprocess.run(argv, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, stdin=subprocess.DEVNULL)


def listed() -> dict[str, bytes]:
    """The package's files and their bytes."""
    with open(f"/var/lib/dpkg/info/{LIB}.list") as file:
        paths = [line for line in file.read().split("\n") if line]
    return {path: content(path) for path in paths if os.path.isfile(path)}


def package() -> None:
    """An upgrade by the package manager itself, with all that it records."""
    before = listed()
    quiet("dpkg", "--force-confold", "-i", f"/var/cache/apt/archives/{LIB}_1.1_all.deb")
    after = listed()
    for path in {*before, *after}:
        if before.get(path) != after.get(path):
            change = "added" if path not in before else "changed" if path in after else "deleted"
            stage.note(path, change, "package")
    stage.note("/usr/lib/irkit-corpus/p12", "added", "package")
    for name in (
        f"info/{LIB}.list",
        f"info/{LIB}.md5sums",
        "status",
        "status-old",
        "lock",
        "lock-frontend",
        "triggers/Lock",
    ):
        stage.note(f"/var/lib/dpkg/{name}", "changed", "package database")
    stage.note("/var/log/dpkg.log", "changed", "logs")


def bytecode() -> None:
    """What Python compiles beside its sources."""
    quiet(sys.executable, "-I", "-S", "-m", "compileall", "-q", "/usr/lib/irkit-corpus")
    for parent, folders, names in os.walk("/usr/lib/irkit-corpus"):
        for one in (
            *(name for name in folders if name == "__pycache__"),
            *(name for name in names if name.endswith(".pyc")),
        ):
            stage.note(os.path.join(parent, one), "added", "bytecode")


def caches() -> None:
    for one in range(200):
        stage.write(f"/var/cache/fontconfig/f{one:03}-le64.cache-7", noise(f"font{one}", 160), "caches")
    for one in range(200):
        stage.write(f"/var/cache/man/de/cat{one % 8}/m{one}.gz", b"\x1f\x8b\x08\0" + noise(f"man{one}", 90), "caches")
    for one in range(100):
        stage.write(
            f"/var/cache/twig/{one:02x}/t{one}.php",
            b"<?php\n// compiled template %d\necho $this->name;\n" % one,
            "caches",
            owner=33,
        )
    for one in range(300):
        stage.write(
            f"/home/app/.cache/pip/http/{one % 16:x}/c{one:03}",
            b"cc=4," + noise(f"pip{one}", 200),
            "caches",
            0o600,
            1000,
        )
    for one in range(200):
        stage.write(
            f"/home/app/.npm/_cacache/content-v2/sha512/{one:02x}/n{one}", noise(f"npm{one}", 150), "caches", owner=1000
        )
    for one in range(30):
        stage.write(
            f"/var/lib/apt/lists/mirror.invalid_debian_dists_s_p{one}_Packages", b"Package: p%d\n" % one, "caches"
        )
    stage.write("/var/cache/apt/pkgcache.bin", noise("pkg", 20_000), "caches")
    quiet("ldconfig")
    stage.note("/etc/ld.so.cache", "changed", "caches")
    stage.note(
        "/var/cache/ldconfig/aux-cache", "changed" if "/var/cache/ldconfig/aux-cache" in old else "added", "caches"
    )


def logs() -> None:
    stage.append("/var/log/app/app.log", b"".join(b"request %d done\n" % one for one in range(500)), "logs")
    os.rename("/var/log/app/access.log", "/var/log/app/access.log.1")
    quiet("gzip", "-n", "/var/log/app/access.log.1")
    stage.note("/var/log/app/access.log.1.gz", "added", "logs")
    stage.write("/var/log/app/access.log", b"GET / 200\n" * 40, "logs")
    stage.done["/var/log/app/access.log"][1] = "changed"
    for one in range(60):
        stage.write(f"/var/log/app/daily/d{one:02}.log.gz", b"\x1f\x8b\x08\0" + noise(f"log{one}", 300), "logs")
    stage.append("/var/log/wtmp", content("/var/log/wtmp")[:384], "logs")


def services() -> None:
    """Session files, a database, pid files and locks, files of users."""
    for one in range(500):
        stage.write(f"/var/lib/php/sessions/sess_{one:026x}", b'user|s:4:"u%03d";' % one, "sessions", 0o600, 33)
    for one in range(150):
        stage.write(f"/var/lib/db/base/{one}", noise(f"db{one}", 8192), "database", 0o600, 101)
    stage.append("/var/lib/db/journal", noise("journal", 4096), "database")
    for one in range(20):
        stage.write(f"/run/app/w{one}.pid", b"%d\n" % (100 + one), "pid files")
        stage.write(f"/run/lock/app/w{one}.lock", b"", "pid files")
    for one in range(100):
        stage.write(f"/run/app/state/s{one}.json", b'{"n": %d}\n' % one, "state")
    for one in range(150):
        stage.write(
            f"/srv/www/uploads/photo-{one}.jpg",
            b"\xff\xd8\xff\xe0\0\x10JFIF\0" + noise(f"jpg{one}", 900),
            "uploads",
            owner=33,
        )
    for one in range(400):
        stage.write(f"/var/lib/app/data/{one % 10}/d{one}.dat", noise(f"vol{one}", 100), "volume", owner=1000)
    for one in range(60):
        stage.write(f"/tmp/tmp{one:06x}", b"row\n" * one, "temporary", 0o600, 1000)
        stage.write(f"/var/tmp/sort{one:06x}", b"", "temporary", 0o600, 1000)


def people() -> None:
    """What an administrator does by hand."""
    for one in range(300):
        path = f"/opt/app/static/s{one:03}.css"
        os.utime(path)
        stage.note(path, "changed", "touched")
    stage.write("/etc/app/app.ini", content("/etc/app/app.ini"), "rewritten with the same")
    stage.append("/home/app/.bash_history", b"tail -f /var/log/app/app.log\n", "history")
    stage.append("/home/app/notes.txt", b"called back\n", "editor")
    stage.write("/home/app/notes.txt~", b"call back\n", "editor", owner=1000)
    stage.write("/home/app/.notes.txt.swp", b"b0VIM 9.0" + bytes(4000), "editor", 0o600, 1000)


old = {path for path in ("/var/cache/ldconfig/aux-cache",) if os.path.exists(path)}
os.umask(0o022)
for part in (package, bytecode, caches, logs, services, people):
    part()
stage.note("/var/empty", "added", "state")
os.makedirs("/var/empty", exist_ok=True)
stage.done["/var/lib/app at the layer"] = ["/var/lib/app", "added", "layer", "mount point"]
stage.done["/var/lib/app in the volume"] = ["/var/lib/app", "added", "volume", "mount point"]
stage.tell()
