"""Findings from a bundle: its changes, processes, sockets and accounts held against the rules."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterator, Mapping

from irkit.compare.rules import Facts, RuleSet, evaluate, load_rules
from irkit.compare.vocabulary import Value
from irkit.errors import UsageProblem
from irkit.evidence.reader import BundleReader
from irkit.models import SEVERITIES, Change, Finding
from irkit.streams import StreamReader
from irkit.text import text_from

CHANGE_LISTS = ("filesystem/changes.jsonl", "tmpfs/entries.jsonl")
ACCOUNTS = "etc/passwd"
ACCOUNTS_LIMIT = 1024 * 1024


def bundle_changes(reader: BundleReader) -> Iterator[Change]:
    """Every change that the bundle holds, on disk first, then in tmpfs.  Raises ``UsageProblem`` when it holds none."""
    present = [name for name in CHANGE_LISTS if reader.find(name)]
    if not present:
        raise UsageProblem("the bundle holds no list of changes", hint="its index names the gap: `irkit report BUNDLE`")
    for name in present:
        for row in reader.lines(name):
            yield Change.from_json(row)


def bundle_findings(reader: BundleReader, rules: RuleSet | None = None) -> list[Finding]:
    """All findings, the most severe first, each once."""
    rules = load_rules() if rules is None else rules
    found = {(one.rule, one.subject): one for one in _all(reader, rules)}
    return sorted(found.values(), key=lambda one: (SEVERITIES.index(one.severity), one.rule, one.subject))


def _all(reader: BundleReader, rules: RuleSet) -> Iterator[Finding]:
    if any(reader.find(name) for name in CHANGE_LISTS):
        for change in bundle_changes(reader):
            yield from evaluate(rules, Facts("change", change.path, change_facts(change)))
            if change.path == f"/{ACCOUNTS}" and change.after is not None:
                yield from _accounts(reader, rules)
    processes = reader.json("process/processes.json") if reader.find("process/processes.json") else []
    for process in processes:
        exe = process["exe"]
        path = text_from(exe, "path")
        facts: dict[str, Value] = {"deleted": exe["deleted"], "memory": exe["memory"], "path": path}
        yield from evaluate(rules, Facts("process", f"pid {process['pid']}: {path}", facts))
    if reader.find("network/sockets.json"):
        names = {process["pid"]: text_from(process, "name") for process in processes}
        yield from _sockets(reader, rules, names)


def change_facts(change: Change) -> dict[str, Value]:
    """What rules may ask of a change."""
    after, before = change.after, change.before
    facts: dict[str, Value] = {
        "path": change.path,
        "change": change.change,
        "kind": change.kind,
        "origin": change.origin,
    }
    is_file = after is not None and after.kind == "file"
    was_setuid = before is not None and before.kind == "file" and bool(before.mode & 0o6000)
    facts["setuid"] = (
        is_file
        and after is not None
        and bool(after.mode & 0o6000)
        and not (was_setuid and before is not None and after.sha256 == before.sha256)
    )
    facts["executable"] = is_file and after is not None and bool(after.mode & 0o111)
    return facts


def _sockets(reader: BundleReader, rules: RuleSet, names: Mapping[int, str]) -> Iterator[Finding]:
    exposed = _exposed(reader)
    for row in reader.json("network/sockets.json"):
        listening = row["state"] == "listen" or (
            str(row["protocol"]).startswith("udp") and row["state"] == "unconnected"
        )
        if "local" not in row or row["local"] == "127.0.0.11":
            continue  # the engine's own DNS server listens there inside every container on a network of a user's
        protocol = str(row["protocol"]).removesuffix("6")
        facts: dict[str, Value] = {
            "listening": listening,
            "exposed": f"{row['local_port']}/{protocol}" in exposed,
            "protocol": protocol,
        }
        held = ", ".join(f"pid {pid} ({names.get(pid, '?')})" for pid in row["pids"]) or "no process"
        subject = f"{row['protocol']} {row['local']}:{row['local_port']} held by {held}"
        yield from evaluate(rules, Facts("socket", subject, facts))


def _exposed(reader: BundleReader) -> set[str]:
    """The ports that the image or the container's creator announced."""
    ports: set[str] = set()
    for name, key in (("engine/image.json", "Config"), ("engine/container-before.json", "Config")):
        if reader.find(name):
            ports.update((reader.json(name).get(key) or {}).get("ExposedPorts") or {})
    return ports


def _accounts(reader: BundleReader, rules: RuleSet) -> Iterator[Finding]:
    before, after = (_member(reader, name) for name in ("filesystem/originals.tar", "filesystem/layer.tar"))
    if before is None or after is None:
        return
    old, new = parse_passwd(before), parse_passwd(after)
    for user, uid in new.items():
        if old.get(user) != uid:
            change = "changed" if user in old else "added"
            facts: dict[str, Value] = {"file": "passwd", "uid0": uid == 0, "change": change}
            yield from evaluate(rules, Facts("entry", f"user {user} (uid {uid}) in /{ACCOUNTS}", facts))


def parse_passwd(text: bytes) -> dict[str, int]:
    """``user → uid`` of a passwd(5) file; lines that are not of its form are passed over."""
    found: dict[str, int] = {}
    for line in text.decode("utf-8", "surrogateescape").splitlines():
        fields = line.split(":")
        if len(fields) >= 4 and fields[2].isdigit():
            found.setdefault(fields[0], int(fields[2]))
    return found


def _member(reader: BundleReader, archive: str) -> bytes | None:
    """``/etc/passwd`` out of an archive of the bundle, read as a stream: nothing is unpacked.

    Empty when the archive does not hold it, ``None`` when the archive itself is missing or broke off (a recorded gap).
    """
    entry = reader.find(archive)
    if entry is None or not entry["complete"]:
        return None
    with tarfile.open(fileobj=io.BufferedReader(StreamReader(reader.stream(archive))), mode="r|") as tar:
        for member in tar:
            if member.name == ACCOUNTS and member.isreg() and member.size <= ACCOUNTS_LIMIT:
                file = tar.extractfile(member)
                return file.read() if file else b""
    return b""
