"""What runs later: crontab(5) of systems and users, anacrontab(5), jobs of at(1), inittab(5)."""

from __future__ import annotations

import re
from collections.abc import Iterator

from irkit.compare.content.lines import Line, Lines
from irkit.compare.content.model import Entry, Fact
from irkit.compare.content.shell import variable_facts
from irkit.compare.content.signs import command_facts

_VARIABLE = re.compile(r"(\"[^\"]*\"|'[^']*'|[A-Za-z_][A-Za-z0-9_]*)\s*=\s*(.*)", re.DOTALL)


def crontab(lines: Lines, path: str) -> Iterator[Entry]:
    """``schedule``, ``user``, ``command``, ``signs``, ``at_boot``, ``every_minute``; of settings ``variable``, ``value``, ``preload``.

    System crontabs (``/etc/crontab``, ``/etc/cron.d/*``) have a column for the user; of the others the file's name is the user.
    """
    system = path == "/etc/crontab" or path.startswith("/etc/cron.d/")
    owner = path.rpartition("/")[2]
    for line in lines.statements():
        variable = _VARIABLE.match(line.text)
        if variable:
            yield _variable(line, variable)
            continue
        schedule, rest = _schedule(line.text.lstrip("-"))
        user, command = owner, rest
        if system:
            user, _, command = rest.replace("\t", " ").partition(" ")
        facts: dict[str, Fact] = {
            "schedule": schedule, "user": user, "as_root": user.split(":")[0] in ("root", "0"), **command_facts(command),
            "at_boot": schedule.lower() == "@reboot", "every_minute": schedule.split()[:2] in (["*", "*"], ["*/1", "*"]),
            "malformed": not command.strip(),
        }  # fmt: skip
        yield Entry(
            f"job {user} {' '.join(command.split())}", line.text, line.number, " ".join(line.text.split()), facts
        )


def _schedule(text: str) -> tuple[str, str]:
    if text.startswith("@"):
        words = text.split(None, 2 if text[:6].lower() == "@every" else 1)
        return " ".join(words[:-1]) or text, words[-1] if len(words) > 1 else ""
    words = text.split(None, 5)
    return " ".join(words[:5]), words[5] if len(words) > 5 else ""


def _variable(line: Line, match: re.Match[str]) -> Entry:
    name, value = match[1].strip("\"'"), match[2].strip().strip("\"'")
    return Entry(f"variable {name}", line.text, line.number, line.text, variable_facts(name, value))


def anacrontab(lines: Lines, _path: str) -> Iterator[Entry]:
    """As :func:`crontab`, with ``schedule`` as period and delay, and ``job``."""
    for line in lines.statements():
        variable = _VARIABLE.match(line.text)
        if variable:
            yield _variable(line, variable)
            continue
        period, delay, job, command = (*line.text.split(None, 3), *[""] * 4)[:4]
        facts: dict[str, Fact] = {
            "schedule": f"{period} {delay}", "user": "root", "as_root": True, "job": job, **command_facts(command), "at_boot": False, "every_minute": False,
            "malformed": not command,
        }  # fmt: skip
        yield Entry(f"job {job}", line.text, line.number, " ".join(line.text.split()), facts)


def at_job(lines: Lines, path: str) -> Iterator[Entry]:
    """``user`` (uid of ``# atrun uid=``), ``schedule`` (minutes since 1970, from the name), ``command``: what follows the environment."""
    body = [line for line in lines.lines if line.text.strip()]
    if not body:
        return
    uid = re.search(r"^# atrun uid=(\d{1,10})", "\n".join(line.text for line in body[:5]), re.MULTILINE)
    # at(1) writes the environment, then `cd DIR || { … }`, then what the user typed.
    starts = [place for place, line in enumerate(body) if line.text.strip() == "}" or line.text.startswith("cd ")]
    commands = [line.text for line in body[(starts[-1] + 1 if starts else 0) :] if not line.text.startswith("#")]
    name = path.rpartition("/")[2]
    when = int(name[6:14], 16) if re.fullmatch(r"[a-zA-Z=][0-9a-f]{13}", name) else 0
    facts: dict[str, Fact] = {"user": uid[1] if uid else "", "as_root": bool(uid) and uid is not None and int(uid[1]) == 0, "due": when * 60,
                              **command_facts("; ".join(commands))}  # fmt: skip
    text = "\n".join(line.text for line in body)
    yield Entry("job", "; ".join(commands) or name, body[0].number, text, facts)


def inittab(lines: Lines, _path: str) -> Iterator[Entry]:
    """``id``, ``runlevels``, ``action``, ``command``, ``signs``."""
    for line in lines.statements():
        name, levels, action, process = (*line.text.split(":", 3), *[""] * 4)[:4]
        facts: dict[str, Fact] = {
            "id": name,
            "runlevels": levels,
            "action": action,
            **command_facts(process),
            "malformed": line.text.count(":") < 3,
        }
        yield Entry(f"{name}:{action}:{process}", line.text, line.number, line.text, facts)
