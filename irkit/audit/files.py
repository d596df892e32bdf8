"""Sections 1 and 3: the host's groups and audit rules; owners and permissions of the engine's files."""

from __future__ import annotations

from collections.abc import Callable

from irkit.audit.daemon import _options
from irkit.audit.host import Host, group_members, options
from irkit.audit.model import Check, Outcome, Subject, Unanswered, either, failed, noted, passed, warned

SERVICE = (
    "/usr/lib/systemd/system/docker.service",
    "/lib/systemd/system/docker.service",
    "/etc/systemd/system/docker.service",
)
SOCKET = (
    "/usr/lib/systemd/system/docker.socket",
    "/lib/systemd/system/docker.socket",
    "/etc/systemd/system/docker.socket",
)


def _socket_path(subject: Subject) -> tuple[str, ...]:
    hosts = [str(one) for one in _options(subject).get("hosts") or ()]
    found = [
        one.removeprefix("unix://").replace("/var/run/", "/run/", 1) for one in hosts if one.startswith("unix:///")
    ]
    return tuple(found) or ("/run/docker.sock",)


def _configured(option: str) -> Callable[[Subject], tuple[str, ...]]:
    def paths(subject: Subject) -> tuple[str, ...]:
        value = _options(subject).get(option)
        return (str(value),) if value else ()

    return paths


def _registry_certificates(subject: Subject) -> tuple[str, ...]:
    base = "/etc/docker/certs.d"
    host = subject.readable_host()
    return tuple(f"{base}/{one}/{name}" for one in host.names(base) for name in host.names(f"{base}/{one}"))


def _daemon_json(subject: Subject) -> tuple[str, ...]:
    """Where the engine was told to find it."""
    host = subject.readable_host()
    return (
        (str(options(host).get("config-file") or "/etc/docker/daemon.json"),)
        if host.argv
        else ("/etc/docker/daemon.json",)
    )


def _fixed(*paths: str) -> Callable[[Subject], tuple[str, ...]]:
    return lambda _: paths


def _each(
    subject: Subject, paths: Callable[[Subject], tuple[str, ...]], judge: Callable[[Host, str], str | None]
) -> Outcome:
    """``judge`` gives what is wrong with a file, ``""`` when nothing is, ``None`` when there is no file."""
    host = subject.readable_host()
    try:
        found = {path: judge(host, path) for path in paths(subject)}
    except OSError as error:
        raise Unanswered(f"can't be read: {error.strerror or error}") from error
    there = [path for path, wrong in found.items() if wrong is not None]
    if not there:
        return noted("there is no such file")
    bad = [f"{path} {wrong}" for path, wrong in found.items() if wrong]
    return failed("; ".join(bad)) if bad else passed(", ".join(there))


def _owned(paths: Callable[[Subject], tuple[str, ...]], group: str = "root") -> Callable[[Subject], Outcome]:
    def judge(host: Host, path: str) -> str | None:
        found = host.attributes(path)
        if found is None:
            return None
        good = found.uid == 0 and (found.gid == 0 or (group != "root" and _gid(host, group) == found.gid))
        return "" if good else f"belongs to {found.uid}:{found.gid}"

    return lambda subject: _each(subject, paths, judge)


def _gid(host: Host, group: str) -> int | None:
    for line in (host.text("/etc/group") or "").splitlines():
        fields = line.split(":")
        if len(fields) >= 3 and fields[0] == group and fields[2].isdigit():
            return int(fields[2])
    return None


def _within(paths: Callable[[Subject], tuple[str, ...]], mode: int) -> Callable[[Subject], Outcome]:
    def judge(host: Host, path: str) -> str | None:
        found = host.attributes(path)
        if found is None:
            return None
        return "" if not found.mode & ~mode & 0o7777 else f"has mode {found.mode:04o}, not within {mode:04o}"

    return lambda subject: _each(subject, paths, judge)


def _group(subject: Subject) -> Outcome:
    try:
        members = group_members(subject.readable_host(), "docker")
    except OSError as error:
        raise Unanswered(f"/etc/group can't be read: {error.strerror or error}") from error
    if members is None:
        return noted("there is no group docker")
    return warned(f"members are root on the host: {', '.join(members)}") if members else passed("no members")


def _audited(path: str) -> Callable[[Subject], Outcome]:
    """Whether a rule file names the path (auditctl(8) ``-w``, or ``path=``/``dir=``); the kernel's rules are not read."""

    def look(subject: Subject) -> Outcome:
        host = subject.readable_host()
        try:
            if path != "dockerd" and host.attributes(path) is None:
                return noted(f"there is no {path}")
            rules = [host.text("/etc/audit/audit.rules") or ""]
            rules += [host.text(f"/etc/audit/rules.d/{name}") or "" for name in host.names("/etc/audit/rules.d") if name.endswith(".rules")]  # fmt: skip
        except OSError as error:
            raise Unanswered(f"audit rules can't be read: {error.strerror or error}") from error
        wanted = "/usr/bin/dockerd" if path == "dockerd" else path
        words = {
            word
            for text in rules
            for line in text.splitlines()
            if not line.lstrip().startswith("#")
            for word in line.split()
        }
        good = bool(words & {wanted, f"path={wanted}", f"dir={wanted}"})
        return either(good, f"a rule file names {wanted}" if good else f"no rule file names {wanted}")

    return look


AUDITED = (
    ("1.1.3", "dockerd"), ("1.1.4", "/run/containerd"), ("1.1.5", "/var/lib/docker"), ("1.1.6", "/etc/docker"), ("1.1.7", SERVICE[0]),
    ("1.1.8", "/run/containerd/containerd.sock"), ("1.1.9", SOCKET[0]), ("1.1.10", "/etc/default/docker"),
    ("1.1.11", "/etc/docker/daemon.json"), ("1.1.12", "/etc/containerd/config.toml"), ("1.1.13", "/etc/sysconfig/docker"),
    ("1.1.14", "/usr/bin/containerd"), ("1.1.15", "/usr/bin/containerd-shim"), ("1.1.16", "/usr/bin/containerd-shim-runc-v1"),
    ("1.1.17", "/usr/bin/containerd-shim-runc-v2"), ("1.1.18", "/usr/bin/runc"),
)  # fmt: skip
_FILES = (
    ("3.1", "3.2", "docker.service", _fixed(*SERVICE), 0o644), ("3.3", "3.4", "docker.socket", _fixed(*SOCKET), 0o644),
    ("3.5", "3.6", "/etc/docker", _fixed("/etc/docker"), 0o755),
    ("3.7", "3.8", "the registries' certificates", _registry_certificates, 0o444),
    ("3.9", "3.10", "the TLS authority's certificate", _configured("tlscacert"), 0o444),
    ("3.11", "3.12", "the engine's certificate", _configured("tlscert"), 0o444),
    ("3.13", "3.14", "the engine's private key", _configured("tlskey"), 0o400),
    ("3.15", "3.16", "the engine's socket", _socket_path, 0o660),
    ("3.17", "3.18", "daemon.json", _daemon_json, 0o644),
    ("3.19", "3.20", "/etc/default/docker", _fixed("/etc/default/docker"), 0o644),
    ("3.22", "3.21", "/etc/sysconfig/docker", _fixed("/etc/sysconfig/docker"), 0o644),
    ("3.23", "3.24", "containerd's socket", _fixed("/run/containerd/containerd.sock"), 0o660),
)  # fmt: skip


def _file_checks() -> tuple[Check, ...]:
    found = []
    for owner, mode, what, paths, limit in _FILES:
        group = "docker" if owner == "3.15" else "root"
        severity = "high" if what.endswith(("socket", "private key")) else "medium"
        found.append(
            Check(
                owner, f"Owner of {what}", "files", severity, f"`chown root:{group}` on the file.", _owned(paths, group)
            )
        )
        found.append(
            Check(
                mode,
                f"Permissions of {what}",
                "files",
                severity,
                f"`chmod {limit:o}` on the file.",
                _within(paths, limit),
            )
        )
    return tuple(sorted(found, key=lambda one: int(one.id.partition(".")[2])))


CHECKS = (
    Check("1.1.2", "Only trusted users are in the group docker", "host", "high", "Take users out with `gpasswd -d USER docker`.", _group),
    *(
        Check(number, f"Audit rule for {path}", "host", "low", f"Add `-w {'/usr/bin/dockerd' if path == 'dockerd' else path} -k docker` to /etc/audit/rules.d.", _audited(path))
        for number, path in AUDITED
    ),
    *_file_checks(),
)  # fmt: skip
