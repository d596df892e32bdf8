"""Questions to people while a run waits: at this terminal, or from another (``irkit case answer``).

The question lies in ``runs/RUN/questions/STEP.json`` of the case, its answer beside it in ``STEP.answer.json``.
An answer is not signed: where a decision matters, a step has ``approve``.
"""

from __future__ import annotations

import json
import select
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from irkit.cases import whoami
from irkit.clock import now, rfc3339
from irkit.errors import CheckFailed, UsageProblem
from irkit.home import private_folder, read_json, write_json
from irkit.text import printable

FOLDER = "questions"
POLL = 0.2
LENGTH_LIMIT = 4000


@dataclass(frozen=True, slots=True)
class Question:
    """``choices``: the answers that there are, any text if empty.  ``seconds``: until ``default`` is taken."""

    message: str
    choices: tuple[str, ...]
    default: str
    seconds: float


@dataclass(frozen=True, slots=True)
class Answer:
    """What was said, and by whom."""

    text: str
    by: str


def ask(folder: Path, step: str, question: Question, case: str, checkpoint: Callable[[], None]) -> Answer:
    """Wait for an answer.  Raises ``CheckFailed`` when the time is over and there is no default."""
    path = private_folder(folder / FOLDER) / f"{step}.json"
    answered = path.with_suffix(".answer.json")
    if not answered.exists():  # a run that goes on may find its answer
        write_json(path, {
            "schema": "irkit.question/v1", "case": case, "step": step, "message": question.message, "choices": list(question.choices),
            "default": question.default, "asked": now(), "expires": rfc3339(time.time() + question.seconds),
        })  # fmt: skip
    ends = time.monotonic() + question.seconds
    try:
        while True:
            checkpoint()
            found = read_json(answered)
            if found is not None:
                return Answer(str(found["answer"]), str(found["by"]))
            if (typed := _typed(question)) is not None:
                return Answer(typed, whoami())
            if time.monotonic() >= ends:
                break
            time.sleep(min(POLL, max(0.0, ends - time.monotonic())))
    finally:
        path.with_suffix(".closed").touch()
    if question.default:
        return Answer(question.default, "nobody, so the default")
    raise CheckFailed(
        f"nobody answered in {question.seconds:g} seconds",
        hint=f"`irkit case answer {case} {step} …` from another terminal",
    )


def _typed(question: Question) -> str | None:
    """A line from the terminal, if one was typed and is an answer."""
    if not sys.stdin.isatty() or not select.select([sys.stdin], [], [], 0)[0]:
        return None
    line = sys.stdin.readline().strip()[:LENGTH_LIMIT]
    return line if line and (not question.choices or line in question.choices) else None


def open_questions(folder: Path) -> Iterator[dict[str, Any]]:
    """The questions of a run that still wait."""
    for path in sorted((folder / FOLDER).glob("*.json")):
        if path.name.endswith(".answer.json") or path.with_suffix(".closed").exists():
            continue
        asked = read_json(path)
        if (
            asked is not None
            and str(asked.get("expires", "")) >= now()
            and not path.with_suffix(".answer.json").exists()
        ):
            yield asked


def answer(folder: Path, step: str, text: str) -> None:
    """Answer a question that is open.  Raises ``UsageProblem``."""
    asked = next((one for one in open_questions(folder) if one["step"] == step), None)
    if asked is None:
        raise UsageProblem(f"nobody asks for {step!r} in this run", hint="`irkit case pending` lists what waits")
    if len(text) > LENGTH_LIMIT:
        raise UsageProblem(f"an answer has at most {LENGTH_LIMIT} characters")
    if asked["choices"] and text not in asked["choices"]:
        raise UsageProblem(f"{printable(text, 80)!r} is none of {', '.join(asked['choices'])}")
    path = folder / FOLDER / f"{step}.answer.json"
    write_json(
        path,
        {"schema": "irkit.answer/v1", "answer": text, "by": whoami(), "time": now(), "question": json.dumps(asked)},
    )
