"""Every command line that documentation, help and hints tell is one that irkit understands."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from irkit.cli.main import COMMANDS, cli

ROOT = Path(__file__).parents[2]
PAGES = (
    *(ROOT / name for name in ("README.md", "SECURITY.md", "CONTRIBUTING.md")),
    *sorted((ROOT / "docs").rglob("*.md")),
)
LINE = re.compile(r"^(?:\$ )?irkit (.*)$")
QUOTED = re.compile(r"`irkit ([^`]+)`")
PLACEHOLDER = re.compile(r"\{[^{}]*\}")
SCHEMA = re.compile(r'"(irkit\.[a-z-]+/v[0-9]+)"')
FENCED = re.compile(r"^```[^\n]*\n(.*?)^```", re.MULTILINE | re.DOTALL)
REST = ("…", "...", "|", ">", ">>", "<", "&&", ";", "#", "3<", "2>")


def page_lines(page: Path) -> Iterator[tuple[str, bool]]:
    """Each, and whether it is one to be typed as it stands."""
    text = page.read_text("utf-8")
    for block in FENCED.findall(text):
        for line in block.replace("\\\n", " ").splitlines():
            if match := LINE.match(line.strip()):
                yield match[1], True
    yield from ((words.replace("\n", " "), False) for words in QUOTED.findall(FENCED.sub("", text)))


def words(line: str) -> list[str]:
    """Up to where the shell or an ellipsis takes over."""
    found = []
    for word in PLACEHOLDER.sub("X", line).split():
        bare = word.strip("[]")
        if bare.startswith(REST) or not bare:
            break
        found.append(bare)
    return found


def problem(line: str, whole: bool = False) -> str:
    """What irkit would not understand; empty when there is nothing.  ``whole``: nothing that it needs may be missing."""
    command: click.Command = cli
    rest = words(line)
    while rest and isinstance(command, click.Group) and not rest[0].startswith("-"):
        names = rest[0].split("|")
        below = [command.get_command(click.Context(command), name) for name in names]
        if None in below:
            return f"no command {rest[0]}"
        command, rest = below[0] or command, rest[1:]
        if len(names) > 1:
            return ""
    known = {name for one in command.params for name in (*one.opts, *one.secondary_opts)} | {"--help", "-h"}
    for word in rest:
        for option in word.split("|"):
            name = option.partition("=")[0].rstrip(".,:)")
            if (
                name.startswith("--")
                and name != "--"
                and name not in known
                and not (command is cli and name == "--version")
            ):
                return f"{command.name} has no {name}"
    if not whole or "…" in line or isinstance(command, click.Group) or "--help" in rest:
        return ""
    needed = [one for one in command.params if one.required]
    options = [
        one.opts[-1]
        for one in needed
        if isinstance(one, click.Option) and not set(one.opts) & {word.partition("=")[0] for word in rest}
    ]
    bare = len([word for word in rest if not word.startswith("-")])
    if bare < len(needed) - len(options) and not options:
        return f"{command.name} needs more arguments"
    return f"{command.name} needs {', '.join(options)}" if options else ""


@pytest.mark.parametrize("page", PAGES, ids=lambda one: one.name)
def test_a_page_s_command_lines(page: Path) -> None:
    assert {line: said for line, whole in page_lines(page) if (said := problem(line, whole))} == {}


def commands(group: click.Group, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    for name in group.list_commands(click.Context(group)):
        below = group.get_command(click.Context(group), name)
        assert below is not None
        yield (*path, name), below
        if isinstance(below, click.Group):
            yield from commands(below, (*path, name))


ALL = dict(commands(cli))


@pytest.mark.parametrize("path", ALL, ids="-".join)
def test_a_command_s_help(path: tuple[str, ...]) -> None:
    command = ALL[path]
    text = command.get_help(click.Context(command, info_name=" ".join(("irkit", *path))))
    examples = [match[1] for line in text.splitlines() if (match := LINE.match(line.strip()))]
    assert {line: said for line in examples if (said := problem(line, whole=True))} == {}
    assert {line: said for line in QUOTED.findall(text) if (said := problem(line))} == {}
    if not isinstance(command, click.Group):
        mine = [line for line in examples if line.split()[: len(path)] == list(path)]
        assert mine, "its help has no example of its own"


def test_what_the_code_tells_people_to_type() -> None:
    """Hints, reports and shipped playbooks."""
    found = {}
    for source in (*sorted((ROOT / "irkit").rglob("*.py")), *sorted((ROOT / "playbooks").glob("*.yaml"))):
        for line in QUOTED.findall(source.read_text("utf-8")):
            if not line.startswith("{") and (said := problem(line)):
                found[f"{source.relative_to(ROOT)}: {line}"] = said
    assert found == {}


def test_the_test_sees_what_is_wrong() -> None:
    assert COMMANDS
    assert problem("frobnicate web-1") and problem("contain web-1 --frobnicate") and problem("key frobnicate")
    assert problem("rebuild web-1", whole=True) and problem("bundle verify --json", whole=True)
    assert not problem("contain {name} --json") and not problem("bundle create|verify BUNDLE")


def test_every_object_that_a_command_prints_is_documented() -> None:
    page = (ROOT / "docs/json.md").read_text("utf-8")
    found = {name for source in (ROOT / "irkit/cli").glob("*.py") for name in SCHEMA.findall(source.read_text("utf-8"))}
    assert len(found) > 30
    assert {name for name in found if name not in page} == set()
