"""Cases: one incident on one target, a folder under IRKIT_HOME.

``cases/<case>/case.json`` what it is · ``quarantine.json`` what a release needs · ``container.json`` the target as
it was before irkit touched it · ``runs/<run>/`` journal and result · ``bundles/<run>/`` evidence.
``targets/<container id>`` names the target's open case, ``locks/<container id>`` is held while a run is under way.
"""

from __future__ import annotations

import contextlib
import fcntl
import getpass
import hashlib
import json
import os
import re
import socket
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from irkit.clock import now
from irkit.errors import IrkitError, Refused, UsageProblem, storage_error
from irkit.home import home, private_folder, random_name, write_file, write_json
from irkit.target import Target

CASE_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,80}")
OPEN_STATES = ("open", "contained")


def whoami() -> str:
    """``user@host`` of the responder."""
    try:
        user = getpass.getuser()
    except (OSError, KeyError):
        user = str(os.getuid())
    return f"{user}@{socket.gethostname()}"


class Case(NamedTuple):
    """One incident.  ``state``: open, contained, released, eradicated."""

    id: str
    target: Target
    opened: str
    opened_by: str
    state: str = "open"
    contained: str = ""

    @property
    def folder(self) -> Path:
        """Where it lives."""
        return home() / "cases" / self.id

    @property
    def runs(self) -> tuple[str, ...]:
        """Its runs, oldest first."""
        folder = self.folder / "runs"
        return tuple(sorted(entry.name for entry in folder.iterdir())) if folder.is_dir() else ()

    @property
    def bundles(self) -> tuple[Path, ...]:
        """Its sealed bundles, oldest first."""
        folder = self.folder / "bundles"
        if not folder.is_dir():
            return ()
        return tuple(sorted(entry for entry in folder.iterdir() if (entry / "seal.dsse.json").is_file()))

    def to_json(self) -> dict[str, Any]:
        """``case.json``."""
        return {
            "schema": "irkit.case/v1", "id": self.id, "target": self.target.to_json(), "opened": self.opened,
            "opened_by": self.opened_by, "state": self.state, "contained": self.contained,
        }  # fmt: skip

    def save(self) -> None:
        """Write ``case.json``."""
        write_json(self.folder / "case.json", self.to_json())

    def with_state(self, state: str) -> Case:
        """A copy in another state, saved; a closed case gives its target free."""
        changed = self._replace(state=state, contained=now() if state == "contained" else self.contained)
        changed.save()
        if state not in OPEN_STATES:
            _pointer(self.target.id).unlink(missing_ok=True)
        return changed

    def read_json(self, name: str) -> dict[str, Any] | None:
        """One of its JSON files, ``None`` when there is none."""
        try:
            value: dict[str, Any] = json.loads((self.folder / name).read_bytes())
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            raise IrkitError(
                f"can't read {self.folder / name}: {error}",
                hint="the file was changed or damaged outside of irkit",
            ) from error
        return value

    def new_run(self) -> tuple[str, Path]:
        """A new run's id and folder."""
        run = f"{now()[:19].replace('-', '').replace(':', '')}z-{random_name(2)}".lower()
        return run, private_folder(self.folder / "runs" / run)


def _pointer(container_id: str) -> Path:
    return home() / "targets" / container_id


def _from_json(raw: Mapping[str, Any]) -> Case:
    return Case(
        id=str(raw["id"]), target=Target.from_json(raw["target"]), opened=str(raw["opened"]),
        opened_by=str(raw["opened_by"]), state=str(raw["state"]), contained=str(raw.get("contained", "")),
    )  # fmt: skip


def load_case(case_id: str) -> Case:
    """A case by its id or a unique beginning of it.  Raises ``UsageProblem`` when there is none."""
    folder = home() / "cases"
    if CASE_NAME.fullmatch(case_id):
        matches = (
            [entry for entry in sorted(folder.iterdir()) if entry.name.startswith(case_id)] if folder.is_dir() else []
        )
        exact = [entry for entry in matches if entry.name == case_id] or matches
        if len(exact) == 1:
            return _read(exact[0])
        if exact:
            raise UsageProblem(
                f"{len(exact)} cases begin with {case_id!r}", hint="give more of the id; `irkit case list`"
            )
    raise UsageProblem(f"no case {case_id!r}", hint="`irkit case list` shows all")


def _read(folder: Path) -> Case:
    try:
        return _from_json(json.loads((folder / "case.json").read_bytes()))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise IrkitError(
            f"can't read the case in {folder}: {error}", hint="its journal and bundles can still be read"
        ) from error


def list_cases() -> tuple[Case, ...]:
    """All cases that can be read, oldest first."""
    folder = home() / "cases"
    if not folder.is_dir():
        return ()
    found = []
    for entry in sorted(folder.iterdir()):
        with contextlib.suppress(IrkitError):
            found.append(_read(entry))
    return tuple(sorted(found, key=lambda case: case.opened))


def active_case(container_id: str) -> Case | None:
    """The target's open case."""
    try:
        name = _pointer(container_id).read_text()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise storage_error(error, "can't read the list of open cases") from error
    folder = home() / "cases" / name
    return _read(folder) if CASE_NAME.fullmatch(name) and folder.is_dir() else None


def open_case(target: Target) -> Case:
    """The target's open case, or a new one."""
    existing = active_case(target.id)
    if existing is not None:
        return existing
    slug = re.sub(r"[^a-z0-9]+", "-", target.name.lower()).strip("-")[:40] or "target"
    case = Case(f"{now()[:10]}-{slug}-{random_name(2)}", target, now(), whoami())
    private_folder(case.folder)
    case.save()
    private_folder(home() / "targets")
    write_file(_pointer(target.id), case.id.encode())
    return case


@contextlib.contextmanager
def target_lock(target_id: str, name: str) -> Iterator[None]:
    """Hold the target for one run.  Raises ``Refused`` naming who holds it and since when.

    The kernel gives the lock up when the process ends, however it ends.
    """
    with _lock(private_folder(home() / "locks") / target_id, f"a run is under way on {name}"):
        yield


def under_way(target_id: str) -> bool:
    """Whether a run of this home holds the target now."""
    try:
        descriptor = os.open(home() / "locks" / target_id, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


@contextlib.contextmanager
def watch_lock() -> Iterator[None]:
    """Hold IRKIT_HOME for one watch: two would each start what one alert asks for.  Raises ``Refused``."""
    with _lock(private_folder(home() / "watch") / "lock", "a watch is under way here"):
        yield


@contextlib.contextmanager
def eradication_lock(engine: str) -> Iterator[None]:
    """Hold an engine for one eradication from this home.  Raises ``Refused`` naming who holds it."""
    with _lock(
        private_folder(home() / "locks") / f"eradication-{engine}", "an eradication is under way on this engine"
    ):
        yield


@contextlib.contextmanager
def drill_lock(engine_id: str) -> Iterator[None]:
    """Hold an engine for one drill, whatever home it plays in.  Raises ``Refused`` naming who holds it."""
    import tempfile  # slow, and no run needs it

    digest = hashlib.sha256(engine_id.encode()).hexdigest()[:16]
    path = Path(tempfile.gettempdir()) / f"irkit-drill-{os.getuid()}-{digest}.lock"
    with _lock(path, "a drill is under way on this engine"):
        yield


@contextlib.contextmanager
def _lock(path: Path, held: str) -> Iterator[None]:
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        raise storage_error(error, f"can't write {path}") from error
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.read(descriptor, 400).decode("utf-8", "replace") or "another process"
            raise Refused(f"{held}: {holder}", hint="wait for it, or look at it with `irkit case list`") from None
        _write_holder(descriptor)
        yield
        with contextlib.suppress(OSError):
            os.ftruncate(descriptor, 0)
    finally:
        os.close(descriptor)


def _write_holder(descriptor: int) -> None:
    """Say who holds the lock; a full disk must not keep anybody from containing."""
    with contextlib.suppress(OSError):
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"by {whoami()}, process {os.getpid()}, since {now()}".encode(), 0)
