"""Whether only root and the user who runs irkit can write to ``IRKIT_HOME``: it says whom irkit trusts, and what it runs.

As ``StrictModes`` of sshd(8) does for its files.  ``SUDO_UID`` counts for nothing: who may run irkit as root, and nothing
else, would become root by a hook in ``config.yaml``.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

TRUSTED = ("keys", "playbooks", "forensics")
"""Folders in it whose files decide: they are looked through where others can enter the home."""
MAY_ENTER = stat.S_IXGRP | stat.S_IXOTH
MAY_WRITE = stat.S_IWGRP | stat.S_IWOTH


def fault(home: str) -> str:
    """What is wrong with it, in words; empty when nothing is.  What is not there yet is made with mode 0700."""
    mine = (0, os.geteuid())
    named, real = os.path.abspath(home), os.path.realpath(home)  # noqa: PTH100 - realpath is not Path.resolve on loops
    for path in dict.fromkeys((*_above(named), *_above(real))):
        found = _fault_above(path, mine)
        if found:
            return found
    if not os.path.lexists(named):
        return ""
    return next((found for path in _within(real, mine) if (found := _fault(path, mine))), "")


def _above(path: str) -> Iterator[str]:
    """All folders on the way, from the root down, without the path itself."""
    parts = path.split("/")
    for count in range(1, len(parts)):
        yield "/".join(parts[:count]) or "/"


def _fault_above(path: str, mine: tuple[int, ...]) -> str:
    """Who can rename in a folder on the way can put another home there; in a sticky one (``/tmp``) only its owner can."""
    try:
        facts = os.lstat(path)
    except FileNotFoundError:
        return ""
    if facts.st_uid not in mine:
        return f"{path}, on the way to it, belongs to {_user(facts.st_uid)}"
    if stat.S_ISLNK(facts.st_mode) or facts.st_mode & stat.S_ISVTX:
        return ""
    of_others = stat.S_IWOTH | (0 if facts.st_gid in (0, os.getegid()) else stat.S_IWGRP)
    return f"{path}, on the way to it, can be written by others" if facts.st_mode & of_others else ""


def _within(home: str, mine: tuple[int, ...]) -> Iterator[str]:
    """The home; and what is in it, where others can enter it: else nobody but its owner comes that far."""
    yield home
    if not Path(home).stat().st_mode & MAY_ENTER:
        return
    with os.scandir(home) as entries:
        names = sorted(one.name for one in entries)
    for name in names:
        path = f"{home}/{name}"
        yield path
        for folder, folders, files in os.walk(path) if name in TRUSTED else ():
            yield from (f"{folder}/{one}" for one in (*folders, *files))


def _fault(path: str, mine: tuple[int, ...]) -> str:
    for look in (os.lstat, os.stat):
        try:
            facts = look(path)
        except FileNotFoundError:
            return ""  # a link that leads nowhere, or what is gone by now
        if facts.st_uid not in mine:
            return f"{path} belongs to {_user(facts.st_uid)}"
        if not stat.S_ISLNK(facts.st_mode) and facts.st_mode & MAY_WRITE:
            return f"{path} can be written by others (mode {stat.S_IMODE(facts.st_mode):04o})"
    return ""


def _user(uid: int) -> str:
    import pwd

    try:
        return f"{pwd.getpwuid(uid).pw_name} ({uid})"
    except KeyError:
        return f"the user {uid}"
