"""Section 4: images, from their inspect document and history.  A history says what its builder wrote, no more."""

from __future__ import annotations

import re

from irkit.audit.model import Check, Json, Outcome, Subject, Unanswered, either, failed, noted, warned
from irkit.environment import SECRET_VALUE, URL_SECRET, variables

SECRET_NAME = re.compile(r"(?i)(pass(word|wd)?|secret|token|api_?key|private_?key|credential)s?$")
SECRET_TEXT = re.compile(r"(?i)AKIA[0-9A-Z]{16}|-----BEGIN [A-Z ]*PRIVATE KEY|(password|passwd|secret|token|api_?key)=[^\s$]{4}")  # fmt: skip
UPDATE = re.compile(r"(apt-get|apt|yum|dnf|apk)\s+(-\S+\s+){0,8}(update|makecache)\b")
INSTALL = re.compile(r"\b(install|add|upgrade)\b")
ROOT = re.compile(r"|root|[+-]?0+")
"""The engine reads a number as Go's ``strconv.Atoi`` does (moby/sys/user, ``GetExecUser``): ``00`` is root."""
LINE_LIMIT = 100_000


def _config(subject: Subject) -> Json:
    if subject.image is None:
        raise Unanswered("there is no description of the image")
    return subject.image.get("Config") or {}


def _lines(subject: Subject) -> list[str]:
    if subject.history is None:
        raise Unanswered("the image's history could not be had")
    lines = [str(one.get("CreatedBy") or "")[:LINE_LIMIT] for one in subject.history]
    if not any(lines):
        raise Unanswered("the image has no history: it was imported or flattened")
    return lines


def _user(subject: Subject) -> Outcome:
    """A container may name another user than its image does, and the container's counts."""
    source = subject.container["Config"] if subject.container is not None else _config(subject)
    user = str(source.get("User") or "")
    return either(not ROOT.fullmatch(user.partition(":")[0]), f"user {user or 'root, as none is set'}")


def _health(subject: Subject) -> Outcome:
    test = (_config(subject).get("Healthcheck") or {}).get("Test") or []
    good = bool(test) and test[0] != "NONE"
    return either(good, "HEALTHCHECK is set" if good else "no HEALTHCHECK")


def _update(subject: Subject) -> Outcome:
    found = [line for line in _lines(subject) if UPDATE.search(line) and not INSTALL.search(line)]
    return (
        warned(f"{len(found)} steps update package lists and install nothing")
        if found
        else noted("no such step in the history")
    )


def _add(subject: Subject) -> Outcome:
    """What BuildKit and the older builder write; a base image's first ``ADD file:… in /`` is its root file system."""
    oldest_first = list(reversed(_lines(subject)))
    found = [line for line in oldest_first[1:] if re.match(r"(/bin/sh -c #\(nop\) )?\s*ADD ", line)]
    return warned(f"{len(found)} ADD steps") if found else noted("no ADD step after the first in the history")


def _secrets(subject: Subject) -> Outcome:
    """Names of variables and places only: a value is never repeated."""
    names = [
        name for name, value in variables(_config(subject))
        if value and (SECRET_NAME.search(name) or URL_SECRET.search(value) or SECRET_VALUE.search(value))
    ]  # fmt: skip
    if names:
        return failed(f"environment: {', '.join(sorted(names))}")
    found = sum(1 for line in _lines(subject) if SECRET_TEXT.search(line))
    return (
        failed(f"{found} steps of the history look like holding a secret")
        if found
        else noted("no variable or step looks like a secret")
    )


CHECKS = tuple(
    Check(number, title, "image", severity, fix, look)
    for number, title, severity, fix, look in (
        ("4.1", "Does not run as root", "high", "Set USER in the Dockerfile, or `--user`.", _user),
        ("4.6", "HEALTHCHECK in the image", "low", "Add a HEALTHCHECK instruction.", _health),
        ("4.7", "Package lists are not updated alone", "low", "Update and install in one RUN instruction.", _update),
        ("4.9", "COPY instead of ADD", "low", "Use COPY; fetch and check what comes from elsewhere in a RUN instruction.", _add),
        ("4.10", "No secrets in the image", "high", "Take it out, rotate it, and use build or runtime secrets.", _secrets),
    )
)  # fmt: skip
