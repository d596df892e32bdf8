"""Real overlays in a mount namespace of their own, and a layer's tar put back onto its image by GNU tar."""

from __future__ import annotations

import hashlib
import io
import os
import shutil
import stat
import subprocess
import tarfile
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from irkit.acquire.attributes import Marks, read_xattrs
from irkit.acquire.layers import Layers
from irkit.acquire.overlay import scan
from irkit.acquire.taker import TarTaker
from irkit.models import Change


@dataclass
class Overlay:
    """Lower layers (the first is the top one), an upper directory, and a copy of what the container saw."""

    base: Path
    layers: int = 1
    options: str = "metacopy=off,redirect_dir=off"

    def __post_init__(self) -> None:
        for name in ("u", "w", "m", "seen", *self.names):
            (self.base / name).mkdir()

    @property
    def names(self) -> list[str]:
        return [f"l{number}" for number in range(self.layers)]

    @property
    def upper(self) -> Path:
        return self.base / "u"

    @property
    def seen(self) -> Path:
        return self.base / "seen"

    def lower(self, number: int = 0) -> Path:
        return self.base / f"l{number}"

    def change(self, script: str) -> None:
        """Run a script in the merged folder, as a container would; ``seen`` holds the outcome."""
        mount = f"mount -t overlay o -o lowerdir={':'.join(self.names)},upperdir=u,workdir=w,{self.options} m"
        body = f"set -e; cd {self.base}; {mount}; (cd m; {script}); cp -a --sparse=always m/. seen/; umount m"
        done = subprocess.run(["unshare", "-m", "bash", "-c", body], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr

    def scan(self, budget: int = 10**9, marks: Marks | None = None) -> Taken:
        taken = Taken()
        layers = Layers(str(self.upper), tuple(str(self.base / one) for one in self.names), "test", marks or Marks())
        taker = TarTaker(taken.data, lambda path, why: taken.notes.append((path, why)), budget)
        for change in scan(layers, taker, lambda path, why: taken.notes.append((path, why))):
            assert change.path not in taken.changes, f"{change.path} twice"
            taken.changes[change.path] = change
        taker.close()
        return taken

    def rebuilt(self, taken: Taken) -> Path:
        """The image with the layer on top, as an engine would unpack it: whiteouts, then GNU tar."""
        target = self.base / "rebuilt"
        target.mkdir()
        mount = f"mount -t overlay o -o lowerdir={':'.join([*self.names, 'm'])},{self.options} m"
        body = f"set -e; cd {self.base}; {mount}; cp -a --sparse=always m/. rebuilt/; umount m"
        subprocess.run(["unshare", "-m", "bash", "-c", body], check=True)
        for name in taken.names:
            folder, _, last = name.rpartition("/")
            if last == ".wh..wh..opq":
                for one in (target / folder).iterdir() if (target / folder).is_dir() else ():
                    remove(one)
            elif last.startswith(".wh."):
                remove(target / folder / last.removeprefix(".wh."))
        for member in taken.tar:
            if not Path(member.name).name.startswith(".wh.") and (target / member.name).is_dir() != member.isdir():
                remove(target / member.name)  # of another kind: what lay there goes (image-spec, "Applying Changesets")
        (self.base / "layer.tar").write_bytes(taken.data.getvalue())
        argv = [
            "tar", "--xattrs", "--xattrs-include=*", "--acls", "--numeric-owner", "--exclude=.wh.*",
            "--warning=no-unknown-keyword", "-xpf", "../layer.tar",
        ]  # fmt: skip
        done = subprocess.run(argv, cwd=target, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return target


class Taken:
    """What a scan gave."""

    def __init__(self) -> None:
        self.data = io.BytesIO()
        self.changes: dict[str, Change] = {}
        self.notes: list[tuple[str, str]] = []

    @property
    def names(self) -> list[str]:
        return self.tar.getnames()

    @property
    def tar(self) -> tarfile.TarFile:
        return tarfile.open(fileobj=io.BytesIO(self.data.getvalue()))

    @property
    def words(self) -> dict[str, str]:
        return {path: change.change for path, change in self.changes.items()}


def remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    elif path.is_symlink() or path.exists():
        path.unlink()


def picture(root: Path) -> dict[str, tuple[object, ...]]:
    """Everything of a tree that must survive; folders' times are what copying makes of them."""
    found: dict[str, tuple[object, ...]] = {}
    links: dict[int, str] = {}
    for parent, folders, files in os.walk(root):
        for name in sorted([*folders, *files]):
            path = os.path.join(parent, name)
            info = os.lstat(path)
            if stat.S_ISSOCK(info.st_mode):
                continue
            folder = os.open(parent, os.O_RDONLY)
            kind = stat.S_IFMT(info.st_mode)
            content = b""
            if stat.S_ISREG(info.st_mode):
                content = hashlib.sha256(Path(path).read_bytes()).digest() if info.st_size < 10**8 else b"large"
            elif stat.S_ISLNK(info.st_mode):
                content = os.fsencode(os.readlink(path))
            linked = (
                links.setdefault(info.st_ino, os.path.relpath(path, root))
                if info.st_nlink > 1 and not stat.S_ISDIR(kind)
                else ""
            )
            xattrs = {
                key: value for key, value in read_xattrs(folder, name).items() if not key.startswith("trusted.overlay.")
            }
            os.close(folder)
            found[os.path.relpath(path, root)] = (
                kind, info.st_mode, info.st_uid, info.st_gid, cast(int, info.st_rdev), content, linked, tuple(sorted(xattrs.items())),
                info.st_mtime_ns if not stat.S_ISDIR(info.st_mode) else 0,
            )  # fmt: skip
    return found
