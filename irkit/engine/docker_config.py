"""Bodies of the Docker API, without the SDK."""

from __future__ import annotations

from typing import Any

from irkit.engine.interface import Endpoint


def endpoint_config(endpoint: Endpoint) -> dict[str, Any]:
    """The API's ``EndpointSettings`` that gives a container a place on a network."""
    config: dict[str, Any] = {}
    for key, value in (
        ("Aliases", list(endpoint.aliases)), ("Links", list(endpoint.links)), ("DriverOpts", dict(endpoint.driver_opts)),
    ):  # fmt: skip
        if value:  # the engine tells an empty list from none
            config[key] = value
    if endpoint.mac:
        config["MacAddress"] = endpoint.mac
    fixed = {"IPv4Address": endpoint.fixed_ipv4, "IPv6Address": endpoint.fixed_ipv6}
    if any(fixed.values()):
        config["IPAMConfig"] = {key: value for key, value in fixed.items() if value}
    return config
