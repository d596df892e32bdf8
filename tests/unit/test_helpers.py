"""The proof by helper containers: their life on an engine, what their words come to, and the agent on this machine."""

from __future__ import annotations

import json
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from irkit import cases
from irkit.actions import afar as actions_afar
from irkit.actions.containment import seal
from irkit.actions.context import Context
from irkit.actions.proof import prove_quarantine
from irkit.engine.fake.engine import FakeEngine
from irkit.engine.interface import NetworkSpec
from irkit.errors import EngineError, EngineUnreachable, NotTrusted
from irkit.events import Event
from irkit.evidence.writer import BundleWriter
from irkit.models import Target
from irkit.quarantine import agent, firewall
from irkit.quarantine.afar import prove_afar
from irkit.quarantine.farscene import FarPeer, FarScene
from irkit.quarantine.farverdict import Road, Told, verdict
from irkit.quarantine.helpers import HELPER, Helpers, is_helper, specification
from irkit.quarantine.release import clear_away, leftovers
from irkit.quarantine.seal import LABEL, ROLE
from irkit.trust.model import Tried, Verdict
from tests.contract.stage import IMAGE

TOOLS = "irkit-dev/helper:1"
ARGS = {"outside": "", "timeout_ms": 1, "by": "auto", "helper": TOOLS}
Policy = Callable[[str, dict[str, Any]], dict[str, Any]]


def closed(place: str, asked: dict[str, Any]) -> dict[str, Any]:
    """Every road is closed, in the ways in which a kernel says so; controls go through."""
    if asked["address"] == "127.0.0.1":
        return {"outcome": "connected", "answer": asked.get("expect", "").encode().hex()}
    if asked["kind"] == "bind":
        return {"outcome": "error", "errno": "EADDRNOTAVAIL", "at": "send"}
    if asked["address"] == "127.0.0.11":
        return {"outcome": "silent"}
    if asked["kind"] == "frame":
        return {"outcome": "sent"}
    inside = place.startswith("container:")
    return {"outcome": "error", "errno": "ENETUNREACH", "at": "send"} if inside else {"outcome": "silent", "ms": 1500}


class Remote(FakeEngine):
    """An engine whose containers' ``exec`` answers as irkit's agent does in a namespace that the test describes."""

    def __init__(self, policy: Policy = closed) -> None:
        super().__init__(IMAGE, TOOLS, endpoint="tcp://10.0.0.9:2376")
        self.policy = policy
        self.bridge = ""
        self.seen: set[str] = set()
        self.answers: list[bytes] = []

    def exec(self, container: str, argv: Sequence[str], *, detach: bool = False, user: str = "") -> tuple[int, bytes]:
        super().exec(container, argv, detach=detach, user=user)
        place, verb = self.container(container).network_mode, argv[5]
        if self.answers:
            return 0, self.answers.pop(0)
        if verb == "probe":
            tries = json.loads(argv[6])["tries"]
            told = [self.policy(place, {"address": "", **one}) for one in tries]
            self.seen |= {one["token"] for one, said in zip(tries, told, strict=True) if said.get("arrives")}
            return 0, json.dumps({"tries": told, "neighbours": []}).encode()
        if verb == "seen":
            return 0, json.dumps({"seen": sorted(self.seen)}).encode()
        trie = "  |-- 10.0.0.9\n     /32 host LOCAL\n" if place == "host" else ""
        facts = {
            "net": {"dev": f"a\nb\n eth0: 1\n {self.bridge}: 1\n" if place == "host" else "a\nb\n eth0: 1\n", "fib_trie": trie}, "macs": {}, "order": sys.byteorder, "resolv": "", "tables": "",
            "server": {"nonce": "irkit-" + "0" * 32, "tcp": 4001, "udp": 4002, "sniffs": True, "seen": []},
        }  # fmt: skip
        return 0, b"Could not find platform dependent libraries\n" + json.dumps(facts).encode()


@pytest.fixture(autouse=True)
def trusted(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("IRKIT_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(firewall, "tables", list)
    tried = (Tried("statement", "", "sha256:c", "release", "sha256:k", True, ""),)

    def vouched(reference: str, policy: object, engine: FakeEngine) -> Verdict:
        return Verdict(reference, True, "", "*", tried=tried, config="sha256:c", image_id=engine.image(reference).id)

    monkeypatch.setattr(actions_afar, "verify", vouched)


def contained(fake: Remote, tmp_path: Path, **host: Any) -> Context:
    """A target with a peer, sealed off on a remote engine."""
    front = fake.create_network(NetworkSpec("front", False, {}, {}, "10.9.1.0/24"))
    ids = []
    for name in ("web", "peer"):
        body = {"Image": IMAGE, "HostConfig": {"NetworkMode": "front", **(host if name == "web" else {})}}
        ids.append(fake.create(body, name))
        fake.start(ids[-1])
    assert front
    fake.pause(ids[0])
    before = fake.container(ids[0])
    case = cases.open_case(Target(before.id, before.name, before.image_ref, before.image_id, fake.endpoint))
    run, _ = case.new_run()
    told: list[Event] = []
    writer = BundleWriter(case.folder / "bundles" / run)
    context = Context(fake, case, run, case.target, before, writer, told.append, lambda: None, lambda: None)  # type: ignore[arg-type,return-value]
    seal(context, {})
    fake.bridge = context.facts.bridge
    return context


def proof_of(context: Context) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((context.writer.folder / "data/quarantine/proof.json").read_bytes())
    return found


def helpers_of(fake: Remote) -> list[str]:
    return [one for one in fake.containers() if is_helper(fake.container(one))]


def test_all_roads_closed_is_a_proof(tmp_path: Path) -> None:
    fake = Remote()
    context = contained(fake, tmp_path)
    result = prove_quarantine(context, ARGS)
    assert (result.outcome, context.facts.quarantine_state) == ("succeeded", "proven"), result.message
    document = proof_of(context)
    places = {one["place"] for one in document["by"]["helpers"]}
    assert places == {
        "the target's namespace",
        "the host's own network",
        "old peer peer",
        "the quarantine network, as a neighbour",
    }
    assert document["by"]["image"]["reference"] == TOOLS and document["by"]["image"]["key"]["name"] == "release"
    assert document["by"]["not_tried"] and not helpers_of(fake)


def test_helpers_are_made_by_id_and_can_do_little() -> None:
    body = specification("sha256:1", "container:2", {ROLE: HELPER}, sniff=True)
    host = body["HostConfig"]
    assert body["Image"] == "sha256:1" and host["NetworkMode"] == "container:2"
    assert (
        host["ReadonlyRootfs"]
        and host["CapDrop"] == ["ALL"]
        and host["CapAdd"] == ["NET_RAW"]
        and not host["Privileged"]
    )
    assert (
        host["SecurityOpt"] == ["no-new-privileges"] and host["AutoRemove"] and host["PidsLimit"] and "Env" not in body
    )
    assert not {"Binds", "Mounts", "Devices", "PidMode", "Volumes"} & {*host, *body}


def test_what_is_created_is_the_verified_id(tmp_path: Path) -> None:
    fake = Remote()
    context = contained(fake, tmp_path)
    prove_quarantine(context, ARGS)
    made = [args[1] for args in fake.changed("create") if args[1].get("Labels", {}).get(ROLE) == HELPER]  # type: ignore[index]
    assert made and {one["Image"] for one in made} == {fake.image(TOOLS).id}  # type: ignore[index]
    assert all(one["Labels"][LABEL] == context.case.id for one in made)  # type: ignore[index]


def arrives(place: str, asked: dict[str, Any]) -> dict[str, Any]:
    """The host can send one way into the target's quarantine."""
    said = closed(place, asked)
    return {**said, "arrives": True} if place == "host" and asked["kind"] == "udp" and asked["port"] == 4002 else said


def test_a_token_that_arrived_is_a_road_and_the_last_network_is_left(tmp_path: Path) -> None:
    fake = Remote(arrives)
    context = contained(fake, tmp_path)
    prove_quarantine(context, ARGS)
    document = proof_of(context)
    assert [one["state"] for one in document["earlier"]] == ["open"] and document["state"] == "proven"
    assert any(one["detail"] == "irkit's own listener noted its token" for one in document["earlier"][0]["probes"])
    assert not fake.container(context.target.id).endpoints and "no network at all" in document["note"]


def test_silence_without_a_control_is_unknown(tmp_path: Path) -> None:
    def dumb(place: str, asked: dict[str, Any]) -> dict[str, Any]:
        return {"outcome": "silent"} if asked["address"] == "127.0.0.1" else closed(place, asked)

    context = contained(Remote(dumb), tmp_path)
    prove_quarantine(context, ARGS)
    assert context.facts.quarantine_state == "unproven"
    assert any("a control in" in one.detail for one in context.facts.probes if one.result == "unknown")


def test_no_helper_on_the_host_is_no_proof(tmp_path: Path) -> None:
    fake = Remote()
    context = contained(fake, tmp_path)
    fake.fail("start", EngineError("no host network here", status=400), at=2)
    prove_quarantine(context, ARGS)
    assert context.facts.quarantine_state == "unproven" and not helpers_of(fake)
    assert any("no host network here" in one.detail for one in context.facts.probes)


@pytest.mark.parametrize("method", ["create", "start", "exec"])
def test_an_engine_that_refuses(tmp_path: Path, method: str) -> None:
    fake = Remote()
    context = contained(fake, tmp_path)
    fake.fail(method, EngineError("no", status=500), times=None)
    prove_quarantine(context, ARGS)
    assert context.facts.quarantine_state == "unproven" and not helpers_of(fake)


def test_an_engine_that_maps_users_or_limits_no_processes() -> None:
    fake = Remote()
    fake.fail(
        "start",
        EngineError("cannot share the host's network namespace when user namespaces are enabled", status=400),
        at=1,
    )
    fake.fail("start", EngineError("openat2 pids.max: no such file", status=500), at=2)
    with Helpers(fake, fake.image(TOOLS).id, "c") as helpers:
        made = fake.container(helpers.start("host", "host").id).host_config
        assert (
            made["UsernsMode"] == "host" and made["PidsLimit"] == 0 and is_helper(fake.container(helpers.running[0].id))
        )
    assert not fake.containers()


def test_helpers_are_removed_also_when_the_engine_comes_and_goes(tmp_path: Path) -> None:
    fake = Remote()
    context = contained(fake, tmp_path)
    fake.fail("exec", EngineUnreachable("gone"), at=3)
    with pytest.raises(EngineUnreachable):
        prove_quarantine(context, ARGS)
    assert not helpers_of(fake)


@pytest.mark.parametrize(
    "words",
    [b"", b"[]", b"{", b"[" * 100_000, b'{"tries": []}', b'{"server": {"tcp": "x"}, "net": 3, "macs": 4}', b"\xff"],
)
def test_words_that_are_none_of_the_agent_s(tmp_path: Path, words: bytes) -> None:
    fake = Remote()
    context = contained(fake, tmp_path)
    fake.answers = [words] * 100
    prove_quarantine(context, ARGS)
    assert context.facts.quarantine_state == "unproven" and not helpers_of(fake)


@pytest.mark.parametrize(
    "host", [{"CapAdd": ["NET_ADMIN"]}, {"CapAdd": ["CAP_SYS_ADMIN"]}, {"CapAdd": ["all"]}, {"Privileged": True}]
)
def test_a_target_with_rules_of_its_own_can_t_be_proven(tmp_path: Path, host: dict[str, Any]) -> None:
    context = contained(Remote(), tmp_path, **host)
    prove_quarantine(context, ARGS)
    assert context.facts.quarantine_state == "unproven"
    assert {one.result for one in context.facts.probes} == {"unknown"}


def test_without_an_image_or_trust_nothing_is_started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = Remote()
    context = contained(fake, tmp_path)
    prove_quarantine(context, {**ARGS, "helper": ""})
    assert "--helper IMAGE" in context.facts.probes[0].detail

    def refuse(*_: object) -> Verdict:
        raise NotTrusted("it is signed by nobody")

    monkeypatch.setattr(actions_afar, "verify", refuse)
    context.writer = BundleWriter(tmp_path / "again")
    prove_quarantine(context, ARGS)
    assert "is refused: it is signed by nobody" in context.facts.probes[0].detail
    assert not any(args[1].get("Labels", {}).get(ROLE) for args in fake.changed("create"))  # type: ignore[index,operator]


def test_an_image_with_volumes_is_refused(tmp_path: Path) -> None:
    fake = Remote()
    context = contained(fake, tmp_path)
    next(one for one in fake._images if one.tag == TOOLS).config["Volumes"] = {"/data": {}}
    prove_quarantine(context, ARGS)
    assert "it declares volumes" in context.facts.probes[0].detail


def test_the_former_address_of_another_is_left_out(tmp_path: Path) -> None:
    fake = Remote()
    context = contained(fake, tmp_path)
    old = context.before.endpoints[0].ipv4
    heir = fake.create({"Image": IMAGE, "NetworkingConfig": {"EndpointsConfig": {"front": {"IPAMConfig": {"IPv4Address": old}}}}, "HostConfig": {"NetworkMode": "front"}}, "heir")  # fmt: skip
    fake.start(heir)
    prove_quarantine(context, ARGS)
    document = proof_of(context)
    assert any(old in one for one in document["by"]["not_tried"])
    assert not any(one["path"].endswith(f"to {old}, TCP") for one in document["probes"])


@pytest.mark.parametrize(
    "more",
    [
        {"name": "web"},
        {"HostConfig": {"CapAdd": ["NET_ADMIN"], "CapDrop": ["ALL"]}},
        {"HostConfig": {"CapAdd": ["NET_RAW"], "Privileged": True}},
    ],
)
def test_an_image_s_labels_make_no_helper(more: dict[str, Any]) -> None:
    """An attacker's image may bring irkit's labels: its containers are not passed over, and never removed."""
    fake = Remote()
    body = specification(fake.image(TOOLS).id, "bridge", {LABEL: "c", ROLE: HELPER}, sniff=False)
    name = more.pop("name", "irkit-helper-0123456789ab")
    made = fake.create({**body, **more}, name)
    assert not is_helper(fake.container(made)) and leftovers(fake, lambda case: False) == []
    clear_away(fake, "c")
    assert made in fake.containers()


def test_left_helpers_are_found_and_removed() -> None:
    fake = Remote()
    made = Helpers(fake, fake.image(TOOLS).id, "2026-01-01-web-abcd").start("somewhere", "bridge")
    assert leftovers(fake, lambda case: True) == []
    assert leftovers(fake, lambda case: False) == ["2026-01-01-web-abcd"]
    assert clear_away(fake, "2026-01-01-web-abcd") == [] and made.id not in fake.containers()


def far(fake: Remote, **given: Any) -> tuple[str, list[str]]:
    """A proof of a scene that has nothing but what is given; its state, and every probe as ``result path``."""
    holder = fake.create({"Image": IMAGE, "HostConfig": {}}, "holder")
    fake.start(holder)
    with Helpers(fake, fake.image(TOOLS).id, "c") as helpers:
        proof = prove_afar(FarScene(holder, "", "", (), **given), helpers)
    return proof.state, [f"{one.result} {one.path}" for one in proof.probes]


def test_a_peer_with_two_addresses_is_asked_once() -> None:
    fake = Remote()
    peer = fake.create({"Image": IMAGE, "HostConfig": {}}, "peer")
    fake.start(peer)
    peers = tuple(FarPeer("peer", peer, one, "old peer") for one in ("10.9.1.3", "fd00::3"))
    state, paths = far(fake, peers=peers, old=(("10.9.1.2", "br-x"),))
    assert state == "proven" and len(paths) == len(set(paths))
    assert len([one for one in paths if one.endswith("old peer peer to 10.9.1.2, TCP")]) == 1


def test_a_router_s_silence_is_not_excused_by_the_host_s_listener() -> None:
    def silent(place: str, asked: dict[str, Any]) -> dict[str, Any]:
        return {"outcome": "silent"} if asked["address"] == "10.9.1.254" else closed(place, asked)

    state, paths = far(Remote(silent), gateways=("10.9.1.254",))
    assert state == "unproven" and "unknown gateway 10.9.1.254, ICMP" in paths


# -- verdicts -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("told", "result"),
    [
        (Told("connected"), "reached"), (Told("answered"), "reached"), (Told("refused"), "reached"), (Told("error", "ENETUNREACH", "send"), "blocked"),
        (Told("error", "EHOSTUNREACH", "answer"), "unknown"), (Told("error", "EPERM", "setup"), "unknown"), (Told("error", "EACCES", "setup"), "unknown"),
        (Told("error", "ENODEV", "setup"), "blocked"), (Told("error", "EMFILE", "setup"), "unknown"), (Told("silent"), "unknown"),
        (Told("sent"), "unknown"), (Told("malformed"), "unknown"), (Told("not tried"), "unknown"), (Told("blocked"), "unknown"),
    ],
)  # fmt: skip
def test_verdict(told: Told, result: str) -> None:
    road = Road("p", "out", "udp", "10.0.0.1")
    road.told = told
    assert verdict(road)[0] == result
    road.arrived = lambda token: token == road.token
    assert verdict(road)[0] == "reached"


def test_silence_needs_its_reason() -> None:
    road = Road("p", "out", "tcp", "10.0.0.1")
    road.told = Told("silent")
    road.silent = lambda: "nobody answers ARP"
    assert verdict(road) == ("blocked", "no answer within 0 ms; nobody answers ARP")
    road.controls = lambda kind: ""
    assert verdict(road)[0] == "blocked"
    road.controls = lambda kind: "the control failed"
    assert verdict(road)[0] == "unknown"


@pytest.mark.parametrize(
    "raw",
    [
        None,
        3,
        [],
        {},
        {"outcome": "error", "ms": "x"},
        {"outcome": "silent", "answer": "zz"},
        {"outcome": "silent", "ms": None},
    ],
)
def test_words_of_a_helper_are_not_trusted(raw: Any) -> None:
    road = Road("p", "out", "tcp", "10.0.0.1")
    road.told = Told.of(raw)
    assert verdict(road)[0] == "unknown"


# -- the agent ----------------------------------------------------------------------------------------------------


@pytest.fixture
def listening(tmp_path: Path) -> Iterator[str]:
    state = str(tmp_path / "state")
    thread = threading.Thread(target=agent.serve, args=(3.0, False, state), daemon=True)
    thread.start()
    yield state


def test_the_agent_answers_itself(listening: str) -> None:
    server = agent.listening(listening)
    roads = [
        Road("tcp", "out", "tcp", "127.0.0.1", server["tcp"], expect=server["nonce"]),
        Road("udp", "out", "udp", "127.0.0.1", server["udp"]), Road("bind", "out", "bind", "192.0.2.1"),
    ]  # fmt: skip
    told = agent.probe(json.loads(json.dumps({"tries": [one.request() for one in roads], "wait": 0.5})))
    outcomes = [Told.of(one) for one in told["tries"]]
    assert [one.outcome for one in outcomes] == ["connected", "answered", "error"] and outcomes[
        2
    ].name == "EADDRNOTAVAIL"
    assert server["nonce"].encode() in outcomes[0].answer
    wanted, end = {one.token for one in roads[:2]}, time.monotonic() + 5
    while not wanted <= set(agent.listening(listening)["seen"]):
        assert time.monotonic() < end
        time.sleep(0.02)


def test_what_came_is_noted_although_no_answer_can_be_sent() -> None:
    """A one-way road is a road: the reply's failure must not hide the try."""

    class Deaf:
        family = socket.AF_INET

        def recvfrom(self, size: int) -> tuple[bytes, tuple[str, int]]:
            return b"irkit-" + b"0" * 32, ("10.0.0.1", 1)

        def sendto(self, *_: object) -> None:
            raise OSError("no route")

    assert agent.hear(Deaf(), b"nonce").startswith(b"irkit-")  # type: ignore[arg-type]


def test_two_listeners_never_answer_each_other() -> None:
    assert len(b"irkit-" + b"0" * 32 + b" " + b"irkit-" + b"0" * 32) > agent.SHORT
