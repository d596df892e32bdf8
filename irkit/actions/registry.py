"""The explicit mapping from a name in a playbook to an action."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any, NamedTuple

from irkit.actions.context import Context, Result

Run = Callable[[Context, Mapping[str, Any]], Result]
Probe = Callable[[Context, Mapping[str, Any]], Result | None]


class Param(NamedTuple):
    """A parameter: its type, its default unless it is required, and what it may be."""

    name: str
    type: type
    default: Any = None
    required: bool = False
    description: str = ""
    choices: tuple[Any, ...] = ()


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Action:
    """A verb.  ``effect``: ``read``, ``change`` or ``destroy``; ``urgent``: before isolation, so nothing slow is done for it.

    ``needs``: what must be there, in words.  ``undo``: the action that takes it back.  ``gives``: the fields of what it
    registers.  ``beside``: it may run at the same time as others (``parallel``); an acquisition only
    beside those that hand nothing on to it, and nothing but acquisitions and what leaves the evidence alone beside it.  ``repeatable``: when nobody knows
    whether it was done (the run was killed), it may be done again, because it looks at what is there first.
    ``probe``: asked then whether it was done: its result, or ``None``.
    """

    name: str
    effect: str
    summary: str
    run: Run
    params: tuple[Param, ...] = ()
    urgent: bool = False
    rehearsed: bool = True
    """Whether a dry run of something that only reads may run it: a proof of a quarantine that was not made is none."""
    needs: str = ""
    undo: str = ""
    gives: tuple[str, ...] = ()
    beside: bool = False
    repeatable: bool = True
    probe: Probe | None = None

    @property
    def collects(self) -> bool:
        """Whether it writes evidence: beside others it gets a writer of its own."""
        return self.name.startswith("acquire.")

    @property
    def planned(self) -> bool:
        """Whether a dry run only says that it would be done."""
        return self.effect != "read" or not self.rehearsed


def _in(module: str, function: str) -> Run:
    """An action's code, imported when it is first run: every import counts before the target is frozen."""

    def run(context: Context, arguments: Mapping[str, Any]) -> Result:
        loaded: Run = getattr(import_module(f"irkit.actions.{module}"), function)
        return loaded(context, arguments)

    return run


PROFILED = "acquire.profile"
"""Never runs as itself: :mod:`irkit.playbook.profiled` puts the collectors' steps in its place."""


def _probe(module: str, function: str) -> Probe:
    def probe(context: Context, arguments: Mapping[str, Any]) -> Result | None:
        asked: Probe = getattr(import_module(f"irkit.actions.{module}"), function)
        return asked(context, arguments)

    return probe


def _profile(default: str) -> tuple[Param, ...]:
    return (Param("profile", str, default, description="the acquisition profile"),)


_BAD = (
    Param("file_digests", list, (), description="sha256 of files: a container with one among its changed files is bad, too"),
    Param("base", str, "", description="the clean image that the bad one was built on: then every image with a layer over it is bad"),
    Param("keep", list, (), description="what stays in any case: image, network, volume"),
    Param("accept_gaps", bool, False, description="a bundle counts although it names gaps in what it holds"),
)  # fmt: skip
_SECRETS = (
    Param("secrets", list, (), description="new values of variables, `NAME=@FILE` or `NAME=fd:N`"),
    Param("keep_secrets", list, (), description="variables that are carried over although they are burnt"),
    Param("drop_secrets", list, (), description="variables that are left out"),
)  # fmt: skip
_HARDEN = (
    Param("harden", list, (), description="misconfigurations that are taken away, by name, or `all`; see docs/recover.md"),
    Param("keep", list, (), description="those of `harden` that are left as they are"),
)  # fmt: skip
HOST = "irkit on the target's host, as root"
SEALED = "a sealed bundle of this run"
CONTAINED = "a contained target"

_ALL = (
    Action("container.freeze", "change", "Freeze every process of the target (pause).", _in("containment", "freeze"), urgent=True, undo="container.thaw", gives=("kernel",)),
    Action("container.thaw", "change", "Thaw the target, unless it was frozen before irkit came.", _in("containment", "thaw"), undo="container.freeze"),
    Action("container.stop", "change", "Stop the target: its stop signal (SIGTERM), then SIGKILL after the grace time.", _in("removal", "stop"), (Param("grace", int, None, description="seconds until SIGKILL; none: the container's own stop timeout, else 10"),), needs="evidence first: what is in memory is lost", gives=("was",)),
    Action("container.remove", "destroy", "Remove the target.", _in("removal", "remove_container"), needs=f"{SEALED}, verified, and the target stopped or {CONTAINED}", gives=("removed",)),
    Action("image.remove", "destroy", "Remove the target's image and its names, unless another container uses it.", _in("removal", "remove_image"), needs=f"{SEALED}, verified, with the image's identity in it", gives=("removed", "names")),
    Action("quarantine.seal", "change", "Leave every network and join the case's quarantine.", _in("containment", "seal"), urgent=True, undo="quarantine.release", gives=("network",)),
    Action("quarantine.prove", "read", "Try to get out of the quarantine and into it.", _in("proof", "prove_quarantine"), (Param("outside", str, "", description="an outside address to probe"), Param("timeout_ms", int, 1000, description="how long a probe waits"), Param("by", str, "auto", description="who probes: helper containers only where irkit can't, or always", choices=("auto", "helper")), Param("helper", str, "", description="the signed image of helper containers; `probes.image` of the operator's configuration if none")), urgent=True, rehearsed=False, needs="irkit on the target's host, as root, or a signed image for helper containers"),
    Action("quarantine.observe", "change", "Let the target run inside its proven quarantine, and record its traffic.", _in("observation", "observe"), (Param("seconds", int, 60, description="how long it runs"), Param("sinkhole", bool, False, description="answer DNS and accept TCP"), Param("limit_bytes", int, 256 * 1024 * 1024, description="the recording's largest size")), needs=f"a proven quarantine; {HOST}"),
    Action("quarantine.release", "change", "Give the target its former networks back.", _in("containment", "release"), needs=CONTAINED, undo="quarantine.seal"),
    Action("acquire.processes", "read", "Processes from the host's /proc.", _in("acquisition", "processes"), urgent=True, needs=HOST),
    Action("acquire.network", "read", "Sockets, routes and neighbours from the host's /proc.", _in("acquisition", "network"), urgent=True, needs=HOST),
    Action("acquire.routes", "read", "Addresses, routes and neighbours, before the target leaves its networks.", _in("acquisition", "routes"), needs=HOST),
    Action("acquire.mapped", "read", "A digest of every mapped executable, and the bytes of those that no disk keeps.", _in("acquisition", "mapped"), _profile("standard"), needs=HOST, beside=True),
    Action("acquire.memory", "read", "Memory as ELF core files, as the profile asks.", _in("acquisition", "memory"), _profile("full"), needs=HOST, beside=True),
    Action("acquire.checkpoint", "read", "A CRIU checkpoint by the engine, where it can; the target goes on as before.", _in("acquisition", "checkpoint"), (Param("profile", str, required=True, description="the acquisition profile"),), needs="CRIU on the engine's host"),
    Action("acquire.tmpfs", "read", "The contents of tmpfs mounts.", _in("acquisition", "tmpfs"), _profile("standard"), needs=HOST, beside=True),
    Action("acquire.filesystem", "read", "Changed files as an OCI layer, with a list of changes.", _in("acquisition", "filesystem"), _profile("standard"), beside=True),
    Action("acquire.export", "read", "The whole file system by the engine's export, with every file's digest.", _in("storage", "export"), _profile("full")),
    Action("acquire.volumes", "read", "Volumes and bind mounts, as the profile asks.", _in("storage", "volumes"), _profile("full"), beside=True),
    Action("acquire.image", "read", "What the image is: manifests, configuration, layers.", _in("storage", "image"), beside=True),
    Action("acquire.image-record", "read", "What the engine knows of the image: inspect and history; and of itself.", _in("storage", "image_record"), beside=True),
    Action("acquire.image-save", "read", "The image itself, as the engine saves it.", _in("storage", "image_save"), _profile("full"), beside=True),
    Action("acquire.logs", "read", "Standard output and error, with times, and the log driver's own files.", _in("acquisition", "logs"), _profile("standard"), beside=True),
    Action("acquire.host", "read", "Kernel, modules, clock and settings of the target's host.", _in("acquisition", "host"), needs=HOST, beside=True),
    Action("acquire.engine", "read", "What the engine knows: inspect, image, history, networks, volumes, events.", _in("acquisition", "engine_state"), beside=True),
    Action(PROFILED, "read", "Each collector that a profile asks for, in its order, as a step of its own.", _in("acquisition", "profiled"), (*_profile("standard"), Param("stage", str, required=True, description="frozen or isolated", choices=("frozen", "isolated")))),
    Action("compare.findings", "read", "Match what was acquired against the rules.", _in("closing", "findings"), needs=SEALED, gives=("count", "critical", "high", "rules")),
    Action("audit.check", "read", "Audit the engine, the target and its image into the evidence, as the policy `audit.yaml` says.", _in("auditing", "check"), (Param("scan", bool, False, description="look for known vulnerabilities even where the policy does not ask for it"), Param("fail_on", str, "", description="the step fails when a check of this severity or worse fails or can't be answered; none: never", choices=("", "critical", "high", "medium", "low"))), needs="the bundle not sealed yet; for a scan Trivy, Grype or Docker Scout on this machine", gives=("fail", "warn", "unknown", "refused")),
    Action("scope.survey", "read", "Who and what the target can reach, and what it shares with whom.", _in("survey", "survey"), gives=("network", "image", "volume", "namespace", "secret", "worst", "secrets", "rows")),
    Action("evidence.seal", "read", "Sign the bundle.", _in("closing", "seal"), gives=("digest", "path")),
    Action("evidence.verify", "read", "Read the sealed bundle back and check every byte.", _in("closing", "verify"), needs=SEALED, gives=("files",)),
    Action("evidence.review", "read", "Check every byte of every sealed bundle of the case.", _in("survey", "review_case"), gives=("bundles",)),
    Action("evidence.timestamp", "change", "Have an RFC 3161 authority state when the bundle was sealed at the latest.", _in("handing", "timestamp"), (Param("tsa", str, required=True, description="the authority's URL"),), needs=f"{SEALED}; the address below one of `actions.http.allow` of the operator's configuration", gives=("time",), probe=_probe("handing", "was_stamped")),
    Action("evidence.handover", "change", "Sign a hand-over of the bundle, one more line of its chain of custody.", _in("handing", "hand_over"), (Param("to", str, required=True, description="who receives it"), Param("why", str, required=True, description="what for; case, run and step are added"), Param("from", str, "", description="who hands it over; none: who opened the case")), needs=SEALED, gives=("head", "seq"), probe=_probe("handing", "was_handed_over")),
    Action("evidence.pack", "change", "Write the bundle as one tar file, its seal as it is, into the case's `exports`.", _in("handing", "pack"), needs=SEALED, gives=("path", "digest")),
    Action("evidence.encrypt", "change", "Encrypt the bundle with age as one tar file in the case's `exports`; the plain one stays.", _in("handing", "encrypt"), (Param("recipients", list, required=True, description="age recipients (`age1…`) and ssh public keys"),), needs=SEALED, gives=("path", "digest")),
    Action("compare.changes", "read", "Count what was added, changed and deleted since the image, without taking it.", _in("comparison", "changes"), (Param("container", str, "", description="which container; none: the target"),), gives=("added", "changed", "deleted", "unseen")),
    Action("image.sign", "change", "Sign what an image contains now, with a key for images.", _in("handing", "sign_image"), (Param("image", str, required=True, description="the image's name"), Param("key", str, required=True, description="the name of a key for images that has no passphrase")), needs="the key in `actions.sign.keys` of the operator's configuration", gives=("signature", "config")),
    Action("report.write", "read", "Write the report of the case's last sealed bundle, as HTML, into the case.", _in("survey", "write_report"), gives=("path",), rehearsed=False),
    Action("image.verify", "read", "Check that an image is trusted by the policy, from signatures to the engine's copy, byte by byte.", _in("recovery", "verify_image"), (Param("image", str, required=True, description="the image's name"), Param("signature", str, "", description="the signature's file")), gives=("image_id",)),
    Action("recover.rebuild", "change", "Make the container anew from a verified image; keep the old one under another name.", _in("recovery", "rebuild"), (Param("image", str, required=True, description="the clean image's name"), Param("image_id", str, required=True, description="its verified id"), Param("health_timeout", int, 60, description="seconds to become healthy"), *_SECRETS, *_HARDEN), needs=f"{CONTAINED} with sealed evidence", gives=("id",), probe=_probe("recovery", "was_rebuilt")),
    Action("recover.bad", "read", "List what carries the bad digests of the target and its image, and which verified bundle holds it.", _in("eradication", "bad"), _BAD, gives=("remove", "keep", "refuse", "names", "digests"), rehearsed=False),
    Action("recover.eradicate", "destroy", "Deny those digests, and remove what a verified bundle holds: containers, networks, volumes, images.", _in("eradication", "eradicate"), _BAD, needs=f"{SEALED}, verified, with the image itself in it where that goes, too", gives=("removed", "kept", "denied"), probe=_probe("eradication", "was_eradicated")),
    Action("volume.restore", "change", "A fresh volume from a backup, compared with the suspect one, and the container made anew with it.", _in("restoring", "restore"), (Param("source", str, required=True, description="a folder, a tar file (plain, gzip, zstd, xz), or `hook:NAME`"), Param("volume", str, "", description="which one, by its name or where it is mounted; the only one if none is named"), Param("image", str, "", description="the clean image's name; what `image.verify` of this run said of it is asked"), Param("recreate", bool, True, description="make the container anew with it"), Param("devices", bool, False, description="make device nodes that the backup has"), Param("limit_bytes", int, 256 * 1024**3, description="of all files together"), Param("limit_files", int, 5_000_000, description="entries"), Param("health_timeout", int, 60, description="seconds to become healthy"), *_SECRETS), needs=f"a verified bundle with the suspect volume; {HOST}; the target frozen or stopped", gives=("volume", "container", "counts"), probe=_probe("restoring", "was_restored")),
    Action("recover.prepare", "change", "Make a container of a verified image that can take the target's place, and have it run where nothing clashes.", _in("failover", "prepare"), (Param("image_id", str, required=True, description="the clean image's verified id"), Param("start", str, "auto", description="running before the switch, started at the switch, or what fits the target's volumes", choices=("auto", "warm", "cold")), Param("health_timeout", int, 60, description="seconds to become healthy"), *_SECRETS, *_HARDEN), gives=("id", "start")),
    Action("recover.relay", "change", "Have new connections to the target's published TCP ports relayed to the prepared container, until the ports are its own.", _in("relaying", "relay"), needs=f"`recover.prepare`, warm; {HOST}; nft"),
    Action("recover.switch", "change", "Give the prepared container the target's name, networks, aliases, fixed addresses and ports.", _in("failover", "switch"), (Param("health_timeout", int, 60, description="seconds to become healthy, where it is started now"),), needs="a frozen target and `recover.prepare`", gives=("id", "seconds")),
    Action("recover.update-service", "change", "Update the Swarm service of a contained task to the image that was verified; Swarm rolls back when that fails.", _in("service", "update_service"), (Param("timeout", int, 300, description="seconds until Swarm must have completed it and its tasks must run"),), needs=f"{CONTAINED} that is a task, with sealed evidence, and an image verified in this run", gives=("id", "running", "wanted")),
    Action("playbook.run", "change", "Run another playbook on another container, in a case of its own.", _in("outgoing", "run_playbook"), (Param("playbook", str, required=True, description="its name or path"), Param("target", str, required=True, description="the container's name or id"), Param("vars", dict, description="its variables")), gives=("case", "run", "status", "quarantine", "bundle")),
    Action("run", "change", "Start a program on the responder's host: an argument list, never a shell.", _in("outgoing", "run_program"), (Param("argv", list, required=True, description="the program's absolute path and its arguments"), Param("expect", list, (0,), description="exit codes that are a success"), Param("again", bool, False, description="it may be started again when the run was killed meanwhile")), needs="the program in `actions.run.programs` of the operator's configuration", gives=("exit_code", "output"), beside=True, repeatable=False),
    Action("notify", "change", "Tell people: a webhook, mail or syslog channel of the operator's configuration.", _in("outgoing", "notify"), (Param("channel", str, required=True, description="the channel's name"), Param("message", str, required=True, description="one sentence"), Param("severity", str, "notice", description="how urgent it is", choices=("info", "notice", "warning", "critical"))), needs="the channel in `notify` of the operator's configuration", beside=True),
    Action("http", "change", "One HTTP request, without following redirects.", _in("outgoing", "http"), (Param("url", str, required=True, description="the address"), Param("method", str, "GET", description="the method", choices=("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE")), Param("body", dict, description="sent as JSON"), Param("expect", list, (), description="status codes that are a success; 200 to 299 if none"), Param("again", bool, False, description="it may be sent again when the run was killed meanwhile")), needs="the address below one of `actions.http.allow` of the operator's configuration", gives=("status", "body"), beside=True, repeatable=False),
    Action("ask", "read", "Ask a person, at this terminal or by `irkit case answer` at another.", _in("asking", "ask"), (Param("message", str, required=True, description="the question"), Param("choices", list, (), description="the answers that there are; any text if none"), Param("default", str, "", description="the answer when nobody gives one in time"), Param("seconds", int, 3600, description="how long it waits")), rehearsed=False, gives=("answer", "by")),
    Action("wait_for", "read", "Wait until a container is in a state, or for so many seconds.", _in("asking", "wait_for"), (Param("state", str, "", description="what to wait for; none: only the seconds", choices=("", "running", "stopped", "frozen", "healthy", "gone")), Param("container", str, "", description="which container; none: the target"), Param("seconds", int, 60, description="how long at most")), rehearsed=False, beside=True, gives=("state", "seconds")),
)  # fmt: skip

ACTIONS: Mapping[str, Action] = {action.name: action for action in _ALL}
