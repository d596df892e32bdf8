"""The fake engine's networks, and the places that containers have on them."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from ipaddress import IPv4Address, IPv4Network

from irkit.engine.fake.staging import FakeStaging
from irkit.engine.fake.state import FakeContainer, FakeNetwork, Place
from irkit.engine.interface import Endpoint, Network, NetworkSpec
from irkit.engine.wire import error_for
from irkit.errors import EngineError

NO_POOL = "could not find an available, non-overlapping IPv4 address pool among the defaults to assign to the network"
HOST_MODE = "container cannot be disconnected from host network or connected to host network"
NONE_MODE = "container cannot be connected to multiple networks with one of the networks in private (none) mode"
SHARED_MODE = (
    "container sharing network namespace with another container or host cannot be connected to any other network"
)


class FakeNetworks(FakeStaging):
    """Mixed into ``FakeEngine``."""

    _networks: dict[str, FakeNetwork]
    _containers: dict[str, FakeContainer]
    _pool: IPv4Network
    _pool_size: int
    _find: Callable[[str], FakeContainer]
    _publish: Callable[[FakeContainer], None]

    def network(self, ref: str) -> Network:
        """By name, id, or the beginning of an id; with the running containers that have joined it."""
        with self._served("network", "GET", f"/networks/{ref}"):
            if not ref:
                raise error_for(404, "page not found")
            found = self._find_network(ref)
            members = {
                one.id: {
                    "Name": one.name, "EndpointID": place.endpoint_id, "MacAddress": place.raw()["MacAddress"],
                    "IPv4Address": f"{place.ipv4}/{place.prefix}" if place.ipv4 else "", "IPv6Address": "",
                }
                for one, place in self._joined(found)
            }  # fmt: skip
            return Network(found.raw(members))

    def networks(self, label: str = "") -> tuple[Network, ...]:
        """Without members."""
        with self._served("networks", "GET", "/networks"):
            return tuple(Network(one.raw({})) for one in self._networks.values() if has(one.labels, label))

    def create_network(self, spec: NetworkSpec) -> str:
        """A bridge network on the subnet asked for, or on the first free one of the pool."""
        with self._served("create_network", "POST", "/networks/create", 201, spec):
            if spec.name in ("bridge", "host", "none"):
                raise error_for(403, f"operation is not permitted on predefined {spec.name} network ")
            if not spec.name or any(one.name == spec.name for one in self._networks.values()):
                raise error_for(409, f"network with name {spec.name} already exists")
            made = FakeNetwork(
                self._new_id("network"), spec.name, "bridge", spec.internal, self._subnet(spec.subnet), bool(spec.subnet),
                dict(spec.options), dict(spec.labels),
            )  # fmt: skip
            self._networks[made.id] = made
            return made.id

    def remove_network(self, network: str) -> None:
        """Gone, unless a running container is on it; stopped ones keep pointing at it."""
        with self._served("remove_network", "DELETE", f"/networks/{network}", 204, network):
            found = self._find_network(network)
            if found.predefined:
                raise error_for(403, f"{found.name} is a pre-defined network and cannot be removed")
            if self._joined(found):
                raise error_for(
                    403, f"error while removing network: network {found.name} id {found.id} has active endpoints"
                )
            del self._networks[found.id]

    def connect(self, network: str, container: str, endpoint: Endpoint | None = None) -> None:
        """A place on a network: joined at once by a running container, else remembered for its start.

        A running container that is refused an address keeps the unused entry in its inspect, as with Docker 20.10.
        """
        with self._served("connect", "POST", f"/networks/{network}/connect", 200, network, container, endpoint):
            if not network:
                raise error_for(301, "no reason given")
            if not container:
                raise error_for(400, 'invalid name or ID supplied: ""')
            box, place = self._find(container), Place.asked(endpoint)
            try:
                found = self._find_network(network)
            except EngineError:
                if box.running:
                    raise
                box.places[network] = place  # a stopped container may be given a network that does not exist
                return
            self._check_modes(box, found)
            self._check_place(box, found, place)
            if not box.running:
                box.places.setdefault(found.name, place)
                return
            current = box.places.setdefault(found.name, place)
            if current.endpoint_id:
                raise error_for(403, f"endpoint with name {box.name} already exists in network {found.name}")
            self._join(box, found, place)
            box.places[found.name] = place
            self._publish(box)

    def disconnect(self, network: str, container: str) -> None:
        """The place on a network given up."""
        with self._served("disconnect", "POST", f"/networks/{network}/disconnect", 200, network, container):
            if not network:
                raise error_for(301, "no reason given")
            box = self._find(container)
            if not box.running:
                self._forget(box, network)
                return
            found = self._find_network(network)
            if box.mode == "host" and found.driver == "host":
                raise error_for(400, HOST_MODE)
            place = box.places.get(found.name)
            if place is None or not place.endpoint_id:
                raise error_for(500, f"container {box.id} is not connected to network {found.name}")
            del box.places[found.name]
            self._publish(box)

    def _find_network(self, ref: str) -> FakeNetwork:
        for one in self._networks.values():
            if ref in (one.id, one.name):
                return one
        matches = [one for one in self._networks.values() if ref and one.id.startswith(ref)]
        if len(matches) != 1:
            raise error_for(404, f"network {ref} not found")
        return matches[0]

    def _joined(self, network: FakeNetwork) -> list[tuple[FakeContainer, Place]]:
        return [
            (one, place)
            for one in self._containers.values()
            for place in one.places.values()
            if place.endpoint_id and place.network_id == network.id
        ]

    def _subnet(self, asked: str) -> IPv4Network:
        used = [one.subnet for one in self._networks.values() if one.subnet]
        if asked:
            try:
                subnet = IPv4Network(asked, strict=False)
            except ValueError:
                raise error_for(500, f"Invalid subnet {asked} : invalid CIDR address: {asked}") from None
            if any(subnet.overlaps(one) for one in used):
                raise error_for(403, "Pool overlaps with other one on this address space")
            return subnet
        for subnet in self._pool.subnets(new_prefix=self._pool_size):
            if not any(subnet.overlaps(one) for one in used):
                return subnet
        raise error_for(404, NO_POOL)

    def _check_modes(self, box: FakeContainer, network: FakeNetwork) -> None:
        if box.mode.startswith("container:") or box.mode == "host":
            raise error_for(400, SHARED_MODE)
        if network.driver == "host":
            raise error_for(400, HOST_MODE)
        others = [name for name in box.places if name != network.name]
        if others and (network.driver == "null" or "none" in others):
            raise error_for(400, NONE_MODE)

    def _check_place(self, box: FakeContainer, network: FakeNetwork, place: Place) -> None:
        """What is refused before an address is looked for; on a network of the user's own, its short id is an alias."""
        fixed = place.fixed_ipv4 or place.fixed_ipv6
        if network.predefined:
            if fixed:
                raise error_for(400, "user specified IP address is supported on user defined networks only")
            if place.aliases:
                raise error_for(400, "network-scoped alias is supported only for containers in user defined networks")
            return
        if box.id[:12] not in (place.aliases or ()):
            place.aliases = [*(place.aliases or ()), box.id[:12]]
        if fixed and not network.own_subnet:
            raise error_for(
                400,
                "user specified IP address is supported only when connecting to networks with user configured subnets",
            )

    def _join(self, box: FakeContainer, network: FakeNetwork, place: Place) -> None:
        if network.subnet is not None:
            place.ipv4, place.prefix = self._address(network, place.fixed_ipv4), network.subnet.prefixlen
            place.gateway = network.gateway
        place.network_id, place.endpoint_id = network.id, self._new_id("endpoint")

    def _address(self, network: FakeNetwork, fixed: str) -> str:
        if network.subnet is None:
            raise error_for(500, "a network without addresses")
        _check_address(fixed)
        used = {network.gateway, *(place.ipv4 for _, place in self._joined(network))}
        if not fixed:
            for host in network.subnet.hosts():
                if str(host) not in used:
                    return str(host)
            raise error_for(
                500, f"no available IPv4 addresses on this network's address pools: {network.name} ({network.id})"
            )
        if IPv4Address(fixed) not in network.subnet:
            raise error_for(500, f"Invalid address {fixed}: It does not belong to any of this network's subnets")
        if fixed in used:
            raise error_for(403, "Address already in use")
        return fixed

    def _forget(self, box: FakeContainer, network: str) -> None:
        with contextlib.suppress(EngineError):
            network = self._find_network(network).name
        if network not in box.places:
            raise error_for(500, f"container {box.id} is not connected to the network {network}")
        del box.places[network]


def has(labels: Mapping[str, str], wanted: str) -> bool:
    key, given, value = wanted.partition("=")
    return not wanted or (key in labels and (not given or labels[key] == value))


def _check_address(address: str) -> None:
    try:
        IPv4Address(address or "0.0.0.0")  # noqa: S104 - nothing is bound
    except ValueError:
        raise error_for(500, f"Invalid IPv4 address: {address})") from None
