"""The fresh volume of a restore, and what is known of it in the case: a killed run leaves no half one behind.

``restores/RUN.begun.json`` is on the disk before the volume is made, with its folder once that is known, and with the
report once it is filled; it goes when the restore has ended.  Only what it names is ever removed: a label that somebody
set is not enough.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from irkit.acquire.attributes import birth_time
from irkit.acquire.beneath import open_folder
from irkit.actions.context import Context
from irkit.actions.swapping import mounts
from irkit.engine.interface import Engine
from irkit.errors import EngineError, NotFound, Refused
from irkit.home import private_folder, read_json, write_json

LABEL = "dev.irkit.restored"
SCHEMA = "irkit.restore-begun/v1"
SUFFIX = ".begun.json"


@dataclass(frozen=True, slots=True)
class Begun:
    """``made``: which folder the engine made, empty when the kill came before that was known; ``report``: once it is filled."""

    path: Path
    volume: str
    suspect: str
    made: str = ""
    report: Mapping[str, Any] | None = None

    def save(self) -> None:
        """Raises ``StorageError``."""
        private_folder(self.path.parent)
        whole = {
            "schema": SCHEMA,
            "volume": self.volume,
            "suspect": self.suspect,
            "made": self.made,
            "report": self.report,
        }
        write_json(self.path, whole)

    def there(self, engine: Engine) -> Mapping[str, Any] | None:
        """The volume as the engine has it, if it is this very one.  Raises ``EngineError`` when that can't be told."""
        try:
            found = engine.volume(self.volume)
        except NotFound:
            return None
        if (found.get("Labels") or {}).get(LABEL) != self.suspect:
            return None
        now = folder_made(found) if self.made else ""
        if self.made and not now:
            raise EngineError(
                f"the folder of the volume {self.volume} can't be seen: whether irkit made it is not known"
            )
        return found if now == self.made else None


def folder_made(volume: Mapping[str, Any]) -> str:
    """The volume's folder by its inode and birth time; empty where it can't be seen from here.

    Not by ``CreatedAt``: in Docker 20.10 that is the folder's ``ctime``, which moves as soon as it is filled.
    """
    mountpoint = str(volume.get("Mountpoint") or "")
    if not mountpoint:
        return ""
    try:
        with open_folder("/", mountpoint) as opened:
            return f"{os.fstat(opened).st_ino} {birth_time(opened, '.')}"
    except OSError:
        return ""


def folder(ctx: Context) -> Path:
    """Where the case keeps its restores."""
    return ctx.case.folder / "restores"


def read(path: Path) -> Begun | None:
    """``None`` when there is none, or it is not one."""
    raw = read_json(path)
    if raw is None or raw.get("schema") != SCHEMA:
        return None
    report = raw.get("report")
    return Begun(
        path, str(raw["volume"]), str(raw["suspect"]), str(raw["made"]), report if isinstance(report, dict) else None
    )


def of_run(ctx: Context) -> Path:
    """The record of this very run."""
    return folder(ctx) / f"{ctx.run}{SUFFIX}"


def make(ctx: Context, name: str, suspect: str) -> tuple[Begun, str]:
    """An empty volume; where its folder is.  Raises ``Refused`` when there is one of this name that is not ours."""
    begun = Begun(of_run(ctx), name, suspect)
    with contextlib.suppress(NotFound):
        ctx.engine.volume(name)
        raise Refused(f"there is a volume {name} already, and irkit did not make it")
    begun.save()
    volume = ctx.engine.create_volume(name, {LABEL: suspect})
    known = Begun(begun.path, name, suspect, folder_made(volume))
    known.save()
    return known, str(volume.get("Mountpoint") or "")


def drop(engine: Engine, begun: Begun) -> None:
    """Away with the volume and its record.  A volume that the engine does not give up keeps its record."""
    try:
        if begun.there(engine) is not None:
            engine.remove_volume(begun.volume)
    except EngineError:
        return
    begun.path.unlink(missing_ok=True)


def clear(ctx: Context, suspect: str) -> None:
    """What other runs of this case that were killed have left of the same suspect volume.

    Raises ``Refused`` when a container has it: that run came as far as the swap, and only it can end that.
    """
    for path in sorted(folder(ctx).glob(f"*{SUFFIX}")):
        begun = read(path)
        if begun is None or begun.suspect != suspect or path == of_run(ctx):
            continue
        if begun.there(ctx.engine) is not None:
            user = _user(ctx.engine, begun.volume)
            if user:
                raise Refused(
                    f"{user} has the volume {begun.volume} of a restore that was killed before it ended",
                    hint=f"`irkit resume {ctx.case.id} --run {path.name.removesuffix(SUFFIX)}` goes on with it",
                )
            ctx.note(f"removed {begun.volume}, which a restore that was killed had left")
        drop(ctx.engine, begun)


def _user(engine: Engine, volume: str) -> str:
    for ref in engine.containers():
        with contextlib.suppress(NotFound):
            one = engine.container(ref)
            if mounts(one, volume):
                return one.name
    return ""
