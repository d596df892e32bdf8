"""``irkit bundle create``: a bundle out of files, or a sealed one as a tar file."""

from __future__ import annotations

import re
import secrets
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from irkit.cli.bundle_common import is_free
from irkit.cli.options import (
    json_option,
    parse_recipients,
    passphrase_source,
    print_json,
    recipient_option,
    signing_options,
)
from irkit.errors import ExitCode, UsageProblem
from irkit.text import human_size

if TYPE_CHECKING:
    from irkit.evidence.keys import Signer

LABEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,60}")


@click.command(
    "create",
    epilog="\b\nExamples:\n  irkit bundle create photos/ notes.txt -o evidence --case case-12\n"
    "  irkit bundle create /mnt/usb/image.dd -o image.tar\n"
    "  irkit bundle create BUNDLE -o bundle.tar       # a sealed one as a tar, its seal as it is\n"
    "  irkit bundle create CASE -o bundle.tar         # the last bundle of a case as a tar",
)
@click.argument("sources", nargs=-1, required=True, metavar="SOURCE...", type=click.Path(path_type=Path))
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), required=True, help="A new folder, or a new file FILE.tar."
)
@click.option("--tar", is_flag=True, help="Write a tar file, whatever the output is called.")
@click.option("--case", "label", default="", metavar="TEXT", help="What new evidence belongs to.")
@recipient_option
@signing_options
@json_option
def create(
    sources: tuple[Path, ...], output: Path, tar: bool, label: str, recipients: tuple[str, ...], key: str, passphrase_file: Path | None,
    passphrase_fd: int | None, as_json: bool,
) -> int:  # fmt: skip
    """Seal files and folders as a new bundle, or pack a sealed bundle as a tar file.

    SOURCE is a file, a folder, a sealed bundle, or a case. A sealed bundle is verified and packed as it is: its seal
    stays. Everything else is copied into a new bundle that your key seals; links are not followed.
    """
    tar = tar or output.suffix == ".tar"
    is_free(output)
    sealed = _sealed_one(sources)
    if sealed is not None:
        if not tar:
            raise UsageProblem(
                f"{sealed} is a sealed bundle already",
                hint="-o FILE.tar packs it; `irkit bundle extract --whole` makes a folder of a tar",
            )
        if recipients:
            raise UsageProblem(f"{sealed} is a sealed bundle already", hint="`irkit bundle encrypt` encrypts it")
        found, gaps = _pack(sealed, output), 0
    else:
        if label and not LABEL.fullmatch(label):
            raise UsageProblem(f"not a case's name: {label!r}", hint="letters, digits, dot, dash and underscore")
        from irkit.evidence.keys import load_signer

        signer = load_signer(key, "evidence", passphrase_source(passphrase_file, passphrase_fd))
        found, gaps = _collect(sources, output, tar, label, signer, parse_recipients(recipients))
    if as_json:
        print_json({"schema": "irkit.created/v1", "path": str(output), "tar": tar, "gaps": gaps, **found})
    else:
        click.echo(
            f"{output}\n  {found['files']} files, {human_size(found['size'])}, {found['status']}\n  {found['digest']}"
        )
        if gaps:
            click.echo(f"  {gaps} gaps: `irkit bundle list` names them", err=True)
    return ExitCode.GAPS if gaps else ExitCode.DONE


def _sealed_one(sources: tuple[Path, ...]) -> Path | None:
    """The sealed bundle that is meant, if one is.  Raises ``UsageProblem`` for a case without a bundle."""
    from irkit.cases import load_case
    from irkit.evidence import names
    from irkit.evidence.tar import is_bundle_tar

    if len(sources) != 1:
        return None
    (source,) = sources
    if source.is_dir():
        return source if (source / names.SEAL).is_file() else None
    if source.exists():
        return source if is_bundle_tar(source) else None
    bundles = load_case(str(source)).bundles
    if not bundles:
        raise UsageProblem(f"the case {source} has no sealed bundle", hint="`irkit case show` tells what it has")
    return bundles[-1]


def _pack(bundle: Path, output: Path) -> dict[str, Any]:
    from irkit.evidence import handling
    from irkit.evidence.keys import trusted_keys

    written = handling.pack(bundle, output, trusted_keys("evidence"))
    return {"files": written.files, "size": written.size, "status": written.status, "digest": written.digest}


def _collect(
    sources: tuple[Path, ...], output: Path, tar: bool, label: str, signer: Signer, recipients: tuple[Any, ...]
) -> tuple[dict[str, Any], int]:
    from irkit.cases import whoami
    from irkit.evidence.age_writer import EncryptedWriter
    from irkit.evidence.collect import collect_files
    from irkit.evidence.handling import as_written
    from irkit.evidence.seal import seal_bundle
    from irkit.evidence.store import open_store
    from irkit.evidence.tar import write_tar
    from irkit.evidence.verify import verify_bundle
    from irkit.evidence.writer import BundleWriter

    for source in sources:
        if output.absolute().is_relative_to(source.resolve()) and source.is_dir():
            raise UsageProblem(
                f"the bundle can't lie inside {source}, which it is made of", hint="-o names another place"
            )
    folder = output.with_name(f".{output.name}.{secrets.token_hex(4)}")
    try:
        writer = EncryptedWriter(folder, recipients) if recipients else BundleWriter(folder)
        collect_files(sources, writer)
        partial = bool(writer.lost) or any(not one.complete for one in writer.artifacts)
        facts = {"case": label, "run": "", "target": {}, "collected_by": whoami()}
        sealed = seal_bundle(writer, facts, "partial" if partial else "complete", signer)
        if tar:
            write_tar(open_store(folder), output, sealed.digest.removeprefix("sha256:"))
        else:
            folder.rename(output)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    found = as_written(verify_bundle(output, [signer.public]))
    return {"files": found.files, "size": found.size, "status": found.status, "digest": found.digest}, len(writer.gaps)
