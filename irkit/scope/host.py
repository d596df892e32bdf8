"""The target's ways to its host: mounts, devices, privileges, capabilities, namespaces of the host, restarts."""

from __future__ import annotations

import posixpath
from collections.abc import Iterator

from irkit.engine.interface import Json
from irkit.mounts import LINK, UNFOLLOWED, UNSEEN, without_link
from irkit.scope.model import Found, Row
from irkit.scope.scene import HOST, Scene, items, mounts

SOCKETS = (
    "docker.sock", "podman.sock", "containerd.sock", "containerd.sock.ttrpc", "crio.sock", "dockershim.sock",
    "cri-dockerd.sock", "buildkitd.sock",
)  # fmt: skip
SECRET_FOLDERS = ("/run/secrets", "/var/run/secrets")
# A folder of the host: severity when it can be written, severity when it can only be read, what it means.
FOLDERS: dict[str, tuple[str, str, str]] = {
    "/": ("critical", "critical", "the whole host, with the engine's socket"),
    "/run": ("critical", "critical", "the sockets of the engine and of other services"),
    "/run/containerd": ("critical", "critical", "the runtime's socket"),
    "/run/docker": ("critical", "critical", "the engine's run-time state and sockets"),
    "/run/podman": ("critical", "critical", "the engine's socket"),
    "/proc": ("critical", "high", "the host's processes; writing core_pattern runs programs on the host"),
    "/sys": ("critical", "medium", "the host's kernel; writing uevent_helper or release_agent runs programs there"),
    "/dev": ("critical", "critical", "the host's devices, disks among them"),
    "/etc": ("critical", "high", "the host's accounts, cron and services"),
    "/root": ("critical", "high", "root's keys and start files"),
    "/home": ("high", "high", "the users' keys and start files"),
    "/boot": ("critical", "low", "the host's kernel"),
    "/var": ("critical", "high", "the data of the engine and of other services"),
    "/var/lib": ("critical", "high", "the data of the engine and of other services"),
    "/var/lib/docker": ("critical", "high", "the files, environment and secrets of all containers"),
    "/var/lib/containers": ("critical", "high", "the files, environment and secrets of all containers"),
    "/var/lib/containerd": ("critical", "high", "the files of all containers"),
    "/var/lib/kubelet": ("critical", "high", "the files and secrets of all pods"),
    "/var/spool/cron": ("critical", "low", "cron tables of the host"),
    "/var/log": ("medium", "low", "the host's logs, which can be falsified"),
    "/usr": ("critical", "low", "the host's programs"),
    "/bin": ("critical", "low", "the host's programs"),
    "/sbin": ("critical", "low", "the host's programs"),
    "/lib": ("critical", "low", "the host's libraries and kernel modules"),
    "/opt": ("high", "low", "the host's programs"),
}
KEY_PLACES = (".ssh", ".aws", ".azure", ".kube", ".docker", ".gnupg", "shadow", "sudoers", "gcloud")
# Of a folder below one of these, writing is still a way to become root on the host.
WRITE_IS_ROOT = ("/proc", "/sys", "/etc", "/root", "/boot", "/usr", "/bin", "/sbin", "/lib", "/var/lib/docker", "/run")
DISKS = ("/dev/sd", "/dev/vd", "/dev/xvd", "/dev/hd", "/dev/nvme", "/dev/dm-", "/dev/mapper", "/dev/md", "/dev/loop")
MEMORY = ("/dev/mem", "/dev/kmem", "/dev/port", "/dev/kcore")
CAPABILITIES: dict[str, tuple[str, str]] = {
    "ALL": ("critical", "every capability: as good as privileged"),
    "SYS_ADMIN": ("critical", "mounts, namespaces, cgroups: known ways to the host"),
    "SYS_MODULE": ("critical", "loads modules into the host's kernel"),
    "SYS_RAWIO": ("critical", "reads and writes the host's memory and ports"),
    "DAC_READ_SEARCH": ("critical", "opens any file of the host's disk by its number"),
    "BPF": ("critical", "loads programs into the host's kernel"),
    "SYS_PTRACE": ("high", "reads and changes other processes that it sees"),
    "NET_ADMIN": (
        "high",
        "changes its network's routes and rules; makes tunnels in the host's network, unless it has a user namespace of its own",
    ),
    "PERFMON": ("high", "observes the host's kernel"),
    "SYS_BOOT": ("high", "restarts the host"),
    "MAC_ADMIN": ("high", "changes the host's access policy"),
    "MAC_OVERRIDE": ("high", "passes the host's access policy"),
    "CHECKPOINT_RESTORE": ("medium", "changes process ids and restores processes"),
    "SYS_TIME": ("medium", "sets the host's clock, by which evidence is dated"),
    "SYSLOG": ("medium", "reads the kernel's log and addresses"),
    "SYS_RESOURCE": ("medium", "passes resource limits"),
    "SYS_NICE": ("low", "changes priorities"),
    "NET_RAW": ("low", "forges packets on its networks; part of the default set"),
}


def find_host(scene: Scene) -> Iterator[Found]:
    """Rows of the kinds mount, device, privilege, capability, namespace, restart; none of them relates containers."""
    rows = (*_mounts(scene), *_devices(scene), *_privileges(scene), *_capabilities(scene), *_spaces(scene), *_restart(scene))  # fmt: skip
    for row in rows:
        yield Found(row)


def host_path(source: str) -> str:
    """A source on the host in one form: ``/var/run`` is ``/run`` on every current system."""
    return without_link(source or "/")


def below(path: str, folder: str) -> bool:
    """Whether ``path`` is ``folder`` or lies in it."""
    return path == folder or path.startswith(folder.rstrip("/") + "/")


def is_socket(source: str) -> bool:
    """Whether it is an engine's socket, by its name."""
    return posixpath.basename(source) in SOCKETS


def is_secret(mount: Json) -> bool:
    """Whether it is mounted where compose, swarm and Kubernetes put secrets."""
    return any(below(str(mount.get("Destination") or ""), folder) for folder in SECRET_FOLDERS)


def judge(source: str, writable: bool, root_dir: str = "") -> tuple[str, str]:
    """The severity of a bind mount, and what it means."""
    path = host_path(source)
    if root_dir and below(host_path(root_dir), path) and path != "/":
        return "critical" if writable else "high", "the engine's data: the files and environment of all containers"
    if path in FOLDERS:
        written, read, means = FOLDERS[path]
        return (written if writable else read), means
    if any(part in KEY_PLACES for part in path.split("/")):
        return "high", "credentials of the host's users"
    folder = max((one for one in FOLDERS if one != "/" and below(path, one)), key=len, default="")
    if writable and any(below(path, one) for one in WRITE_IS_ROOT):
        return "high", f"part of the host's {folder}"
    return ("medium" if writable else "low"), f"part of the host's {folder}" if folder else "a place on the host"


def _mounts(scene: Scene) -> Iterator[Row]:
    for mount in mounts(scene.target):
        source, inside = str(mount.get("Source") or ""), str(mount.get("Destination") or "")
        if mount.get(UNSEEN):
            detail = f"at {inside}: the engine does not tell what of the host it shows, if anything"
            yield Row("mount", "medium", f"volume {mount.get('Name')}", detail, *scene.contain.hold("use it"))
        if mount.get("Type") != "bind" or is_secret(mount):
            continue
        by = f"; by the volume {mount['Name']}, which is a mount of the host in disguise" if mount.get("Name") else ""
        by += f"; by the link {mount[LINK]}" if mount.get(LINK) else ""
        by += f"; whether it is a link was not seen: {mount[UNFOLLOWED]}" if mount.get(UNFOLLOWED) else ""
        writable = bool(mount.get("RW"))
        if is_socket(source):
            answer = scene.contain.hold(
                "use it", "look for containers that it created, rotate what the engine could read"
            )
            detail = f"at {inside}: commands the engine, which is root on the host (read-only or not){by}"
            yield Row("mount", "critical", posixpath.basename(source) + f" ({source})", detail, *answer)
            continue
        severity, means = judge(source, writable, scene.root_dir)
        detail = f"at {inside}, {'writable' if writable else 'read-only'}: {means}{by}"
        if "shared" in str(mount.get("Propagation") or "").removeprefix("r") and writable:
            detail += "; mounts made inside appear on the host"
        then = "what it wrote there stays: look at it" if writable else "what it read is known to the attacker"
        yield Row("mount", severity, source, detail, *scene.contain.hold("use it", then))


def _devices(scene: Scene) -> Iterator[Row]:
    config, answer = scene.target.host_config, scene.contain.hold("use it")
    for device in config.get("Devices") or ():
        path, rights = str(device.get("PathOnHost") or ""), str(device.get("CgroupPermissions") or "rwm")
        severity = "critical" if path.startswith(DISKS) or path in MEMORY else "medium"
        means = ", a disk or memory of the host" if severity == "critical" else ""
        yield Row("device", severity, path, f"at {device.get('PathInContainer') or path}, {rights}{means}", *answer)
    for rule in items(scene.target, "DeviceCgroupRules"):
        yield Row("device", "high", rule, "a rule that lets it make and use devices of these numbers", *answer)
    for request in config.get("DeviceRequests") or ():
        yield Row("device", "medium", str(request.get("Driver") or "device request"), "a GPU or the like", *answer)


def _privileges(scene: Scene) -> Iterator[Row]:
    target, contain = scene.target, scene.contain
    if target.host_config.get("Privileged"):
        answer = contain.hold("use it", "treat the host as compromised until it was looked at")
        detail = "all capabilities, all devices, no seccomp, no AppArmor: it can become root on the host"
        yield Row("privilege", "critical", "privileged", detail, *answer)
    options = [one.replace(":", "=", 1) for one in items(target, "SecurityOpt")]
    for option, severity, detail in (
        ("seccomp=unconfined", "high", "every system call is allowed"),
        ("apparmor=unconfined", "medium", "no AppArmor profile holds it"),
        ("systempaths=unconfined", "high", "the host's /proc and /sys are not masked"),
        ("label=disable", "low", "no SELinux label holds it"),
    ):
        if option in options:
            yield Row("privilege", severity, option, detail, *contain.hold("use it"))
    if not any(one in ("no-new-privileges", "no-new-privileges=true") for one in options):
        yield Row("privilege", "low", "no-new-privileges is off", "setuid programs give root inside", *contain.hold("use it"))  # fmt: skip
    user = str(target.config.get("User") or "").partition(":")[0]
    if user in ("", "0", "root"):
        yield Row("privilege", "low", "runs as root", "root inside, where the image does not drop it", *contain.hold("act"))  # fmt: skip


def _capabilities(scene: Scene) -> Iterator[Row]:
    added = {one.upper().removeprefix("CAP_") for one in items(scene.target, "CapAdd")}
    dropped = {one.upper().removeprefix("CAP_") for one in items(scene.target, "CapDrop")}
    if scene.target.host_config.get("Privileged"):
        return  # said already: it has them all
    if not dropped & {"ALL", "NET_RAW"}:
        added.add("NET_RAW")
    for name in sorted(added):
        severity, means = CAPABILITIES.get(name, ("low", "added to the default set"))
        if name == "SYS_PTRACE" and scene.target.host_config.get("PidMode") == HOST:
            severity, means = "critical", "with the host's processes in sight: takes over any of them"
        yield Row("capability", severity, name, means, *scene.contain.hold("use it"))


def _spaces(scene: Scene) -> Iterator[Row]:
    config, hold = scene.target.host_config, scene.contain.hold
    for key, severity, subject, detail in (
        ("PidMode", "critical", "host pid namespace", "sees, and as root signals and reads, the host's processes"),
        ("IpcMode", "high", "host ipc namespace", "reads and writes the shared memory of the host's processes"),
        ("UTSMode", "low", "host uts namespace", "can rename the host, given the capability"),
        ("UsernsMode", "medium", "host user namespace", "root inside is root of the host, whatever the engine's mapping"),
    ):  # fmt: skip
        if config.get(key) == HOST:
            yield Row("namespace", severity, subject, detail, *hold("use it"))
    if scene.target.network_mode == HOST:
        detail = (
            "hears and speaks on all addresses of the host, its loopback and the bridges of all containers included"
        )
        yield Row("network-mode", "high", "host network", detail, *scene.contain.network())


def _restart(scene: Scene) -> Iterator[Row]:
    name = str(scene.target.restart_policy.get("Name") or "no")
    if scene.target.auto_remove:
        answer = scene.contain.hold("end by itself", "the engine removes it, evidence included, as soon as it stops")
        yield Row("restart", "medium", "--rm", "the engine removes the container when it stops", *answer)
    elif name != "no":
        answer = ("set to no until release", "yes")
        yield Row("restart", "low", name, "the engine starts it again by itself, and not frozen", *answer)
