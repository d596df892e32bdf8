"""What is odd about rules that can be read: ids, techniques, conditions that no thing can fulfil."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from irkit import resources
from irkit.compare.attack import Techniques, load_techniques
from irkit.compare.conditions import Condition, Where
from irkit.compare.patterns import Regex, glob, is_glob
from irkit.compare.rules import FOLDER, Rule, read_rules
from irkit.compare.vocabulary import FLAG, NUMBER, TEXT, WORD
from irkit.documents import Place
from irkit.errors import PlaybookInvalid, UsageProblem


@dataclass(frozen=True, slots=True)
class Remark:
    """``level``: ``error`` (it can't be used), ``warning`` (it does not do what it says), ``note``."""

    level: str
    check: str
    rule: str
    message: str
    place: Place

    def to_json(self) -> dict[str, object]:
        """As in ``irkit rules lint --json``."""
        return {
            "level": self.level, "check": self.check, "rule": self.rule, "message": self.message, "file": self.place.file,
            "line": self.place.line, "column": self.place.column,
        }  # fmt: skip


def lint_files(paths: Sequence[Path]) -> tuple[list[Rule], list[Remark]]:
    """All rules that could be read, and what is odd.  A file that can't be read is one remark, an ``error``."""
    rules: list[Rule] = []
    remarks: list[Remark] = []
    for path in paths:
        try:
            rules += read_rules(path)
        except PlaybookInvalid as error:
            hint = f" ({error.hint})" if error.hint else ""
            remarks.append(Remark("error", "unreadable", "", f"{error.message}{hint}", _place(error, path)))
    table = load_techniques()
    first: dict[str, Rule] = {}
    for rule in rules:
        remarks += lint(rule, table)
        if rule.id in first:
            remarks.append(_double(rule, first[rule.id]))
        first.setdefault(rule.id, rule)
    return rules, remarks


def _place(error: PlaybookInvalid, path: Path) -> Place:
    parts = error.message.removeprefix(f"{path}:").split(":", 2)
    numbers = [int(part) for part in parts[:2] if part.isdigit()]
    return Place(str(path), *numbers) if len(numbers) == 2 else Place(str(path), 1, 1)


def _double(rule: Rule, other: Rule) -> Remark:
    shipped = str(resources.shipped(FOLDER))
    own = rule.place.file.startswith(shipped) and not other.place.file.startswith(shipped)
    where = f"{other.place.file}:{other.place.line}"
    if own:
        return Remark("note", "overridden", rule.id, f"your own rule at {where} stands in its place", rule.place)
    return Remark("error", "duplicate-id", rule.id, f"the id stands at {where} already: that rule counts", rule.place)


def lint(rule: Rule, table: Techniques) -> Iterator[Remark]:
    """What is odd about one rule."""
    for old in rule.older:
        new = table.find(old)
        became = f"{new.id} ({new.name})" if new else "nothing"
        yield Remark(
            "note",
            "older-technique",
            rule.id,
            f"{old} became {became} in ATT&CK {table.version}: findings carry that",
            rule.place,
        )
    for technique in rule.attack:
        if technique in table.deprecated:
            yield Remark(
                "warning",
                "retired-technique",
                rule.id,
                f"{technique} was retired, and nothing took its place",
                rule.place,
            )
        elif technique not in table.techniques:
            yield Remark(
                "warning", "unknown-technique", rule.id, f"{technique} is not in ATT&CK {table.version}", rule.place
            )
    if not rule.attack:
        yield Remark("note", "no-technique", rule.id, "names no ATT&CK technique", rule.place)
    for name in ("reason", "next"):
        if len(getattr(rule, name).split()) < 3:
            yield Remark("warning", f"short-{name}", rule.id, f"{name!r} says too little to help anybody", rule.place)
    for why in contradictions(rule.where):
        yield Remark("error", "never-fits", rule.id, f"no thing can fit it: {why}", rule.place)
    for one in _all_conditions(rule.where):
        yield from _weak(rule, one)


def _all_conditions(where: Where) -> Iterator[Condition]:
    yield from where.conditions
    for part in (*where.any, *where.none):
        yield from _all_conditions(part)


def _weak(rule: Rule, one: Condition) -> Iterator[Remark]:
    for wanted in one.wanted:
        if isinstance(wanted, Regex) and wanted.search(""):
            yield Remark(
                "warning", "empty-pattern", rule.id, f"{one.fact.name}: the pattern fits an empty text", one.place
            )
        elif isinstance(wanted, str) and one.fact.name == "path" and not wanted.startswith(("/", "*", "?", "[")):
            yield Remark("warning", "relative-path", rule.id, f"paths begin with /, and {wanted!r} does not", one.place)


def contradictions(where: Where, given: tuple[Condition, ...] = ()) -> list[str]:
    """Why no thing can fit, as far as that can be told from the conditions alone."""
    held = (*given, *where.conditions)
    found = [why for number, one in enumerate(held) for other in held[number + 1 :] if (why := _against(one, other))]
    found += [why for one in where.conditions if (why := _impossible(one))]
    if where.any and all(contradictions(part, held) for part in where.any):
        found.append("none of `any` can hold with the rest")
    for part in where.none:
        if not part.any and not part.none and all(_implied(one, held) for one in part.conditions):
            found.append("`not` excludes what the rest asks for")
    return found


def _impossible(one: Condition) -> str:
    if one.fact.type == NUMBER and all(low is not None and high is not None and low > high for low, high in one.wanted):
        return f"{one.fact.name} has a minimum above its maximum"
    return ""


_NEEDS = (
    ("setuid", "kind", "file"), ("executable", "kind", "file"), ("target_changed", "kind", "symlink"), ("target", "kind", "symlink"),
    ("opaque", "kind", "directory"), ("same_size", "change", "changed"), ("same_mtime", "change", "changed"),
    ("older_than_image", "change", "added"), ("moved_from", "change", "added"), ("content_changed", "change", "changed"),
    ("packed", "type", "elf"), ("static", "type", "elf"), ("foreign", "type", "elf"),
)  # fmt: skip
"""What a fact needs: a setuid file is a file."""


def _against(one: Condition, other: Condition) -> str:
    if one.fact.name == other.fact.name:
        if one.fact.type == FLAG and one.wanted != other.wanted:
            return f"{one.fact.name} can't be true and false"
        if one.fact.type == WORD and not set(one.wanted) & set(other.wanted):
            return f"{one.fact.name} can't be {' and '.join(map(str, (one.wanted[0], other.wanted[0])))}"
        return ""
    for fact, needs, word in _NEEDS:
        for a, b in ((one, other), (other, one)):
            wanted = a.fact.name == fact and (a.fact.type != FLAG or a.wanted[0])
            if wanted and b.fact.name == needs and word not in b.wanted:
                return f"{fact} needs {needs} {word}"
    return ""


def _implied(one: Condition, held: tuple[Condition, ...]) -> bool:
    """Whether ``held`` makes ``one`` sure."""
    for other in held:
        if other.fact.name != one.fact.name:
            continue
        if one.fact.type in (FLAG, WORD) and set(other.wanted) <= set(one.wanted):
            return True
        if one.fact.type == TEXT and all(isinstance(text, str) for text in (*one.wanted, *other.wanted)):
            fits = [
                any(text == mine or (not is_glob(text) and glob(mine).fullmatch(text)) for mine in one.wanted)
                for text in other.wanted
            ]
            if all(fits):
                return True
    return False


def lint_others(paths: Sequence[Path]) -> list[Remark]:
    """Files of noise and of YARA rules: whether they can be read."""
    from irkit.compare.noise import read_noise
    from irkit.errors import IrkitError
    from irkit.yara_rules import Sources

    found = []
    for path in paths:
        try:
            if path.suffix == ".yar":
                Sources((path,)).compiled()
            else:
                list(read_noise(path))
        except PlaybookInvalid as error:
            found.append(Remark("error", "unreadable", "", error.message, _place(error, path)))
        except UsageProblem as error:
            found.append(Remark("error", "unreadable", "", error.message, Place(str(path), 1, 1)))
        except IrkitError as error:
            found.append(Remark("note", "not-checked", "", error.message, Place(str(path), 1, 1)))
    return found
