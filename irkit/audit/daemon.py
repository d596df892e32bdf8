"""Sections 2 and 7: the engine, from ``GET /info``, its command line and its ``daemon.json``."""

from __future__ import annotations

from typing import Any

from irkit.audit.host import options
from irkit.audit.model import Check, Json, Outcome, Subject, Unanswered, either, noted, passed, warned

LOCAL_LOGS = ("json-file", "local", "none")


def _info(subject: Subject) -> Json:
    if subject.info is None:
        raise Unanswered("the engine's description could not be had")
    return subject.info


def _options(subject: Subject) -> dict[str, Any]:
    host = subject.readable_host()
    try:
        return options(host)
    except (OSError, ValueError) as error:
        raise Unanswered(f"the engine's settings can't be read: {error}") from error


def _switch(subject: Subject, name: str, default: bool) -> bool:
    value = _options(subject).get(name, default)
    if not isinstance(value, bool):
        raise Unanswered(f"{name} is neither true nor false")
    return value


def _security(subject: Subject, name: str) -> bool:
    return any(f"name={name}" in str(one) for one in _info(subject)["SecurityOptions"] or ())


def _rootless(subject: Subject) -> Outcome:
    on = _security(subject, "rootless")
    return passed("rootless") if on else warned("the engine runs as root")


def _icc(subject: Subject) -> Outcome:
    if subject.bridge is None:
        raise Unanswered("the network `bridge` could not be had")
    value = str((subject.bridge.get("Options") or {}).get("com.docker.network.bridge.enable_icc", "true"))
    return either(value == "false", f"enable_icc is {value} on the default bridge")


def _log_level(subject: Subject) -> Outcome:
    level = str(_options(subject).get("log-level") or "info")
    if level == "info" and _switch(subject, "debug", False):
        level = "debug"
    return either(level == "info", f"log level {level}")


def _iptables(subject: Subject) -> Outcome:
    on = _switch(subject, "iptables", True)
    return either(on, f"iptables: {str(on).lower()}")


def _registries(subject: Subject) -> Outcome:
    """The loopback addresses are always in the engine's list."""
    config = _info(subject).get("RegistryConfig")
    if config is None:
        raise Unanswered("the engine does not tell its registries")
    found = {str(one) for one in config.get("InsecureRegistryCIDRs") or ()} - {"127.0.0.0/8", "::1/128"}
    found |= {str(name) for name, one in (config.get("IndexConfigs") or {}).items() if not one.get("Secure", True)}
    return either(not found, f"insecure: {', '.join(sorted(found))}" if found else "none but loopback")


def _aufs(subject: Subject) -> Outcome:
    driver = str(_info(subject)["Driver"])
    return either(driver != "aufs", f"storage driver {driver}")


def _tls(subject: Subject) -> Outcome:
    hosts = [str(one) for one in _options(subject).get("hosts") or ()]
    open_ones = [one for one in hosts if one.startswith("tcp://")]
    if not open_ones:
        return passed("it does not listen on TCP")
    verified = _switch(subject, "tlsverify", False)
    return either(verified, f"{', '.join(open_ones)}, tlsverify {str(verified).lower()}")


def _ulimits(subject: Subject) -> Outcome:
    found = _options(subject).get("default-ulimits") or _options(subject).get("default-ulimit")
    return noted("default limits are set" if found else "no default limits")


def _userns(subject: Subject) -> Outcome:
    on = _security(subject, "userns") or _security(subject, "rootless")
    return either(on, "user namespaces" if on else "root within a container is root outside")


def _cgroup(subject: Subject) -> Outcome:
    parent = str(_options(subject).get("cgroup-parent") or "")
    return either(not parent, f"cgroup parent {parent or 'the default'}")


def _authorization(subject: Subject) -> Outcome:
    found = [str(one) for one in (_info(subject).get("Plugins") or {}).get("Authorization") or ()]
    return either(bool(found), f"plugins: {', '.join(found)}" if found else "no authorization plugin")


def _logging(subject: Subject) -> Outcome:
    driver = str(_info(subject)["LoggingDriver"] or "")
    return either(driver not in ("", *LOCAL_LOGS), f"log driver {driver}")


def _privileges(subject: Subject) -> Outcome:
    on = _security(subject, "no-new-privileges")
    if not on:  # 20.10 does not report it
        on = _switch(subject, "no-new-privileges", False)
    return either(on, "no-new-privileges by default" if on else "not the default")


def _live_restore(subject: Subject) -> Outcome:
    if (_info(subject)["Swarm"] or {}).get("LocalNodeState") == "active":
        return noted("a swarm does not go with live restore")
    on = bool(_info(subject)["LiveRestoreEnabled"])
    return either(on, f"live restore: {str(on).lower()}")


def _proxy(subject: Subject) -> Outcome:
    on = _switch(subject, "userland-proxy", True)
    return either(not on, f"userland proxy: {str(on).lower()}")


def _seccomp(subject: Subject) -> Outcome:
    found = [str(one) for one in _info(subject)["SecurityOptions"] or () if "name=seccomp" in str(one)]
    if not found:
        return warned("the engine reports no seccomp")
    return warned("seccomp is off by default") if "profile=unconfined" in found[0] else noted(found[0])


def _experimental(subject: Subject) -> Outcome:
    on = bool(_info(subject)["ExperimentalBuild"])
    return either(not on, f"experimental: {str(on).lower()}")


def _swarm_state(subject: Subject) -> Outcome:
    state = str((_info(subject)["Swarm"] or {}).get("LocalNodeState") or "inactive")
    return passed("no swarm") if state == "inactive" else warned(f"swarm mode is {state}")


def _swarm(subject: Subject) -> Json | None:
    swarm = _info(subject)["Swarm"] or {}
    return swarm if swarm.get("LocalNodeState") == "active" and swarm.get("ControlAvailable") else None


def _managers(subject: Subject) -> Outcome:
    swarm = _swarm(subject)
    if swarm is None:
        return noted("not a swarm's manager")
    count = int(swarm.get("Managers") or 0)
    return passed(f"{count} managers") if count % 2 and count >= 3 else warned(f"{count} managers")


def _overlays(subject: Subject) -> Outcome:
    if _swarm(subject) is None:
        return noted("not a swarm's manager")
    if subject.networks is None:
        raise Unanswered("the networks could not be listed")
    rows = [one for one in subject.networks if one.get("Driver") == "overlay" and not one.get("Ingress")]
    found = [str(one["Name"]) for one in rows if "encrypted" not in (one.get("Options") or {})]
    return either(not found, f"not encrypted: {', '.join(found)}" if found else "every overlay network is encrypted")


def _auto_lock(subject: Subject) -> Outcome:
    swarm = _swarm(subject)
    if swarm is None:
        return noted("not a swarm's manager")
    spec = (swarm.get("Cluster") or {}).get("Spec")
    if spec is None:
        raise Unanswered("the engine does not tell the swarm's settings")
    on = bool((spec.get("EncryptionConfig") or {}).get("AutoLockManagers"))
    return either(on, f"auto-lock: {str(on).lower()}")


_DAEMON = (
    ("2.1", "The engine does not run as root", "medium", "Run the engine rootless where the workload allows it.", _rootless),
    ("2.2", "No traffic between containers on the default bridge", "medium", 'Set `"icc": false` in daemon.json.', _icc),
    ("2.3", "The log level is info", "low", 'Set `"log-level": "info"` in daemon.json.', _log_level),
    ("2.4", "The engine may change iptables", "high", 'Drop `"iptables": false`: without its rules published and internal networks are open.', _iptables),
    ("2.5", "No insecure registries", "high", "Take the registry out of `insecure-registries` and give it a certificate.", _registries),
    ("2.6", "Not the storage driver aufs", "low", "Move the engine to overlay2.", _aufs),
    ("2.7", "TCP only with TLS that checks clients", "critical", "Set `tlsverify`, `tlscacert`, `tlscert` and `tlskey`, or drop the TCP address.", _tls),
    ("2.8", "Default ulimits", "low", "Set `default-ulimits` in daemon.json.", _ulimits),
    ("2.9", "User namespaces", "medium", 'Set `"userns-remap": "default"` in daemon.json.', _userns),
    ("2.10", "The default cgroup parent", "low", "Drop `cgroup-parent`.", _cgroup),
    ("2.12", "Clients are authorized", "low", "Install an authorization plugin and name it in `authorization-plugins`.", _authorization),
    ("2.13", "Logs go to another machine", "medium", "Set `log-driver` to one that sends logs away.", _logging),
    ("2.14", "No new privileges by default", "medium", 'Set `"no-new-privileges": true` in daemon.json.', _privileges),
    ("2.15", "Live restore", "low", 'Set `"live-restore": true` in daemon.json.', _live_restore),
    ("2.16", "No userland proxy", "low", 'Set `"userland-proxy": false` in daemon.json.', _proxy),
    ("2.17", "The engine's seccomp filter", "medium", "Drop `seccomp-profile: unconfined`; build the kernel with seccomp.", _seccomp),
    ("2.18", "No experimental features", "low", 'Set `"experimental": false` in daemon.json.', _experimental),
)  # fmt: skip
_SWARM = (
    ("5.1", "No swarm mode where none is needed", "low", "`docker swarm leave` where it is not used.", _swarm_state),
    ("7.1", "An odd number of managers, three or more", "low", "Promote nodes until there are three or five managers.", _managers),
    ("7.3", "Overlay networks are encrypted", "medium", "Make them with `--opt encrypted`.", _overlays),
    ("7.5", "Managers are auto-locked", "medium", "`docker swarm update --autolock`.", _auto_lock),
)  # fmt: skip
CHECKS = tuple(Check(number, title, "daemon", severity, fix, look) for number, title, severity, fix, look in _DAEMON)
SWARM_CHECKS = tuple(
    Check(number, title, "swarm", severity, fix, look) for number, title, severity, fix, look in _SWARM
)
