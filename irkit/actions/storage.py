"""Acquisition of what is stored beside the changed files: the whole export, volumes, the image."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from irkit.actions.acquisition import counted, limit_of
from irkit.actions.context import Context, Result
from irkit.profiles import load_profile

EXPORTED = "data/filesystem/export.tar.zst"


def export(ctx: Context, args: Mapping[str, Any]) -> Result:
    """The root file system as the engine exports it."""
    from irkit.acquire.export import acquire_export

    if any(one.path == EXPORTED for one in ctx.writer.artifacts):
        return Result("skipped", "the changed files were taken from the engine's export already")
    before = len(ctx.writer.gaps)
    return counted(ctx, before, acquire_export(ctx.engine, ctx.before, ctx.writer, limit_of(args, "export")), "members")


def volumes(ctx: Context, args: Mapping[str, Any]) -> Result:
    """Volumes and bind mounts."""
    from irkit.acquire.volumes import Choice, acquire_volumes

    wanted = load_profile(str(args["profile"])).find("volumes")
    if wanted is None:
        return Result("skipped", "the profile does not ask for volumes")
    choice = Choice(wanted.limit_bytes or 0, wanted.limit_files or 0, wanted.names)
    before = len(ctx.writer.gaps)
    count = acquire_volumes(ctx.engine, ctx.before, ctx.host_view, ctx.writer, choice)
    return counted(ctx, before, count, "entries")


def image(ctx: Context, _: Mapping[str, Any]) -> Result:
    """The image's identity."""
    from irkit.acquire.image import acquire_image_identity

    before = len(ctx.writer.gaps)
    found = acquire_image_identity(ctx.engine, ctx.before, ctx.writer)
    return counted(ctx, before, len(found["layers"]) if found else 0, "layers")


def image_record(ctx: Context, _: Mapping[str, Any]) -> Result:
    """What the engine knows of the image, and of itself."""
    from irkit.acquire.engine_state import acquire_image_record

    before = len(ctx.writer.gaps)
    acquire_image_record(ctx.engine, ctx.before.image_id, ctx.writer)
    count = sum(1 for one in ctx.writer.artifacts if one.origin.collector == "engine-state")
    return counted(ctx, before, count, "documents")


def image_save(ctx: Context, args: Mapping[str, Any]) -> Result:
    """The image itself."""
    from irkit.acquire.image import acquire_image

    before = len(ctx.writer.gaps)
    return counted(
        ctx, before, acquire_image(ctx.engine, ctx.before, ctx.writer, limit_of(args, "image-save")), "bytes"
    )
