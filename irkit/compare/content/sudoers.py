"""sudoers(5), as entries: specifications of users, aliases, defaults, includes; and doas.conf(5)."""

from __future__ import annotations

import re
from collections.abc import Iterator

from irkit.compare.content.lines import Line, Lines
from irkit.compare.content.model import Entry, Fact
from irkit.compare.content.signs import command_signs

_INCLUDE = re.compile(r"[#@](includedir|include)\s+(.*)")
_NO_COMMENT = re.compile(r"#include|#\d")
"""``#1000`` is a uid."""
_ALIAS = re.compile(r"(User|Runas|Host|Cmnd|Cmd)_Alias\s+(.*)", re.DOTALL)
_TAGS = re.compile(
    r"\b(NOPASSWD|PASSWD|SETENV|NOSETENV|EXEC|NOEXEC|FOLLOW|NOFOLLOW|LOG_INPUT|LOG_OUTPUT|MAIL|NOMAIL|INTERCEPT|NOINTERCEPT)\s*:"
)
_DANGEROUS = ("!authenticate", "env_keep", "!env_reset", "!requiretty", "timestamp_timeout=-1", "!use_pty", "!syslog", "!logfile", "setenv", "secure_path",
              "exempt_group", "rootpw", "!tty_tickets", "timestamp_type=global", "visiblepw")  # fmt: skip


def sudoers(lines: Lines, path: str) -> Iterator[Entry]:
    """``type``: user, alias, defaults, include.  See the functions below for the facts of each.

    ``ignored``: sudo passes over files of ``sudoers.d`` whose name holds a dot or ends in ``~``.
    """
    name = path.rpartition("/")[2]
    ignored = "/sudoers.d/" in path and ("." in name or name.endswith("~"))
    for line in lines.joined(keep=_NO_COMMENT):
        for entry in _entries(line):
            yield Entry(entry.key, entry.subject, entry.line, entry.body, {**entry.facts, "ignored": ignored})


def _entries(line: Line) -> Iterator[Entry]:
    text = line.text
    include = _INCLUDE.match(text)
    if include:
        target = include[2].strip().strip('"')
        yield _entry(
            f"include {target}", line, {"type": "include", "target": target, "folder": include[1] == "includedir"}
        )
        return
    text = _uncommented(text)
    alias = _ALIAS.match(text)
    if alias:
        for definition in alias[2].split(":"):
            name, _, value = (part.strip() for part in definition.partition("="))
            facts: dict[str, Fact] = {"type": "alias", "alias": alias[1].lower(), "name": name, "members": _list(value)}
            yield _entry(f"alias {alias[1]} {name}", line, {**facts, "signs": command_signs(value)}, value)
    elif text.startswith("Defaults"):
        yield from _defaults(line, text)
    else:
        yield from _users(line, text)


def _uncommented(text: str) -> str:
    """Without a comment at its end; ``#1000`` is a uid, and a ``#`` in quotes or behind a backslash is itself."""
    place = text.find(" #")
    while place >= 0:
        uid = text[place + 2 : place + 3].isdigit()
        listed = text[:place].rstrip()[-1:] in (",", "=", "(", ":", "!", "%")
        if not uid and not listed and '"' not in text[place:]:
            return text[:place].rstrip()
        place = text.find(" #", place + 1) if place < 4096 else -1
    return text


def _defaults(line: Line, text: str) -> Iterator[Entry]:
    scope, _, settings = text.replace("\t", " ").partition(" ")
    settings = "!".join(part.lstrip() if place else part for place, part in enumerate(settings.split("!")))
    dangerous = any(re.search(rf"(?<![\w!]){re.escape(word)}(?!\w)", settings) for word in _DANGEROUS)
    facts: dict[str, Fact] = {
        "type": "defaults", "scope": scope.removeprefix("Defaults"), "setting": settings.strip(), "no_authentication": "!authenticate" in settings,
        "risky": dangerous,
    }  # fmt: skip
    yield _entry(f"defaults {scope} {re.split('[+=-]', settings.strip(), maxsplit=1)[0]}", line, facts, text)


def _users(line: Line, text: str) -> Iterator[Entry]:
    """``user``, ``hosts``, ``runas``, ``nopasswd``, ``setenv``, ``all_commands``, ``everyone``, ``as_root``, ``command`` and its ``signs``."""
    left, sign, right = text.partition("=")
    if not sign:
        yield _entry(
            f"malformed {text}",
            line,
            {"type": "user", "malformed": True, "command": text, "nopasswd": "NOPASSWD" in text},
        )
        return
    who, _, hosts = ",".join(part.strip() for part in left.split(",")).replace("\t", " ").partition(" ")
    tags = set(_TAGS.findall(right))
    runas = re.match(r"\s*\(([^)]*)\)", right)
    bare = _TAGS.sub("", re.sub(r"\([^)]*\)", "", right))
    commands = _list(bare)
    targets = runas[1].replace(":", ",") if runas else "root"
    facts: dict[str, Fact] = {
        "type": "user", "user": who, "hosts": hosts.strip(), "runas": runas[1].strip() if runas else "root", "nopasswd": "NOPASSWD" in tags,
        "setenv": "SETENV" in tags, "all_commands": "ALL" in commands, "everyone": "ALL" in who.split(","),
        "as_root": any(word in ("ALL", "root", "#0") for word in _list(targets)), "command": " ".join(bare.split()), "signs": command_signs(bare),
        "malformed": False,
    }  # fmt: skip
    yield _entry(f"user {who}", line, facts, " ".join(text.split()))


def doas(lines: Lines, _path: str) -> Iterator[Entry]:
    """doas.conf(5).  ``action``, ``user``, ``nopasswd``, ``as_root``, ``all_commands``, ``setenv``, ``command``, ``signs``."""
    for line in lines.joined():
        words = line.text.split()
        end = words.index("cmd") if "cmd" in words else len(words)
        head, command = words[:end], " ".join(words[end + 1 :])
        as_place = head.index("as") if "as" in head else len(head)
        target = head[as_place + 1] if as_place + 1 < len(head) else "root"
        before = [word for word in head[1:as_place] if word not in ("nopass", "nolog", "persist", "keepenv")]
        user = before[-1] if before else ""
        facts: dict[str, Fact] = {
            "action": head[0] if head else "", "user": user, "runas": target, "nopasswd": "nopass" in head[1:as_place], "as_root": target == "root",
            "all_commands": not command, "setenv": "keepenv" in head or "setenv" in head, "command": command, "signs": command_signs(command),
            "malformed": not head or head[0] not in ("permit", "deny") or not user,
        }  # fmt: skip
        yield _entry(f"{user} {target}", line, facts, " ".join(words))


def _list(text: str) -> tuple[str, ...]:
    return tuple(" ".join(part.split()) for part in text.split(",") if part.strip())


def _entry(key: str, line: Line, facts: dict[str, Fact], body: str = "") -> Entry:
    return Entry(key, " ".join(line.text.split()), line.number, body or line.text, facts)
