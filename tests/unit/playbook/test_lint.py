"""What the linter says of a playbook, and what it doesn't."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from irkit import documents, resources
from irkit.playbook.lint import lint
from irkit.playbook.reader import load_playbook, read_playbook
from tests.unit.test_playbook import HEAD

SEALED = "  - {id: s, uses: evidence.seal}\n  - {id: v, uses: evidence.verify}\n"


def rules(text: str, destroys: str = "") -> set[tuple[str, str]]:
    playbook = read_playbook(documents.parse((HEAD + text).encode(), "p.yaml"), "sha256:0", Path("p.yaml"))
    if destroys:  # whichever actions destroy by now
        steps = tuple(
            replace(one, action=replace(one.action, effect="destroy")) if one.id == destroys else one
            for one in playbook.steps
        )
        playbook = replace(playbook, steps=steps)
    return {(one.rule, one.step) for one in lint(playbook)}


@pytest.mark.parametrize("path", sorted(resources.shipped("playbooks").glob("*.yaml")), ids=lambda path: path.stem)
def test_shipped_ones_have_no_remarks(path: Path) -> None:
    assert lint(load_playbook(path)) == []


def test_never_sealed_and_never_verified() -> None:
    assert rules("steps:\n  - {id: a, uses: acquire.logs}\n") == {("never-sealed", "")}
    assert rules("steps:\n  - {id: a, uses: acquire.logs}\n  - {id: s, uses: evidence.seal}\n") == {
        ("never-verified", "")
    }
    assert rules("steps:\n  - {id: a, uses: acquire.logs}\n" + SEALED) == set()


def test_unused() -> None:
    text = "vars: {x: {type: integer, default: 1}, y: {type: string, default: a}}\npreflight: [{check: vars.x == 1, message: m}]\n"
    assert rules(text + "steps:\n" + SEALED) == {("unused-variable", "")}


def test_unreachable() -> None:
    text = "steps:\n  - {id: a, uses: container.freeze, when: false and known(run.gaps)}\n"
    assert rules(text) == set(), "what is known is only known when it runs"
    text = "steps:\n  - {id: a, uses: container.freeze, when: target.running and false}\n  - {id: b, uses: container.thaw, needs: a}\n"
    assert rules(text) == {("unreachable", "a"), ("unreachable", "b")}
    assert rules("steps:\n  - {id: a, uses: container.freeze, when: target.running or true}\n") == {("always", "a")}


DESTROY = "  - {id: d, uses: container.thaw, approve: {message: sure}}\n"


@pytest.mark.parametrize(
    ("text", "good"),
    [
        (SEALED + DESTROY, True),
        (DESTROY + SEALED, False),
        (SEALED.replace("seal}", "seal, on_failure: continue}") + DESTROY, False),
        (SEALED.replace("verify}", "verify, on_failure: continue}") + DESTROY, False),
        (SEALED.replace("verify}", "verify, on_failure: continue}") + DESTROY.replace("thaw,", "thaw, needs: [s, v],"), True),
        (SEALED.replace("seal}", "seal, when: target.running}") + DESTROY, False),
        ("  - {id: a, uses: container.freeze, on_failure: {goto: d}}\n" + SEALED + DESTROY, False),
        (SEALED + "  - {id: a, uses: container.freeze, on_failure: {goto: d}}\n" + DESTROY, True),
        (SEALED.split("\n", maxsplit=1)[0] + "\n" + DESTROY, False),
    ],
)  # fmt: skip
def test_nothing_destroys_before_the_evidence(text: str, good: bool) -> None:
    found = {rule for rule, _ in rules("steps:\n" + text, "d")}
    assert ("destroys-before-evidence" not in found) == good


def test_nobody_is_asked() -> None:
    assert ("no-approval", "d") in rules("steps:\n" + SEALED + DESTROY.replace(", approve: {message: sure}", ""), "d")


def test_rollback() -> None:
    freeze = "  - {id: f, uses: container.freeze%s}\n"
    thaw = ", rollback: {uses: container.thaw}"
    last = "  - {id: z, uses: image.verify, with: {image: x}, on_failure: rollback}\n"
    assert rules("steps:\n" + freeze % "" + last) == {("no-rollback", "f")}
    assert rules("steps:\n" + freeze % thaw + last) == set()
    assert rules("steps:\n" + freeze % thaw) == {("rollback-never", "f")}
