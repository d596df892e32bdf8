"""What the target has in common with other containers: volumes and folders, the image, a project, secrets."""

from __future__ import annotations

import hashlib
import posixpath
from collections.abc import Iterator

from irkit.engine.interface import Container, Json
from irkit.environment import TRIVIAL, URL_SECRET, secret_kind, variables
from irkit.scope.host import FOLDERS, below, host_path, is_secret, is_socket
from irkit.scope.model import Found, Row
from irkit.scope.scene import Scene, mounts

# Nearly every container may have these; they say nothing about who works with whom.
COMMON = ("/etc/localtime", "/etc/timezone", "/etc/hosts", "/etc/resolv.conf", "/lib/modules")
SWARM = "com.docker.swarm.service.name"
PROJECTS = (
    ("com.docker.compose.project", "compose project", "low"),
    ("io.podman.compose.project", "compose project", "low"),
    ("com.docker.stack.namespace", "swarm stack", "low"),
    (SWARM, "swarm service", "medium"),
)


def find_shared(scene: Scene) -> Iterator[Found]:
    """Rows of the kinds volume, image, label, environment and secret; reasons ``volume``, ``image`` and ``secret``."""
    yield from _volumes(scene)
    yield from _images(scene)
    yield from _projects(scene)
    yield from _mounted_secrets(scene)
    yield from _environment(scene)


# -- volumes and folders --------------------------------------------------------------------------------------


def _volumes(scene: Scene) -> Iterator[Found]:
    for mine in mounts(scene.target):
        if is_secret(mine) or _says_nothing(mine):
            continue
        name = str(mine.get("Name") or mine.get("Source") or "?")
        if mine.get("Type") == "volume" and mine.get("Driver") not in ("local", "", None):
            detail = f"at {mine.get('Destination')}, by the driver {mine.get('Driver')}: other hosts may use it too"
            yield Found(Row("volume", "medium", name, detail, *scene.contain.hold("use it")))
        for other in scene.others:
            theirs = [one for one in mounts(other) if not _says_nothing(one) and overlap(mine, one)]
            if theirs:
                yield Found(_volume(scene, name, mine, other, theirs), "volume", other.id)


def _volume(scene: Scene, name: str, mine: Json, other: Container, theirs: list[Json]) -> Row:
    writes, written = bool(mine.get("RW")), any(one.get("RW") for one in theirs)
    places = ", ".join(str(one.get("Destination")) for one in theirs)
    detail = f"{other.name} has it at {places}, {_rights(written)}; the target at {mine.get('Destination')}, {_rights(writes)}"  # fmt: skip
    detail += "" if other.running else "; not running now"
    answer = (
        scene.contain.hold("write to it", "the other container still reads what is there")
        if writes
        else scene.contain.hold("read it", "it never could write there")
    )
    return Row("volume", "high" if writes else "low", name, detail, *answer)


def _rights(writable: bool) -> str:
    return "writable" if writable else "read-only"


def _says_nothing(mount: Json) -> bool:
    """Mounts that are rows of their own (the host's, sockets), or that everybody has."""
    path = host_path(str(mount.get("Source") or "/nowhere"))
    bind = mount.get("Type") == "bind"
    return bind and (is_socket(path) or path in FOLDERS or any(below(path, one) for one in (*COMMON, "/proc", "/sys")))


def overlap(one: Json, other: Json) -> bool:
    """Whether two mounts show a common part of the host: the same volume, the same folder, or one in the other."""
    names = one.get("Name"), other.get("Name")
    if all(names) and names[0] == names[1]:
        return True
    sources = [str(mount.get("Source") or "") for mount in (one, other)]
    if not all(sources):
        return False
    first, second = (host_path(source) for source in sources)
    return below(first, second) or below(second, first)


# -- image and project ----------------------------------------------------------------------------------------


def _images(scene: Scene) -> Iterator[Found]:
    for other in scene.others:
        if other.image_id == scene.target.image_id:
            detail = f"runs the same image, {other.image_ref}" if other.running else f"has the same image, {other.image_ref}; not running now"  # fmt: skip
            answer = ("not touched: what let the attacker in is there too; look at it, or contain it", "no")
            yield Found(Row("image", "medium" if other.running else "low", other.name, detail, *answer), "image", other.id)  # fmt: skip


def _projects(scene: Scene) -> Iterator[Found]:
    for label, word, severity in PROJECTS:
        mine = scene.target.labels.get(label)
        for other in scene.others if mine else ():
            if other.labels.get(label) == mine:
                text = "not touched: it may depend on the target, or hold its credentials"
                yield Found(Row("label", severity, other.name, f"same {word}: {mine}", text, "no"))
        if mine and label == SWARM:
            detail = f"swarm service {mine}: the orchestrator may start another task of the same image, on any node"
            yield Found(Row("label", severity, str(mine), detail, "not touched: mend the service as well", "no"))


# -- secrets: only names leave this part; values are compared as digests, in memory ----------------------------


def _mounted_secrets(scene: Scene) -> Iterator[Found]:
    for mine in mounts(scene.target):
        if not is_secret(mine):
            continue
        name = posixpath.basename(str(mine.get("Destination"))) or "?"
        text = "not cut: it may be known to the attacker; rotate it"
        detail = f"mounted at {mine.get('Destination')}"
        yield Found(Row("secret", "high", name, detail, text, "no"))
        for other in scene.others:
            if any(overlap(mine, one) for one in mounts(other)):
                detail = f"{other.name} has the mounted secret {name} too"
                yield Found(Row("secret", "high", name, detail, f"{text}, for {other.name} too", "no"), "secret", other.id)  # fmt: skip


def _digests(value: str) -> set[bytes]:
    """Of a value, and of a password in it; nothing of values so short that they are equal by chance."""
    parts = [value, *URL_SECRET.findall(value)]
    return {
        hashlib.sha256(one.encode("utf-8", "surrogatepass")).digest()
        for one in parts
        if len(one) >= 4 and one.lower() not in TRIVIAL
    }


def _environment(scene: Scene) -> Iterator[Found]:
    mine: dict[bytes, str] = {}
    rotate = "not cut: it is known to whoever ran there; rotate it"
    for name, value in variables(scene.target.config):
        why = secret_kind(name, value)
        if not why:
            continue
        if f"{name}={value}" in scene.image_env:
            detail = f"looks like a secret ({why}); set by the image: whoever has the image has it"
            yield Found(Row("environment", "low", name, detail, rotate, "no"))
            continue
        yield Found(Row("environment", "high", name, f"looks like a secret ({why})", rotate, "no"))
        mine.update((digest, name) for digest in _digests(value) if digest not in mine)
    for other in scene.others if mine else ():
        common = {
            (mine[digest], name)
            for name, value in variables(other.config)
            for digest in _digests(value) if digest in mine
        }  # fmt: skip
        for name, there in sorted(common):
            detail = f"{other.name} has the same value, in {there}"
            text = f"not cut: whoever has it can pose as {other.name}; rotate it in both"
            yield Found(Row("secret", "high", name, detail, text, "no"), "secret", other.id)
