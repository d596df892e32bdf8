"""Accounts: passwd(5), shadow(5), group(5), gshadow(5).  A password's hash is compared, and never shown."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from irkit.compare.content.lines import Lines, number
from irkit.compare.content.model import Entry, Fact

_ALGORITHMS = (
    ("$y$", "yescrypt"), ("$gy$", "gost-yescrypt"), ("$7$", "scrypt"), ("$6$", "sha512-crypt"), ("$5$", "sha256-crypt"), ("$2", "bcrypt"),
    ("$1$", "md5-crypt"), ("$md5", "sun-md5"), ("$sha1$", "sha1-crypt"), ("$3$", "nt"), ("$argon2", "argon2"), ("_", "bsdi-crypt"),
)  # fmt: skip
"""crypt(5): prefixes of hashes."""
_NO_LOGIN = ("nologin", "false", "sync", "halt", "shutdown", "true")
_STRONG_GROUPS = frozenset(
    {"root", "sudo", "wheel", "adm", "admin", "docker", "disk", "shadow", "lxd", "kmem", "staff", "podman", "libvirt"}
)


def password(field: str) -> dict[str, Fact]:
    """What a password field says: locked, empty, or set, and by which algorithm it was hashed.

    ``locked``: no password fits (``!``, ``*``, or a hash behind ``!``).  ``elsewhere``: ``x``, it stands in shadow.
    """
    bare = field.lstrip("!*")
    locked = bare != field
    hashed = bool(bare) and bare not in ("x", "NP", "LK")
    algorithm = ""
    if hashed:
        algorithm = next((name for start, name in _ALGORITHMS if bare.startswith(start)), "")
        algorithm = algorithm or ("des-crypt" if len(bare) == 13 else "unknown")
    return {
        "empty_password": field == "", "password_set": hashed and not locked, "locked": locked, "elsewhere": field == "x", "algorithm": algorithm,
    }  # fmt: skip


def passwd(lines: Lines, _path: str) -> Iterator[Entry]:
    """``user``, ``uid``, ``uid0``, ``gid``, ``home``, ``shell``, ``login`` (a shell that lets in), ``duplicate``, ``shared_uid``, ``nis``.

    ``uid0`` is as readers of the file count, not as it looks: ``00``, ``+0``, and in musl the empty field and 4294967296 are 0.
    """
    rows = [(line, line.text.split(":")) for line in lines.statements()]
    names = Counter(fields[0] for _, fields in rows)
    uids = Counter(_uid(fields) for _, fields in rows)
    seen: set[str] = set()
    for line, fields in rows:
        name = fields[0]
        if name[:1] in ("+", "-"):
            yield Entry(
                name,
                name,
                line.number,
                line.text,
                {"user": name, "nis": True, "uid0": False, "duplicate": name in seen},
            )
            seen.add(name)
            continue
        user, secret, uid, gid, gecos, home, shell = (*fields, *[""] * 7)[:7]
        value = _uid(fields)
        facts: dict[str, Fact] = {
            "user": user, "uid": -1 if value is None else value, "uid0": value == 0, "gid": _number(gid),
            "gid0": number(gid) == 0 and len(fields) > 3, "comment": gecos, "home": home, "shell": shell,
            "login": shell.rpartition("/")[2] not in _NO_LOGIN, "duplicate": names[name] > 1, "shared_uid": value is not None and uids[value] > 1,
            "malformed": len(fields) != 7 or value is None or not uid.isdigit(), "nis": False, **password(secret),
        }  # fmt: skip
        facts["empty_password"] = len(fields) > 1 and secret == ""
        yield _account(user, line.number, line.text, facts, secret)


def _uid(fields: list[str]) -> int | None:
    value = number(fields[2]) if len(fields) >= 4 else None
    # musl counts in 32 bits without a check; glibc refuses what does not fit.
    return None if value is None else value % 2**32


def shadow(lines: Lines, _path: str) -> Iterator[Entry]:
    """``user``, ``empty_password``, ``password_set``, ``locked``, ``algorithm``, ``last_change`` and ``expires`` (days since 1970)."""
    seen: set[str] = set()
    for line in lines.statements():
        fields = line.text.split(":")
        user, secret, changed, _, _, _, _, expires = (*fields, *[""] * 8)[:8]
        facts: dict[str, Fact] = {
            "user": user, **password(secret), "last_change": _days(changed), "expires": _days(expires), "duplicate": user in seen,
            "malformed": len(fields) != 9,
        }  # fmt: skip
        facts["empty_password"] = len(fields) > 1 and secret == ""
        seen.add(user)
        yield _account(user, line.number, line.text, facts, secret)


def group(lines: Lines, _path: str) -> Iterator[Entry]:
    """``group``, ``gid``, ``gid0``, ``members``, ``privileged`` (a group that commonly gives more rights)."""
    for line in lines.statements():
        fields = line.text.split(":")
        name, secret, gid, members = (*fields, *[""] * 4)[:4]
        value = number(gid)
        facts: dict[str, Fact] = {
            "group": name, "gid": _number(gid), "gid0": value == 0 and len(fields) > 2, "members": _names(members),
            "privileged": name in _STRONG_GROUPS, "password_set": bool(password(secret)["password_set"]), "malformed": len(fields) != 4,
        }  # fmt: skip
        yield _account(name, line.number, line.text, facts, secret)


def gshadow(lines: Lines, _path: str) -> Iterator[Entry]:
    """``group``, ``members``, ``administrators``, ``privileged``, and the password's state."""
    for line in lines.statements():
        fields = line.text.split(":")
        name, secret, administrators, members = (*fields, *[""] * 4)[:4]
        facts: dict[str, Fact] = {
            "group": name, **password(secret), "administrators": _names(administrators), "members": _names(members),
            "privileged": name in _STRONG_GROUPS, "malformed": len(fields) != 4,
        }  # fmt: skip
        yield _account(name, line.number, line.text, facts, secret)


def _number(text: str) -> int:
    """-1 for what is no number."""
    value = number(text)
    return -1 if value is None else value


def _days(field: str) -> str:
    """A field that should be a number: anything else may be a hash in the wrong place, and is not shown."""
    return field if field.isascii() and field.isdigit() and len(field) <= 10 else ""


def _names(field: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in field.split(",") if name.strip())


def _account(name: str, line: int, body: str, facts: dict[str, Fact], secret: str) -> Entry:
    if "\0" in body:
        facts["malformed"] = True
    if ":" not in body:
        # It may be a hash that lost its line: nothing of it is shown.
        return Entry("", "a line without fields", line, body, {"malformed": True}, {"line": body})
    return Entry(name, name, line, body, facts, {"password": secret})
