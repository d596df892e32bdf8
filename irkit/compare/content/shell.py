"""Files that shells read when they start (bash(1) FILES, zsh(1), profile.d, environment(5)), and scripts that the system runs."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator

from irkit.compare.content.lines import Lines, split
from irkit.compare.content.looks import look
from irkit.compare.content.model import Entry, EntryChange, Fact, clean
from irkit.compare.content.signs import TEXT_LIMIT, command_facts, command_signs, signed_lines
from irkit.text import printable

_PRELOAD_NAMES = (
    "LD_PRELOAD LD_AUDIT LD_LIBRARY_PATH NODE_OPTIONS NODE_PATH PYTHONSTARTUP PYTHONPATH PYTHONHOME PYTHONINSPECT PERL5OPT PERL5LIB PERL5DB RUBYOPT"
    " RUBYLIB BASH_ENV ENV ZDOTDIR PROMPT_COMMAND JAVA_TOOL_OPTIONS _JAVA_OPTIONS JDK_JAVA_OPTIONS CLASSPATH GCONV_PATH GIT_SSH_COMMAND GIT_SSH"
    " GIT_EDITOR GIT_CONFIG_GLOBAL PAGER LESSOPEN EDITOR PHP_INI_SCAN_DIR PHPRC LUA_INIT PHP_VALUE DOTNET_STARTUP_HOOKS CORECLR_PROFILER_PATH"
)
_PRELOADS = frozenset(_PRELOAD_NAMES.split())
"""Variables whose value programs load code from, or run."""
TEMPORARY = ("/tmp", "/var/tmp", "/dev/shm", "/run/shm")  # noqa: S108 - named, not used
_PROXIES = frozenset({"http_proxy", "https_proxy", "all_proxy", "ftp_proxy"})
_ASSIGNMENT = re.compile(
    r"(?:(?:export|declare\s+-x|typeset\s+-x|readonly|set\s+-gx|setenv)\s+)?([A-Za-z_][A-Za-z0-9_]{0,200})(?:=|\s+)(.*)",
    re.DOTALL,
)
_ALIAS = re.compile(r"alias\s+(?:-\S+\s+)?([^=\s]{1,200})(?:=|\s+)(.*)", re.DOTALL)
_FUNCTION = re.compile(r"(?:function\s+)?([A-Za-z_][\w.-]{0,100})\s*\(\)|function\s+([\w.-]{1,100})")


def variable_facts(name: str, value: str) -> dict[str, Fact]:
    """``variable``, ``value``, ``preload`` (programs run or load what it names), ``proxy``, ``signs``; for PATH ``unsafe_path``."""
    folders = value.strip("\"'").split(":")
    unsafe = name.upper() == "PATH" and any(part in ("", ".") or part.startswith(TEMPORARY) for part in folders)
    return {
        "variable": name, "value": value, "preload": name in _PRELOADS, "proxy": name.lower() in _PROXIES, "unsafe_path": unsafe,
        "signs": command_signs(f"{name}={value}"),
    }  # fmt: skip


def profile(lines: Lines, _path: str) -> Iterator[Entry]:
    """Each line: ``command`` and ``signs``; of an assignment ``variable``, ``value``, ``preload``; of an alias ``alias``; ``function``."""
    for line in lines.joined():
        facts = command_facts(line.text)
        alias = _ALIAS.match(line.text)
        assignment = _ASSIGNMENT.match(line.text)
        function = _FUNCTION.match(line.text)
        if alias:
            facts["alias"] = alias[1]
        elif assignment and ("=" in line.text or line.text.startswith(("setenv", "set "))):
            facts.update(variable_facts(assignment[1], assignment[2].strip()))
        elif function:
            facts["function"] = function[1] or function[2] or ""
        yield Entry(" ".join(line.text.split()), line.text, line.number, " ".join(line.text.split()), facts)


def script(file: str, path: str, before: bytes | None, after: bytes | None) -> list[EntryChange]:
    """One entry for a script as a whole.  ``interpreter``, ``type``, ``size``, ``lines_added``, ``lines_removed``.

    ``incomplete``: signs were looked for in a part only.  ``signs`` are those of the lines that are new, and ``commands`` those of them that show one; ``signs_before``: of the old script.
    """
    if before == after:
        return []
    old, new = split(before), split(after)
    was, now = Counter(line.text for line in old.lines), Counter(line.text for line in new.lines)
    fresh = now - was
    added = list(fresh.elements())
    shown = look(after or before or b"", len(after or before or b""), path)
    change = "added" if before is None else "removed" if after is None else "changed"
    facts: dict[str, Fact] = {
        "type": shown.type, "interpreter": shown.interpreter, "size": len(after or b""), "lines_added": len(added),
        "lines_removed": sum((was - now).values()), "signs": command_signs("\n".join(added)) if shown.type in ("script", "text") else (),
        "commands": signed_lines(added) if shown.type in ("script", "text") else (),
        "signs_before": command_signs("\n".join(line.text for line in old.lines)),
    }  # fmt: skip
    if len(after or b"") > TEXT_LIMIT:
        facts["incomplete"] = True
    if old.problems or new.problems:
        facts["problem"] = "; ".join((*old.problems, *new.problems))
    first = next((line.number for line in new.lines if line.text in fresh), 0)
    return [EntryChange(file, change, printable(path, 300), clean(facts), first)]
