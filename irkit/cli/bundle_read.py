"""``irkit bundle show``, ``cat`` and ``extract``: what lies in a bundle, out of it."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from irkit.cli.options import identity_option, json_option, print_json
from irkit.errors import EvidenceAltered, ExitCode, UsageProblem, storage_error
from irkit.text import human_size, printable

if TYPE_CHECKING:
    from irkit.evidence.reader import BundleReader


@click.command("show", epilog="\b\nExamples:\n  irkit bundle show BUNDLE\n  irkit bundle show BUNDLE --json")
@click.argument("path", type=click.Path(path_type=Path))
@identity_option
@json_option
def show(path: Path, identity: tuple[Path, ...], as_json: bool) -> int:
    """What the bundle at PATH is about: target, times, sizes by collector, gaps.  Nothing is verified by this."""
    from irkit.evidence.age import identities_from
    from irkit.evidence.reader import BundleReader

    summary = summarise(BundleReader(path, identities_from(identity)).index)
    if as_json:
        print_json(summary)
        return ExitCode.DONE
    target = summary["target"]
    about = f"case {printable(summary['case']) or '(none)'}" + (
        f", run {printable(summary['run'])}" if summary["run"] else ""
    )
    if target:
        click.echo(
            f"{printable(target.get('name', ''))}  ({printable(target.get('id', ''))[:12]}, image {printable(target.get('image', ''))})"
        )
        click.echo(f"  {about}, on {printable(target.get('engine', ''))}")
    else:
        click.echo(
            "an encrypted bundle: --identity FILE opens it" if summary["encrypted"] else "files, of no container"
        )
        click.echo(f"  {about}")
    click.echo(
        f"  {printable(summary['status'])}, sealed {printable(summary['sealed'])} by irkit {printable(summary['version'])}"
    )
    for row in summary["collectors"]:
        click.echo(
            f"  {printable(row['collector']):<16} {row['artifacts']:>4} artifacts  {human_size(row['bytes']):>10}  {printable(row['message'], 80)}"
        )
    click.echo(
        f"  {summary['artifacts']} artifacts, {human_size(summary['raw_size'])} read, {human_size(summary['stored_size'])} stored"
    )
    for gap in summary["gaps"]:
        click.echo(f"gap: {printable(gap['collector'])}: {printable(gap['what'])}: {printable(gap['why'])}")
    click.echo("not verified by this: `irkit bundle verify`", err=True)
    return ExitCode.DONE


def summarise(index: dict[str, Any]) -> dict[str, Any]:
    """``irkit.bundle/v1``.  Raises ``EvidenceAltered`` for an index that is not of irkit's form."""
    try:
        return {
            "schema": "irkit.bundle/v1", "case": str(index["case"]), "run": str(index["run"]), "target": dict(index["target"]),
            "status": str(index["status"]), "sealed": str(index["sealed"]), "version": str(index["tool"]["version"]),
            "encrypted": bool(index.get("encrypted")), "profile": index.get("profile"), "collectors": [_row(row) for row in index.get("collectors", ())],
            "artifacts": len(index["artifacts"]), "raw_size": sum(int(row["raw"]["size"]) for row in index["artifacts"]),
            "stored_size": sum(int(row["stored"]["size"]) for row in index["artifacts"]),
            "gaps": [{name: str(gap[name]) for name in ("collector", "what", "why")} for gap in index["gaps"]],
        }  # fmt: skip
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise EvidenceAltered(f"the bundle's index is not of irkit's form: {error!r}") from error


def _row(row: dict[str, Any]) -> dict[str, Any]:
    texts = {name: str(row[name]) for name in ("collector", "outcome", "message", "started", "finished")}
    return texts | {name: int(row[name]) for name in ("artifacts", "bytes", "gaps")}


@click.command(
    "cat",
    epilog="\b\nExamples:\n  irkit bundle cat BUNDLE logs/stdout.log\n  irkit bundle cat BUNDLE filesystem/layer.tar | tar -t",
)
@click.argument("path", type=click.Path(path_type=Path))
@click.argument("artifact")
@click.option("--raw", is_flag=True, help="The bytes as they are, on a terminal too.")
@identity_option
def cat(path: Path, artifact: str, raw: bool, identity: tuple[Path, ...]) -> int:
    """One artifact of the bundle at PATH, decompressed; its digest is checked while it is read.

    On a terminal control characters are escaped: what comes out of a container may try to drive the terminal.
    """
    from irkit.evidence.age import identities_from
    from irkit.evidence.reader import BundleReader

    blocks = BundleReader(path, identities_from(identity)).stream(plain_name(artifact))
    if raw or not sys.stdout.isatty():
        out = sys.stdout.buffer
        for block in blocks:
            out.write(block)
        out.flush()
        return ExitCode.DONE
    for line in _lines(blocks):
        click.echo(printable(line.decode("utf-8", "surrogateescape")))
    return ExitCode.DONE


def plain_name(artifact: str) -> str:
    """An artifact's name as the reader wants it, from the one that ``bundle list`` prints."""
    return artifact.removeprefix("data/").removesuffix(".zst")


def _lines(blocks: Iterator[bytes], longest: int = 64 * 1024) -> Iterator[bytes]:
    """Lines, and pieces of lines that are longer than ``longest``, so that memory stays flat."""
    rest = b""
    for block in blocks:
        *whole, rest = (rest + block).split(b"\n")
        yield from whole
        while len(rest) > longest:
            yield rest[:longest]
            rest = rest[longest:]
    if rest:
        yield rest


@click.command(
    "extract",
    epilog="\b\nExamples:\n  irkit bundle extract BUNDLE -o out\n  irkit bundle extract BUNDLE -o out logs/stdout.log process\n  irkit bundle extract bundle.tar --whole -o bundle",
)
@click.argument("path", type=click.Path(path_type=Path))
@click.argument("wanted", nargs=-1, metavar="[ARTIFACT|FOLDER]...")
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True, help="A new folder.")
@click.option("--whole", is_flag=True, help="The bundle of a tar file as a folder, with its seal, as it is.")
@click.option(
    "--key", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="Trust this public key, and only it."
)
@identity_option
@json_option
def extract(
    path: Path, wanted: tuple[str, ...], output: Path, whole: bool, key: Path | None, identity: tuple[Path, ...], as_json: bool
) -> int:  # fmt: skip
    """Copy artifacts of the bundle at PATH, decompressed, into a new folder; the bundle is verified first.

    Tar files of the container's own files stay tar files: nothing of the container is unpacked.
    """
    from irkit.evidence.age import identities_from
    from irkit.evidence.handling import verified
    from irkit.evidence.keys import public_from_file, trusted_keys
    from irkit.evidence.reader import BundleReader
    from irkit.evidence.verify import verify_bundle

    identities = identities_from(identity)
    known = [public_from_file(key)] if key else trusted_keys("evidence")
    found = verified(verify_bundle(path, known, identities=identities), "extracted")
    if whole:
        return _whole(path, wanted, output, found.digest, as_json)
    reader = BundleReader(path, identities)
    names = _chosen([plain_name(str(row["path"])) for row in reader.index["artifacts"]], wanted)
    try:
        output.mkdir(mode=0o700)
    except OSError as error:
        raise UsageProblem(
            f"can't make {output}: {error.strerror}", hint="-o names a folder that is not there yet"
        ) from error
    for name in names:
        _copy(reader, name, output / name)
        if not as_json:
            click.echo(str(output / name))
    if as_json:
        print_json({"schema": "irkit.extracted/v1", "digest": found.digest, "folder": str(output), "artifacts": names})
    return ExitCode.DONE


def _whole(path: Path, wanted: tuple[str, ...], output: Path, digest: str, as_json: bool) -> int:
    from irkit.evidence.tar import unpack

    if wanted or path.is_dir() or output.exists():
        raise UsageProblem(
            "--whole makes a new folder of a bundle's tar file, all of it",
            hint="-o names a folder that is not there yet",
        )
    unpack(path, digest.removeprefix("sha256:"), output)
    if as_json:
        print_json({"schema": "irkit.extracted/v1", "digest": digest, "folder": str(output), "artifacts": []})
    else:
        click.echo(str(output))
    return ExitCode.DONE


def _chosen(known: list[str], wanted: tuple[str, ...]) -> list[str]:
    """The artifacts named, or lying in a folder named; all when none is.  Raises ``UsageProblem`` for what is not there."""
    chosen: set[str] = set() if wanted else set(known)
    for one in map(plain_name, wanted):
        hits = {name for name in known if name == one or name.startswith(one.rstrip("/") + "/")}
        if not hits:
            raise UsageProblem(f"the bundle holds no {one}", hint="`irkit bundle list BUNDLE` shows what it holds")
        chosen |= hits
    return sorted(chosen)


def _copy(reader: BundleReader, name: str, target: Path) -> None:
    """Half a copy is none: it is removed when the digest does not hold or the disk is full."""
    try:
        target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with target.open("xb") as file:
            for block in reader.stream(name):
                file.write(block)
    except OSError as error:
        target.unlink(missing_ok=True)
        raise storage_error(error, f"can't write {target}") from error
    except EvidenceAltered:
        target.unlink(missing_ok=True)
        raise
