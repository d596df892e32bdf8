"""``irkit playbook export``, ``import`` and ``cacao-sign``."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from irkit import documents, resources
from irkit.cli.options import json_option, passphrase_source, print_json, signing_options
from irkit.errors import CheckFailed, ExitCode, NotTrusted, PlaybookInvalid, UsageProblem
from irkit.home import write_file
from irkit.text import printable

if TYPE_CHECKING:
    from irkit.cacao.signature import Verdict

until_option = click.option(
    "--valid-until",
    default="",
    metavar="TIME",
    help="The signature is good until then (ISO 8601).  [default: for ever]",
)


@click.command(
    "export",
    epilog="\b\nExamples:\n  irkit playbook export contain -o contain.cacao.json\n"
    "  irkit playbook export contain --sign --key plans -o contain.cacao.json\n"
    "  irkit playbook export contain --profile soarca --host 10.0.0.5",
)
@click.argument("name")
@click.option(
    "--profile",
    type=click.Choice(["full", "soarca"]),
    default="full",
    show_default=True,
    help="soarca: one action, over ssh.",
)
@click.option(
    "--host",
    default="",
    metavar="IPV4",
    help="soarca: the host that irkit runs on; SOARCA takes no name and no variable.",
)
@click.option("--author", default="irkit", show_default=True, help="Who made it: an identity is derived from the name.")
@click.option("--sign", "signed", is_flag=True, help="Sign it, by CACAO's own signature, with a key for playbooks.")
@until_option
@signing_options
@click.option(
    "-o", "--output", type=click.Path(dir_okay=False, path_type=Path), help="Where to.  [default: standard output]"
)
def export_(
    name: str, profile: str, host: str, author: str, signed: bool, valid_until: str, key: str, passphrase_file: Path | None,
    passphrase_fd: int | None, output: Path | None,
) -> int:  # fmt: skip
    """A playbook as CACAO v2.0 (OASIS).  What CACAO has no word for is told, and travels in an extension."""
    from irkit.cacao.check import check
    from irkit.cacao.export import export
    from irkit.playbook.reader import read_playbook

    if valid_until and not signed:
        raise UsageProblem("--valid-until is of a signature", hint="--sign makes one")
    path = resources.find("playbooks", name)
    source = path.read_bytes()
    doc, digest = documents.load_bytes(source, str(path))
    document, lost = export(read_playbook(doc, digest, path), source, profile, author, host)
    if problems := list(check(document)):
        raise CheckFailed(f"the export is no good CACAO: {problems[0]}", hint="please report this")
    if signed:
        document = _signed(document, key, passphrase_source(passphrase_file, passphrase_fd), author, valid_until)
    text = _text(document)
    if output is None:
        click.echo(text, nl=False)
    else:
        write_file(output, text, 0o644)
    for one in lost:
        click.echo(f"  not in CACAO's words: {printable(one, 200)}", err=True)
    return ExitCode.DONE


def _text(document: Mapping[str, Any]) -> bytes:
    return json.dumps(document, indent=1, ensure_ascii=False).encode("utf-8") + b"\n"


def _signed(
    document: Mapping[str, Any], key: str, passphrase: Callable[[str], bytes | None], signee: str, until: str, *, revoke: bool = False
) -> dict[str, Any]:  # fmt: skip
    """Sign, and read back: nothing is called signed that does not verify."""
    from irkit.cacao.signature import sign, verify
    from irkit.evidence.keys import load_signer
    from irkit.playbook.signed import USE

    signer = load_signer(key, USE, passphrase)
    made: dict[str, Any] = json.loads(json.dumps(sign(document, signer, signee, until, revoke=revoke)))
    mine = [one for one in verify(made, [signer.public]) if one.key]
    if not mine or any(one.altered for one in mine) or not (revoke or mine[-1].good):
        raise CheckFailed("the signature does not verify after it was made", hint="please report this")
    return made


@click.command(
    "cacao-sign",
    epilog="\b\nExamples:\n  irkit playbook cacao-sign theirs.json --key plans\n"
    "  irkit playbook cacao-sign theirs.json --key plans --revoke",
)
@click.argument("path", metavar="FILE", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option(
    "--signee", default="", metavar="TEXT", help="Who signs, as it stands in the signature.  [default: the key's name]"
)
@click.option("--revoke", is_flag=True, help="Make this key's signatures anew as revoked, instead of adding one.")
@until_option
@signing_options
@json_option
def cacao_sign(
    path: Path, signee: str, revoke: bool, valid_until: str, key: str, passphrase_file: Path | None, passphrase_fd: int | None,
    as_json: bool,
) -> int:  # fmt: skip
    """Add CACAO's own signature to the CACAO v2.0 playbook in FILE, beside those that it has."""
    from irkit.cacao.imported import SIZE_LIMIT, parse

    if revoke and valid_until:
        raise UsageProblem("what is revoked is good until no time: --valid-until has no meaning with --revoke")
    with path.open("rb") as file:
        document = parse(file.read(SIZE_LIMIT + 1))
    if document.get("type") != "playbook":
        raise PlaybookInvalid("it is no CACAO playbook: its type is not 'playbook'")
    passphrase = passphrase_source(passphrase_file, passphrase_fd)
    document = _signed(document, key, passphrase, signee or Path(key).stem, valid_until, revoke=revoke)
    write_file(path, _text(document), 0o644)
    if as_json:
        print_json({"schema": "irkit.cacao-signature/v1", "path": str(path), "signatures": len(document["signatures"])})
    else:
        click.echo(f"{path}: {len(document['signatures'])} signatures")
    return ExitCode.DONE


@click.command(
    "import",
    epilog="\b\nExamples:\n  irkit playbook import theirs.json -o ./theirs.yaml\n"
    "  irkit playbook import theirs.json -o ./theirs.yaml --require-signature",
)
@click.argument("source", metavar="FILE", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option(
    "-o", "--output", required=True, type=click.Path(dir_okay=False, path_type=Path), help="Where to; not over a file."
)
@click.option(
    "--require-signature",
    is_flag=True,
    help="Refuse one that no trusted key has signed.  [default: as config.yaml says]",
)
@click.option("--unverified", is_flag=True, help="Take one whose signatures are all by keys that nobody here trusts.")
@json_option
def import_(source: Path, output: Path, require_signature: bool, unverified: bool, as_json: bool) -> int:
    """A CACAO v2.0 playbook as one of irkit's.  Others' commands become questions to a person; exit 4 when anything was lost.

    Its signatures are verified with the keys that are trusted for playbooks. One that was altered after a trusted key
    signed it is refused, whatever else it says; so is one whose signatures nobody here can vouch for, unless --unverified.
    """
    from irkit.cacao.check import check
    from irkit.cacao.imported import SIZE_LIMIT, import_, parse
    from irkit.playbook.reader import read_playbook

    if output.exists():
        raise UsageProblem(f"{output} is there already")
    with source.open("rb") as file:
        document = parse(file.read(SIZE_LIMIT + 1))
    verdicts = _verdicts(document, require_signature, unverified)
    problems = [printable(one, 300) for one in check(document)]
    found = import_(document)
    try:
        doc, digest = documents.load_bytes(found.text, str(output))
        playbook = read_playbook(doc, digest, output)
    except PlaybookInvalid as error:
        raise PlaybookInvalid(f"what it says is no playbook: {error.message}", hint=error.hint) from error
    write_file(output, found.text, 0o644)
    if as_json:
        rows = {
            "path": str(output),
            "playbook": playbook.id,
            "exact": found.exact,
            "lost": list(found.lost),
            "problems": problems,
            "signatures": [one.to_json() for one in verdicts],
        }
        print_json({"schema": "irkit.playbook-import/v1", **rows})
    else:
        for one in (*problems, *found.lost, *map(_words, verdicts)):
            click.echo(f"  {one}", err=True)
        click.echo(str(output))
    return ExitCode.GAPS if found.lost or problems or any(not one.good for one in verdicts) else ExitCode.DONE


def _verdicts(document: Mapping[str, Any], required: bool, unverified: bool) -> list[Verdict]:
    """What its signatures are worth.  Raises ``NotTrusted`` for a playbook that must not be taken over."""
    from irkit.config import load_config

    policy = load_config().signatures
    least = policy.minimum if policy.required else int(required)
    if not document.get("signatures"):
        if least:
            raise NotTrusted("it is not signed", hint="`irkit playbook cacao-sign` signs it, with a key for playbooks")
        return []
    from irkit.cacao.signature import verify
    from irkit.evidence.keys import trusted_keys
    from irkit.playbook.signed import USE

    verdicts = verify(document, list(trusted_keys(USE)))
    altered = [one for one in verdicts if one.altered]
    if altered:
        raise NotTrusted(_words(altered[0]), hint="get it again from whoever made it")
    good = {one.key for one in verdicts if one.good}
    if len(good) < least or (not good and not unverified):
        why = "; ".join(_words(one) for one in verdicts if not one.good)
        hint = "`irkit key trust --use playbook` trusts its maker's key; --unverified takes it all the same"
        raise NotTrusted(f"{len(good)} of {least or 1} signatures that count: {why}", hint=None if least else hint)
    return verdicts


def _words(one: Verdict) -> str:
    who = f"the signature {printable(one.id, 60)} of {printable(one.signee, 80)!r}"
    return f"{who}: {printable(one.why, 300)}" if one.why else f"{who}: good, by the key {one.key}"
