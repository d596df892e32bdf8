"""What comes after sealing: timestamp, hand-over, a tar for whoever receives it, encryption; and signing an image.

Files lie in the case's folder under names that irkit chose: a playbook is somebody else's text, and writes nowhere else.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from irkit.actions.context import Context, Result
from irkit.errors import Refused, UsageProblem
from irkit.text import human_size, printable


def timestamp(ctx: Context, args: Mapping[str, Any]) -> Result:
    """Raises ``Refused`` for an authority that the operator does not allow."""
    from irkit.config import NAME, load_config
    from irkit.evidence import handling
    from irkit.evidence.authorities import trusted_authorities

    url = str(args["tsa"])
    if not load_config().allows(url):
        raise Refused(
            f"the authority {printable(url, 200)} may not be asked",
            hint=f"add a prefix of it to actions.http.allow in IRKIT_HOME/{NAME}",
        )
    if (there := was_stamped(ctx, args)) is not None:
        return there
    found = handling.timestamp(_bundle(ctx), url, _keys(ctx), trusted_authorities())
    words = "" if found.stamp.state == "valid" else ", by an authority that nobody trusts here yet"
    return Result(
        "succeeded" if not words else "degraded", f"sealed by {found.stamp.time} at the latest{words}", {"time": found.stamp.time}
    )  # fmt: skip


def was_stamped(ctx: Context, _: Mapping[str, Any]) -> Result | None:
    """Whether the bundle has a timestamp already: an earlier one proves more."""
    from irkit.evidence.verify import verify_bundle

    stamp = verify_bundle(_bundle(ctx), _keys(ctx)).stamp
    return (
        None if stamp.state == "none" else Result("skipped", f"it has a timestamp: {stamp.time}", {"time": stamp.time})
    )


def hand_over(ctx: Context, args: Mapping[str, Any]) -> Result:
    """One more line of the bundle's chain of custody."""
    from irkit.evidence.custody import hand_over as add
    from irkit.evidence.handling import verified
    from irkit.evidence.verify import verify_bundle

    bundle, keys = _bundle(ctx), _keys(ctx)
    verified(verify_bundle(bundle, keys), "handed over")
    giver = str(args["from"]) or ctx.case.opened_by
    entry = add(bundle, ctx.signer(), keys, to=str(args["to"]), why=_why(ctx, args), giver=giver)
    return Result(
        "succeeded", f"handed over to {printable(entry.receiver, 200)}; head {entry.digest}", {"head": entry.digest, "seq": entry.seq}
    )  # fmt: skip


def was_handed_over(ctx: Context, args: Mapping[str, Any]) -> Result | None:
    """After a kill: whether the chain's last line is this one; each names its case, run and step."""
    from irkit.evidence import names
    from irkit.evidence.custody import load, read_chain
    from irkit.evidence.store import open_store, read_small

    store = open_store(_bundle(ctx))
    chain = read_chain(load(store), read_small(store, names.SEAL), _keys(ctx))
    last = chain.entries[-1] if chain.entries else None
    if last is None or (last.receiver, last.why) != (str(args["to"]), _why(ctx, args)):
        return None
    return Result(
        "succeeded", f"it was handed over already; head {last.digest}", {"head": last.digest, "seq": last.seq}
    )


def _why(ctx: Context, args: Mapping[str, Any]) -> str:
    return f"{args['why']} (case {ctx.case.id}, run {ctx.run}, step {ctx.step})"


def pack(ctx: Context, _: Mapping[str, Any]) -> Result:
    """The bundle as it stands now, with its timestamp and hand-overs."""
    from irkit.evidence import handling

    output = _output(ctx)
    found = handling.pack(_bundle(ctx), output, _keys(ctx))
    return Result(
        "succeeded", f"{output} ({human_size(output.stat().st_size)})", {"path": str(output), "digest": found.digest}
    )  # fmt: skip


def encrypt(ctx: Context, args: Mapping[str, Any]) -> Result:
    """To age recipients and ssh public keys alone: a playbook names no file of this host.  The plain bundle stays."""
    from irkit.evidence import handling
    from irkit.evidence.age import is_encrypted, recipients_from
    from irkit.evidence.store import open_store

    words = [str(one) for one in args["recipients"]]
    if bad := next((one for one in words if not one.startswith(("age1", "ssh-ed25519 ", "ssh-rsa "))), None):
        raise UsageProblem(f"not a recipient: {printable(bad, 80)!r}", hint="age1…, or an ssh public key's line")
    if not words:
        raise UsageProblem("evidence.encrypt needs a recipient")
    if is_encrypted(open_store(_bundle(ctx))):
        return Result("skipped", "this run encrypted its evidence as it wrote it", {"path": "", "digest": ""})
    output = _output(ctx)
    output.unlink(missing_ok=True)  # of a run that was killed
    _, found = handling.encrypt(_bundle(ctx), output, recipients_from(words), ctx.signer(), _keys(ctx))
    return Result(
        "succeeded", f"{output}, for {len(words)} recipients; the plain bundle stays", {"path": str(output), "digest": found.digest}
    )  # fmt: skip


def sign_image(ctx: Context, args: Mapping[str, Any]) -> Result:
    """With a key for images that needs no passphrase.  Raises ``Refused`` for one that the operator does not allow."""
    from irkit.config import NAME, load_config
    from irkit.evidence.keys import load_signer
    from irkit.trust.image import sign_image as sign

    name = str(args["key"])
    if name not in load_config().sign_keys:
        raise Refused(
            f"a playbook may not sign images with the key {printable(name, 80)!r}",
            hint=f"add it to actions.sign.keys in IRKIT_HOME/{NAME}",
        )
    path, content, _ = sign(ctx.engine, str(args["image"]), load_signer(name, "image", lambda _: None), None)
    return Result("succeeded", f"signed {content.config} by {name}", {"signature": str(path), "config": content.config})


def _bundle(ctx: Context) -> Path:
    """This run's sealed bundle.  Raises ``Refused`` when there is none."""
    if ctx.facts.sealed is None:
        raise Refused("this run has no sealed bundle", hint="the playbook needs evidence.seal before this step")
    return ctx.facts.sealed.path


def _keys(ctx: Context) -> Sequence[Any]:
    from irkit.evidence.keys import trusted_keys

    return [*trusted_keys("evidence"), ctx.signer().public]


def _output(ctx: Context) -> Path:
    from irkit.home import private_folder

    return private_folder(ctx.case.folder / "exports") / f"{ctx.run}-{ctx.step}.tar"
