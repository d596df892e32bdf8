"""Code that others run by itself: pages of a web root, Python's start-up files, modules of PAM."""

from __future__ import annotations

import re
from collections.abc import Iterator

from irkit.compare.content.lines import Lines
from irkit.compare.content.looks import look
from irkit.compare.content.model import Entry, EntryChange, Fact, clean
from irkit.compare.content.signs import TEXT_LIMIT, command_facts, web_counts
from irkit.text import printable

_ROOT = re.compile(
    r"/(?:var/www|srv|usr/share/nginx|usr/local/apache2/htdocs|usr/share/caddy|var/lib/nginx/html|var/lib/tomcat\d*/webapps|usr/local/tomcat/webapps|webapps"
    r"|opt/[^/]+/webapps|app/public|code/public|htdocs|public_html|wwwroot|inetpub|www|html)/"
)
_SUSPICIOUS = ("exec-request", "variable-call", "known-shell")


def web_page(file: str, path: str, before: bytes | None, after: bytes | None) -> list[EntryChange]:
    """One entry for a page of code (PHP, JSP, ASP, CGI).

    ``language``, ``web_root`` (its path is one that web servers commonly serve), ``size``; ``signs`` (what it holds now) and
    ``signs_new`` (more often than before); ``count_NAME`` for each; ``suspicious``: a request's data is executed, or it decodes
    and evaluates, or names a known web shell.  Heuristics over 256 KiB (``incomplete``: it has more): a sign is a reason to look, its absence proves nothing.
    """
    if before == after:
        return []
    old, new = (web_counts((side or b"").decode("utf-8", "surrogateescape")) for side in (before, after))
    fresh = tuple(name for name, count in new.items() if count > old.get(name, 0))
    data = after if after is not None else before or b""
    shown = look(data, len(data), path)
    change = "added" if before is None else "removed" if after is None else "changed"
    suspicious = any(name in new for name in _SUSPICIOUS) or (
        "eval" in new and ("decode" in new or "encoded-block" in new)
    )
    facts: dict[str, Fact] = {
        "language": shown.interpreter, "type": shown.type, "web_root": bool(_ROOT.search(path)), "size": len(after or b""), "signs": tuple(new),
        "signs_new": fresh, "suspicious": suspicious and bool(fresh), "incomplete": len(after or b"") > TEXT_LIMIT, **{f"count_{name.replace('-', '_')}": count for name, count in new.items()},
    }  # fmt: skip
    return [EntryChange(file, change, printable(path, 300), clean(facts), 0)]


def python_path(lines: Lines, _path: str) -> Iterator[Entry]:
    """A ``.pth`` file (Python's ``site``): lines that begin with ``import`` are executed whenever Python starts, the others are folders."""
    for line in lines.lines:
        text = line.text.rstrip()
        if not text or text.startswith("#"):
            continue
        executes = text.startswith(("import ", "import\t"))
        facts: dict[str, Fact] = {"executes": executes, **command_facts(text)}
        yield Entry(text, text, line.number, text, facts)


def module(file: str, path: str, before: bytes | None, after: bytes | None) -> list[EntryChange]:
    """One entry for a binary module or a key that is loaded from a known folder: ``module``, ``type``, ``size``."""
    if before == after:
        return []
    data = after if after is not None else before or b""
    change = "added" if before is None else "removed" if after is None else "changed"
    facts: dict[str, Fact] = {
        "module": path.rpartition("/")[2],
        "type": look(data, len(data), path).type,
        "size": len(after or b""),
    }
    return [EntryChange(file, change, printable(path, 300), clean(facts), 0)]
