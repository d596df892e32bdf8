"""The chain of custody after sealing: ``custody.intoto.jsonl``, one signed hand-over a line.

Each line is a DSSE envelope (secure-systems-lab/dsse v1) over an in-toto Statement v1, whose subject is the bundle's seal
and whose predicate holds ``seq`` (from 1), ``previous`` (sha256 of the line before, without its newline; empty in the
first), ``time``, ``from``, ``to`` and ``why``.  A chain that was cut at its end still holds: only its head, written
down elsewhere, shows that (``--expect-head``).
"""

from __future__ import annotations

import fcntl
import getpass
import hashlib
import json
import os
import socket
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from irkit.clock import now
from irkit.errors import CheckFailed, EvidenceAltered, UsageProblem
from irkit.evidence import dsse, names
from irkit.evidence.keys import PublicKey, Signer
from irkit.evidence.store import Store, open_store, read_small
from irkit.evidence.validity import Validity, parse_time

PREDICATE_TYPE = "https://irkit.dev/custody/v1"
LINE_LIMIT = 64 * 1024
TEXT_LIMIT = 4096
FIELDS = ("time", "from", "to", "why")


@dataclass(frozen=True, slots=True)
class Entry:
    """One hand-over whose signature held.  ``digest``: of its line; of the last one it is the chain's head."""

    seq: int
    time: str
    giver: str
    receiver: str
    why: str
    key: str
    key_name: str
    digest: str

    def to_json(self) -> dict[str, Any]:
        """As in ``irkit bundle custody show --json``."""
        return {
            "seq": self.seq, "time": self.time, "from": self.giver, "to": self.receiver, "why": self.why,
            "key": {"id": self.key, "name": self.key_name}, "digest": self.digest,
        }  # fmt: skip


@dataclass(frozen=True, slots=True)
class Chain:
    """The hand-overs that hold, in order, and what does not hold: nothing after the first fault is believed."""

    entries: tuple[Entry, ...] = ()
    problems: tuple[str, ...] = ()

    @property
    def head(self) -> str:
        """``sha256:`` of the last line; empty when nothing was handed over."""
        return self.entries[-1].digest if self.entries else ""


def read_chain(data: bytes, seal: bytes, keys: Sequence[PublicKey], expect_head: str = "") -> Chain:
    """The chain in ``data`` (the file's bytes) for the seal in ``seal`` (the bytes of ``seal.dsse.json``)."""
    entries: list[Entry] = []
    problems: list[str] = []
    lines = data.split(b"\n")
    if data and lines.pop() != b"":
        problems.append("its last line is cut off")
    for number, line in enumerate(lines if data else (), 1):
        try:
            entries.append(_entry(line, number, entries[-1].digest if entries else "", seal, keys))
        except CheckFailed as error:
            problems.append(f"line {number}: {error.message}")
            break
    good = _believable(entries, {key.id: key.validity for key in reversed(keys)})
    if good < len(entries):
        entries, problems = entries[:good], [f"line {good + 1}: {_why_not(entries[good], keys)}"]
    chain = Chain(tuple(entries), tuple(problems))
    if expect_head and not problems and chain.head != expect_head:
        there = any(one.digest == expect_head for one in entries)
        why = "later hand-overs follow the expected one" if there else "it was cut at its end, or it is another chain"
        return Chain(chain.entries, (f"its head is {chain.head or 'none'}, not {expect_head}: {why}",))
    return chain


def _believable(entries: Sequence[Entry], limits: Mapping[str, Validity]) -> int:
    """How many hand-overs hold by their keys' limits.

    They have no timestamps of their own, so one by a revoked key holds only where a later one by a key that is good
    was signed before the revocation: it speaks of all the lines before it.
    """
    vouched = ""
    good = len(entries)
    for place in range(len(entries) - 1, -1, -1):
        one = entries[place]
        if limits[one.key].objection(one.time, vouched if limits[one.key].revoked else ""):
            good, vouched = place, ""
        elif not limits[one.key].revoked:
            vouched = parsed if (parsed := _time(one)) else vouched
    return good


def _time(entry: Entry) -> str:
    try:
        return parse_time(entry.time)
    except UsageProblem:
        return ""


def _why_not(entry: Entry, keys: Sequence[PublicKey]) -> str:
    limits = next(key.validity for key in keys if key.id == entry.key)
    if limits.revoked:
        return f"its key was revoked as of {limits.revoked}, and no later hand-over by another key shows that it was signed before"
    return limits.objection(entry.time, "").replace("sealed", "signed")


def _entry(line: bytes, number: int, previous: str, seal: bytes, keys: Sequence[PublicKey]) -> Entry:
    if len(line) > LINE_LIMIT:
        raise CheckFailed(f"longer than {LINE_LIMIT} bytes")
    envelope = dsse.parse(line)
    key, payload = envelope.open_with(keys)
    if line != _one_line(envelope):
        raise CheckFailed("altered: the signature holds, but the text around it is not what irkit writes")
    subjects, predicate = dsse.parse_statement(payload, PREDICATE_TYPE)
    if subjects != {names.SEAL: hashlib.sha256(seal).hexdigest()}:
        raise CheckFailed("it is of another bundle: its subject is not this seal")
    if predicate.get("seq") != number or predicate.get("previous") != previous.removeprefix("sha256:"):
        raise CheckFailed("a line before it was altered, dropped or added: it does not follow the one before")
    if not all(isinstance(predicate.get(name), str) for name in FIELDS):
        raise CheckFailed("it does not say when, from whom, to whom and why")
    time, giver, receiver, why = (str(predicate[name]) for name in FIELDS)
    return Entry(number, time, giver, receiver, why, key.id, key.name, _digest(line))


def _digest(line: bytes) -> str:
    return "sha256:" + hashlib.sha256(line).hexdigest()


def _one_line(envelope: dsse.Envelope) -> bytes:
    return json.dumps(json.loads(dsse.render(envelope)), separators=(",", ":"), sort_keys=True).encode()


def load(store: Store) -> bytes:
    """The chain's bytes; empty when there is none.  Never through a link.  Raises ``CheckFailed``."""
    if not store.has(names.CUSTODY):
        return b""
    return read_small(store, names.CUSTODY, names.CUSTODY_LIMIT)


def hand_over(bundle: Path, signer: Signer, keys: Sequence[PublicKey], *, to: str, why: str, giver: str = "") -> Entry:
    """Add a line, on the disk before this returns.  Verify the bundle first.  A tar is written anew beside the old one.

    Raises ``UsageProblem`` for a missing or overlong word, ``EvidenceAltered`` when the chain so far does not hold,
    ``StorageError`` when the line can't be written.
    """
    giver = giver or f"{getpass.getuser()}@{socket.gethostname()}"
    for name, text in (("--to", to), ("--why", why), ("--from", giver)):
        if not text.strip() or len(text) > TEXT_LIMIT:
            raise UsageProblem(f"{name} must be a text of 1 to {TEXT_LIMIT} characters")
    with locked(bundle):
        store = open_store(bundle)
        seal, data = read_small(store, names.SEAL), load(store)
        trusted = [*keys, signer.public]
        chain = read_chain(data, seal, trusted)
        if chain.problems:
            raise EvidenceAltered(f"nothing was added: {names.CUSTODY}: {chain.problems[0]}")
        predicate = {
            "seq": len(chain.entries) + 1, "previous": chain.head.removeprefix("sha256:"), "time": now(), "from": giver, "to": to,
            "why": why,
        }  # fmt: skip
        subject = {names.SEAL: hashlib.sha256(seal).hexdigest()}
        statement = dsse.statement(subject, PREDICATE_TYPE, predicate)
        line = _one_line(dsse.parse(dsse.sign(statement, signer)))
        store.replace({names.CUSTODY: data + line + b"\n"})
        written = read_chain(load(open_store(bundle)), seal, trusted)
        if written.problems or written.head != _digest(line):
            raise EvidenceAltered(f"{names.CUSTODY} is not what was written")
        return written.entries[-1]


@contextmanager
def locked(bundle: Path) -> Iterator[None]:
    """One writer at a time.  The lock is on the folder, of a tar on the one around it: a rename replaces the tar."""
    descriptor = os.open(bundle if bundle.is_dir() else bundle.absolute().parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
