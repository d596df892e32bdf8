"""A playbook as CACAO v2.0: for people and tools that read CACAO, and back again without a loss.

The steps become manual actions whose commands say what irkit does; the whole source travels in an extension, and each
step's own words in one, so that irkit reads its own exports back (:mod:`irkit.cacao.imported`).
With the profile ``soarca`` the workflow is one action that runs the playbook by ``irkit run`` over ssh.
"""

from __future__ import annotations

import base64
import hashlib
import ipaddress
import json
import uuid
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from irkit.clock import now
from irkit.errors import UsageProblem
from irkit.playbook.conditions import Condition, Every, Literal, Name, Node, Not, Test
from irkit.playbook.model import Playbook, Reference, Step

Json = dict[str, Any]
SPACE = uuid.UUID("6f1d5c0e-6a0b-5d3c-9a52-9d1f0c1f7e11")
"""The name space of every identifier that irkit makes (RFC 9562, version 5)."""
EXTENSION = f"extension-definition--{uuid.uuid5(SPACE, 'extension')}"
PROFILES = ("full", "soarca")
TYPES = {
    "string": "string",
    "integer": "integer",
    "boolean": "bool",
    "number": "float",
    "list": "string",
    "secrets": "string",
}
OPERATORS = {"==": "=", "!=": "!=", "<": "<", "<=": "<=", ">": ">", ">=": ">="}
REFERENCES = {
    "attack": ("MITRE ATT&CK", "https://attack.mitre.org/techniques/{}/"), "d3fend": ("MITRE D3FEND", "https://d3fend.mitre.org/technique/d3f:{}/"),
    "csf": ("NIST CSF 2.0", ""), "react": ("RE&CT", ""),
}  # fmt: skip
ACTIVITIES = {
    "container.": "restrict-access", "quarantine.": "disconnect-system", "acquire.": "scan-system", "compare.": "match-indicator",
    "evidence.": "analyze-collected-data", "recover.bad": "match-indicator", "recover.eradicate": "eliminate-risk", "recover.": "restore-capabilities", "volume.": "restore-data", "image.remove": "eliminate-risk", "notify": "deliver-content",
}  # fmt: skip


def export(
    playbook: Playbook, source: bytes, profile: str = "full", author: str = "irkit", host: str = ""
) -> tuple[Json, list[str]]:
    """The CACAO document, and what it can't say in CACAO's own words (it is in the extension).

    ``source``: the bytes of the playbook's file.  ``host``: for ``soarca``, the IPv4 address of the host that irkit runs
    on.  Raises ``UsageProblem`` where that is missing or none.
    """
    builder = _Builder(playbook)
    if profile == "soarca":
        builder.by_ssh(_address(host))
    elif host:
        raise UsageProblem("a host is for the profile soarca")
    else:
        builder.steps()
    time = now()[:23] + "Z"
    document: Json = {
        "type": "playbook", "spec_version": "cacao-2.0", "id": builder.id("playbook", ""), "name": playbook.name,
        "description": playbook.description or playbook.name, "playbook_types": ["mitigation", "investigation"],
        "playbook_activities": sorted({_activity(step.action.name) for step in playbook.every_step}),
        "created_by": f"identity--{uuid.uuid5(SPACE, author)}", "created": time, "modified": time, "labels": ["irkit", playbook.id],
        "playbook_variables": builder.variables(profile), "workflow_start": builder.start, "workflow": builder.workflow,
        "agent_definitions": builder.agents,
    }  # fmt: skip
    if builder.targets:
        document["target_definitions"] = builder.targets
        document["authentication_info_definitions"] = builder.logins
    if builder.exception:
        document["workflow_exception"] = builder.exception
    if found := _references(ref for step in playbook.every_step for ref in step.refs):
        document["external_references"] = found
    if profile == "soarca":
        return document, ["each step by itself: the one action runs all of them"]
    document["extension_definitions"] = {
        EXTENSION: {
            "type": "extension-definition", "name": "irkit playbook", "created_by": document["created_by"],
            "schema": "https://irkit.dev/schemas/playbook.schema.json", "version": "1",
        }
    }  # fmt: skip
    document["playbook_extensions"] = {
        EXTENSION: {
            "source": base64.b64encode(source).decode(), "source_digest": playbook.file_digest, "document_digest": digest(document),
        }
    }  # fmt: skip
    return document, builder.lost


def _address(host: str) -> str:
    """SOARCA's ssh capability dials ``ipv4[0]`` alone, and the schema that it holds documents against wants digits there."""
    try:
        return str(ipaddress.IPv4Address(host))
    except ValueError as error:
        raise UsageProblem(
            f"not an IPv4 address: {host!r}",
            hint="--host 10.0.0.5: the host that irkit runs on; SOARCA takes no name there",
        ) from error


def digest(document: Mapping[str, Any]) -> str:
    """The sha256 of a document without its extensions and signatures: whether it was changed since its export."""
    bare = {name: value for name, value in document.items() if name not in ("playbook_extensions", "signatures")}
    text = json.dumps(bare, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return "sha256:" + hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


class _Builder:
    """The workflow being made."""

    def __init__(self, playbook: Playbook) -> None:
        self.playbook = playbook
        self.workflow: Json = {}
        self.targets: Json = {}
        self.logins: Json = {}
        self.lost: list[str] = []
        self.exception = ""
        self.start = self.id("start", "")
        self.agent = self.id("individual", "responder")
        self.agents: Json = {self.agent: {"type": "individual", "name": "the responder, with irkit"}}

    def id(self, kind: str, name: str) -> str:
        """The same playbook has the same identifiers each time; of the form of version 4, as CACAO wants it of steps."""
        seed = hashlib.sha256(f"{SPACE}/{self.playbook.id}/{kind}/{name}".encode()).digest()
        return f"{kind}--{uuid.UUID(bytes=seed[:16], version=4)}"

    def variables(self, profile: str) -> Json:
        """Global variables; lists and mappings as texts of JSON, as CACAO has only texts for values."""
        found: Json = {
            f"__{name}__": {
                "type": TYPES[var.type], "description": var.description or name, **({} if var.required else {"value": _text(var.default)}),
                "constant": False, "external": True,
            }
            for name, var in self.playbook.vars.items()
        }  # fmt: skip
        words = {"target": "the container"}
        if profile == "soarca":
            words |= {"irkit_user": "who logs in on irkit's host", "irkit_password": "with which password"}
            known = [f"__{name}__" for name in words if name in self.playbook.vars]
            if known:
                raise UsageProblem(f"the playbook has a variable of a name that SOARCA's profile needs: {known[0]}")
        return {
            **found,
            **{
                f"__{name}__": {"type": "string", "description": said, "external": True} for name, said in words.items()
            },
        }

    def by_ssh(self, host: str) -> None:
        """One action: the whole playbook, by one command line.  SOARCA puts values into it as they are: see docs/cacao.md."""
        action, end = self.id("action", "run"), self.id("end", "")
        agent, target, login = self.id("soarca", "ssh"), self.id("ssh", "host"), self.id("user-auth", "host")
        words = "".join(f" --var '{name}=__{name}__:value'" for name, var in self.playbook.vars.items() if var.required)
        command = f"irkit run {self.playbook.id} '__target__:value' --json{words}"
        self.workflow = {
            self.start: {"type": "start", "name": "start", "on_completion": action},
            action: {
                "type": "action", "name": self.playbook.name, "on_completion": end, "agent": agent, "targets": [target],
                "commands": [{"type": "ssh", "command": command}],
            },
            end: {"type": "end", "name": "end"},
        }  # fmt: skip
        self.agents = {agent: {"type": "soarca", "name": "soarca-ssh"}}
        self.targets = {
            target: {"type": "ssh", "name": "irkit's host", "address": {"ipv4": [host]}, "port": "22", "authentication_info": login}
        }  # fmt: skip
        self.logins = {
            login: {
                "type": "user-auth", "name": "on irkit's host", "username": "__irkit_user__:value", "password": "__irkit_password__:value",
            }
        }  # fmt: skip

    def steps(self) -> None:
        """Every step, the steps of a failure, and the last ones."""
        end = self.id("end", "")
        self.workflow[end] = {"type": "end", "name": "end"}
        final = self._chain(self.playbook.final, end, end)
        failed = self._chain(self.playbook.on_exception, final, final)
        if self.playbook.on_exception or self.playbook.final:
            self.exception = failed
        for check in self.playbook.preflight:
            self.lost.append(f"preflight `{check.condition.text}`")
        first = self._chain(self.playbook.steps, final, failed)
        self.workflow[self.start] = {"type": "start", "name": "start", "on_completion": first}

    def _chain(self, steps: Sequence[Step], after: str, failed: str) -> str:
        """Steps one after another, made from the last to the first; where they begin."""
        position = len(steps)
        after_of: dict[str, str] = {}
        while position > 0:
            step = steps[position - 1]
            group = [one for one in steps if step.group and one.group == step.group] or [step]
            after = self._parallel(group, after) if len(group) > 1 else self._one(step, after, after_of, failed)
            after_of.update({one.id: after for one in group})
            position -= len(group)
        return after

    def _parallel(self, group: Sequence[Step], after: str) -> str:
        entry, ends = self.id("parallel", group[0].group), self.id("end", group[0].group)
        self.workflow[ends] = {"type": "end", "name": "end of one of these"}
        heads = [self._one(one, ends, {}, ends) for one in group]
        self.workflow[entry] = {"type": "parallel", "name": group[0].group, "next_steps": heads, "on_completion": after}
        return entry

    def _one(self, step: Step, after: str, later: Mapping[str, str], failed: str) -> str:
        """An action, within an if-condition where it has conditions that CACAO can say."""
        self._note(step)
        entry = self.id("action", step.id)
        condition = " AND ".join(
            f"({one})" for one in (_condition(one) for one, scope in step.conditions if not scope) if one
        )
        said = len([1 for one, scope in step.conditions if not scope and _condition(one)])
        if said < len(step.conditions):
            self.lost.append(f"step {step.id}: when {' and '.join(one.text for one, _ in step.conditions)}")
        if not condition:
            self.workflow[entry] = self._action(step, after, later, failed)
            return entry
        branch, end = self.id("if-condition", step.id), self.id("end", step.id)
        self.workflow[end] = {"type": "end", "name": f"end of {step.id}"}
        self.workflow[entry] = self._action(step, end, later, failed)
        self.workflow[branch] = {
            "type": "if-condition", "name": f"when: {step.name}", "condition": condition, "on_true": entry, "on_completion": after,
        }  # fmt: skip
        return branch

    def _note(self, step: Step) -> None:
        """What of a step CACAO has no word for."""
        for name, there in (
            ("foreach", step.foreach is not None), ("retry", step.retry.attempts > 1), ("needs", step.needs), ("approve", step.approve),
            ("rollback", step.rollback or step.on_failure == "rollback"), ("critical", step.critical), ("register", step.register),
        ):  # fmt: skip
            if there:
                self.lost.append(f"step {step.id}: {name}")

    def _outside(self, value: Any, scope: str) -> Any:
        """A value within an included playbook as the outermost one would write it."""
        if isinstance(value, list | tuple):
            return [self._outside(one, scope) for one in value]
        if isinstance(value, Mapping):
            return {name: self._outside(one, scope) for name, one in value.items()}
        while scope and isinstance(value, Reference) and value.name == "vars":
            binding = self.playbook.bindings[scope]
            value, scope = binding.vars[value.fields[0]], binding.outer
        return value

    def _action(self, step: Step, after: str, later: Mapping[str, str], failed: str) -> Json:
        given = {
            name: _plain(self._outside(value, step.scope))
            for name, value in step.arguments.items()
            if value not in (None, "", (), {})
        }
        words = f" with {json.dumps(given, ensure_ascii=False)}" if given else ""
        ask = f" Only once it is approved: {step.approve.message}" if step.approve else ""
        command: Json = {
            "type": "manual", "command": f"{step.action.summary} irkit: {step.action.name}{words} on __target__:value.{ask}",
            "playbook_activity": _activity(step.action.name),
        }  # fmt: skip
        found: Json = {"type": "action", "name": step.name, "commands": [command], "agent": self.agent}
        if step.on_failure == "continue":
            found["on_completion"] = after
        else:
            found |= {"on_success": after, "on_failure": later.get(step.goto, failed)}
        if step.timeout is not None:
            found["timeout"] = max(1, int(step.timeout * 1000))
        if references := _references(iter(step.refs)):
            found["external_references"] = references
        own = {
            "id": step.id,
            "uses": step.action.name,
            "with": given,
            "when": " and ".join(f"({one.text})" for one, _ in step.conditions),
        }
        found["step_extensions"] = {EXTENSION: {name: value for name, value in own.items() if value}}
        return found


def _activity(action: str) -> str:
    return next((word for start, word in ACTIVITIES.items() if action.startswith(start)), "step-sequence")


def _references(refs: Iterator[str]) -> list[Json]:
    found = []
    for ref in sorted(set(refs)):
        kind, _, name = ref.partition(":")
        title, url = REFERENCES[kind]
        place = {"url": url.format(name.replace(".", "/"))} if url else {}
        found.append({"name": f"{title} {name}", "source": title, "external_id": name, **place})
    return found


def _plain(value: Any) -> Any:
    if isinstance(value, Reference):
        return (
            f"__{value.fields[0]}__:value"
            if value.name == "vars"
            else f"${{{{ {'.'.join((value.name, *value.fields))} }}}}"
        )
    if isinstance(value, Mapping):
        return {name: _plain(one) for name, one in value.items()}
    return [_plain(one) for one in value] if isinstance(value, list | tuple) else value


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _condition(condition: Condition) -> str:
    """In STIX Patterning's comparisons (CACAO 2.0, 4.7), where it is over variables and constants alone; else empty."""
    try:
        return _comparison(condition.node)
    except ValueError:
        return ""


def _comparison(node: Node) -> str:
    """Raises ``ValueError`` for what can't be said."""
    if isinstance(node, Every):
        return (" AND " if node.every else " OR ").join(f"({_comparison(one)})" for one in node.parts)
    if isinstance(node, Not):
        return f"NOT ({_comparison(node.inner)})"
    if isinstance(node, Name) and node.parts[0] == "vars":
        return f"{_name(node)} = true"
    if isinstance(node, Test) and node.operator in OPERATORS and isinstance(node.right, Literal):
        return f"{_name(node.left)} {OPERATORS[node.operator]} {_literal(node.right.value)}"
    raise ValueError("no comparison of variables")


def _name(node: Node) -> str:
    if isinstance(node, Name) and node.parts[0] == "vars":
        return f"__{node.parts[1]}__:value"
    raise ValueError("no variable")


def _literal(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"
    if isinstance(value, int | float):
        return str(value)
    raise ValueError("no constant")
