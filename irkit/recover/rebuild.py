"""Rebuild: the old container steps aside under another name; the new one must run before irkit calls it done."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass

from irkit.engine.interface import Container, Engine
from irkit.errors import EngineError, IrkitError, NotFound, NotTrusted
from irkit.recover.config import Recipe
from irkit.text import printable

SETTLE = 1.5
POLL = 0.2
WORDS = 300
WORDS_READ = 512 * 1024
"""Far more than is shown: a secret of the greatest length must not be cut before it is blotted out."""


@dataclass(frozen=True, slots=True)
class Rebuilt:
    """The new container, and where the old one is."""

    id: str
    name: str
    old_name: str
    health: str


def rebuild(
    engine: Engine, old: Container, name: str, plan: Recipe, aside: str, timeout: float, checkpoint: Callable[[], None]
) -> Rebuilt:
    """Make and start the new container under ``name``; the old one is ``aside`` from then on, if it was not before.

    When anything fails, the new container is removed, the old one has its name back, and the error says so.
    """
    new_id = ""
    try:
        if old.name != aside:
            engine.rename(old.id, aside)
        new_id = engine.create(plan.body, name)
        made_from(engine, new_id, str(plan.body["Image"]))
        for network in plan.leave:
            engine.disconnect(network, new_id)
        for endpoint in plan.networks:
            engine.connect(endpoint.network, new_id, endpoint)
        engine.start(new_id)
        health = wait_healthy(engine, new_id, timeout, checkpoint)
    except BaseException as error:
        said = last_words(engine, new_id, plan.hidden)
        back = _stepped_back(engine, old, name, new_id or _unanswered(engine, old.id, name, plan))
        if isinstance(error, IrkitError):
            error.message = f"{blotted(error.message, plan.hidden)}; {back}{said}"
            error.args = (error.message,)
        raise
    return Rebuilt(new_id, name, aside, health)


def made_from(engine: Engine, container: str, image: str) -> None:
    """The last link of the chain: the container is of the image that was verified.  Raises ``NotTrusted``."""
    made = engine.container(container).image_id
    if made not in (image, engine.image(image).id):
        raise NotTrusted(f"the engine made the container from {made}, not from the verified image {image}")


def wait_healthy(engine: Engine, container: str, timeout: float, checkpoint: Callable[[], None]) -> str:
    """Wait for the health check, or without one for a moment of steady running.  Raises ``EngineError``."""
    began = time.monotonic()
    while True:
        checkpoint()
        made = engine.container(container)
        state = made.state
        health = (state.get("Health") or {}).get("Status") or "none"
        spent = time.monotonic() - began
        if state.get("Running") and not state.get("Restarting") and made.raw.get("RestartCount"):
            raise EngineError("the new container ended and was restarted")  # its exit code is gone by now
        if not state.get("Running") or state.get("Restarting"):
            raise EngineError(
                f"the new container ended with exit code {state.get('ExitCode')} {state.get('Error') or ''}".rstrip()
            )
        if health == "unhealthy":
            raise EngineError("the new container's health check fails")
        if health == "healthy" or (health == "none" and spent >= SETTLE):
            return "healthy" if health == "healthy" else "running"
        if spent > timeout:
            raise EngineError(f"the new container is not healthy after {timeout:.0f} s")
        time.sleep(POLL)


def last_words(engine: Engine, container: str, hidden: tuple[str, ...] = ()) -> str:
    """The end of what it wrote to its standard error, for a message; empty when there is none."""
    if not container:
        return ""
    with contextlib.suppress(IrkitError):
        tail = b""
        for chunk in engine.logs(container, "stderr"):
            tail = (tail + chunk)[-WORDS_READ:]
        words = blotted(tail.decode("utf-8", "surrogateescape"), hidden).strip()[-WORDS:]
        if words:
            return f"; the new container's last words: {printable(words, WORDS)}"
    return ""


def blotted(words: str, hidden: tuple[str, ...]) -> str:
    """Without the secrets that the new container was given: it may have said them."""
    for one in hidden:
        words = words.replace(one, "[secret]")
    return words


def _unanswered(engine: Engine, old: str, name: str, plan: Recipe) -> str:
    """The container that the engine made although its answer was lost: under our name, of our image, never started."""
    with contextlib.suppress(EngineError):
        found = engine.container(name)
        if found.id != old and found.state.get("Status") == "created" and found.image_ref == plan.body.get("Image"):
            return found.id
    return ""


def _stepped_back(engine: Engine, old: Container, name: str, new: str) -> str:
    """Undo what was done; in words, what is so now.  Never raises an engine's refusal: the first error is the one to tell."""
    try:
        if new:
            with contextlib.suppress(NotFound):
                engine.remove(new, force=True, volumes=True)
        if engine.container(old.id).name != name:
            engine.rename(old.id, name)
        now = engine.container(old.id)
    except EngineError as error:
        return f"and it could not be undone ({error.message}): look for {name} and the container {old.id[:12]} yourself"
    if (now.name, now.running, now.paused) != (name, old.running, old.paused):
        return f"the new container is removed, but {now.name} ({old.id[:12]}) is not as it was before"
    return f"{name} is as it was before"
