"""``python -m tests.corpus.image FOLDER``: the build context of ``irkit-dev/corpus:1``, the same in each byte each time.

Needs nothing but Python and ``dpkg-deb``: ``scripts/make-images corpus`` runs it.
"""

from __future__ import annotations

import io
import os
import struct
import subprocess
import sys
import tarfile
from dataclasses import dataclass
from pathlib import Path

EPOCH = 1_700_000_000
"""The time of all files, seconds since 1970: 2023-11-14."""
BASE = "irkit-dev/corpus-base:1"
LIB, SSL, AGENT = "irkit-corpus-lib", "irkit-corpus-ssl", "rkhunter"
MODULES, DATA = 1200, 300
"""Files of the large package: Python modules, and others."""
ARCHIVES = "/var/cache/apt/archives"
DOCKERFILE = f"""FROM {BASE}
ADD tree.tar /
RUN dpkg -i {ARCHIVES}/{LIB}_1.0_all.deb {ARCHIVES}/{SSL}_2.0_all.deb {ARCHIVES}/{AGENT}_1.4_all.deb \\
 && rm {ARCHIVES}/{LIB}_1.0_all.deb {ARCHIVES}/{SSL}_2.0_all.deb {ARCHIVES}/{AGENT}_1.4_all.deb
EXPOSE 8080
VOLUME /var/lib/app
CMD ["/bin/busybox", "httpd", "-f", "-p", "8080", "-h", "/srv/www"]
"""


@dataclass(frozen=True)
class File:
    """One file of the tree; a link when ``target`` is set."""

    data: bytes = b""
    mode: int = 0o644
    uid: int = 0
    target: str = ""


def module(number: int, version: str) -> bytes:
    """A module of the large package: each differs in each version."""
    return f'"""Module {number}."""\n\nVERSION = "{version}"\n\n\ndef answer() -> int:\n    return {number}\n'.encode()


def data(number: int, version: str) -> bytes:
    """A data file of the large package."""
    return (
        f"# table {number} of version {version}\n" + "".join(f"{row}\t{row * number}\n" for row in range(20))
    ).encode()


def library(version: str) -> dict[str, bytes]:
    """The files of ``irkit-corpus-lib``: 1.1 changes all but a few, drops ten and adds twenty."""
    first, last = (0, MODULES) if version == "1.0" else (10, MODULES + 20)
    base = "usr/lib/irkit-corpus"
    found = {
        f"{base}/p{one // 100:02}/m{one:04}.py": module(one, version if one % 50 else "1") for one in range(first, last)
    }
    found |= {f"usr/share/irkit-corpus/t{one:03}.tsv": data(one, version) for one in range(DATA)}
    return found | {"etc/irkit-corpus.conf": b"level = info\n"}


PACKAGES = {
    (LIB, "1.0"): library("1.0"),
    (LIB, "1.1"): library("1.1"),
    (SSL, "2.0"): {"usr/lib/irkit-ssl/cipher.py": b"WEAK = False\n", "usr/lib/irkit-ssl/version": b"2.0\n"},
    (SSL, "1.0"): {"usr/lib/irkit-ssl/cipher.py": b"WEAK = True\n", "usr/lib/irkit-ssl/version": b"1.0\n"},
    (AGENT, "1.4"): {
        "usr/share/rkhunter/rules.dat": b"check /dev/shm\n",
        "usr/share/doc/rkhunter/README": b"A stand-in for the real one.\n",
    },
}


def make_package(folder: Path, name: str, version: str, files: dict[str, bytes]) -> Path:
    """A .deb of these files.  Its bytes depend on its contents and on ``dpkg-deb``'s version alone."""
    tree = folder / f"{name}-{version}"
    control = f"Package: {name}\nVersion: {version}\nArchitecture: all\nMaintainer: nobody <nobody@invalid>\nDescription: part of a corpus\n"
    sums = "".join(
        f"{_md5(content)}  {path}\n" for path, content in sorted(files.items()) if not path.startswith("etc/")
    )
    meta = {
        "control": control,
        "md5sums": sums,
        "conffiles": "".join(f"/{path}\n" for path in files if path.startswith("etc/")),
    }
    for path, content in {**files, **{f"DEBIAN/{one}": text.encode() for one, text in meta.items() if text}}.items():
        target = tree / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)
    for parent, folders, names in os.walk(tree):
        os.chmod(parent, 0o755)
        for one in (*folders, *names):
            os.utime(os.path.join(parent, one), (EPOCH, EPOCH))
    made = folder / f"{name}_{version}_all.deb"
    environment = {**os.environ, "SOURCE_DATE_EPOCH": str(EPOCH)}
    argv = ["dpkg-deb", "--root-owner-group", "-Zgzip", "-z1", "--build", str(tree), str(made)]
    subprocess.run(argv, check=True, stdout=subprocess.DEVNULL, env=environment)
    return made


def _md5(content: bytes) -> str:
    import hashlib

    return hashlib.md5(content, usedforsecurity=False).hexdigest()


def utmp(user: str, host: str, second: int) -> bytes:
    """One record of wtmp(5): 384 bytes."""
    return struct.pack(
        "<hi32s4s32s256shhiii4i20x",
        7,
        100 + second,
        b"pts/0",
        b"ts/0",
        user.encode(),
        host.encode(),
        0,
        0,
        0,
        EPOCH + second,
        0,
        0,
        0,
        0,
        0,
    )


PHP = b"<?php\n// page %d\necho htmlspecialchars('hello');\n"
KEY = b"ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4f deploy@build\n"
CERTIFICATE = b"-----BEGIN CERTIFICATE-----\n" + b"MIIB" + b"A" * 60 + b"\n-----END CERTIFICATE-----\n"


def tree() -> dict[str, File]:
    """What lies on top of a minimal Debian."""
    log = b"".join(
        b"Nov 14 10:%02d:%02d web app[7]: request %d done\n" % (one // 60 % 60, one % 60, one) for one in range(400)
    )
    found = {
        "srv/www/index.php": File(PHP % 0, uid=33),
        "srv/www/.git/HEAD": File(b"ref: refs/heads/main\n"),
        "srv/www/.git/config": File(b"[core]\n\tbare = false\n"),
        "srv/www/.git/hooks/pre-commit.sample": File(b"#!/bin/sh\nexit 0\n", 0o755),
        "srv/www/uploads/.keep": File(uid=33),
        "etc/sudoers": File(b"root ALL=(ALL:ALL) ALL\n@includedir /etc/sudoers.d\n", 0o440),
        "etc/sudoers.d/README": File(b"# nothing here\n", 0o440),
        "etc/ssh/sshd_config": File(b"Port 22\nPermitRootLogin no\nPasswordAuthentication no\n"),
        "etc/app/app.ini": File(b"workers = 4\nlevel = info\n"),
        "etc/update-motd.d/00-header": File(b"#!/bin/sh\nuname -a\n", 0o755),
        "etc/ssl/certs/ca-certificates.crt": File(CERTIFICATE),
        "etc/systemd/system/app.service": File(b"[Service]\nExecStart=/opt/app/bin/run\n"),
        "opt/app/bin/run": File(b"#!/bin/sh\nexec sleep 60\n", 0o755),
        "opt/app/bin/report": File(b"#!/bin/sh\necho report\n", 0o755),
        "opt/app/lib/core.so": File(b"\x7fELF-not-really\n"),
        "usr/local/bin/report": File(target="/opt/app/bin/report"),
        "usr/local/bin/vi": File(target="/bin/busybox"),
        "root/.ssh/authorized_keys": File(KEY, 0o600),
        "root/.bash_history": File(b"ls\ncd /srv/www\n", 0o600),
        "home/app/.bash_history": File(b"ls\nmake\n", 0o600, 1000),
        "home/app/.profile": File(b"umask 022\n", uid=1000),
        "home/app/notes.txt": File(b"call back\n", uid=1000),
        "var/log/auth.log": File(
            b"".join(b"Nov 14 09:00:%02d web sshd[1]: Accepted publickey for deploy\n" % one for one in range(60)),
            0o640,
        ),
        "var/log/app/app.log": File(log),
        "var/log/app/access.log": File(log),
        "var/log/app/audit.log": File(log[:5000]),
        "var/log/wtmp": File(b"".join(utmp("deploy", f"10.0.0.{one}", one) for one in range(20)), 0o664),
        "var/lib/db/journal": File(b"\0" * 4096),
    }
    found |= {f"srv/www/page{one}.php": File(PHP % one, uid=33) for one in range(40)}
    found |= {f"srv/archive/2023/r{one:03}.txt": File(b"report %d\n" % one) for one in range(40)}
    found |= {f"opt/app/static/s{one:03}.css": File(b"a { order: %d }\n" % one) for one in range(300)}
    found |= {f"var/lib/db/base/{one}": File(struct.pack("<I", one) * 512, 0o600, 101) for one in range(100)}
    found |= {f"var/cache/fontconfig/f{one:03}-le64.cache-7": File(struct.pack("<I", one) * 40) for one in range(100)}
    return found


def write_tar(target: Path, files: dict[str, File], packages: list[Path]) -> None:
    """The tree as a tar of fixed times and owners, folders first."""
    folders = {
        parent.as_posix() for name in (*files, f"{ARCHIVES[1:]}/x") for parent in Path(name).parents if parent.name
    }
    with tarfile.open(target, "w", format=tarfile.PAX_FORMAT) as tar:
        for name in sorted(folders):
            tar.addfile(_info(name, File(mode=0o700 if name in ("root", "root/.ssh") else 0o755), tarfile.DIRTYPE))
        for name, file in sorted(files.items()):
            info = _info(name, file, tarfile.SYMTYPE if file.target else tarfile.REGTYPE)
            tar.addfile(info, io.BytesIO(file.data))
        for path in packages:
            content = path.read_bytes()
            tar.addfile(_info(f"{ARCHIVES[1:]}/{path.name}", File(content), tarfile.REGTYPE), io.BytesIO(content))


def _info(name: str, file: File, kind: bytes) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.mode, info.uid, info.gid, info.mtime = kind, file.mode, file.uid, file.uid, EPOCH
    info.linkname, info.size = file.target, len(file.data) if kind == tarfile.REGTYPE else 0
    return info


def main(folder: Path) -> None:
    """Write ``Dockerfile`` and ``tree.tar``."""
    (folder / "work").mkdir()
    packages = [make_package(folder / "work", name, version, files) for (name, version), files in PACKAGES.items()]
    write_tar(folder / "tree.tar", tree(), packages)
    accounts = (
        "RUN printf 'app:x:1000:1000::/home/app:/bin/bash\\ndeploy:x:1001:1001::/home/deploy:/bin/bash\\n' >>/etc/passwd"
        " && printf 'app:x:1000:\\ndeploy:x:1001:\\n' >>/etc/group"
        " && printf 'app:!:19600:0:99999:7:::\\ndeploy:!:19600:0:99999:7:::\\n' >>/etc/shadow\n"
    )
    (folder / "Dockerfile").write_text(DOCKERFILE.replace("EXPOSE", accounts + "EXPOSE"))
    (folder / ".dockerignore").write_text("work\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
