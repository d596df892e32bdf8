"""The firewall's part in a containment: where it can be put up, and what it then closes."""

from __future__ import annotations

import os
import re

from irkit.acquire.host import HostView
from irkit.errors import EngineError
from irkit.quarantine import firewall
from irkit.quarantine.links import cables
from irkit.quarantine.procfs import exists, read

INTERFACE = re.compile(r"[A-Za-z0-9_.-]{1,15}")
CGROUP_ROOT = "/sys/fs/cgroup"
"""Where nft(8) looks for a cgroup that a rule names."""


def wall_bridge(case_id: str, bridge: str, later: bool = False) -> str:
    """Drop all that enters the host from the quarantine bridge, or leaves for it.  Empty, or why it could not be done.

    ``later``: the engine makes the bridge only when somebody joins.
    """
    if not INTERFACE.fullmatch(bridge) or not (later or exists(bridge)):
        return "the quarantine bridge is not in irkit's network namespace"
    return _load(case_id, firewall.bridge_rules(case_id, bridge))


def wall_cables(case_id: str, bridge: str, view: HostView) -> str:
    """Drop all that enters or leaves by the host's ends of the target's cables.  Empty, or why it could not be done."""
    try:
        ends = cables(view.netns)
    except OSError as error:
        return f"the target's cables can't be followed: {error.strerror or error}"
    if not all(INTERFACE.fullmatch(one) for one in ends):
        return "a cable of the target's ends in an interface whose name a rule can't hold"
    if not ends:
        return "no cable of the target's ends in irkit's network namespace"
    return _load(case_id, firewall.bridge_rules(case_id, bridge if INTERFACE.fullmatch(bridge) else "", ends))


def wall_cgroup(case_id: str, view: HostView | None) -> str:
    """Drop the traffic of the target's cgroup, for a target on the host's own network.  Empty, or why it could not be."""
    folders = [one for one in view.cgroups() if os.path.exists(f"{one}/cgroup.events")] if view else []  # noqa: PTH110
    if not folders:
        return "the target has no cgroup v2 of its own to go by"
    if not folders[0].startswith(f"{CGROUP_ROOT}/") or any(char in folders[0] for char in '"\n\\'):
        return f"its cgroup is not beneath {CGROUP_ROOT}, where nft looks for it"
    depth = len(_v2_path(view).strip("/").split("/")) if view else 0
    return _load(case_id, firewall.cgroup_rules(case_id, folders[0].removeprefix(f"{CGROUP_ROOT}/"), depth))


def _v2_path(view: HostView) -> str:
    """The cgroup's path in the v2 hierarchy (cgroups(7): the row ``0::/path``)."""
    rows = read(f"/proc/{view.pid}/cgroup").splitlines()
    return next((row.removeprefix("0::") for row in rows if row.startswith("0::")), "")


def _load(case_id: str, rules: str) -> str:
    if os.geteuid() != 0:
        return "only root may load firewall rules"
    if not firewall.available():
        return "nft is not installed (package nftables)"
    try:
        firewall.load(case_id, rules)
    except EngineError as error:
        return error.message
    return ""
