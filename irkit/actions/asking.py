"""Asking people, and waiting."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from irkit.actions.context import Context, Result
from irkit.engine.interface import Container
from irkit.errors import CheckFailed, NotFound, UsageProblem

POLL = 0.3


def ask(ctx: Context, args: Mapping[str, Any]) -> Result:
    """Raises ``CheckFailed`` when nobody answers in time and there is no default."""
    from irkit.actions import question

    choices = tuple(str(one) for one in args["choices"])
    if args["default"] and choices and args["default"] not in choices:
        raise UsageProblem(f"the default {args['default']!r} is none of the choices")
    asked = question.Question(str(args["message"]), choices, str(args["default"]), float(args["seconds"]))
    ctx.warn(f"asked: {asked.message}; irkit case answer {ctx.case.id} {ctx.step} {'|'.join(choices) or 'TEXT'}")
    answer = question.ask(ctx.run_folder, ctx.step, asked, ctx.case.id, ctx.checkpoint)
    return Result("succeeded", f"{answer.by} answered: {answer.text}", {"answer": answer.text, "by": answer.by})


def wait_for(ctx: Context, args: Mapping[str, Any]) -> Result:
    """Raises ``CheckFailed`` when the state was not reached in time."""
    begun = time.monotonic()
    state, ref = str(args["state"]), str(args["container"]) or ctx.target.id
    while True:
        passed = time.monotonic() - begun
        if state and _is(ctx, ref, state):
            return Result("succeeded", f"{state} after {passed:.1f} s", {"state": state, "seconds": round(passed, 3)})
        if passed >= args["seconds"]:
            if state:
                raise CheckFailed(f"not {state} after {args['seconds']} s")
            return Result("succeeded", f"waited {args['seconds']} s", {"state": "", "seconds": round(passed, 3)})
        ctx.checkpoint()
        time.sleep(min(POLL, args["seconds"] - passed))


def _is(ctx: Context, ref: str, state: str) -> bool:
    try:
        found = ctx.engine.container(ref)
    except NotFound:
        return state == "gone"
    return {
        "running": found.running and not found.paused, "stopped": not found.running, "frozen": found.paused,
        "healthy": _health(found) == "healthy", "gone": False,
    }[state]  # fmt: skip


def _health(container: Container) -> str:
    health = container.state.get("Health")
    return str(health.get("Status", "")) if isinstance(health, Mapping) else ""
