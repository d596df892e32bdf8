"""What a rebuild would do, before it does anything: the recipe, what becomes of secrets, what is hardened."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from irkit.engine.interface import Container, Engine, Image
from irkit.errors import NotFound
from irkit.mounts import UNFOLLOWED, UNSEEN, with_sources
from irkit.recover.compared import Difference, Meant, differences
from irkit.recover.config import Recipe, recipe
from irkit.recover.harden import Change, NotHardened, harden
from irkit.recover.secrets import Answers, Ask, Burnt, find_burnt, with_secrets
from irkit.text import printable

SAME = "the image is the very one that the compromised container was made from: what let the attacker in may be in it still"


@dataclass(frozen=True, slots=True)
class Plan:
    """``before``: the container before irkit touched it.  ``old_image``: ``None`` when the engine has it no more."""

    before: Container
    old_image: Image | None
    new_image: Image
    recipe: Recipe
    said: Answers
    burnt: tuple[Burnt, ...]
    hardened: tuple[Change, ...] = ()
    not_hardened: tuple[NotHardened, ...] = ()

    @property
    def notes(self) -> tuple[str, ...]:
        """All that a person should know of it, in words."""
        told = (*self.burnt, *self.hardened, *self.not_hardened)
        return (*(str(one) for one in told), *(printable(one) for one in self.recipe.notes))

    @property
    def meant(self) -> Meant:
        """What of the new container was meant to differ."""
        changed = frozenset(one.name for one in self.burnt if one.answer in ("new", "dropped"))
        return Meant(
            changed | frozenset(one.name for one in self.said.sources) | self.said.drop,
            frozenset(path for one in self.hardened for path in one.fields),
            self.old_image.config if self.old_image else {}, self.new_image.config,
        )  # fmt: skip

    def compared(self, after: Container) -> tuple[Difference, ...]:
        """How the new container differs from the old one."""
        return differences(self.before, after, self.meant)

    def checked(self, after: Container) -> Plan:
        """The plan as it came out: what an engine did not do (limits, where its host has none) was not hardened."""
        made = Recipe({**after.config, "HostConfig": after.host_config}, (), ())
        names = [one.name for one in self.hardened]
        ignored = {one.name for one in harden(made, names, self.new_image.config).changes}
        return replace(
            self,
            hardened=tuple(one for one in self.hardened if one.name not in ignored),
            not_hardened=(
                *self.not_hardened,
                *(NotHardened(one, "the engine did not do it") for one in names if one in ignored),
            ),
        )

    def to_json(self) -> dict[str, Any]:
        """The part of ``irkit.rebuild-plan/v1`` that is known here."""
        return {
            "secrets": [one.to_json() for one in self.burnt],
            "hardened": [one.to_json() for one in self.hardened],
            "not_hardened": [one.to_json() for one in self.not_hardened],
            "notes": [printable(one) for one in self.recipe.notes],
        }


def make_plan(engine: Engine, before: Container, image_id: str, said: Answers, hardening: tuple[str, ...] = ()) -> Plan:
    """From what the engine knows of both images.  ``hardening``: see :func:`irkit.recover.harden.chosen`.

    Raises ``UsageProblem`` for answers about secrets that there are not.
    """
    old_image = image_or_none(engine, before.image_id)
    new_image = engine.image(image_id)
    plan = recipe(before, old_image, image_id)
    if old_image is not None and old_image.id == new_image.id:
        plan = replace(plan, notes=(*plan.notes, SAME))
    burnt = find_burnt(before, plan, new_image.config, said)
    mounts = with_sources(engine, before)["Mounts"]
    hard = harden(
        _with_links(plan, mounts) if "docker-socket" in hardening else plan,
        hardening,
        new_image.config,
        _sources(mounts),
    )
    return Plan(
        before, old_image, new_image, _without_gone(hard.recipe, hard.changes), said, burnt, hard.changes, hard.left
    )


def _without_gone(plan: Recipe, changes: tuple[Change, ...]) -> Recipe:
    """Without the notes on mounts that the new container has no more: ``/PLACE: …``, as :func:`irkit.recover.config.recipe` has them."""
    gone = [path[len("Mounts[") : -1] for one in changes for path in one.fields if path.startswith("Mounts[")]
    return replace(
        plan, notes=tuple(note for note in plan.notes if not any(note.startswith(f"{one}: ") for one in gone))
    )


def _with_links(plan: Recipe, mounts: list[Mapping[str, Any]]) -> Recipe:
    """Told of links that nobody could follow: a socket may be behind one."""
    blind = [one for one in mounts if one.get(UNFOLLOWED)]
    if not blind:
        return plan
    places = ", ".join(str(one.get("Source")) for one in blind)
    note = (
        f"whether {places} of the host is a link, to an engine's socket perhaps, was not seen: {blind[0][UNFOLLOWED]}"
    )
    return replace(plan, notes=(*plan.notes, note))


def _sources(mounts: list[Mapping[str, Any]]) -> dict[str, tuple[str, ...]]:
    """What of the host is mounted at each place: more than one folder where a volume is an overlay of several."""
    found: dict[str, tuple[str, ...]] = {}
    for one in mounts:
        source = f"{UNSEEN}:{one.get('Name')}" if one.get(UNSEEN) else str(one.get("Source") or "")
        place = str(one.get("Destination"))
        found[place] = (*found.get(place, ()), source)
    return found


def answered(plan: Plan, ask: Ask) -> Plan:
    """With the new values of secrets read or asked for.  Raises ``Refused``, ``UsageProblem``."""
    done, burnt = with_secrets(plan.before, plan.recipe, plan.burnt, plan.said, ask)
    return replace(plan, recipe=done, burnt=burnt)


def image_or_none(engine: Engine, ref: str) -> Image | None:
    """An image, unless the engine has it no more."""
    try:
        return engine.image(ref)
    except NotFound:
        return None
