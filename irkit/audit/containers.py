"""Section 5: how a container runs, from its inspect document (Docker Engine API v1.41)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from irkit.audit.model import Check, Json, Outcome, Subject, Unanswered, either, failed, noted, passed, warned
from irkit.engine.docker_config import DEFAULT_CAPABILITIES, ENGINE_SOCKETS
from irkit.mounts import UNFOLLOWED, UNSEEN

SENSITIVE = ("/boot", "/dev", "/etc", "/lib", "/lib64", "/proc", "/sys", "/usr", "/root", "/var/lib/docker", "/var/lib/containerd", "/run", "/var/run")  # fmt: skip
FEW_PORTS = 1024
DIGEST = re.compile(r"(?:\A|@)sha256:[0-9a-f]{64}\Z")


def _raw(subject: Subject) -> Json:
    if subject.container is None:
        raise Unanswered("there is no description of the container")
    return subject.container


def _host(subject: Subject) -> Json:
    value: Json = _raw(subject)["HostConfig"]
    return value


def _security(subject: Subject) -> list[str]:
    return [str(one) for one in _host(subject)["SecurityOpt"] or ()]


def _mounts(subject: Subject) -> list[Json]:
    return [one for one in _raw(subject)["Mounts"] or () if one.get("Type") == "bind"]


def _engine_options(subject: Subject) -> list[str]:
    if subject.info is None:
        raise Unanswered("the engine's own description is missing")
    return [str(one) for one in subject.info.get("SecurityOptions") or ()]


def _apparmor(subject: Subject) -> Outcome:
    profile = str(_raw(subject)["AppArmorProfile"] or "")
    if not any("name=apparmor" in one for one in _engine_options(subject)):
        return noted("the engine reports no AppArmor")
    return either(
        profile not in ("", "unconfined") and not _host(subject)["Privileged"], f"profile {profile or 'none'!r}"
    )


def _selinux(subject: Subject) -> Outcome:
    if not any("name=selinux" in one for one in _engine_options(subject)):
        return noted("the engine reports no SELinux")
    off = [one for one in _security(subject) if one.replace(":", "=") == "label=disable"]
    return either(not off, f"labels are {'off' if off else 'on'}")


def _capabilities(subject: Subject) -> Outcome:
    if _host(subject)["Privileged"]:
        return failed("privileged: it has every capability")
    added = {str(one).upper().removeprefix("CAP_") for one in _host(subject)["CapAdd"] or ()}
    more = sorted(added - DEFAULT_CAPABILITIES)
    return either(not more, f"added: {', '.join(more)}" if more else "none beyond the engine's default")


def _privileged(subject: Subject) -> Outcome:
    return either(not _host(subject)["Privileged"], f"Privileged: {_host(subject)['Privileged']}")


def _inside(path: str, folder: str) -> bool:
    return path == folder or path.startswith(folder + "/")


def _directories(subject: Subject) -> Outcome:
    sources = sorted({str(one.get("Source")) for one in _mounts(subject)})
    found = [one for one in sources if one == "/" or any(_inside(one, folder) for folder in SENSITIVE)]
    if not found:
        _all_seen(subject)
    return _by_name(subject, found, "no system folder is mounted")


def _by_name(subject: Subject, found: list[str], good: str) -> Outcome:
    """A pass holds for names alone where nobody could follow them."""
    if found:
        return failed(f"mounted: {', '.join(found)}")
    blind = next((one for one in _mounts(subject) if one.get(UNFOLLOWED)), None)
    if blind is None:
        return passed(good)
    return warned(f"{good} by name; whether {blind.get('Source')} is a link was not seen: {blind[UNFOLLOWED]}")


def _all_seen(subject: Subject) -> None:
    """Raises ``Unanswered`` when a volume may be a folder of the host, and nobody could ask."""
    unseen = [str(one.get("Name")) for one in _raw(subject)["Mounts"] or () if one.get(UNSEEN)]
    if unseen:
        raise Unanswered(f"what the volume {unseen[0]} shows of the host is not known")


def _sshd(subject: Subject) -> Outcome:
    if not _raw(subject)["State"].get("Running"):
        return noted("it does not run")
    if subject.processes is None:
        raise Unanswered("its processes could not be listed")
    found = [line for line in subject.processes if line.split(" ")[0].rstrip(":").rpartition("/")[2] == "sshd"]
    return either(not found, f"{len(found)} sshd processes" if found else "no process is named sshd")


def _bindings(subject: Subject) -> Iterator[tuple[str, str, int]]:
    """Container port, host address, host port (0: the engine chooses) of what is published, running or not."""
    for port, rows in (_host(subject)["PortBindings"] or {}).items():
        for row in rows or ():
            yield str(port), str(row.get("HostIp") or ""), int(row.get("HostPort") or 0)


def _low_ports(subject: Subject) -> Outcome:
    found = [str(number) for _, _, number in _bindings(subject) if 0 < number < FEW_PORTS]
    return either(not found, f"host ports {', '.join(found)}" if found else "no host port below 1024")


def _needed_ports(subject: Subject) -> Outcome:
    found = [f"{address or '*'}:{number or 'any'} → {port}" for port, address, number in _bindings(subject)]
    everything = " (and all exposed ones, at random ports)" if _host(subject)["PublishAllPorts"] else ""
    return noted(f"published: {', '.join(found) or 'none'}{everything}")


def _interface(subject: Subject) -> Outcome:
    found = [port for port, address, _ in _bindings(subject) if address in ("", "0.0.0.0", "::")]  # noqa: S104
    if _host(subject)["PublishAllPorts"]:
        found.append("all exposed ports")
    return either(not found, f"on every address: {', '.join(found)}" if found else "nothing listens on every address")


def _mode(field: str, what: str) -> Any:
    def look(subject: Subject) -> Outcome:
        mode = str(_host(subject)[field] or "")
        return either(mode != "host", f"{what}: {mode or 'its own'}")

    return look


def _memory(subject: Subject) -> Outcome:
    limit = int(_host(subject)["Memory"] or 0)
    return either(limit > 0, f"{limit} bytes" if limit else "no limit")


def _cpu(subject: Subject) -> Outcome:
    fields = ("CpuShares", "NanoCpus", "CpuQuota")
    found = [f"{name} {_host(subject)[name]}" for name in fields if _host(subject).get(name)]
    if found == ["CpuShares 1024"]:
        found = []  # the kernel's own default: a priority that says nothing
    return either(bool(found), ", ".join(found) or "neither shares nor a quota")


def _read_only(subject: Subject) -> Outcome:
    return either(
        bool(_host(subject)["ReadonlyRootfs"]), f"ReadonlyRootfs: {bool(_host(subject).get('ReadonlyRootfs'))}"
    )


def _restart(subject: Subject) -> Outcome:
    policy = _host(subject)["RestartPolicy"] or {}
    name, count = str(policy.get("Name") or "no"), int(policy.get("MaximumRetryCount") or 0)
    good = name == "no" or (name == "on-failure" and 0 < count <= 5)
    return either(good, f"{name}{f', at most {count}' if count else ''}")


def _devices(subject: Subject) -> Outcome:
    found = [str(one.get("PathOnHost")) for one in _host(subject)["Devices"] or ()]
    return warned(f"devices: {', '.join(found)}") if found else passed("none")


def _ulimits(subject: Subject) -> Outcome:
    found = [f"{one['Name']} {one['Soft']}:{one['Hard']}" for one in _host(subject)["Ulimits"] or ()]
    return noted(f"own limits: {', '.join(found)}" if found else "the engine's default limits")


def _propagation(subject: Subject) -> Outcome:
    found = [
        str(one.get("Destination")) for one in _mounts(subject) if str(one.get("Propagation")) in ("shared", "rshared")
    ]
    return either(not found, f"shared: {', '.join(found)}" if found else "no mount is shared")


def _seccomp(subject: Subject) -> Outcome:
    if _host(subject)["Privileged"]:
        return failed("privileged: no filter")
    off = any(one.replace(":", "=", 1) == "seccomp=unconfined" for one in _security(subject))
    if off:
        return failed("seccomp=unconfined")
    on = any("name=seccomp" in one for one in _engine_options(subject))
    return either(on, "a filter" if on else "the engine reports no seccomp")


def _cgroup(subject: Subject) -> Outcome:
    parent = str(_host(subject)["CgroupParent"] or "")
    return either(parent in ("", "docker", "system.slice"), f"parent {parent or 'the default'}")


def _no_new_privileges(subject: Subject) -> Outcome:
    words = [one.replace(":", "=") for one in _security(subject)]
    good = "no-new-privileges" in words or "no-new-privileges=true" in words
    if not good and "no-new-privileges=false" not in words and subject.info is not None:
        good = any("name=no-new-privileges" in one for one in _engine_options(subject))
    return either(good, "set" if good else "not set")


def _health(subject: Subject) -> Outcome:
    test = (_raw(subject)["Config"].get("Healthcheck") or {}).get("Test") or []
    good = bool(test) and test[0] != "NONE"
    return either(good, "a health check" if good else "no health check")


def _latest(subject: Subject) -> Outcome:
    name = str(_raw(subject)["Config"].get("Image") or "")
    if DIGEST.search(name):
        return passed("named by digest")
    tag = name.rpartition("/")[2].partition(":")[2] or "latest"
    return (
        warned(f"{name}: the tag `latest` moves")
        if tag == "latest"
        else noted(f"{name}: whether it is the newest can't be seen here")
    )


def _pids(subject: Subject) -> Outcome:
    limit = int(_host(subject)["PidsLimit"] or 0)
    return either(limit > 0, f"{limit}" if limit > 0 else "no limit")


def _docker0(subject: Subject) -> Outcome:
    mode = str(_host(subject)["NetworkMode"] or "default")
    return warned("on the default bridge") if mode in ("default", "bridge") else passed(f"network {mode}")


def _socket(subject: Subject) -> Outcome:
    found = [str(one["Source"]) for one in _mounts(subject) if str(one.get("Source")).endswith(ENGINE_SOCKETS)]
    if not found:
        _all_seen(subject)
    return _by_name(subject, found, "no engine's socket is mounted")


CHECKS = tuple(
    Check(number, title, "container", severity, fix, look)
    for number, title, severity, fix, look in (
        ("5.2", "AppArmor confines the container", "medium", "Drop `--security-opt apparmor=unconfined`, or name a profile.", _apparmor),
        ("5.3", "SELinux labels confine the container", "medium", "Drop `--security-opt label=disable`; start the engine with `--selinux-enabled`.", _selinux),
        ("5.4", "No capabilities beyond the default", "high", "Use `--cap-drop ALL` and add only what the program needs.", _capabilities),
        ("5.5", "Not privileged", "critical", "Drop `--privileged`; give the one capability or device that is needed.", _privileged),
        ("5.6", "No system folder of the host is mounted", "high", "Mount a volume, or only the one file that is needed, read-only.", _directories),
        ("5.7", "No sshd within", "medium", "Take sshd out of the image; use `docker exec`.", _sshd),
        ("5.8", "No privileged host port", "low", "Publish at a host port of 1024 or above, behind a proxy.", _low_ports),
        ("5.9", "Only needed ports are published", "low", "Drop `--publish-all` and each `--publish` that nobody uses.", _needed_ports),
        ("5.10", "A network namespace of its own", "high", "Drop `--network host`.", _mode("NetworkMode", "network")),
        ("5.11", "Memory is limited", "medium", "Set `--memory`.", _memory),
        ("5.12", "CPU share is set", "low", "Set `--cpus` or `--cpu-shares`.", _cpu),
        ("5.13", "The root file system is read-only", "medium", "Set `--read-only`, with `--tmpfs` where the program writes.", _read_only),
        ("5.14", "Ports are bound to one address", "medium", "Publish as `--publish ADDRESS:PORT:PORT`.", _interface),
        ("5.15", "Restarts are limited", "low", "Set `--restart on-failure:5`.", _restart),
        ("5.16", "A pid namespace of its own", "high", "Drop `--pid host`.", _mode("PidMode", "pid namespace")),
        ("5.17", "An IPC namespace of its own", "high", "Drop `--ipc host`.", _mode("IpcMode", "IPC namespace")),
        ("5.18", "No host devices", "medium", "Drop `--device`, or give it without the rights to write and mknod.", _devices),
        ("5.19", "Ulimits", "low", "Set `--ulimit` where the engine's default does not fit.", _ulimits),
        ("5.20", "No shared mount propagation", "medium", "Drop `shared` and `rshared` from the mount.", _propagation),
        ("5.21", "A UTS namespace of its own", "medium", "Drop `--uts host`.", _mode("UTSMode", "UTS namespace")),
        ("5.22", "A seccomp filter", "high", "Drop `--security-opt seccomp=unconfined`.", _seccomp),
        ("5.25", "The default cgroup parent", "low", "Drop `--cgroup-parent`.", _cgroup),
        ("5.26", "No new privileges", "medium", "Set `--security-opt no-new-privileges`.", _no_new_privileges),
        ("5.27", "Health is checked", "low", "Set `--health-cmd`, or HEALTHCHECK in the image.", _health),
        ("5.28", "The image is named by a tag that stays", "low", "Name the image by a version or a digest.", _latest),
        ("5.29", "Processes are limited", "medium", "Set `--pids-limit`.", _pids),
        ("5.30", "Not on the default bridge", "low", "Make a network and use `--network NAME`.", _docker0),
        ("5.31", "The engine's user namespace", "high", "Drop `--userns host`.", _mode("UsernsMode", "user namespace")),
        ("5.32", "No engine's socket within", "critical", "Take the mount of the socket away; it is root on the host.", _socket),
    )
)  # fmt: skip
