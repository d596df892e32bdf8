"""Secrets that lay in the old container's environment are burnt: who was in there knows them.

None is carried over unless somebody says so; new values come by reference (:mod:`irkit.secret_sources`) or from a hidden prompt.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from irkit.engine.interface import Container
from irkit.environment import URL_SECRET, secret_kind, variables
from irkit.errors import Refused, UsageProblem
from irkit.recover.config import Recipe
from irkit.secret_sources import Source, parse_all
from irkit.text import printable

ANSWERS: Mapping[str, str] = {
    "new": "the new container gets another value",
    "kept": "carried over, because somebody said so",
    "dropped": "left out of the new container",
    "gone": "not in the new container",
    "missing": "no new value is there yet: at a terminal you are asked, else it is refused",
}
HIDE_FROM = 4
"""Shorter texts are not blotted out: they are in too many words."""

Ask = Callable[[str], str | None]
"""Ask a person for a variable's new value, hidden; ``None`` when there is nobody to ask."""


@dataclass(frozen=True, slots=True)
class Burnt:
    """A variable of the old container that looks like a secret; ``why`` in words.

    ``answer``: a key of :data:`ANSWERS`.  ``by_image``: the new image itself has the same value; ``other``: another one.
    """

    name: str
    why: str
    answer: str
    by_image: bool = False
    other: bool = False

    def to_json(self) -> dict[str, str]:
        """As in ``rebuilt.secrets``; never with a value."""
        return {"name": printable(self.name, 128), "why": self.why, "answer": self.answer}

    def __str__(self) -> str:
        return f"{printable(self.name, 128)} is burnt ({self.why}): revoke it where it is valid; {self._becomes()}"

    def _becomes(self) -> str:
        """Left out is what was set on the container: the engine then takes what the image has, so that is emptied."""
        if self.by_image and self.answer == "dropped":
            return "set to nothing in the new container, because the new image sets it"
        if self.by_image and self.answer == "missing":
            return f"the new image sets it; {ANSWERS['missing']}"
        if self.other and self.answer in ("dropped", "gone"):
            return "the new container gets the value that the new image has"
        return ANSWERS[self.answer]


@dataclass(frozen=True, slots=True)
class Answers:
    """What was said about secrets: where new values are, what is carried over, what is left out."""

    sources: tuple[Source, ...] = ()
    keep: frozenset[str] = frozenset()
    drop: frozenset[str] = frozenset()

    @property
    def names(self) -> frozenset[str]:
        """All variables that something was said about."""
        return frozenset(one.name for one in self.sources) | self.keep | self.drop


def parse_answers(args: Mapping[str, Any]) -> Answers:
    """From a step's ``secrets``, ``keep_secrets`` and ``drop_secrets``.  Raises ``UsageProblem``."""
    keep, drop = (frozenset(map(str, args.get(one, ()))) for one in ("keep_secrets", "drop_secrets"))
    return Answers(parse_all(args.get("secrets", ())), keep, drop)


def find_burnt(
    before: Container, plan: Recipe, image_config: Mapping[str, Any] | None, said: Answers
) -> tuple[Burnt, ...]:
    """Every secret of the old environment, and what becomes of it.

    ``image_config``: the new image's ``Config``; ``None`` before it is known: what it brings itself is not told then.
    Raises ``UsageProblem`` for an answer about a variable that there is not, and for two answers about one.
    """
    old, image = _values(before.config), _values(image_config or {})
    new = {**image, **_values(plan.body)}
    _check(said, {*old, *new} if image_config is not None else said.names)
    given = {one.name for one in said.sources}
    found = []
    for name, values in old.items():
        kinds = (secret_kind(name, value) for value in sorted(values))
        why = next(filter(None, kinds), "by your word" if name in said.names else "")
        if why:
            by_image = not values.isdisjoint(image.get(name, ()))
            answer = _answer(name, not values.isdisjoint(new.get(name, ())), given, said)
            found.append(Burnt(name, why, answer, by_image, name in image and not by_image))
    return tuple(found)


def _values(config: Mapping[str, Any]) -> dict[str, set[str]]:
    """Every value of each variable: an engine keeps a name that is given twice, although a process sees the last one."""
    found: dict[str, set[str]] = {}
    for name, value in variables(config):
        found.setdefault(name, set()).add(value)
    return found


def _answer(name: str, carried: bool, given: Iterable[str], said: Answers) -> str:
    if name in given:
        return "new"
    if not carried:
        return "gone"
    if name in said.keep:
        return "kept"
    return "dropped" if name in said.drop else "missing"


def _check(said: Answers, known: Collection[str]) -> None:
    for name in sorted(said.names):
        shown = printable(name, 128)
        if name not in known:
            raise UsageProblem(
                f"there is no variable {shown} in the environment", hint="`irkit rebuild --plan` lists them"
            )
        if (name in said.keep) + (name in said.drop) + any(one.name == name for one in said.sources) > 1:
            raise UsageProblem(f"{shown}: give a new value, keep it, or drop it")


def with_secrets(
    before: Container, plan: Recipe, burnt: tuple[Burnt, ...], said: Answers, ask: Ask
) -> tuple[Recipe, tuple[Burnt, ...]]:
    """The recipe with new values in place of the burnt ones.

    Raises ``Refused`` for those that nothing was said about and nobody can be asked for, and for a new value that is
    the old one; ``UsageProblem`` where a source can't be read.
    """
    old = _values(before.config)
    fresh = {one.name: one.read() for one in said.sources}
    for name in (one.name for one in burnt if one.answer == "missing"):
        value = ask(name)
        if value:
            fresh[name] = value
    refuse_missing(tuple(one for one in burnt if one.name not in fresh))
    same = next((name for name, value in fresh.items() if value in old.get(name, ())), None)
    if same is not None:
        raise Refused(f"the new value of {printable(same, 128)} is the old one, which is burnt", hint="make a new one")
    env = [
        entry for entry in plan.body.get("Env") or ()
        if (name := str(entry).partition("=")[0]) not in fresh and name not in said.drop
    ]  # fmt: skip
    env += [f"{name}={value}" for name, value in fresh.items()]
    # An entry without "=" would unset it with Docker, but Podman then takes the image's value, and says nothing.
    env += [f"{one.name}=" for one in burnt if one.by_image and one.answer == "dropped"]
    answered = tuple(replace(one, answer="new") if one.name in fresh else one for one in burnt)
    kept = [value for one in answered if one.answer == "kept" for value in old[one.name]]
    body = {**plan.body, "Env": env}
    return replace(plan, body=body, hidden=hidden((*fresh.values(), *kept))), answered


def refuse_missing(burnt: Iterable[Burnt]) -> None:
    """Raises ``Refused`` for those that nothing was said about."""
    missing = [one for one in burnt if one.answer == "missing"]
    if not missing:
        return
    names = ", ".join(f"{printable(one.name, 128)} ({one.why}{'; the new image sets it' if one.by_image else ''})" for one in missing)  # fmt: skip
    raise Refused(
        f"not carried over, because who was in the container knows them: {names}",
        hint="--secret NAME=@FILE or NAME=fd:N gives a new value, --drop-secret NAME leaves it out (or empty, where the image sets it), --keep-secret NAME"
        " carries it over; on a terminal you are asked",
    )


def hidden(values: Iterable[str]) -> tuple[str, ...]:
    """What must be blotted out of words: each value, each line of it, and a password within an address; longest first."""
    parts = {part for value in values for part in (value, *value.splitlines(), *URL_SECRET.findall(value))}
    return tuple(sorted((one for one in parts if len(one) >= HIDE_FROM), key=lambda one: (-len(one), one)))
