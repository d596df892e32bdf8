"""Reading a backup: a folder, a tar (plain, gzip, zstd, xz), or what a hook of the operator's writes.  All of it hostile."""

from __future__ import annotations

import lzma
import os
import subprocess
import tempfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO

from irkit.acquire.attributes import NO_OVERLAY
from irkit.acquire.beneath import BLOCK, Entry, facts_of, walk
from irkit.acquire.tarscan import Found, TarScan
from irkit.config import load_config
from irkit.errors import CheckFailed, IrkitError, Refused, UsageProblem
from irkit.recover.placing import Placer
from irkit.text import printable

HOOK = "hook:"
MEMORY = 256 * 1024 * 1024
"""Of a decompressor: the archive says how much it needs."""
WINDOW = 128 * 1024 * 1024
HEADERS = 4096
"""Bytes a member may cost beside its contents, on the average: headers, long names, padding."""


def fill(placer: Placer, source: str, checkpoint: Callable[[], None]) -> None:
    """Everything of a source into the placer's folder.  Raises ``UsageProblem``, ``Refused``, ``CheckFailed``, ``StorageError``."""
    try:
        if source.startswith(HOOK):
            _hook(placer, source.removeprefix(HOOK), checkpoint)
        elif Path(source).is_dir():
            _folder(placer, source, checkpoint)
        else:
            with _opened(source) as file:
                _tar(placer, file, checkpoint)
        placer.finish()
    finally:
        placer.abort()


def _opened(source: str) -> IO[bytes]:
    try:
        return Path(source).open("rb")
    except OSError as error:
        raise UsageProblem(
            f"can't read {source}: {error.strerror}", hint="a folder, a tar file, or hook:NAME"
        ) from error


def _folder(placer: Placer, source: str, checkpoint: Callable[[], None]) -> None:
    folder = os.open(source, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    linked: dict[tuple[int, int], str] = {}
    try:
        placer.begin("", facts_of(Entry("", ".", folder, os.fstat(folder), NO_OVERLAY)))
        for entry in walk(
            folder, "", lambda path, error: placer.note(path, f"can't be read: {error.strerror}"), marks=NO_OVERLAY
        ):
            checkpoint()
            key = (entry.info.st_dev, entry.info.st_ino)
            link = linked.get(key, "") if entry.kind == "file" and entry.info.st_nlink > 1 else ""
            linked.setdefault(key, entry.path)
            facts = facts_of(entry)
            if entry.problem:
                placer.note(entry.path, entry.problem)
            placer.begin(entry.path, facts, link)
            if entry.kind == "file" and not link:
                _contents(placer, entry, checkpoint)
            placer.end()
    finally:
        os.close(folder)


def _contents(placer: Placer, entry: Entry, checkpoint: Callable[[], None]) -> None:
    try:
        descriptor = entry.open()
    except OSError as error:
        placer.note(entry.path, f"can't be read: {error.strerror or error}")
        return
    try:
        while piece := os.read(descriptor, BLOCK):
            checkpoint()
            placer.data(piece)
    finally:
        os.close(descriptor)


def _tar(placer: Placer, file: IO[bytes], checkpoint: Callable[[], None]) -> None:
    def opened(found: Found) -> None:
        if found.sparse:
            placer.abort()
            placer.note(found.path, "a sparse member: its contents are not those of the archive's stream")
            skipped.append(found.path)
            return
        placer.begin(found.path, found.facts, found.link)
        placer.lose(found.path, _unread(found))

    def data(piece: memoryview) -> None:
        placer.data(piece)

    def seen(found: Found) -> None:
        if not found.sparse:
            placer.end()

    skipped: list[str] = []
    scan = TarScan(seen, opened, data)
    limit = placer.limits.size + HEADERS * placer.limits.count
    total = 0
    for block in decoded(file):
        checkpoint()
        total += len(block)
        if total > limit:
            raise CheckFailed(f"the backup is larger than {limit} bytes", hint="--limit-bytes allows more")
        scan.feed(block)
        if scan.ended or scan.problem:
            break
    else:
        scan.close()
    if scan.problem:
        raise CheckFailed(f"the backup is not a whole tar: {scan.problem}")


def _unread(found: Found) -> Iterator[str]:
    """Attributes that a PAX record holds in a form that is not read here, by the names that xattr(7) has for them."""
    for key in found.unread:
        vendor, _, name = key.partition(".")
        if vendor == "SCHILY":  # an ACL as text
            yield f"system.posix_{name}"
        elif vendor == "RHT":
            yield name
        elif (plain := name.removeprefix("xattr.")) not in found.facts.xattrs:  # bsdtar writes most of them twice
            yield plain


def decoded(file: IO[bytes]) -> Iterator[bytes]:
    """The bytes of a tar, whatever it is compressed with.  Raises ``CheckFailed``."""
    head = file.read(6)
    rest = _joined(head, file)
    try:
        if head.startswith(b"\x1f\x8b"):
            yield from _inflated(rest, lambda: zlib.decompressobj(31))
        elif head.startswith(b"\xfd7zXZ\0"):
            yield from _inflated(rest, lambda: lzma.LZMADecompressor(lzma.FORMAT_XZ, MEMORY))
        elif head.startswith(b"\x28\xb5\x2f\xfd"):
            yield from _zstd(rest)
        else:
            yield from rest
    except (zlib.error, lzma.LZMAError, EOFError, MemoryError, OSError) as error:
        raise CheckFailed(f"the backup can't be read: {error}") from error


def _joined(head: bytes, file: IO[bytes]) -> Iterator[bytes]:
    yield head
    while block := file.read(BLOCK):
        yield block


def _inflated(blocks: Iterator[bytes], make: Callable[[], zlib._Decompress | lzma.LZMADecompressor]) -> Iterator[bytes]:
    """Never more than a block at a time comes out, however much a small piece stands for.  Streams may follow one another."""
    engine = make()
    for block in blocks:
        rest = block
        while rest or not _needs(engine):
            if engine.eof:
                if not rest.strip(b"\0"):  # gzip and xz may be padded
                    break
                engine = make()
            if out := engine.decompress(rest, BLOCK):
                yield out
            rest = engine.unused_data if engine.eof else engine.unconsumed_tail if isinstance(engine, _ZLIB) else b""
    while not engine.eof and (out := engine.decompress(b"", BLOCK)):
        yield out
    if not engine.eof:
        raise EOFError("it ends in the middle")


_ZLIB = type(zlib.decompressobj())


def _needs(engine: zlib._Decompress | lzma.LZMADecompressor) -> bool:
    """Whether nothing more comes out of it without more bytes."""
    return not isinstance(engine, lzma.LZMADecompressor) or engine.eof or engine.needs_input


def _zstd(blocks: Iterator[bytes]) -> Iterator[bytes]:
    import io

    import zstandard

    from irkit.streams import StreamReader

    source = io.BufferedReader(StreamReader(blocks), BLOCK)
    try:
        reader = zstandard.ZstdDecompressor(max_window_size=WINDOW).stream_reader(source, read_across_frames=True)
        while block := reader.read(BLOCK):
            yield block
    except zstandard.ZstdError as error:
        raise CheckFailed(f"the backup can't be read: {error}") from error


def _environment() -> dict[str, str]:
    """Small, as of every program that irkit starts: a hook's secrets come from files that its arguments name."""
    kept = {name: os.environ[name] for name in ("LANG", "LC_ALL", "TZ", "HOME") if name in os.environ}
    return {**kept, "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}


def _hook(placer: Placer, name: str, checkpoint: Callable[[], None]) -> None:
    """A program of the operator's configuration: an argument list, never a shell; it writes a tar to its output."""
    argv: Sequence[str] | None = load_config().restore_hooks.get(name)
    if argv is None:
        raise Refused(
            f"there is no hook {printable(name, 80)!r}",
            hint="IRKIT_HOME/config.yaml, `restore: {hooks: {NAME: [/usr/bin/restic, dump, --archive, tar, latest, /data]}}`",
        )
    with tempfile.TemporaryFile() as words:
        try:
            process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=words, cwd="/", start_new_session=True, env=_environment())  # fmt: skip
        except OSError as error:
            raise IrkitError(f"{argv[0]} can't be started: {error.strerror}") from error
        assert process.stdout is not None  # noqa: S101 - a pipe was asked for
        try:
            _tar(placer, process.stdout, checkpoint)
            while process.stdout.read(BLOCK):  # padding after the end of the archive
                checkpoint()
        except BaseException:
            process.kill()
            raise
        finally:
            process.stdout.close()
            code = process.wait()
        if code:
            words.seek(0)
            raise CheckFailed(f"the hook {name} ended with {code}: {printable(words.read(400), 300)}")
