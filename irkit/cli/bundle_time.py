"""``irkit bundle timestamp``."""

from __future__ import annotations

from pathlib import Path

import click

from irkit.cli.bundle_common import authorities, key_option, tsa_option
from irkit.cli.options import json_option, print_json
from irkit.errors import EvidenceAltered, ExitCode, UsageProblem


@click.command(
    "timestamp",
    epilog="\b\nExamples:\n  irkit bundle timestamp BUNDLE --tsa https://tsa.example/ --tsa-cert root.pem\n"
    "  irkit bundle verify BUNDLE --tsa-cert root.pem",
)
@click.argument("path", type=click.Path(path_type=Path))
@click.option("--tsa", required=True, metavar="URL", help="The timestamp authority (RFC 3161 over HTTP).")
@click.option("--replace", is_flag=True, help="In place of the timestamp that is there; an earlier one proves more.")
@tsa_option
@key_option
@json_option
def timestamp(path: Path, tsa: str, replace: bool, tsa_cert: Path | None, key: Path | None, as_json: bool) -> int:
    """Have an authority state when the bundle at PATH was sealed at the latest; the bundle is verified first.

    Only the seal's signature goes to the authority, as a digest. When it can't be reached the bundle stays as it was.
    """
    from irkit.evidence import dsse, names
    from irkit.evidence.authorities import trusted_authorities
    from irkit.evidence.custody import locked
    from irkit.evidence.keys import public_from_file, trusted_keys
    from irkit.evidence.store import open_store, read_small
    from irkit.evidence.timestamp import ask
    from irkit.evidence.verify import verify_bundle

    roots = authorities(tsa_cert) or trusted_authorities()
    known = [public_from_file(key)] if key else list(trusted_keys("evidence"))
    with locked(path):
        found = verify_bundle(path, known, tsa=roots)
        made_anew = {names.TIMESTAMP, names.SIGSTORE_SEAL} if replace else set()
        bad = [one for one in found.problems if one.file not in made_anew]
        if bad:
            raise EvidenceAltered(
                f"nothing was stamped, because the bundle does not verify: {bad[0].file}: {bad[0].problem}",
                hint="`irkit bundle verify` lists everything that does not hold",
            )
        if found.stamp.state != "none" and not replace:
            raise UsageProblem(
                f"{path} has a timestamp already", hint="an earlier one proves more; --replace all the same"
            )
        store = open_store(path)
        seal = read_small(store, names.SEAL)
        token = ask(tsa, dsse.parse(seal).signatures[0], roots)
        store.replace({names.TIMESTAMP: token, names.SIGSTORE_SEAL: dsse.sigstore_bundle(seal, found.key, token)})
        written = verify_bundle(path, known, tsa=roots)
    if not written.ok:
        raise EvidenceAltered(f"{path} is not what was written: {written.problems[0].problem}")
    if as_json:
        print_json(
            {
                "schema": "irkit.timestamp/v1",
                "path": str(path),
                "digest": written.digest,
                "timestamp": written.stamp.to_json(),
            }
        )
    else:
        state = (
            "checked"
            if written.stamp.state == "valid"
            else "not checked: no certificate of the authority is trusted here"
        )
        click.echo(f"{written.stamp.time}  {state}")
    return ExitCode.DONE
