"""What on an engine carries a bad image's digests, and what belongs to nobody but the containers that do."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from irkit.engine.interface import Container, Engine, Image, Network
from irkit.errors import NotFound, UsageProblem

KINDS = ("container", "network", "volume", "image")
"""In the order in which they can go: each is used by those before it."""
PREDEFINED = ("bridge", "host", "none", "ingress", "docker_gwbridge", "podman")


@dataclass(frozen=True, slots=True)
class Item:
    """One thing that may go.  ``id``: of a volume its name, and ``made`` when it was made: another one may bear the name later.

    ``why``: the sentence that says what makes it bad.  ``users``: names of containers that use it and are not bad; it stays then.
    ``needs``: ids of the bad containers and images that must have gone before it.
    """

    kind: str
    id: str
    name: str
    why: str
    made: str = ""
    users: tuple[str, ...] = ()
    needs: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """A row of ``irkit.eradication/v1``."""
        return {
            "kind": self.kind, "id": self.id, "name": self.name, "why": self.why, "made": self.made, "users": list(self.users),
            "needs": list(self.needs),
        }  # fmt: skip

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> Item:
        """The reverse."""
        text = {name: str(raw[name]) for name in ("kind", "id", "name", "why", "made")}
        users, needs = (tuple(str(one) for one in raw[name]) for name in ("users", "needs"))
        return cls(**text, users=users, needs=needs)


@dataclass(frozen=True, slots=True)
class Bad:
    """What was found: ``items`` in order, ``digests`` to be denied, ``unseen``: what can't be told or stays, in words."""

    items: tuple[Item, ...]
    digests: tuple[str, ...]
    unseen: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Asked:
    """What is bad to begin with: a container, an image, or both.  ``base``: the clean image that the bad one was built on.

    ``keep``: kinds that stay, whatever is found.  ``denies``: whether the image's digests are bad at all.
    """

    container: Container | None
    image: Image | None
    base: Image | None = None
    keep: tuple[str, ...] = ()


Holds = Callable[[Container], str]
"""Why a container is bad for what it holds, in words; empty when it is not."""
Former = Callable[[Container], Collection[str]]
"""Names and ids of networks that a container was on before it was contained."""


def find(
    engine: Engine, asked: Asked, holds: Holds = lambda container: "", former: Former = lambda container: ()
) -> Bad:
    """Everything on the engine that is bad.  Nothing is changed.  Raises ``EngineError``, ``UsageProblem``."""
    images, unseen = _bad_images(engine, asked)
    reasons = {image.id: why for image, why in images}
    everyone = _containers(engine)
    bad: dict[str, tuple[Container, str]] = {}
    for one in everyone:
        why = _why(one, asked, reasons) or holds(one)
        if why:
            bad[one.id] = (one, why)
    if asked.image is not None and "image" not in asked.keep:
        known = set(engine.image_ids())
        unseen += [
            f"{one.name}: its image {one.image_id} is gone, so whether it was built on a bad one can't be told"
            for one in everyone
            if one.id not in bad and one.image_id not in known and _gone(engine, one.image_id)
        ]
    items = [Item("container", one.id, one.name, why) for one, why in bad.values()]
    if "network" not in asked.keep:
        items += _networks(engine, bad, everyone, former)
    if "volume" not in asked.keep:
        items += _volumes(engine, bad, everyone)
    if "image" not in asked.keep:
        items += [_image_item(image, why, bad, everyone, images) for image, why in images]
    unseen += _host_folders(bad)
    return Bad(tuple(items), digests_of(image for image, _ in images), tuple(unseen))


def digests_of(images: Iterable[Image]) -> tuple[str, ...]:
    """What a deny-list must hold to keep images away: their ids, and the manifests by which registries know them."""
    found: dict[str, None] = {}
    for image in images:
        for one in (image.id, *(name.rpartition("@")[2] for name in image.repo_digests)):
            if one.startswith("sha256:") and len(one) == 71:
                found[one] = None
    return tuple(found)


def _gone(engine: Engine, ref: str) -> bool:
    try:
        engine.image(ref)
    except NotFound:
        return True
    return False


def _containers(engine: Engine) -> list[Container]:
    found = []
    for ref in engine.containers():
        try:
            found.append(engine.container(ref))
        except NotFound:  # it went meanwhile
            continue
    return found


def _why(one: Container, asked: Asked, reasons: Mapping[str, str]) -> str:
    if asked.container is not None and one.id == asked.container.id:
        return "it was named"
    if "image" in asked.keep or one.image_id not in reasons:
        return ""
    return f"made from a bad image: {reasons[one.image_id]}"


# -- images -----------------------------------------------------------------------------------------------------


def _bad_images(engine: Engine, asked: Asked) -> tuple[list[tuple[Image, str]], list[str]]:
    """The bad image and all others that carry its digests, those built last first: they must go before their parents.

    And what can't be told, in words.
    """
    bad = asked.image
    if bad is None or "image" in asked.keep:
        return [], []
    own = _own_layers(bad, asked.base)
    steps = _history(engine, bad.id)
    found = [(bad, "it was named" if asked.container is None else f"{asked.container.name} was made from it")]
    digests = set(digests_of([bad]))
    alike: list[str] = []
    for image in _images(engine):
        if image.id == bad.id or (asked.base is not None and image.id == asked.base.id):
            continue
        if digests & set(digests_of([image])):
            found.append((image, f"a registry knows it by the same digest as {bad.id}"))
        elif own and own & set(image.layers):
            found.append((image, f"it has a layer that {bad.id} has over its clean base"))
        elif asked.base is None and _begins(image, bad):
            theirs = _history(engine, image.id)
            if len(theirs) > len(steps) and theirs[: len(steps)] == steps:
                found.append((image, f"it was built on {bad.id}"))
            elif len(image.layers) > len(bad.layers):
                alike.append(", ".join(image.tags) or image.id)
    return sorted(found, key=lambda pair: -len(pair[0].layers)), _alike(alike)


def _alike(names: list[str]) -> list[str]:
    """With all layers of the bad image and another history: built on its base, unless somebody altered the history."""
    if not names:
        return []
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return [
        f"{', '.join(names[:5])}{more}: all layers of the bad image and another history, so probably built on its base alone; "
        "--base tells what is clean"
    ]


def _images(engine: Engine) -> Iterator[Image]:
    for ref in engine.image_ids():
        try:
            yield engine.image(ref)
        except NotFound:  # it went meanwhile
            continue


def _own_layers(bad: Image, base: Image | None) -> frozenset[str]:
    """The layers that only the bad image brings, over a clean base; none without a base: any of them may be a clean one's."""
    if base is None:
        return frozenset()
    own = frozenset(bad.layers) - frozenset(base.layers)
    if bad.id == base.id or bad.layers[: len(base.layers)] != base.layers:
        raise UsageProblem(
            f"{base.id} is not what {bad.id} was built on",
            hint="--base names the clean image whose layers the bad one begins with",
        )
    return own


def _history(engine: Engine, ref: str) -> list[str]:
    """How it was made, the first step first.  An image's begins with all of the one that it was built on.

    The layers alone don't tell: when the bad image adds configuration alone, its layers are those of its clean base.
    """
    return [str(row.get("CreatedBy")) for row in reversed(engine.image_history(ref))]


def _image_item(
    image: Image,
    why: str,
    bad: Mapping[str, object],
    everyone: Iterable[Container],
    images: Iterable[tuple[Image, str]],
) -> Item:
    made = [one for one in everyone if one.image_id == image.id]
    users = tuple(sorted(one.name for one in made if one.id not in bad))
    above = [one.id for one, _ in images if len(one.layers) > len(image.layers) and _begins(one, image)]
    needs = (*(one.id for one in made if one.id in bad), *above)
    return Item("image", image.id, ", ".join(image.tags) or image.id, why, users=users, needs=needs)


def _begins(image: Image, below: Image) -> bool:
    return bool(below.layers) and image.layers[: len(below.layers)] == below.layers


# -- what belongs to bad containers alone -------------------------------------------------------------------------


def _networks(
    engine: Engine, bad: Mapping[str, tuple[Container, str]], everyone: list[Container], former: Former
) -> list[Item]:
    """Networks that a bad container is on, or was on before it was contained."""
    points = {one.id: on_networks(one) | set(former(one)) for one in everyone}
    wanted = set().union(*(points[one] for one in bad)) if bad else set()
    found = []
    for network in engine.networks():
        names = {network.id, network.name}
        if not names & wanted or not removable(network):
            continue
        mine = [one for one, _ in bad.values() if names & points[one.id]]
        users = tuple(sorted(one.name for one in everyone if one.id not in bad and names & points[one.id]))
        why = (
            f"{_named(mine)} alone {'is' if len(mine) == 1 else 'are'} on it"
            if not users
            else f"{_named(mine)} is on it"
        )
        found.append(Item("network", network.id, network.name, why, users=users, needs=tuple(one.id for one in mine)))
    return found


def removable(network: Network) -> bool:
    """Whether a network is a user's: not the engine's own, not a quarantine of irkit's, not the swarm's."""
    labelled = any(key.startswith("dev.irkit.") and key != "dev.irkit.test" for key in network.labels)
    ours = labelled and network.name.startswith("irkit-")  # anybody can set a label
    return network.name not in PREDEFINED and not ours and network.raw.get("Scope") != "swarm"


def on_networks(one: Container) -> set[str]:
    """Names and ids of the networks that it is on, or joins when it starts."""
    networks = (one.raw.get("NetworkSettings") or {}).get("Networks") or {}
    ids = {str(row.get("NetworkID")) for row in networks.values() if row and row.get("NetworkID")}
    return {*networks, *ids, one.network_mode}


def _volumes(engine: Engine, bad: Mapping[str, tuple[Container, str]], everyone: list[Container]) -> list[Item]:
    names: dict[str, list[Container]] = {}
    for one, _ in bad.values():
        for name in volumes_of(one):
            names.setdefault(name, []).append(one)
    found = []
    for name, mine in names.items():
        try:
            made = str(engine.volume(name).get("CreatedAt") or "")
        except NotFound:
            continue
        users = tuple(sorted(one.name for one in everyone if one.id not in bad and name in volumes_of(one)))
        why = f"mounted into {_named(mine)}" + ("" if users else " alone")
        found.append(Item("volume", name, name, why, made, users, tuple(one.id for one in mine)))
    return found


def volumes_of(one: Container) -> tuple[str, ...]:
    """The volumes that are mounted into it."""
    mounts = one.raw.get("Mounts") or ()
    return tuple(str(row["Name"]) for row in mounts if row.get("Type") == "volume" and row.get("Name"))


def _host_folders(bad: Mapping[str, tuple[Container, str]]) -> list[str]:
    """Bind mounts are the host's: irkit never removes them, and says that they stay."""
    return [
        f"{row.get('Source')} of the host, mounted into {one.name} at {row.get('Destination')}, stays as it is"
        for one, _ in bad.values()
        for row in one.raw.get("Mounts") or ()
        if row.get("Type") == "bind" and row.get("RW")
    ]


def _named(some: list[Container]) -> str:
    return ", ".join(one.name for one in some[:5]) + (f" and {len(some) - 5} more" if len(some) > 5 else "")
