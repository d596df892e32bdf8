"""Restore: a fresh volume from a backup, compared with the suspect one as the evidence has it, and put in its place."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from irkit.acquire.beneath import open_folder, sha256_of, walk
from irkit.acquire.volumes import Mounted
from irkit.actions import backup, fresh
from irkit.actions.context import Context, Result
from irkit.actions.eradicating import NotHeld
from irkit.actions.fresh import Begun
from irkit.actions.listing import stored_bundles
from irkit.actions.restorable import allowed, chosen, needs_image
from irkit.actions.swapping import plan_swap, swap
from irkit.engine.interface import Engine
from irkit.errors import CheckFailed, EvidenceAltered, NotFound, Refused
from irkit.evidence.reader import BundleReader
from irkit.home import private_folder, write_json
from irkit.models import Change
from irkit.recover.bad import Item
from irkit.recover.difference import Listing, difference
from irkit.recover.holds import Held
from irkit.recover.placing import Limits, Placer

if TYPE_CHECKING:
    from irkit.recover.config import Recipe

SHOWN = 1000
"""Rows of a difference in a run's result; all of them are in the case's file."""


def restore(ctx: Context, args: Mapping[str, Any]) -> Result:
    """``volume.restore``.

    Raises ``Refused`` when the engine's host is not this one, the target runs, or its image was not verified;
    ``NotHeld`` when no verified bundle holds the suspect volume; ``CheckFailed`` for a backup that can't be read or is
    over a limit.  Nothing is left of it then.
    """
    container = ctx.engine.container(ctx.target.id)
    mount = chosen(container, str(args["volume"]))
    allowed(ctx.engine, container)
    if args["recreate"]:
        needs_image(container.name, ctx.case.state == "contained", str(args["image"]))
    held = _evidence(ctx, mount)
    fresh.clear(ctx, mount.name)
    begun = fresh.read(fresh.of_run(ctx))
    planned: Recipe | None = None
    again = begun is not None and begun.report is not None and begun.there(ctx.engine) is not None
    if begun is None or not again:
        if begun is not None:
            fresh.drop(ctx.engine, begun)  # half filled when the run was killed
        planned = plan_swap(ctx, args) if args["recreate"] else None
        begun = _filled(ctx, mount, held, args)
    try:
        report = dict(begun.report or {})
        if args["recreate"]:
            report["container"], report["old_container"] = swap(ctx, mount, begun.volume, args, again, planned)
    except BaseException:
        fresh.drop(ctx.engine, begun)
        raise
    path = private_folder(fresh.folder(ctx)) / f"{ctx.run}.json"
    write_json(path, report)
    begun.path.unlink(missing_ok=True)
    ctx.facts.result["restored"] = {**report, **{kind: report[kind][:SHOWN] for kind in ("added", "removed", "changed", "attributes")}, "path": str(path)}  # fmt: skip
    for other in _others(ctx.engine, mount.name, ctx.target.id, report["container"]):
        ctx.warn(f"{other} still mounts the suspect volume {mount.name}")
    for one in report["not_restored"]:
        ctx.warn(f"not restored: {one}")
    return _told(report)


def _filled(ctx: Context, mount: Mounted, held: Held, args: Mapping[str, Any]) -> Begun:
    """The fresh volume with the backup in it, read back and compared.  Nothing is left of it when that fails."""
    limits = Limits(int(args["limit_bytes"]), int(args["limit_files"]), bool(args["devices"]))
    begun, mountpoint = fresh.make(ctx, fresh_name(ctx, mount), mount.name)
    try:
        placer = _fill(ctx, mountpoint, str(args["source"]), limits)
        with _here(mountpoint) as folder:
            restored = listing(folder, ctx)
        report = {
            "schema": "irkit.restored/v1", "case": ctx.case.id, "run": ctx.run, "source": str(args["source"]), "volume": mount.name,
            "destination": mount.destination, "fresh": begun.volume, "held": held.to_json(), "entries": len(restored),
            "not_restored": placer.told, "xattrs_not_restored": placer.lost, **difference(suspect(held, mount, ctx), restored),
            "container": "", "old_container": "",
        }  # fmt: skip
        begun = replace(begun, report=report)
        begun.save()
    except BaseException:
        fresh.drop(ctx.engine, begun)
        raise
    return begun


def _told(report: Mapping[str, Any]) -> Result:
    data = {"volume": report["fresh"], "container": report["container"], "counts": report["counts"]}
    return Result("degraded" if report["not_restored"] else "succeeded", sentence(report), data)


def sentence(report: Mapping[str, Any]) -> str:
    """What was done, in one line."""
    counts = report["counts"]
    words = f"{report['entries']} entries in {report['fresh']}: against the suspect volume {counts['added']} added, {counts['removed']} removed, {counts['changed']} changed"
    return words + (f"; {report['container']} runs with it" if report["container"] else "; no container uses it yet")


def was_restored(ctx: Context, args: Mapping[str, Any]) -> Result | None:
    """After a kill: whether the report was written, which is the last thing that is done."""
    from irkit.home import read_json

    report = read_json(ctx.case.folder / "restores" / f"{ctx.run}.json")
    if report is None:
        return None
    ctx.facts.result["restored"] = report
    fresh.of_run(ctx).unlink(missing_ok=True)
    return _told(report)


def _evidence(ctx: Context, mount: Mounted) -> Held:
    made = str(ctx.engine.volume(mount.name).get("CreatedAt") or "")
    held = stored_bundles(ctx.writer.identities).find(Item("volume", mount.name, mount.name, "", made))
    if not held.bundle:
        raise NotHeld(
            f"no evidence holds the suspect volume {mount.name}: {held.why}", hint="`irkit snapshot --volumes` first"
        )
    return held


def fresh_name(ctx: Context, mount: Mounted) -> str:
    """The name of the new volume; the same one when a run goes on."""
    anonymous = len(mount.name) == 64 and not set(mount.name) - set("0123456789abcdef")
    plain = f"{ctx.before.name}-data" if anonymous else mount.name.partition("-restored-")[0]
    return f"{plain}-restored-{ctx.run.rpartition('-')[2]}"


@contextlib.contextmanager
def _here(mountpoint: str) -> Iterator[int]:
    """The fresh volume's folder on this host, through no link."""
    try:
        with open_folder("/", mountpoint) as folder:
            yield folder
    except (FileNotFoundError, NotADirectoryError) as error:
        raise Refused(
            f"the volume's folder {mountpoint} can't be seen from here: the engine has a host or a root of its own",
            hint="run irkit where the engine runs",
        ) from error


def _fill(ctx: Context, mountpoint: str, source: str, limits: Limits) -> Placer:
    with _here(mountpoint) as folder:
        if os.listdir(folder):  # noqa: PTH208 - a descriptor
            raise Refused(f"{mountpoint} is not empty: it is no fresh volume")
        placer = Placer(folder, limits)
        backup.fill(placer, source, ctx.checkpoint)
        os.sync()
        return placer


# -- what differs ---------------------------------------------------------------------------------------------------


def listing(folder: int, ctx: Context) -> Listing:
    """What lies in the fresh volume now, read back from the disk.  Raises ``CheckFailed``."""
    found: Listing = {}

    def failed(path: str, error: OSError) -> None:
        raise CheckFailed(f"{path} was restored and can't be read back: {error.strerror}")

    for entry in walk(folder, "", failed):
        ctx.checkpoint()
        digest = (
            sha256_of(entry, ctx.checkpoint)
            if entry.kind == "file"
            else entry.target()
            if entry.kind == "symlink"
            else ""
        )
        found[entry.path] = (entry.kind, digest, entry.info.st_mode & 0o7777, entry.info.st_uid, entry.info.st_gid)
    return found


def suspect(held: Held, mount: Mounted, ctx: Context) -> Listing:
    """The suspect volume, as the sealed bundle lists it."""
    reader = BundleReader(Path(held.bundle), ctx.writer.identities)
    rows = reader.json("volumes/index.json")["mounts"]
    row = next(one for one in rows if one.get("type") == "volume" and one.get("name") == mount.name)
    point = str(row.get("destination") or "").rstrip("/")
    found: Listing = {}
    for raw in reader.lines(f"volumes/{int(row['number'])}.jsonl"):
        try:
            change = Change.from_json(raw)
        except (KeyError, TypeError, ValueError) as error:
            raise EvidenceAltered(f"a line of the suspect volume's list is none: {error}") from error
        path, facts = change.path.removeprefix(point), change.after
        if path and facts is not None:
            found[path] = (
                facts.kind,
                facts.target if facts.kind == "symlink" else facts.sha256,
                facts.mode,
                facts.uid,
                facts.gid,
            )
    return found


def _others(engine: Engine, volume: str, target: str, new: str) -> list[str]:
    found = []
    for ref in engine.containers():
        with contextlib.suppress(NotFound):
            one = engine.container(ref)
            mounted = any(row.get("Name") == volume for row in one.raw.get("Mounts") or ())
            if mounted and one.id != target and one.name != new:
                found.append(one.name)
    return sorted(found)
