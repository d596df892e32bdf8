"""Running a playbook on a target: what contain, snapshot, release and rebuild share."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from irkit import cases, resources
from irkit.actions.context import Context
from irkit.cases import Case
from irkit.engine.connect import open_engine
from irkit.engine.interface import Container, Engine
from irkit.errors import KeyProblem, NotFound, Refused, StorageError, UsageProblem
from irkit.events import Event, Observer
from irkit.evidence.writer import BundleWriter
from irkit.home import Ballast, config_file, read_json, write_json
from irkit.playbook.journal import Journal
from irkit.playbook.model import Playbook
from irkit.playbook.profiled import with_profile
from irkit.playbook.reader import load_playbook
from irkit.playbook.runner import Outcome, Runner
from irkit.target import Target

if TYPE_CHECKING:
    from irkit.actions.shared import Shared
    from irkit.cli.options import Signals
    from irkit.evidence.keys import Signer
    from irkit.playbook.resume import Past


PAUSED = ("interrupted", "waiting")
"""How a run ends that can be gone on with."""


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class RunConfig:
    """What the command line said."""

    target: str
    playbook: str
    engine: str | None
    key: str
    passphrase: Callable[[str], bytes | None]
    observer: Observer
    variables: Mapping[str, Any]
    needs_key: bool = True
    can_ask: bool = False
    signer: Callable[[], Signer] | None = None
    sealed_off: Callable[[], None] = lambda: None
    recipients: tuple[Any, ...] = ()
    undo_containment: bool = False
    dry_run: bool = False
    together: frozenset[str] = frozenset()
    shared: Shared | None = None
    """What the targets of one command have in common."""
    read: Playbook | None = None
    """The playbook, where it was read already: one for all targets of a command."""
    image: bool = False
    """The target is an image alone; the playbook asks nothing of a container."""
    opened: Callable[[str, str], None] = lambda case, run: None
    """Called with the case and the run as soon as there are any."""
    again: frozenset[str] = frozenset()
    digest: str = ""
    """What the playbook's must be, if anything."""
    wait: bool = True
    ask_secret: Callable[[str], str | None] = lambda name: None
    agree: Callable[[str], bool] = lambda question: True


class Finished(NamedTuple):
    """A run and all that it found."""

    outcome: Outcome
    context: Context
    playbook: Playbook

    def to_json(self) -> dict[str, Any]:
        """``irkit.run/v1``."""
        facts = self.context.facts
        moments = ("started", "frozen", "sealed_off", "proven", "bundled", "finished")
        result: dict[str, Any] = {
            "schema": "irkit.run/v1", "case": self.context.case.id, "run": self.context.run, "status": self.outcome.status,
            "target": self.context.target.to_json(),
            "playbook": {"id": self.playbook.id, "digest": self.playbook.digest},
            "timeline": {moment: facts.timeline.get(moment) for moment in moments},
            "steps": [{name: value for name, value in step.items() if name not in ("name", "seconds")} for step in self.context.steps],
            "quarantine": {
                "state": facts.quarantine_state or None, "network": facts.quarantine_network or None,
                "probes": [probe.to_json() for probe in facts.probes],
            },
            "bundle": {"path": str(facts.sealed.path), "digest": facts.sealed.digest, "status": facts.sealed.status} if facts.sealed else None,
            "findings": [finding.to_json() for finding in facts.findings],
            "gaps": [gap.to_json() for gap in self.context.writer.gaps],
        }  # fmt: skip
        result.update(facts.result)
        if self.outcome.error is not None:
            result["error"] = {"message": self.outcome.error.message, "hint": self.outcome.error.hint}
        return result


def run_playbook(config: RunConfig, signals: Signals, admit: Callable[[Case | None, Container], None]) -> Finished:
    """Resolve the target, open or continue its case, and run.  ``admit`` may refuse, given the open case.

    Raises the error tree for what happens before the first step.
    """
    playbook = config.read or read_playbook(config)
    if config.digest and playbook.digest != config.digest:
        raise Refused(
            f"{playbook.path} is not the playbook {config.digest}: it is {playbook.digest}",
            hint="it was changed, or another one is meant",
        )
    signed_by = _vouched(playbook)
    variables = playbook.bind(config.variables)
    playbook, profile = with_profile(playbook, variables)
    engine = open_engine(config.engine)
    container, target = _resolve(engine, config)
    config.observer(Event("note", f"target {target.name} ({target.short}, image {target.image}) on {target.engine}"))
    if config.needs_key:
        _check_key(config)
    with cases.target_lock(target.id, target.name):
        admit(cases.active_case(target.id), container)
        case = cases.open_case(target)
        run, folder = case.new_run()
        config.observer(Event("note", f"case {case.id}, run {run}"))
        config.opened(case.id, run)
        with _reserve(folder) as ballast:
            writer = _writer(config, case.folder / "bundles" / run, signals.checkpoint, ballast.drop)
            context = Context(
                engine,
                case,
                run,
                target,
                container,
                writer,
                config.observer,
                signals.checkpoint,
                config.signer or signing_key(config),
                sealed_off=config.sealed_off,
                together=config.together,
                shared=config.shared,
                profile=profile,
                ask_secret=config.ask_secret,
                agree=config.agree,
            )
            engine.record_calls(folder / "calls.jsonl")
            journal = Journal(folder / "journal.jsonl", ballast.drop)
            return _play(config, signals, playbook, variables, context, journal, signed_by)


def read_playbook(config: RunConfig) -> Playbook:
    """Raises ``UsageProblem`` for one that there is not, ``PlaybookInvalid``."""
    return load_playbook(resources.find("playbooks", config.playbook))


def _vouched(playbook: Playbook) -> dict[str, list[str]]:
    """Who vouches for the playbook, where the operator's configuration asks for that.  Raises ``NotTrusted``."""
    if not config_file().is_file():
        return {}  # nothing is imported for it: every import counts before the target is frozen
    from irkit.config import load_config
    from irkit.playbook import signed

    return signed.require(playbook, load_config().signatures)


def _resolve(engine: Engine, config: RunConfig) -> tuple[Container, Target]:
    """Raises ``NotFound``."""
    if config.image:
        image = engine.image(config.target)
        target = Target(image.id, config.target, config.target, image.id, engine.endpoint, "image")
        return _found(engine, target), target
    found = engine.container(config.target)
    return found, Target(found.id, found.name, found.image_ref, found.image_id, engine.endpoint)


def _found(engine: Engine, target: Target) -> Container:
    """The target as it is now; an image alone as a container that never was: nothing of it runs.  Raises ``NotFound``."""
    if target.kind != "image":
        return engine.container(target.id)
    image = engine.image(target.id).id
    return Container(
        {"Id": image, "Name": f"/{target.name}", "Image": image, "Config": {"Image": target.image}, "State": {}}
    )


def resume_run(config: RunConfig, signals: Signals, case_id: str, run: str = "") -> Finished:
    """Go on with a run of a case (the last one by default) that was killed or interrupted.

    Raises ``Refused`` when it has ended or is not the same any more: its playbook, profile, variables or target.
    """
    from irkit.playbook import resume

    case = cases.load_case(case_id)
    run = run or (case.runs[-1] if case.runs else "")
    if run not in case.runs:
        raise UsageProblem(f"the case {case_id} has no run {run!r}", hint=f"it has: {', '.join(case.runs) or 'none'}")
    folder = case.folder / "runs" / run
    with cases.target_lock(case.target.id, case.target.name):
        past = resume.read_past(folder / "journal.jsonl")
        playbook = load_playbook(Path(past.started["playbook"]["path"]))
        signed_by = _vouched(playbook)
        variables = past.started["vars"]
        playbook, profile = with_profile(playbook, playbook.bind(variables))
        engine = open_engine(config.engine or case.target.engine)
        raw = read_json(folder / "before.json")
        try:
            container = _found(engine, case.target)
        except NotFound:
            if raw is None or not resume.may_be_gone(past, playbook):
                raise
            container = Container(raw)
        resume.check(past, playbook, variables, container.id, profile.digest if profile else "")
        config.observer(Event("note", f"case {case.id}, going on with run {run}"))
        if config.needs_key:
            _check_key(config)
        with _reserve(folder) as ballast:
            bundle = case.folder / "bundles" / resume.bundle_name(past, run)
            writer = _writer(config, bundle, signals.checkpoint, ballast.drop)
            context = Context(
                engine, case, run, case.target, Container(raw) if raw else container, writer, config.observer,
                signals.checkpoint, config.signer or signing_key(config), profile=profile, ask_secret=config.ask_secret,
            )  # fmt: skip
            resume.restore(past, context, case.folder / "bundles" / run)
            engine.record_calls(folder / f"calls-{past.times + 2}.jsonl")
            journal = Journal.reopen(folder / "journal.jsonl", ballast.drop)
            return _play(config, signals, playbook, variables, context, journal, signed_by, past)


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Launcher:
    """Runs other playbooks on other containers for a run, each in a case of its own.

    Which ones were begun is kept in ``children.json`` beside the journal, so that a run that goes on lets them go on.
    """

    config: RunConfig
    signals: Signals
    folder: Path

    def __call__(self, playbook: str, target: str, variables: Mapping[str, Any]) -> Mapping[str, Any]:
        """``case``, ``run``, ``status`` (``skipped``: it is contained already), ``quarantine``, ``bundle``, ``message``."""
        path = self.folder / "children.json"
        begun, name = read_json(path) or {}, f"{playbook} {target}"
        if name in begun:
            return self._go_on(*begun[name])

        def opened(case: str, run: str) -> None:
            write_json(path, {**begun, name: [case, run]})

        config = replace(
            self.config,
            digest="",
            read=None,
            target=target,
            playbook=playbook,
            variables=dict(variables),
            opened=opened,
            sealed_off=lambda: None,
        )
        try:
            return _told(run_playbook(config, self.signals.fork(), not_contained))
        except AlreadyContained as told:
            return {"case": told.case, "run": "", "status": "skipped", "quarantine": "", "bundle": ""}

    def _go_on(self, case: str, run: str) -> Mapping[str, Any]:
        """A child of a run that was killed: its end, or what there is left of it to do."""
        ended = read_json(cases.load_case(case).folder / "runs" / run / "result.json")
        if ended is not None and ended.get("status") not in PAUSED:
            bundle = (ended.get("bundle") or {}).get("path", "")
            return {**ended, "quarantine": ended["quarantine"]["state"], "bundle": bundle}
        return _told(resume_run(self.config, self.signals.fork(), case, run))


class AlreadyContained(Refused):
    """A container that another run has contained already."""

    case = ""


def not_contained(case: Case | None, container: Container) -> None:
    """Let a run begin only on what no case holds.  Raises ``AlreadyContained``."""
    if case is not None and case.state == "contained":
        error = AlreadyContained(f"{container.name} is contained already, by the case {case.id}")
        error.case = case.id
        raise error


def _told(finished: Finished) -> dict[str, Any]:
    facts, error = finished.context.facts, finished.outcome.error
    return {
        "case": finished.context.case.id, "run": finished.context.run, "status": finished.outcome.status,
        "quarantine": facts.quarantine_state, "bundle": str(facts.sealed.path) if facts.sealed else "",
        "message": error.message if error else "",
    }  # fmt: skip


@contextlib.contextmanager
def _reserve(folder: Path) -> Iterator[Ballast]:
    ballast = Ballast(folder)
    ballast.take()
    try:
        yield ballast
    finally:
        ballast.drop()


def _play(
    config: RunConfig,
    signals: Signals,
    playbook: Playbook,
    variables: Mapping[str, Any],
    context: Context,
    journal: Journal,
    signed_by: Mapping[str, list[str]],
    past: Past | None = None,
) -> Finished:
    context.launch = Launcher(config, signals, context.run_folder)
    try:
        try:
            release, dry = config.undo_containment, config.dry_run
            outcome = Runner(
                playbook,
                context,
                journal,
                variables,
                signals.shield,
                release=release,
                past=past,
                dry=dry,
                again=config.again,
                signed_by=signed_by,
                wait=config.wait,
            ).run()
        finally:
            journal.close()
        finished = Finished(outcome, context, playbook)
        context.writer.on_full()
        _mark_case(finished, config.dry_run)
        _save(context.run_folder, finished)
        _trace(finished)
        if outcome.status not in PAUSED:  # nobody will go on with it: the target's environment need not lie there
            (context.run_folder / "before.json").unlink(missing_ok=True)
    finally:
        _drop_empty(context.writer.folder)
    return finished


def _mark_case(finished: Finished, dry: bool) -> None:
    """Whether the case holds its target now, or has let it go, whichever command and playbook did it."""
    if dry or finished.outcome.status in PAUSED:
        return
    done = {one["uses"] for one in finished.context.steps if one["outcome"] in ("succeeded", "degraded")}
    if any(
        one["id"] == finished.context.target.id and one["outcome"] in ("removed", "gone")
        for one in _eradicated(finished)
    ):
        finished.context.case.with_state("eradicated")
    elif finished.context.facts.quarantine_state:
        finished.context.case.with_state("contained")
    elif "quarantine.release" in done and finished.outcome.error is None:
        finished.context.case.with_state("released")


def _eradicated(finished: Finished) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = (finished.context.facts.result.get("eradication") or {}).get("items") or []
    return rows


def _writer(
    config: RunConfig, folder: Path, checkpoint: Callable[[], None], on_full: Callable[[], bool]
) -> BundleWriter:
    if not config.recipients:
        return BundleWriter(folder, checkpoint, on_full)
    from irkit.evidence.age_writer import EncryptedWriter

    return EncryptedWriter(folder, config.recipients, checkpoint, on_full)


def _save(folder: Path, finished: Finished) -> None:
    try:
        write_json(folder / "result.json", finished.to_json())
    except StorageError as error:
        finished.context.warn(f"the run's result could not be saved: {error.message}")


def _trace(finished: Finished) -> None:
    """OpenTelemetry, where the operator named a collector; nothing is imported for it otherwise."""
    if not any(name.startswith("OTEL_EXPORTER_OTLP_") for name in os.environ):
        return
    from irkit import tracing

    if tracing.wanted():
        context = finished.context
        tracing.export(finished.to_json(), context.steps, finished.outcome.exit_code, context.warn)


def _drop_empty(folder: Path) -> None:
    """A run that acquires nothing (release, rebuild) leaves no empty bundle."""
    with contextlib.suppress(OSError):
        (folder / "data").rmdir()
        folder.rmdir()


def _check_key(config: RunConfig) -> None:
    """A key that can't be opened is said before anything is touched.  Cheap: the key is not parsed yet."""
    path = _key_path(config)
    if not path.is_file():
        if config.key != "default":
            raise KeyProblem(
                f"no private key {config.key!r}",
                hint="`irkit key list` shows the keys; `irkit key generate` makes one",
            )
        return
    if b"ENCRYPTED" in path.read_bytes()[:64] and not config.can_ask:
        raise KeyProblem(
            f"the key {config.key!r} needs a passphrase",
            hint="--passphrase-file FILE, --passphrase-fd N, or use a terminal",
        )


def _key_path(config: RunConfig) -> Path:
    from irkit.home import home

    plain = config.key.removeprefix("file:")
    return Path(plain) if "/" in plain else home() / "keys" / f"{plain}.key"


def key_for_all(config: RunConfig) -> bool:
    """Whether several processes can open the key, each for itself: it is there, and nobody is asked for a passphrase."""
    try:
        return b"ENCRYPTED" not in _key_path(config).read_bytes()[:64]
    except OSError:
        return False


def signing_key(config: RunConfig) -> Callable[[], Signer]:
    """The signing key, opened once, when it is first needed; a default one is made when there is none."""
    opened: list[Signer] = []
    lock = threading.Lock()

    def get() -> Signer:
        with lock:
            return _open()

    def _open() -> Signer:
        if not opened:
            from irkit.evidence import keys

            if config.key == keys.DEFAULT_NAME and not keys.private_path(config.key).exists():
                opened.append(keys.generate(keys.DEFAULT_NAME))
                config.observer(
                    Event(
                        "warning",
                        "there was no key: made the key 'default', without a passphrase; keep a copy of its public part elsewhere",
                    )
                )
            else:
                opened.append(keys.load_signer(config.key, "evidence", config.passphrase))
        return opened[0]

    return get
