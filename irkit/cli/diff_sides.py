"""What ``irkit diff`` is given, opened: a container, a bundle (a baseline is one), or an image."""

from __future__ import annotations

import itertools
import json
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from irkit.cli.bundle_common import names_bundle
from irkit.cli.diff_progress import Progress
from irkit.errors import EngineError, EvidenceAltered, NotFound, UsageProblem
from irkit.home import home, private_folder
from irkit.models import FileFacts

if TYPE_CHECKING:
    from irkit.acquire.tree_comparison import Contents
    from irkit.compare.evidence import Evidence
    from irkit.engine.interface import Engine, Image
    from irkit.evidence.writer import BundleWriter

IMAGE = "image:"


@dataclass(frozen=True, slots=True)
class Opening:
    """How to open a side: which engine, which keys and identities, whether volumes are read."""

    engine: str | None = None
    key: Path | None = None
    identities: tuple[Path, ...] = ()
    volumes: bool = True
    progress: Progress = field(default_factory=lambda: Progress(False))


@dataclass(slots=True)
class Side:
    """One side: ``evidence`` of a container or bundle, or an image's name alone."""

    name: str
    evidence: Evidence | None = None
    image: str = ""
    writer: BundleWriter | None = None
    """The unsealed bundle that a live side was taken into."""
    layers: tuple[str, ...] = field(default=())

    @property
    def image_ref(self) -> str:
        """The image that it is, or came from."""
        return self.image or (self.evidence.image_id if self.evidence is not None else "")


@contextmanager
def opened(name: str, how: Opening) -> Iterator[Side]:
    """A side by what a user typed.  Raises ``UsageProblem``, ``EvidenceAltered``, ``EngineError``."""
    with ExitStack() as stack:
        if names_bundle(name) and not name.startswith(IMAGE):
            yield _bundle(Path(name), how)
            return
        yield _on_engine(name, how, stack)


def _bundle(path: Path, how: Opening) -> Side:
    from irkit.compare.evidence import Evidence
    from irkit.evidence.age import identities_from
    from irkit.evidence.keys import public_from_file, trusted_keys
    from irkit.evidence.reader import BundleReader
    from irkit.evidence.verify import verify_bundle

    identities = identities_from(how.identities)
    known = [public_from_file(how.key)] if how.key else trusted_keys("evidence")
    found = verify_bundle(path, known, identities=identities)
    if not found.ok:
        first = found.problems[0]
        raise EvidenceAltered(
            f"the bundle does not verify: {first.file}: {first.problem}",
            hint="`irkit bundle verify` lists all problems",
        )
    evidence = Evidence(BundleReader(path, identities)).required()
    return Side(str(path), evidence, layers=_layers(evidence.image))


def _layers(image: Mapping[str, Any]) -> tuple[str, ...]:
    return tuple(str(one) for one in (image.get("RootFS") or {}).get("Layers") or ())


def _on_engine(name: str, how: Opening, stack: ExitStack) -> Side:
    from irkit.engine.connect import open_engine

    engine = open_engine(how.engine)
    if not name.startswith(IMAGE):
        try:
            container = engine.container(name)
        except NotFound:
            container = None
        if container is not None:
            return _live(engine, container.id, how, stack)
    try:
        image = engine.image(name.removeprefix(IMAGE))
    except NotFound:
        raise UsageProblem(
            f"{name!r} is no bundle, no container and no image of {engine.endpoint}",
            hint="`docker ps -a`, `docker images`, or the path of a bundle",
        ) from None
    return Side(name.removeprefix(IMAGE), image=image.id, layers=image.layers)


def _live(engine: Engine, reference: str, how: Opening, stack: ExitStack) -> Side:
    from irkit.acquire.comparison import acquire_comparison
    from irkit.compare.evidence import Evidence
    from irkit.evidence.reader import BundleReader
    from irkit.evidence.writer import BundleWriter

    container = engine.container(reference)
    folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="diff-", dir=private_folder(home() / "tmp")))
    writer = BundleWriter(Path(folder) / "bundle")
    reading = itertools.count(1)
    how.progress.tell("reading the container, changes", 0)
    acquire_comparison(
        engine, container, writer, lambda _: how.progress.tell("reading the container, changes", next(reading)),
        volumes=how.volumes,
    )  # fmt: skip
    how.progress.end()
    evidence = Evidence(BundleReader(writer.folder))
    return Side(container.name, evidence, writer=writer, layers=_layers(evidence.image))


def same_image(one: Side, other: Side) -> bool:
    """Whether both came from the same image, whatever their engines call it."""
    if one.layers and other.layers:
        return one.layers == other.layers
    return bool(one.image_ref) and one.image_ref == other.image_ref


@contextmanager
def as_one(side: Side, other: Side, how: Opening) -> Iterator[Evidence]:
    """A side as if ``other``, of another image, were its image: changes with their contents, and what only it has.

    Raises ``UsageProblem`` when an image can't be had.
    """
    from irkit.acquire.tree_comparison import Contents, databases_of, wanted, write_trees
    from irkit.compare.against import tree_changes
    from irkit.compare.evidence import Evidence
    from irkit.evidence import names
    from irkit.evidence.reader import BundleReader
    from irkit.evidence.writer import BundleWriter

    with ExitStack() as stack:
        was, now = (_Whole.of(one, how, stack) for one in (other, side))
        changes = list(tree_changes(was.tree, now.tree))
        databases = databases_of(was.tree)
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="diff-", dir=private_folder(home() / "tmp")))
        spool = stack.enter_context(tempfile.TemporaryFile(dir=folder))
        contents = Contents(spool, wanted(changes, databases))
        for one in (was, now):
            one.files(contents)
        writer = BundleWriter(Path(folder) / "bundle")
        write_trees(changes, databases, contents, writer)
        facts = _beside(side, was, now, writer)
        writer.put(names.INDEX, json.dumps(writer.index(facts)).encode())
        yield Evidence(BundleReader(writer.folder))


@dataclass(slots=True)
class _Whole:
    """A side's whole tree, and where its files' contents are: in its image as it was saved, and in its own changes."""

    side: Side
    image: Image
    archive: BinaryIO
    tree: dict[str, FileFacts]

    @classmethod
    def of(cls, side: Side, how: Opening, stack: ExitStack) -> _Whole:
        from irkit.acquire.image_tree import read_tree
        from irkit.compare.against import changed_tree
        from irkit.engine.connect import open_engine

        spool = stack.enter_context(tempfile.TemporaryFile(dir=private_folder(home() / "tmp")))  # noqa: SIM115 - closed by the stack
        try:
            engine = open_engine(how.engine)
            image = engine.image(side.image_ref)
            for chunk in how.progress.count(
                f"reading the image {side.name}, pieces", engine.image_archive(side.image_ref, PREPARING)
            ):
                spool.write(chunk)
        except EngineError as error:
            raise UsageProblem(
                f"{side.name}: its image {side.image_ref or '?'} is needed, and this engine does not give it: {error.message}",
                hint="two sides of the same image are compared without it",
            ) from error
        spool.seek(0)
        tree = read_tree(spool, side.image_ref)
        return cls(side, image, spool, tree if side.evidence is None else changed_tree(tree, side.evidence.changes()))

    def files(self, contents: Contents) -> None:
        """Show every file that may be wanted."""
        from irkit.acquire.image_tree import read_files

        sizes = contents.sizes
        for taken in self.side.evidence.taken() if self.side.evidence is not None else ():
            if taken.stream is not None and taken.change.after is not None and taken.change.after.size in sizes:
                contents.see(taken.stream)
        self.archive.seek(0)
        for stream in read_files(self.archive, self.side.image_ref, sizes):
            contents.see(stream)


BESIDE = ("tmpfs/", "volumes/", "process/", "network/", "engine/container-before.json", "engine/volumes.json")
"""What a container has beside its disk: taken over as it is."""


def _beside(side: Side, was: _Whole, now: _Whole, writer: BundleWriter) -> dict[str, Any]:
    """The rest of a side; its image counts as the other one.  What a bundle's index says of target and time."""
    from irkit.evidence.writer import Origin

    writer.add_json("engine/image.json", was.image.raw, Origin("engine-state", was.image.id, "engine API: inspect"))
    if side.evidence is None:
        settings = {"Image": was.image.id, "Config": now.image.config}
        writer.add_json(
            "engine/container-before.json", settings, Origin("engine-state", now.image.id, "engine API: inspect")
        )
        # No mount covers anything in an image: without a table, those of a container that is not running are taken for granted.
        writer.add_json("process/mounts.json", {"none": []}, Origin("processes", now.image.id, "an image has none"))
        return {"target": {"name": side.name, "image_id": now.image.id}}
    index = side.evidence.reader.index
    for row in index["artifacts"]:
        name = str(row["path"]).removeprefix("data/").removesuffix(".zst")
        if name.startswith(BESIDE) and row["complete"]:
            with writer.sink(name, Origin(row["collector"], row["source"], row["method"], row["media_type"])) as sink:
                for block in side.evidence.reader.stream(name):
                    sink.write(block)
    for gap in side.evidence.gaps:
        writer.gap(gap.collector, gap.what, gap.why)
    return {"target": index.get("target") or {}, **({"taken": index["taken"]} if index.get("taken") else {})}


PREPARING = 900.0
"""Seconds that an engine may take before the first byte: Docker 20.10 writes every layer to its disk first."""


def save(side: Side, path: Path, signer: Any) -> None:
    """Seal what was taken of a live container as a baseline: a bundle, as a tar file.  Raises ``UsageProblem``."""
    from irkit.evidence import names
    from irkit.evidence.seal import seal_bundle
    from irkit.evidence.store import open_store
    from irkit.evidence.tar import write_tar

    if side.writer is None or side.evidence is None:
        raise UsageProblem("only what a container is now can be saved as a baseline", hint="a bundle is one already")
    facts = {name: side.evidence.reader.index[name] for name in ("target", "taken")}
    side.writer.discard(names.INDEX)
    sealed = seal_bundle(side.writer, facts, "complete", signer)
    write_tar(open_store(sealed.path), path, sealed.digest.removeprefix("sha256:"))
