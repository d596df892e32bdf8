"""A CRIU checkpoint by the engine (``POST /containers/{id}/checkpoints``): whole process state, for criu and crit.

An experimental feature of Docker, and an intrusive one: CRIU runs its own code inside the target's processes for a
moment (criu.org/Parasite_code).  So only a profile of one's own asks for it, and memory by ``/proc`` comes first.
"""

from __future__ import annotations

import os
import shutil
import stat
import tarfile
import tempfile
from pathlib import Path
from typing import IO, cast

from irkit.engine.interface import Engine
from irkit.errors import EngineError
from irkit.evidence.writer import BundleWriter, Origin

COLLECTOR = "checkpoint"
NAME = "irkit"
REFUSED = 'the engine makes no checkpoints: Docker needs "experimental": true in its configuration and criu on its host'


def acquire_checkpoint(engine: Engine, container: str, writer: BundleWriter, limit: int) -> int:
    """Write ``memory/checkpoint.tar.zst``; its files' bytes, 0 when there is none: then a gap says why.

    The target is as it was after it, frozen or running; where it is not, it is frozen again, and that is a gap.
    """
    frozen = engine.container(container).paused
    folder = Path(tempfile.mkdtemp(prefix=".checkpoint-", dir=writer.folder.parent))
    try:
        engine.checkpoint(container, NAME, str(folder))
        return _store(folder / NAME, writer, limit)
    except EngineError as error:
        missing = "page not found" in str(error) or "experimental" in str(error)
        writer.gap(COLLECTOR, "process state", REFUSED if missing else f"the engine refused: {error}")
        return 0
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        if frozen and not engine.container(container).paused:
            writer.gap(COLLECTOR, "the freeze", "the checkpoint thawed the target for a moment: it was frozen again")
            engine.pause(container)


def _store(folder: Path, writer: BundleWriter, limit: int) -> int:
    try:
        names = sorted(os.listdir(folder))  # noqa: PTH208
    except OSError:
        writer.gap(COLLECTOR, "process state", "the engine wrote the checkpoint where irkit can't read it")
        return 0
    files = [(name, info) for name in names if stat.S_ISREG((info := (folder / name).lstat()).st_mode)]
    size = sum(info.st_size for _, info in files)
    if size > limit:
        writer.gap(COLLECTOR, "process state", f"{size} bytes are over this profile's limit: not kept")
        return 0
    origin = Origin(
        COLLECTOR, "the engine's checkpoint (CRIU)", "written by the engine, read by irkit", "application/x-tar"
    )
    with (
        writer.sink("memory/checkpoint.tar", origin) as sink,
        tarfile.open(fileobj=cast(IO[bytes], sink), mode="w|", format=tarfile.PAX_FORMAT) as tar,
    ):
        for name, info in files:
            member = tarfile.TarInfo(name)
            member.size, member.mode, member.mtime = info.st_size, 0o600, int(info.st_mtime)
            with (folder / name).open("rb") as file:
                tar.addfile(member, file)
    return size
