"""What included playbooks bring: their steps in the place of the ``include``, under a scope of their own.

A scope is the id of its ``include``; nested ones are joined by ``-``.  Steps are called ``SCOPE-ID``, what they register
``SCOPE/NAME``, and so nothing of one playbook can be taken for something of another.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import replace

from irkit.playbook.model import Binding, Check, Guard, Playbook, Step


class Included:
    """All that the includes of one playbook add to it."""

    def __init__(self) -> None:
        self.bindings: dict[str, Binding] = {}
        self.checks: list[Check] = []
        self.on_exception: list[Step] = []
        self.final: list[Step] = []

    def digest(self, own: str) -> str:
        """The digest of a playbook with all that it includes; its own when it includes nothing."""
        if not self.bindings:
            return own
        parts = [own, *(f"{one.scope} {one.digest}" for one in self.bindings.values())]
        return "sha256:" + hashlib.sha256(json.dumps(parts).encode()).hexdigest()

    def take(self, inner: Playbook, binding: Binding, guard: Guard) -> tuple[Step, ...]:
        """The steps of ``inner``; its checks and last steps are kept for the end of the outer playbook."""
        self.bindings[binding.scope] = binding
        for one in inner.bindings.values():
            scope = f"{binding.scope}-{one.scope}"
            outer = f"{binding.scope}-{one.outer}" if one.outer else binding.scope
            self.bindings[scope] = one._replace(scope=scope, outer=outer)
        self.checks += [one._replace(scope=_join(binding.scope, one.scope)) for one in inner.preflight]
        self.on_exception += _moved(inner.on_exception, binding.scope, guard)
        self.final += _moved(inner.final, binding.scope, guard)
        return tuple(_moved(inner.steps, binding.scope, guard))


def _join(outer: str, inner: str) -> str:
    return f"{outer}-{inner}" if inner else outer


def _moved(steps: Sequence[Step], scope: str, guard: Guard) -> Iterator[Step]:
    for step in steps:
        inner = _join(scope, step.scope)
        guards = (guard, *(one._replace(id=f"{scope}-{one.id}", scope=_join(scope, one.scope)) for one in step.guards))
        yield replace(step,
            id=f"{scope}-{step.id}", scope=inner, guards=guards,
            register=f"{scope}/{step.register}" if step.register and not step.scope
            else f"{scope}-{step.register}" if step.register else "",
            goto=f"{scope}-{step.goto}" if step.goto else "", needs=tuple(f"{scope}-{one}" for one in step.needs),
            group=f"{scope}-{step.group}" if step.group else "",
        )  # fmt: skip
