"""Bodies and defaults of the Docker API, without the SDK."""

from __future__ import annotations

from typing import Any

from irkit.engine.interface import Endpoint

DEFAULT_CAPABILITIES = frozenset(
    (
        "AUDIT_WRITE", "CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "KILL", "MKNOD", "NET_BIND_SERVICE", "NET_RAW", "SETFCAP",
        "SETGID", "SETPCAP", "SETUID", "SYS_CHROOT",
    )
)  # fmt: skip
"""What a container gets that asks for nothing (docs.docker.com/engine/containers/run, "Runtime privilege")."""
ENGINE_SOCKETS = ("docker.sock", "containerd.sock", "podman.sock", "crio.sock")
"""Names of sockets that are root on the host."""


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
