"""A bundle as one plain tar file, and reading it without unpacking.

The file has one form only (docs/adr/0008): GNU tar headers as :mod:`tarfile` writes them for a name and a size, every
owner, time and mode fixed, folders before what lies in them, names in order, blocks padded with zeros, and two zero
blocks up to a full record at the end.  So the scan compares each header to the byte with the one that irkit would
write: links, devices, sparse members, pax records, a name twice, hidden blanks and trailing data can't be expressed.
"""

from __future__ import annotations

import io
import os
import re
import secrets
import tarfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, BinaryIO, NoReturn

from irkit.errors import CheckFailed, UsageProblem, storage_error
from irkit.evidence import names
from irkit.evidence.store import Problem
from irkit.home import sync_folder

if TYPE_CHECKING:
    from irkit.evidence.store import Store

BLOCK = 512
RECORD = 20 * BLOCK
COPY = 1024 * 1024
MTIME = 315_532_800
"""1980-01-01: a tar of the same bundle is the same file; the times that matter are in the index."""
LONG_NAME = b"L"
FOLDER_NAME = re.compile(r"irkit-[0-9a-f]{16}")
MEMBERS_LIMIT = 2_000_000


def folder_name(digest: str) -> str:
    """The top folder inside the tar of the bundle with this digest (hex of the tag manifest's sha256)."""
    return f"irkit-{digest[:16]}"


def looks_like_tar(path: Path) -> bool:
    """Whether a file begins as a tar of a bundle does."""
    try:
        with path.open("rb") as file:
            head = file.read(BLOCK)
    except OSError as error:
        raise UsageProblem(f"can't read {path}: {error.strerror}") from error
    return head[257:262] == b"ustar" or head.startswith(b"irkit-")


def is_bundle_tar(path: Path) -> bool:
    """Whether a file is a tar that begins with the folder of a bundle, however it goes on."""
    with path.open("rb") as file:
        name = file.read(100).rstrip(b"\0").decode("ascii", "replace")
    return name.endswith("/") and FOLDER_NAME.fullmatch(name[:-1]) is not None


def order(name: str) -> tuple[int, str]:
    """The seal first, so that it can be judged what is missing however early the tar breaks; then tag files, payload."""
    return (0 if name == names.SEAL else 2 if name.startswith("data") else 1), name


def header(name: str, size: int) -> bytes:
    """The one header, long name included, of a file; of a folder when ``name`` ends with a slash."""
    info = tarfile.TarInfo(name.rstrip("/"))
    info.mtime = MTIME
    if name.endswith("/"):
        info.mode, info.type = 0o700, tarfile.DIRTYPE
    else:
        info.mode, info.size = 0o600, size
    return info.tobuf(tarfile.GNU_FORMAT, "ascii", "strict")


def write_tar(store: Store, target: Path, digest: str, instead: Mapping[str, bytes] | None = None) -> None:
    """Write the bundle in ``store`` to ``target`` (replaced in one step), with the files ``instead`` in place of its own.

    Raises ``StorageError``, ``CheckFailed`` when a file can't be read.
    """
    changed = dict(instead or {})
    temporary = target.with_name(f".{target.name}.{secrets.token_hex(4)}")
    sizes = store.entries() | {name: len(data) for name, data in changed.items()}
    try:
        with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb", COPY) as out:
            top, seen = folder_name(digest), {""}
            out.write(header(top + "/", 0))
            for name in sorted(sizes, key=order):
                for folder in _new_folders(name, seen):
                    out.write(header(f"{top}/{folder}/", 0))
                out.write(header(f"{top}/{name}", sizes[name]))
                with io.BytesIO(changed[name]) if name in changed else store.open(name) as file:
                    _copy(file, out, sizes[name], name)
            out.write(b"\0" * (2 * BLOCK))
            out.write(b"\0" * (-out.tell() % RECORD))
            out.flush()
            os.fsync(out.fileno())
        temporary.replace(target)
        sync_folder(target.parent)
    except OSError as error:
        raise storage_error(error, f"can't write {target}") from error
    finally:
        temporary.unlink(missing_ok=True)


def _new_folders(name: str, seen: set[str]) -> Iterator[str]:
    for folder in reversed(PurePosixPath(name).parents):
        if str(folder) != "." and str(folder) not in seen:
            seen.add(str(folder))
            yield str(folder)


def _copy(source: BinaryIO, out: BinaryIO, size: int, name: str) -> None:
    left = size
    while left and (block := source.read(min(COPY, left))):
        out.write(block)
        left -= len(block)
    if left or source.read(1):
        raise CheckFailed(f"{name} changed while it was read")
    out.write(b"\0" * (-size % BLOCK))


class TarStore:
    """A bundle as a tar file.  What the scan finds wrong is told by :meth:`faults`; it stops at the first fault."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._file = path.open("rb", buffering=0)
            self._size = os.fstat(self._file.fileno()).st_size
        except OSError as error:
            raise UsageProblem(f"can't read {path}: {error.strerror}") from error
        self._top = ""
        self._places: dict[str, tuple[int, int]] = {}
        self._folders: list[str] = []
        self._fault: Problem | None = None
        try:
            self._scan()
        except CheckFailed as error:
            self._fault = self._fault or Problem(path.name, error.message)

    def _scan(self) -> None:
        place, last = 0, (0, "")
        seen: set[str] = set()
        while (found := self._member(place)) is not None:
            name, size, start = found
            place = start + size + (-size % BLOCK)
            if place > self._size:
                self._bad(name, f"cut off: the tar ends before its {size} bytes do")
            if any(self._read(start + size, place - start - size)):
                self._bad(name, "altered: its padding in the tar is not zero")
            plain = name.removeprefix(self._top + "/")
            if not name.endswith("/"):
                if order(plain) <= last:
                    self._bad(name, "a member twice, or out of order")
                if list(_new_folders(plain, seen)):
                    self._bad(name, "its folder is missing in the tar")
                last = order(plain)
                self._places[plain] = (start, size)
            elif plain:
                folder = plain.rstrip("/")
                if list(_new_folders(folder + "/x", seen)) != [folder]:
                    self._bad(name, "a folder twice, or out of order")
                self._folders.append(folder)
            if len(self._places) + len(self._folders) > MEMBERS_LIMIT:
                raise CheckFailed(f"more than {MEMBERS_LIMIT} members")
        self._end(place)

    def _end(self, place: int) -> None:
        """Zeros to a full record, nothing behind.  Not read whole: there is a length that it must have."""
        expected = place + 2 * BLOCK
        expected += -expected % RECORD
        if self._size != expected:
            raise CheckFailed("cut off at its end, or something was added behind its last member")
        if any(self._read(place, expected - place)):
            raise CheckFailed("altered: what follows its last member is not zero")

    def _member(self, place: int) -> tuple[str, int, int] | None:
        """The name in the tar, size and place of the data of the member at ``place``; ``None`` at the end."""
        head = self._read(place, BLOCK)
        if not any(head):
            return None
        found = self._parse(head, place)
        long_name = None
        if found.type == LONG_NAME:
            if not 100 < found.size <= 512:
                raise CheckFailed(f"altered: the long name at byte {place} has an odd length")
            head += self._read(place + BLOCK, 2 * BLOCK)
            long_name = head[BLOCK : BLOCK + found.size - 1].decode("ascii", "replace")
            found = self._parse(head[2 * BLOCK :], place + 2 * BLOCK)
        name = (long_name or found.name).rstrip("/") + ("/" if found.isdir() else "")
        self._check_name(name, place)
        try:
            expected = header(name, found.size)
        except (ValueError, UnicodeError):
            expected = b""
        if head != expected:
            self._bad(name, "its header in the tar is not what irkit writes (a link, a device, altered)")
        return name, found.size, place + len(head)

    def _parse(self, head: bytes, place: int) -> tarfile.TarInfo:
        try:
            found = tarfile.TarInfo.frombuf(head, "ascii", "surrogateescape")
        except (tarfile.HeaderError, ValueError) as error:
            raise CheckFailed(f"altered or cut off: there is no tar header at byte {place}") from error
        if found.size < 0:
            raise CheckFailed(f"altered: a negative size at byte {place}")
        return found

    def _check_name(self, name: str, place: int) -> None:
        top, slash, inner = name.partition("/")
        if not self._top:
            if not FOLDER_NAME.fullmatch(top) or inner or not slash:
                raise CheckFailed("its first member is not the folder of a bundle of irkit's")
            self._top = top
        elif top != self._top or (not slash) or (inner and not self._may_hold(inner)):
            self._bad(name, f"a name that irkit would never write, at byte {place}")
        elif not inner:
            self._bad(name, "the top folder twice")

    @staticmethod
    def _may_hold(inner: str) -> bool:
        return inner in names.TOP_LEVEL or inner == "data/" or names.is_payload(inner.removesuffix("/"))

    def _bad(self, name: str, why: str) -> NoReturn:
        plain = name.removeprefix(self._top + "/") if self._top else name
        self._fault = Problem(plain or self.path.name, why)
        raise CheckFailed(why)

    def _read(self, place: int, size: int) -> bytes:
        data = os.pread(self._file.fileno(), size, place)
        if len(data) != size:
            raise CheckFailed(f"cut off: it ends before byte {place + size}")
        return data

    def entries(self) -> dict[str, int]:
        """As :class:`irkit.evidence.store.Store`."""
        return {name: size for name, (_, size) in self._places.items()}

    def folders(self) -> tuple[str, ...]:
        """As :class:`irkit.evidence.store.Store`."""
        return tuple(self._folders)

    def has(self, name: str) -> bool:
        """As :class:`irkit.evidence.store.Store`."""
        return name in self._places

    def faults(self, digest: str) -> tuple[Problem, ...]:
        """As :class:`irkit.evidence.store.Store`."""
        if self._fault is not None:
            return (self._fault,)
        if digest and self._top != folder_name(digest):
            return (Problem(self.path.name, "altered: its top folder is not named by the bundle's digest"),)
        return ()

    def open(self, name: str) -> BinaryIO:
        """As :class:`irkit.evidence.store.Store`."""
        if name not in self._places:
            raise CheckFailed("can't be read: no such file in the tar")
        start, size = self._places[name]
        if size <= COPY:
            return io.BytesIO(os.pread(self._file.fileno(), size, start))
        return io.BufferedReader(_Range(self._file.fileno(), start, size), COPY)

    def replace(self, files: Mapping[str, bytes]) -> None:
        """As :class:`irkit.evidence.store.Store`: the whole tar is written anew beside the old one, then takes its place."""
        if self._fault is not None:
            raise CheckFailed(f"{self._fault.file}: {self._fault.problem}")
        write_tar(self, self.path, self._top.removeprefix("irkit-"), files)
        fresh = TarStore(self.path)
        self._file.close()
        self._file, self._size, self._places = fresh._file, fresh._size, fresh._places


class _Range(io.RawIOBase):
    """Some bytes of a file, as a stream of their own."""

    def __init__(self, descriptor: int, start: int, size: int) -> None:
        super().__init__()
        self._descriptor, self._place, self._start, self._end = descriptor, start, start, start + size

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        base = {os.SEEK_SET: self._start, os.SEEK_CUR: self._place, os.SEEK_END: self._end}[whence]
        self._place = min(max(base + offset, self._start), self._end)
        return self._place - self._start

    def readinto(self, buffer: Any) -> int:
        view = memoryview(buffer)[: self._end - self._place]
        count = os.preadv(self._descriptor, [view], self._place) if len(view) else 0
        self._place += count
        return count


@contextmanager
def _filtered() -> Iterator[type[Any]]:
    """``tarsafe`` with the standard library's filter as well: each alone has been passed (docs/adr/0008).

    Python 3.11 before 3.11.4 (Debian 12's) has no filter.  What the scan leaves, regular files and folders of strict names, needs none.
    """
    from tarsafe import TarSafe

    class Strict(TarSafe):  # type: ignore[misc]
        if hasattr(tarfile, "data_filter"):
            extraction_filter = staticmethod(tarfile.data_filter)

    yield Strict


def unpack(path: Path, digest: str, target: Path) -> None:
    """Unpack a bundle's tar, **verified before**, to the new folder ``target``.

    The scan is made anew, so that only regular files and folders of strict names are left; then tarsafe and
    ``data_filter``, where this Python has it, look at it as well.  Raises ``CheckFailed`` when the tar is not what was verified, ``StorageError``.
    """
    store = TarStore(path)
    if problems := store.faults(digest):
        raise CheckFailed(f"nothing was unpacked: {problems[0].file}: {problems[0].problem}")
    temporary = target.with_name(f".{target.name}.{secrets.token_hex(4)}")
    try:
        temporary.mkdir(mode=0o700)
        with _filtered() as tar_class, tar_class.open(path, "r:") as archive:
            archive.extractall(temporary)  # noqa: S202 - scanned, verified, filtered
        (temporary / folder_name(digest)).rename(target)
        temporary.rmdir()
    except OSError as error:
        raise storage_error(error, f"can't unpack to {target}") from error
    except tarfile.TarError as error:
        raise CheckFailed(f"nothing was unpacked: {error}") from error
    finally:
        _remove(temporary)


def _remove(folder: Path) -> None:
    import shutil

    if folder.exists():
        shutil.rmtree(folder, ignore_errors=True)
