"""GPG simple signing ("atomic container signature", containers/image docs/containers-signature.5.md).

Signatures come from a lookaside folder or URL (docs/registry.d), or from the registry's extension.  The OpenPGP part is
GnuPG's: ``gpg`` with a home of its own that holds the policy's key alone, its status lines read strictly.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from urllib.parse import unquote, urlsplit

from irkit.errors import IrkitError, KeyProblem, NotTrusted, RegistryProblem
from irkit.text import printable
from irkit.trust.model import Found, TrustKey
from irkit.trust.reference import Reference
from irkit.trust.registry import SIGNATURE_LIMIT, Registry
from irkit.trust.scene import TRIES, Scene, attempt
from irkit.trust.sigstore import simple_payload

PAYLOAD_TYPE = "atomic container signature"
TIMEOUT = 30
STRONG = {"8", "9", "10", "11"}
"""SHA-256, -384, -512, -224 (RFC 9580, §9.5)."""
_BAD = {
    "BADSIG": "its signature is not over these bytes", "ERRSIG": "its signature can't be checked: by an unknown key",
    "EXPSIG": "its signature has expired", "EXPKEYSIG": "it is by a key that has expired",
    "REVKEYSIG": "it is by a key that was revoked", "NODATA": "it is no OpenPGP signature",
    "DECRYPTION_INFO": "it is encrypted", "BEGIN_DECRYPTION": "it is encrypted", "FAILURE": "gpg failed at it",
}  # fmt: skip
_LINE = re.compile(r"\[GNUPG:\] ([A-Z_0-9]+)(?: (.*))?")


class Gpg:
    """Signatures from the registry's lookaside, and from its extension."""

    kind = "gpg"

    def find(self, scene: Scene) -> Iterator[Found]:
        """Every signature over a target."""
        registry = scene.registry
        if registry is None:
            return
        keys = scene.keys_for(self.kind)
        for target in scene.targets:
            for where, blob in _signatures(registry, target):
                if isinstance(blob, bytes):
                    yield attempt(self.kind, where, partial(read_signature, blob, where, target, keys))
                else:
                    yield Found(self.kind, where, problem=blob)


def read_signature(blob: bytes, where: str, target: str, keys: tuple[TrustKey, ...]) -> Found:
    """Check an OpenPGP message over a manifest's digest.  Raises ``NotTrusted``."""
    reasons = []
    for key in keys:
        assert key.gpg is not None  # noqa: S101 - the policy's reader sees to that
        try:
            payload = opened(blob, key.gpg, key.id.removeprefix("gpg:"))
        except NotTrusted as error:
            reasons.append(f"{key.name}: {error.message}")
            continue
        return simple_payload(payload, PAYLOAD_TYPE, "gpg", where, target, key)
    raise NotTrusted("; ".join(reasons) or "the rule has no GPG key")


def opened(blob: bytes, keyring: Path, fingerprint: str) -> bytes:
    """The payload of a message signed by exactly one key, whose primary key has the fingerprint.  Raises ``NotTrusted``."""
    program = shutil.which("gpg")
    if program is None:
        raise NotTrusted("there is no gpg on this machine", hint="install gpg")
    with tempfile.TemporaryDirectory(prefix="irkit-gpg-") as folder:
        base = [
            program, "--homedir", folder, "--batch", "--no-tty", "--no-options", "--no-autostart", "--no-auto-key-retrieve",
            "--trust-model", "always", "--status-fd", "1",
        ]  # fmt: skip
        imported = _run([*base, "--import-options", "import-minimal", "--import", str(keyring.absolute())])
        if imported.returncode != 0:
            raise KeyProblem(f"gpg can't read the key {keyring}")
        message, payload = Path(folder) / "message", Path(folder) / "payload"
        message.write_bytes(blob)
        done = _run([*base, "--max-output", str(SIGNATURE_LIMIT), "--output", str(payload), "--decrypt", str(message)])
        check_status(done.stdout.decode("utf-8", "replace"), fingerprint)
        if done.returncode != 0:
            raise NotTrusted("gpg does not take it")
        try:
            return payload.read_bytes()
        except OSError as error:
            raise NotTrusted("there is nothing in it") from error


def _run(argv: list[str]) -> subprocess.CompletedProcess[bytes]:
    environment = {"PATH": os.environ.get("PATH", ""), "LC_ALL": "C", "HOME": "/nonexistent"}
    try:
        return subprocess.run(
            argv, stdin=subprocess.DEVNULL, capture_output=True, timeout=TIMEOUT, check=False, env=environment
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise NotTrusted(f"gpg can't be run: {type(error).__name__}") from error


def check_status(status: str, fingerprint: str) -> None:
    """Read gpg's status lines (GnuPG, doc/DETAILS): one message, one signature, good and by that key.  Raises ``NotTrusted``."""
    lines: dict[str, list[list[str]]] = {}
    for line in status.split("\n"):
        if found := _LINE.fullmatch(line):
            lines.setdefault(found[1], []).append((found[2] or "").split(" "))
    for word, reason in _BAD.items():
        if word in lines:
            raise NotTrusted(reason)
    counts = {word: len(lines.get(word, ())) for word in ("NEWSIG", "GOODSIG", "VALIDSIG", "PLAINTEXT")}
    if set(counts.values()) != {1}:
        raise NotTrusted(f"it is not one message with one good signature ({counts['GOODSIG']} good)")
    fields = lines["VALIDSIG"][0]
    if len(fields) != 10:
        raise NotTrusted("what gpg says of it can't be read")
    if fields[7] not in STRONG:
        raise NotTrusted("it is made with a weak digest")
    if fields[9] != fingerprint:
        raise NotTrusted(f"it is by the key {printable(fields[9], 64)}")


# -- where they lie -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Place:
    """``<lookaside>/<repository>@sha256=<hex>/signature-N``, without the registry's name."""

    base: str
    reference: Reference
    digest: str

    def url(self, number: int) -> str:
        return f"{self.base}/{self.reference.repository}@{self.digest.replace(':', '=')}/signature-{number}"


def _signatures(registry: Registry, target: str) -> Iterator[tuple[str, bytes | str]]:
    """Where each was, and its bytes or why they can't be had."""
    if registry.settings.lookaside:
        place = _Place(registry.settings.lookaside, registry.reference, target)
        for number in range(1, TRIES + 1):
            where = f"lookaside: signature-{number}"
            try:
                blob = _fetch(registry, place.url(number))
            except IrkitError as error:
                yield where, error.message
                return
            if blob is None:
                break
            yield where, blob
    try:
        rows = registry.extension_signatures(target)
    except NotTrusted as error:
        yield "the registry's extension", error.message
        return
    for number, row in enumerate(rows[:TRIES]):
        content = b""
        with contextlib.suppress(binascii.Error, ValueError):
            content = base64.b64decode(str(row.get("content", "")), validate=True)
        good = row.get("type") == "atomic" and content
        yield f"the registry's extension, {number + 1}", content if good else "it is of no known form"


def _fetch(registry: Registry, url: str) -> bytes | None:
    parts = urlsplit(url)
    if parts.scheme == "file":
        try:
            with Path(unquote(parts.path)).open("rb") as file:
                blob = file.read(SIGNATURE_LIMIT + 1)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise NotTrusted(f"can't be read: {error.strerror}") from error
        if len(blob) > SIGNATURE_LIMIT:
            raise NotTrusted("too large to be a signature")
        return blob
    answer = registry.web.get(url, {}, SIGNATURE_LIMIT)
    if answer.status == 404:
        return None
    if answer.status != 200:
        raise RegistryProblem(f"the lookaside answers {answer.status}", status=answer.status)
    return answer.body
