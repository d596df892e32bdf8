"""The running state against the image's configuration: what whoever created the container, or whoever is in it, changed.

Fields of ``GET /containers/{id}/json`` and ``GET /images/{name}/json`` (Docker Engine API v1.41).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from irkit.text import text_fields

SHOWN_VALUES = frozenset({
    "PATH", "LD_PRELOAD", "LD_LIBRARY_PATH", "LD_AUDIT", "PYTHONPATH", "PYTHONSTARTUP", "NODE_OPTIONS", "PERL5OPT", "PERL5LIB",
    "RUBYOPT", "JAVA_TOOL_OPTIONS", "BASH_ENV", "ENV", "PROMPT_COMMAND", "GIT_SSH_COMMAND",
})  # fmt: skip
"""Variables that can load code.  The values of all others may be secrets and stay out of what is printed."""
MASKED = "***"
ENTRYPOINTS = (("user", "User"), ("working_dir", "WorkingDir"), ("stop_signal", "StopSignal"))
LISTS = (("entrypoint", "Entrypoint"), ("cmd", "Cmd"))
FLAGS = (("privileged", "Privileged"), ("publish_all", "PublishAllPorts"))
MODES = (("pid_mode", "PidMode"), ("network_mode", "NetworkMode"), ("ipc_mode", "IpcMode"), ("uts_mode", "UTSMode"), ("userns_mode", "UsernsMode"), ("cgroupns_mode", "CgroupnsMode"))  # fmt: skip
SET = (
    ("capability", "CapAdd"),
    ("security_opt", "SecurityOpt"),
    ("group", "GroupAdd"),
    ("volumes_from", "VolumesFrom"),
)
"""Lists of the host's side whose every item is something that the image does not ask for."""


@dataclass(frozen=True, slots=True)
class ConfigChange:
    """One difference between how the container runs and how its image asks to be run."""

    name: str
    change: str
    value: str
    before: str = ""

    def to_json(self) -> dict[str, Any]:
        """As in ``irkit diff --json``: values of variables that can't load code are masked."""
        value, before = (masked(self.name, one) for one in (self.value, self.before))
        return {
            "name": self.name,
            "change": self.change,
            **text_fields("value", value),
            **text_fields("before", before),
        }


def masked(name: str, value: str) -> str:
    """A value for output."""
    variable, separator, _ = value.partition("=")
    return f"{variable}={MASKED}" if name == "env" and separator and variable not in SHOWN_VALUES else value


def config_changes(container: Mapping[str, Any], image: Mapping[str, Any]) -> list[ConfigChange]:
    """Every difference; none when either document is missing."""
    if not container or not image:
        return []
    now, was = (_mapping(one, "Config") for one in (container, image))
    host = _mapping(container, "HostConfig")
    return [*_config(now, was), *_host(host), *_mounts(container, was), *_ports(host, was)]


def _mapping(raw: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = raw.get(name)
    return found if isinstance(found, Mapping) else {}


def _texts(raw: object) -> tuple[str, ...]:
    if isinstance(raw, str):
        return (raw,)
    return tuple(str(one) for one in raw) if isinstance(raw, Sequence) else ()


def _config(now: Mapping[str, Any], was: Mapping[str, Any]) -> Iterator[ConfigChange]:
    for name, key in ENTRYPOINTS:
        yield from _one(name, str(now.get(key) or ""), str(was.get(key) or ""))
    for name, key in LISTS:
        yield from _one(name, " ".join(_texts(now.get(key))), " ".join(_texts(was.get(key))))
    yield from _named("env", _pairs(now.get("Env")), _pairs(was.get("Env")))
    yield from _named("label", _labels(now), _labels(was))
    check = tuple(" ".join(_texts(_mapping(one, "Healthcheck").get("Test"))) for one in (now, was))
    yield from _one("healthcheck", *check)


def _one(name: str, value: str, before: str) -> Iterator[ConfigChange]:
    if value != before:
        yield ConfigChange(name, "changed" if value and before else "added" if value else "removed", value, before)


def _pairs(raw: object) -> dict[str, str]:
    return {variable: value for variable, _, value in (one.partition("=") for one in _texts(raw))}


def _labels(raw: Mapping[str, Any]) -> dict[str, str]:
    return {str(name): str(value) for name, value in _mapping(raw, "Labels").items()}


def _named(name: str, now: Mapping[str, str], was: Mapping[str, str]) -> Iterator[ConfigChange]:
    for key in sorted({*now, *was}):
        if now.get(key) != was.get(key):
            value, before = (f"{key}={one[key]}" if key in one else "" for one in (now, was))
            yield from _one(name, value, before)


def _host(host: Mapping[str, Any]) -> Iterator[ConfigChange]:
    for name, key in FLAGS:
        if host.get(key):
            yield ConfigChange(name, "added", "true")
    for name, key in MODES:
        mode = str(host.get(key) or "")
        if mode == "host" or mode.startswith("container:"):
            yield ConfigChange(name, "added", mode)
    for name, key in SET:
        for item in _texts(host.get(key)):
            yield ConfigChange(name, "added", _capability(item) if name == "capability" else item)
    for item in host.get("Devices") or ():
        if isinstance(item, Mapping):
            yield ConfigChange("device", "added", str(item.get("PathOnHost") or ""))
    for key, value in sorted(_mapping(host, "Sysctls").items()):
        yield ConfigChange("sysctl", "added", f"{key}={value}")
    for key in ("MaskedPaths", "ReadonlyPaths"):
        if key in host and host[key] is not None and not host[key]:
            yield ConfigChange("unmasked", "removed", key)


def _capability(name: str) -> str:
    """``SYS_ADMIN`` and ``CAP_SYS_ADMIN`` are one: ``cap_sys_admin``; ``ALL`` is ``cap_all``."""
    lower = name.lower()
    return lower if lower.startswith("cap_") else f"cap_{lower}"


def _mounts(container: Mapping[str, Any], was: Mapping[str, Any]) -> Iterator[ConfigChange]:
    announced = set(_mapping(was, "Volumes"))
    for mount in container.get("Mounts") or ():
        if not isinstance(mount, Mapping):
            continue
        point = str(mount.get("Destination") or "")
        if mount.get("Type") == "volume" and point in announced:
            continue
        source = str(mount.get("Source") or mount.get("Name") or "")
        mode = "rw" if mount.get("RW") else "ro"
        yield ConfigChange("mount", "added", f"{source}:{point}:{mode}")


def _ports(host: Mapping[str, Any], was: Mapping[str, Any]) -> Iterator[ConfigChange]:
    exposed = set(_mapping(was, "ExposedPorts"))
    for port in sorted(_mapping(host, "PortBindings")):
        if port not in exposed:
            yield ConfigChange("port", "added", port)
