"""``irkit doctor``."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass

import click
from dateutil.parser import isoparse

from irkit import __version__, home_safety
from irkit.cli.options import engine_option, json_option, print_json
from irkit.engine.connect import open_engine
from irkit.engine.interface import EngineInfo
from irkit.errors import ExitCode, IrkitError
from irkit.home import home_hint, named_home
from irkit.quarantine import firewall
from irkit.text import human_size

GOOD_DRIVERS = ("overlay2", "overlayfs", "overlay")
READABLE_LOGS = ("json-file", "local", "journald")
SKEW = 2.0
SPACE = 1024**3


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was looked at.  ``result``: ok, warn or fail."""

    name: str
    result: str
    detail: str
    mend: str = ""

    def to_json(self) -> dict[str, str]:
        """As in ``irkit doctor --json``."""
        return {"name": self.name, "result": self.result, "detail": self.detail, "mend": self.mend}


@click.command(epilog="\b\nExample:\n  irkit doctor --json")
@engine_option
@json_option
def command(engine: str | None, as_json: bool) -> int:
    """What will work on this machine, what won't, and how to mend it.  Changes nothing."""
    checks = [*_engine(engine), *_host()]
    if as_json:
        print_json(
            {
                "schema": "irkit.doctor/v1",
                "version": __version__,
                "checks": [check.to_json() for check in checks],
            }
        )
    else:
        for check in checks:
            mark, colour = {"ok": ("✓", "green"), "warn": ("~", "yellow"), "fail": ("✗", "red")}[check.result]
            click.echo(f"{click.style(mark, fg=colour)} {check.name:<16} {check.detail}")
            if check.mend:
                click.echo(f"  {'':<16} → {check.mend}")
    results = {check.result for check in checks}
    return ExitCode.FAILED if "fail" in results else ExitCode.GAPS if "warn" in results else ExitCode.DONE


def _engine(url: str | None) -> Iterator[Check]:
    try:
        engine = open_engine(url)
        info = engine.info()
    except IrkitError as error:
        yield Check("engine", "fail", error.message, error.hint or "")
        return
    yield Check("engine", "ok", f"{info.version} (API {info.api_version}) at {engine.endpoint}")
    if not engine.local:
        yield Check(
            "host",
            "warn",
            "the engine is remote: processes and tmpfs can't be had from here, and probes need a signed helper image",
            "run irkit on the engine's host, or see docs/quarantine.md, On a remote engine",
        )
    yield from _storage(info)
    yield Check("cgroup", "ok", f"version {info.cgroup_version}")
    yield Check(
        "log driver",
        "ok" if info.log_driver in READABLE_LOGS else "warn",
        info.log_driver or "the engine does not say",
    )
    skew = abs(isoparse(info.system_time).timestamp() - time.time()) if info.system_time else 0.0
    clock = f"the engine's clock differs by {skew:.1f} s"
    yield Check(
        "clock",
        "ok" if skew < SKEW else "warn",
        clock,
        "" if skew < SKEW else "set both clocks by NTP: times are evidence",
    )


def _storage(info: EngineInfo) -> Iterator[Check]:
    if info.storage_driver in GOOD_DRIVERS:
        yield Check("storage driver", "ok", info.storage_driver)
    else:
        yield Check(
            "storage driver",
            "warn",
            f"{info.storage_driver}: changed files can't be read from the host",
            "move the engine to overlay2",
        )
    if info.root_dir and not os.access(info.root_dir, os.R_OK | os.X_OK):
        yield Check("data root", "warn", f"{info.root_dir} can't be read", "run irkit as root on the engine's host")


def _host() -> Iterator[Check]:
    if os.geteuid() == 0:
        yield Check("rights", "ok", "root: /proc, namespaces and overlay layers can be read")
    else:
        yield Check("rights", "warn", "not root: no host-side acquisition, no probes", "run irkit as root")
    if firewall.available():
        yield Check("firewall", "ok", "nft: a second wall around each quarantine")
    else:
        yield Check(
            "firewall",
            "warn",
            "no nft: raw frames of a thawed target can reach the host, and the proof will say so",
            "install the package nftables",
        )
    folder = named = named_home()
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    yield Check(
        "disk",
        "ok" if free > SPACE else "warn",
        f"{human_size(free)} free for {named}",
        "" if free > SPACE else "set IRKIT_HOME to a larger disk",
    )
    wrong = home_safety.fault(str(named))
    if wrong:
        yield Check("home", "fail", f"{named} is not trusted: {wrong}", home_hint(str(named)))
        return
    writable = os.access(folder, os.W_OK)
    yield Check(
        "home",
        "ok" if writable else "fail",
        str(named),
        "" if writable else "set IRKIT_HOME to a folder that you can write",
    )
    if not (named / "keys" / "default.key").exists():
        yield Check("key", "warn", "there is no default key: the first contain makes one", "`irkit key generate`")
    else:
        yield Check("key", "ok", "default")
