"""A playbook's ``acquire.profile`` steps, each replaced by a step for every collector that the profile asks for.

So each collector has its own records in the journal, its own outcome, and its own place in what ``--json`` prints.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from irkit.actions.registry import ACTIONS, PROFILED
from irkit.errors import PlaybookInvalid
from irkit.playbook.model import Playbook, Step, resolve, visible
from irkit.profiles import COLLECTORS, STAGES, Profile, load_profile

_WITH_PROFILE = tuple(one.action for one in COLLECTORS.values() if one.limited)


def with_profile(playbook: Playbook, variables: Mapping[str, Any]) -> tuple[Playbook, Profile | None]:
    """The playbook as it will run, and its profile if it uses one.

    A collector that the playbook names in a step of its own runs there and nowhere else.  Raises ``UsageProblem`` or
    ``PlaybookInvalid`` for a profile or a stage that there is not: before anything is touched.
    """
    bound = {"vars": variables}
    names = {
        str(resolve(one.arguments["profile"], visible(playbook.bindings, bound, one.scope)))
        for one in _asking(playbook)
    }
    if not names:
        return playbook, None
    if len(names) > 1:
        raise PlaybookInvalid(f"{playbook.path}: its steps ask for different profiles: {', '.join(sorted(names))}")
    (name,) = names
    profile = load_profile(name)
    own = {step.action.name for step in playbook.steps}
    ids = {step.id for step in playbook.steps}
    steps: list[Step] = []
    for step in playbook.steps:
        if step.action.name != PROFILED:
            steps.append(step)
            continue
        steps += _expanded(step, profile, name, own, ids, variables)
    return replace(playbook, steps=tuple(steps)), profile


def _asking(playbook: Playbook) -> Iterator[Step]:
    return (step for step in playbook.steps if "profile" in step.arguments)


def _expanded(
    step: Step, profile: Profile, name: str, own: set[str], ids: set[str], variables: Mapping[str, Any]
) -> Iterator[Step]:
    stage = resolve(step.arguments["stage"], {"vars": variables})
    if stage not in STAGES:
        raise PlaybookInvalid(f"step {step.id!r}: no stage {stage!r}", hint=f"there are: {', '.join(STAGES)}")
    for one in profile.stage(stage):
        if one.collector.action in own:
            continue
        # The collector's own name reads best; the step's id goes before it where a step of that name is there already.
        short = f"{step.scope}-{one.collector.name}" if step.scope else one.collector.name
        identity = short if short not in ids else f"{step.id}-{one.collector.name}"
        arguments = {"profile": name} if one.collector.action in _WITH_PROFILE else {}
        # What else the step says (when, needs, timeout, …) holds for each of its collectors.
        yield replace(
            step,
            id=identity,
            name=one.collector.title,
            action=ACTIONS[one.collector.action],
            arguments=arguments,
            register="",
        )
