"""What the image has where volumes are mounted: the engine copies it into a volume at its first use.

(docs.docker.com, "Volumes", *Populate a volume using a container*; not for bind mounts, and not with ``nocopy``.)
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence

from irkit.acquire.beneath import facts_of
from irkit.acquire.filesystem import LAYER_TYPE, LINES_TYPE
from irkit.acquire.layers import Layers
from irkit.acquire.lower import Hit, Lower, walk_lower
from irkit.acquire.overlay import opened
from irkit.acquire.package_files import at
from irkit.acquire.taker import ORIGINAL_LIMIT, ORIGINALS_LIMIT, TarTaker
from irkit.engine.interface import Container
from irkit.evidence.writer import BundleWriter, Origin
from irkit.text import text_fields

COLLECTOR = "volumes"
FILES_LIMIT = 200_000


def acquire_volume_image(
    layers: Layers, before: Container, points: Sequence[str], writer: BundleWriter, note: Callable[[str, str], None]
) -> int:
    """Write ``volumes/image.jsonl``, each line ``path`` and the fields of a file, and ``volumes/originals.tar``.

    Nothing when the image has none of ``points``, the volumes' destinations.  How many entries there are.
    """
    copied = [point for point in points if not _nocopy(before, point)]
    with opened(layers, note) as (_, lower):
        there = [point for point in copied if at(lower, point) is not None]
        return _write(lower, there, _others(before), writer, note) if there else 0


def _write(
    lower: Lower, points: Sequence[str], others: Sequence[str], writer: BundleWriter, note: Callable[[str, str], None]
) -> int:
    method = "host-side read of the image's layers"
    lines_origin = Origin(COLLECTOR, "the image's content where volumes are mounted", method, LINES_TYPE)
    count = 0
    with (
        writer.sink("volumes/image.jsonl", lines_origin) as lines,
        writer.sink("volumes/originals.tar", Origin(COLLECTOR, lines_origin.source, method, LAYER_TYPE)) as sink,
    ):
        taker = TarTaker(sink, note, ORIGINALS_LIMIT, checkpoint=writer.checkpoint)
        for point in points:
            for hit in _under(lower, point, others, note):
                if count >= FILES_LIMIT:
                    note(
                        hit.entry.path,
                        f"the image has more than {FILES_LIMIT} files where volumes are: the rest was not listed",
                    )
                    break
                facts = facts_of(hit.entry, taker.digest(hit.entry))
                if hit.entry.kind == "file" and hit.entry.size <= ORIGINAL_LIMIT:
                    taker.keep(hit.entry)
                lines.write(json.dumps({**text_fields("path", hit.entry.path), **facts.to_json()}).encode() + b"\n")
                count += 1
        taker.close()
    return count


def _under(lower: Lower, point: str, others: Sequence[str], note: Callable[[str, str], None]) -> Iterator[Hit]:
    """The folder and all beneath it, but for what another mount covers."""
    covering = tuple(f"{one}/" for one in others if one.startswith(f"{point}/"))
    top = at(lower, point)
    if top is None:
        return
    yield top
    try:
        for hit in walk_lower(lower, top.below, point, lower.names(top.below)):
            if not hit.entry.path.startswith(covering):
                yield hit
    except OSError as error:
        note(point, f"what the image has there can't be read: {error.strerror or error}")


def _others(before: Container) -> list[str]:
    """Everything that is mounted into the container by the engine's word."""
    found = [str(one.get("Destination") or "") for one in before.raw.get("Mounts") or ()]
    return [one.rstrip("/") for one in (*found, *map(str, before.host_config.get("Tmpfs") or ())) if one]


def _nocopy(before: Container, point: str) -> bool:
    host = before.host_config
    for one in host.get("Mounts") or ():
        if str(one.get("Target") or "").rstrip("/") == point:
            return bool((one.get("VolumeOptions") or {}).get("NoCopy"))
    binds = (str(one).split(":") for one in host.get("Binds") or ())
    return any(len(one) > 2 and one[1].rstrip("/") == point and "nocopy" in one[2].split(",") for one in binds)
