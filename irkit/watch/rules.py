"""Rules from YAML, ``IRKIT_HOME/watch.yaml`` (``irkit/schemas/watch.schema.json`` says the same for editors; docs/watch.md)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from irkit import documents, resources
from irkit.config import load_config
from irkit.documents import Doc, Place
from irkit.errors import IrkitError, NotTrusted, PlaybookInvalid, UsageProblem
from irkit.home import home
from irkit.playbook import signed
from irkit.playbook.conditions import Condition, ConditionError, parse
from irkit.playbook.model import Playbook, Reference
from irkit.playbook.reader import load_playbook
from irkit.watch.alert import ALERT_NAMES, PRIORITIES, SOURCES, Mapped
from irkit.watch.model import CONTAINER_NAMES, Approval, Healthy, Match, Rate, Rule, Rules

API_VERSION = "irkit/v1"
NAME = "watch.yaml"
IDENTITY = re.compile(r"[a-z][a-z0-9-]{0,62}")
DURATION = re.compile(r"([1-9][0-9]{0,8})(s|m|h|d)?")
UNITS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}
REFERENCE = re.compile(r"\$\{\{\s*((?:alert|fields|container)(?:\.[A-Za-z_][\w-]*)+)\s*\}\}")
KEYS = ("rule", "alert", "container", "image", "service")
"""What two alerts may have in common to count as one: our rule, the detector's, the container, its image, its service."""
RULES_LIMIT, RUNS_LIMIT, QUEUE_LIMIT, SECONDS_LIMIT = 200, 1000, 100_000, 30 * 86400
TOP = ("apiVersion", "kind", "description", "rules", "rate", "limits", "json")
OF_RULE = (
    "id", "description", "match", "when", "playbook", "vars", "dedup", "rate", "min_healthy", "dry_run_first", "approval",
)  # fmt: skip
ABOUT = {"alert": ALERT_NAMES, "container": CONTAINER_NAMES}


def default_path() -> Path:
    """``IRKIT_HOME/watch.yaml``."""
    return home() / NAME


def load_rules(path: Path) -> Rules:
    """The rules, with the playbooks that they name.  Raises ``PlaybookInvalid`` naming file, line and column."""
    doc, digest = documents.load(path)
    return read_rules(doc, digest, path)


def read_rules(doc: Doc, digest: str, path: Path) -> Rules:
    """The rules from a document."""
    doc.choice("apiVersion", (API_VERSION,))
    doc.choice("kind", ("Watch",))
    _only(doc, TOP)
    doc.text("description", "")
    limits = doc.mapping("limits", None)
    items = doc.items("rules").docs()
    if not 1 <= len(items) <= RULES_LIMIT:
        raise doc.places["rules"].error(f"there must be 1 to {RULES_LIMIT} rules")
    found: list[Rule] = []
    remarks: list[str] = []
    for item in items:
        rule = _rule(item, path, remarks)
        if rule.id in {one.id for one in found}:
            raise item.places["id"].error(f"two rules have the id {rule.id!r}")
        found.append(rule)
    rules = Rules(
        tuple(found), _rate(doc, Rate(20, 3600.0)), _mapped(doc), _whole(limits, "queue", 1000, QUEUE_LIMIT),
        _whole(limits, "running", 2, 64), seconds(limits, "max_age", 3600.0), digest, path, tuple(remarks),
    )  # fmt: skip
    if rules.mapped is None:
        for item, rule in zip(items, found, strict=True):
            if rule.match.sources == ("json",):
                raise item.place.error(f"{rule.id!r} waits for the source json, but `json` says not how to read it")
    limits.done()
    return rules


def _rule(item: Doc, path: Path, remarks: list[str]) -> Rule:
    _only(item, OF_RULE)
    identity = item.text("id")
    if not IDENTITY.fullmatch(identity):
        raise item.places["id"].error("'id' must be small letters, digits and hyphens")
    item.text("description", "")
    match = _match(item.mapping("match"))
    playbook = _playbook(item, path)
    variables = _vars(item, playbook)
    dedup = item.mapping("dedup", None)
    window, by = seconds(dedup, "window", 3600.0), dedup.texts("by", ("rule", "container")) or ("rule", "container")
    if "by" in dedup.values:
        _each_of(by, KEYS, dedup.places["by"])
    dedup.done()
    rule = Rule(
        identity, match, _when(item), playbook.path.absolute(), playbook.id, playbook.digest, changes(playbook), variables, window, by,
        _rate(item, None), _healthy(item), item.boolean("dry_run_first", True), _approval(item),
    )  # fmt: skip
    if not rule.approval.needed and destroys(playbook):
        remarks.append(f"{identity}: {playbook.id} destroys, and `approval: none` lets it start unasked")
    if not match.containers and not match.images and not match.labels and rule.changes and not rule.approval.needed:
        remarks.append(f"{identity}: it fits every container of the engine, and nobody is asked")
    return rule


def _only(doc: Doc, keys: tuple[str, ...]) -> None:
    """A key that is misspelt is said before the one that is missing for it."""
    doc.allow(*keys)
    doc.done()


def _match(doc: Doc) -> Match:
    match = Match(
        doc.texts("source", ()), doc.texts("rule", ()), doc.choice("priority", PRIORITIES, ""), doc.texts("tags", ()),
        doc.texts("container", ()), doc.texts("image", ()), _labels(doc.mapping("labels", None)),
    )  # fmt: skip
    if match.sources:
        _each_of(match.sources, SOURCES, doc.places["source"])
    if not (match.rules or match.tags or match.priority):
        raise doc.place.error("a match needs at least one of rule, tags, priority", "rule: '*' fits every alert")
    doc.done()
    return match


def _labels(doc: Doc) -> Mapping[str, str]:
    return {name: doc.text(name) for name in list(doc.values)}


def _each_of(words: tuple[str, ...], known: tuple[str, ...], place: Place) -> None:
    for word in words:
        if word not in known:
            raise place.error(f"{word!r} must be one of {', '.join(known)}", documents.closest(word, known))


def _playbook(item: Doc, path: Path) -> Playbook:
    name, place = item.text("playbook"), item.places["playbook"]
    if "/" in name or name.endswith((".yaml", ".yml")):
        name = str(path.absolute().parent / name)
    try:
        playbook = load_playbook(resources.find("playbooks", name))
        signed.require(playbook, load_config().signatures)
    except PlaybookInvalid as error:
        raise place.error(f"the playbook {name!r} is none: {error.message}", error.hint) from error
    except (UsageProblem, NotTrusted) as error:
        raise place.error(error.message, error.hint) from error
    return playbook


def _vars(item: Doc, playbook: Playbook) -> dict[str, Any]:
    """Their values; ``${{ alert.rule }}``, ``${{ fields.NAME }}`` or ``${{ container.NAME }}`` are the only ways from an alert into a run."""
    doc = item.mapping("vars", None)
    found: dict[str, Any] = {}
    for name in list(doc.values):
        place = doc.places[name]
        if name not in playbook.vars:
            known = list(playbook.vars)
            raise place.error(
                f"the playbook {playbook.id} has no variable {name!r}",
                documents.closest(name, known) if known else "it has none",
            )
        value = documents.plain(doc.get(name, (object, bool), "a value"))
        if isinstance(value, str) and "${{" in value:
            found[name] = _reference(value, place)
            continue
        var = playbook.vars[name]
        try:
            var.check(var.typed(value))
        except UsageProblem as error:
            raise place.error(error.message, error.hint) from error
        if isinstance(value, dict) or (
            isinstance(value, list) and any(not isinstance(one, str) or "," in one for one in value)
        ):
            raise place.error(f"{name!r} must be a text, a number, a truth value, or a list of texts without commas")
        found[name] = value
    for var in playbook.vars.values():
        if var.required and var.name not in found:
            raise item.places["playbook"].error(
                f"the playbook {playbook.id} needs a value for {var.name!r}", f"vars: {{{var.name}: …}}"
            )
    doc.done()
    return found


def _reference(text: str, place: Place) -> Reference:
    match = REFERENCE.fullmatch(text)
    if match is None:
        raise place.error(
            "a reference is a whole value: ${{ alert.NAME }}, ${{ fields.NAME }} or ${{ container.NAME }}"
        )
    first, *rest = match.group(1).split(".")
    _known_name((first, *rest), place)
    return Reference(first, tuple(rest))


def _known_name(parts: tuple[str, ...], place: Place) -> None:
    roots = (*ABOUT, "fields")
    if parts[0] not in roots:
        raise place.error(f"{parts[0]!r} is not known", f"known: {', '.join(roots)}")
    names = ABOUT.get(parts[0])
    if names is not None and (len(parts) < 2 or parts[1] not in names):
        raise place.error(
            f"{'.'.join(parts)!r} is not known", documents.closest(parts[1] if len(parts) > 1 else "", names)
        )


def _when(item: Doc) -> Condition | None:
    if "when" not in item.values:
        return None
    text, place = item.text("when"), item.places["when"]
    try:
        condition = parse(text)
    except ConditionError as error:
        raise place.error(f"no condition: {error}, at its character {error.column + 1}") from error
    for name in condition.names():
        _known_name(name.parts, place)
    return condition


def _approval(item: Doc) -> Approval:
    value = item.get("approval", (str, Doc), "`none`, `required` or a mapping", "required")
    if isinstance(value, str):
        return Approval(item.choice("approval", ("required", "none"), "required") != "none")
    found = Approval(True, value.texts("by", ()), _whole(value, "min", 1, 20), seconds(value, "timeout", 3600.0))
    if found.by and found.minimum > len(found.by):
        raise value.places["min"].error(f"{found.minimum} must agree, but only {len(found.by)} may")
    value.done()
    return found


def _healthy(item: Doc) -> Healthy | None:
    if "min_healthy" not in item.values:
        return None
    value = item.get("min_healthy", (int, Doc), "a whole number or a mapping")
    if not isinstance(value, Doc):
        return Healthy(_whole(item, "min_healthy", 1, 10_000))
    by = value.text("by", "service")
    if by not in ("image", "service") and not (by.startswith("label:") and len(by) > len("label:")):
        raise value.places["by"].error("'by' must be image, service or label:KEY")
    found = Healthy(
        _whole(value, "count", documents.REQUIRED, 10_000), by, value.choice("otherwise", ("ask", "refuse"), "ask")
    )
    value.done()
    return found


def _rate(doc: Doc, default: Any) -> Any:
    if "rate" not in doc.values:
        return default
    value = doc.mapping("rate")
    rate = Rate(_whole(value, "runs", documents.REQUIRED, RUNS_LIMIT), seconds(value, "per", 3600.0))
    value.done()
    return rate


def _mapped(doc: Doc) -> Mapped | None:
    if "json" not in doc.values:
        return None
    value = doc.mapping("json")
    words = value.mapping("priorities", None)
    table = {word.lower(): words.choice(word, PRIORITIES) for word in list(words.values)}
    mapped = Mapped(
        value.text("container"), value.text("rule"), value.text("priority", ""), value.text("time", ""), value.text("message", ""),
        value.text("tags", ""), table, value.choice("default_priority", PRIORITIES, "" if "priority" in value.values else "notice"),
    )  # fmt: skip
    value.done()
    return mapped


def seconds(doc: Doc, key: str, default: float) -> float:
    """A length of time: a whole number of seconds, or ``30s``, ``10m``, ``2h``, ``7d``.  At most 30 days."""
    value = doc.get(key, (int, str), "a length of time like 10m", None)
    if value is None:
        return default
    match = DURATION.fullmatch(str(value))
    found = float(int(match.group(1)) * UNITS[match.group(2) or ""]) if match else 0.0
    if not 0 < found <= SECONDS_LIMIT:
        raise doc.places[key].error(f"{key!r} must be a length of time like 30s, 10m, 2h or 7d, at most 30d")
    return found


def _whole(doc: Doc, key: str, default: Any, limit: int) -> int:
    value = doc.integer(key, default)
    if not 1 <= value <= limit:
        raise doc.places[key].error(f"{key!r} must be 1 to {limit}")
    return value


def changes(playbook: Playbook) -> bool:
    """Whether any of its steps, or what takes one back, does more than read."""
    return any(effect != "read" for effect in _effects(playbook))


def destroys(playbook: Playbook) -> bool:
    """Whether any of its steps destroys without asking for an approval of its own."""
    return any(step.action.effect == "destroy" and step.approve is None for step in playbook.every_step)


def _effects(playbook: Playbook) -> list[str]:
    found = [step.action.effect for step in playbook.every_step]
    return found + [step.rollback.action.effect for step in playbook.every_step if step.rollback is not None]


def unchanged(rule: Rule) -> None:
    """Raises ``IrkitError`` when the playbook is not the one that the rule was read with."""
    if load_playbook(rule.playbook).digest != rule.digest:
        raise IrkitError(
            f"the playbook {rule.playbook} has changed since the rules were read", hint="SIGHUP reads them anew"
        )
