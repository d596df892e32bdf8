"""What carries a bad image's digests, on a fake engine; what a bundle holds; going on after a kill."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from irkit import cases
from irkit.acquire import volumes
from irkit.actions.eradicating import NotHeld, carry_out
from irkit.actions.listing import judged_anew, stored_bundles, survey
from irkit.engine.fake.engine import FakeEngine
from irkit.engine.fake.state import FakeImage
from irkit.engine.interface import Container, NetworkSpec
from irkit.errors import EngineUnreachable, NotFound, UsageProblem
from irkit.evidence import keys
from irkit.evidence.seal import seal_bundle
from irkit.evidence.writer import BundleWriter, Origin
from irkit.home import home
from irkit.models import Target
from irkit.quarantine import firewall
from irkit.recover import holds
from irkit.recover.bad import Asked, find
from irkit.recover.eradicate import remove, remove_image, stop
from irkit.recover.record import RAN_ON, Eradication, Request
from irkit.recover.record import begun as record_begun
from irkit.trust import denied
from tests.fits import fits

CLEAN, OWN, MORE = (f"sha256:{letter * 64}" for letter in "abc")
MANIFEST = f"sha256:{'d' * 64}"


@pytest.fixture(autouse=True)
def no_firewall(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(firewall, "tables", list)


@pytest.fixture
def engine() -> FakeEngine:
    fake = FakeEngine()
    bad = ("COPY evil", "ADD base")
    for image in (
        FakeImage("base:1", layers=(CLEAN,), history=("ADD base",)),
        FakeImage("bad:1", layers=(CLEAN, OWN), history=bad, repo_digests=(f"reg/bad@{MANIFEST}",)),
        FakeImage("child:1", layers=(CLEAN, OWN, MORE), history=("COPY more", *bad)),
        FakeImage("twin:1", layers=(CLEAN, OWN), history=("ENV x", *bad)),
        FakeImage("other:1", layers=(CLEAN, MORE), history=("COPY more", "ADD base")),
        FakeImage("copy:1", layers=(MORE,), repo_digests=(f"reg/copy@{MANIFEST}",)),
        FakeImage("empty:1", layers=(), history=()),
    ):
        fake.add_image(image)
    return fake


def asked(engine: FakeEngine, image: str = "bad:1", base: str = "", container: str = "", **given: Any) -> Asked:
    named = engine.container(container) if container else None
    return Asked(named, engine.image(image), engine.image(base) if base else None, **given)


def names(engine: FakeEngine, *args: str, **given: Any) -> set[str]:
    return {one.name for one in find(engine, asked(engine, *args, **given)).items if one.kind == "image"}


@pytest.mark.parametrize(
    ("image", "base", "expected"),
    [
        ("bad:1", "", {"bad:1", "child:1", "twin:1", "copy:1"}),
        ("bad:1", "base:1", {"bad:1", "child:1", "twin:1", "copy:1"}),
        ("twin:1", "", {"twin:1"}),  # its parent has the same layers, and is not to blame
        ("base:1", "", {"base:1", "bad:1", "child:1", "twin:1", "other:1"}),
        ("empty:1", "", {"empty:1"}),  # every image's layers begin with none
        ("other:1", "base:1", {"other:1", "child:1", "copy:1"}),  # the very layer that it has over its base
    ],
)
def test_bad_images(engine: FakeEngine, image: str, base: str, expected: set[str]) -> None:
    assert names(engine, image, base) == expected


def test_layers_alone_do_not_tell_and_that_is_said(engine: FakeEngine) -> None:
    assert "child:1" in find(engine, asked(engine, "twin:1")).unseen[0]


@pytest.mark.parametrize("base", ["bad:1", "other:1", "child:1"])
def test_a_base_that_is_none(engine: FakeEngine, base: str) -> None:
    with pytest.raises(UsageProblem, match="is not what"):
        find(engine, asked(engine, "bad:1", base))


def scene(engine: FakeEngine) -> dict[str, str]:
    """``web`` of the bad image on two networks with two volumes; ``clean`` shares one of each."""
    made = {name: engine.create_network(NetworkSpec(name, False, {}, {})) for name in ("mine", "ours")}
    for name, image, binds, network in (
        ("web", "bad:1", ["data:/data", "shared:/shared"], "mine"), ("clean", "other:1", ["shared:/s"], "ours"),
    ):  # fmt: skip
        made[name] = engine.create({"Image": image, "HostConfig": {"Binds": binds, "NetworkMode": network}}, name)
        engine.start(made[name])
    engine.connect("ours", made["web"])
    return made


def test_networks_and_volumes_of_nobody_else(engine: FakeEngine) -> None:
    made = scene(engine)
    found = find(engine, asked(engine, container="web"))
    rows = {(one.kind, one.name): one for one in found.items}
    assert rows[("network", "mine")].users == () and rows[("network", "ours")].users == ("clean",)
    assert rows[("volume", "data")].users == () and rows[("volume", "shared")].users == ("clean",)
    assert rows[("image", "bad:1")].needs[0] == made["web"] and ("container", "clean") not in rows
    assert ("network", "bridge") not in rows
    assert [one.kind for one in found.items] == sorted(
        (one.kind for one in found.items), key=["container", "network", "volume", "image"].index
    )
    kept = find(engine, asked(engine, container="web", keep=("image", "volume", "network")))
    assert [one.name for one in kept.items] == ["web"] and kept.digests == ()


def test_a_former_network_counts(engine: FakeEngine) -> None:
    """What a contained container was on, of the bad one as of a clean one that will be released."""
    made = scene(engine)
    engine.disconnect("mine", made["web"])
    former = {made["web"]: ("mine",)}
    found = find(engine, asked(engine, container="web"), former=lambda one: former.get(one.id, ()))
    assert ("mine", ()) in {(one.name, one.users) for one in found.items if one.kind == "network"}
    former[made["clean"]] = ("mine",)
    found = find(engine, asked(engine, container="web"), former=lambda one: former.get(one.id, ()))
    assert ("mine", ("clean",)) in {(one.name, one.users) for one in found.items if one.kind == "network"}


def bundle(
    engine: FakeEngine, container: str, *, but: str = "", gap: tuple[str, str] = ("", ""), status: str = "complete"
) -> Path:
    """A case with a sealed bundle that holds all of a container, but one artifact."""
    raw = engine.container(container)
    target = Target(raw.id, raw.name, raw.image_ref, raw.image_id, engine.endpoint)
    case = cases.open_case(target)
    run, _ = case.new_run()
    writer = BundleWriter(case.folder / "bundles" / run)
    volumes = [row["Name"] for row in raw.raw["Mounts"]]
    documents = {
        "engine/container-before.json": raw.raw, "image/identity.json": {"id": raw.image_id},
        "engine/networks.json": [engine.network(one.network).raw for one in raw.endpoints],
        "engine/volumes.json": [engine.volume(one) for one in volumes],
        "volumes/index.json": {
            "mounts": [
                {"number": number, "type": "volume", "name": row["Name"], "destination": row["Destination"], "taken": True}
                for number, row in enumerate(raw.raw["Mounts"])
            ]
        },
    }  # fmt: skip
    streams = ["filesystem/changes.jsonl", "filesystem/layer.tar", "image/image.tar"]
    streams += [f"volumes/{number}.{kind}" for number in range(len(volumes)) for kind in ("jsonl", "tar")]
    for name, value in documents.items():
        if name != but:
            writer.add_json(name, value, Origin("t", "s", "m"))
    for name in streams:
        if name != but:
            writer.add(name, (b"",), Origin("t", "s", "m"))
    if gap[0]:
        writer.gap(*gap, "why")
    signer = (
        keys.generate("default")
        if not keys.private_path("default").exists()
        else keys.load_signer("default", "evidence", lambda _: None)
    )
    return seal_bundle(writer, {"case": case.id, "run": run, "target": target.to_json()}, status, signer).path


def plan(engine: FakeEngine, ref: str = "web", **given: Any) -> Eradication:
    return survey(engine, Request(ref, **given))


def decisions(found: Eradication) -> dict[str, str]:
    return {row.item.name: row.decision for row in found.rows}


def test_what_a_bundle_holds(engine: FakeEngine) -> None:
    scene(engine)
    bundle(engine, "web")
    assert decisions(plan(engine)) == {
        "web": "remove", "mine": "remove", "ours": "keep", "data": "remove", "shared": "keep",
        "child:1": "refuse", "twin:1": "refuse", "copy:1": "refuse", "bad:1": "keep",
    }  # fmt: skip


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("but", "gap", "status", "refused", "why"),
    [
        ("engine/container-before.json", ("", ""), "complete", "web", "configuration"),
        ("filesystem/layer.tar", ("", ""), "complete", "web", "files"),
        ("image/image.tar", ("", ""), "complete", "bad:1", "image-save"),
        ("volumes/0.tar", ("", ""), "complete", "data", "not taken"),
        ("volumes/index.json", ("", ""), "complete", "data", "the collector volumes"),
        ("engine/networks.json", ("", ""), "complete", "mine", "no bundle speaks of it"),
        ("", ("volumes", "/data/x"), "complete", "data", "lacks some of it: /data/x"),
        ("", ("volumes", "3 more"), "complete", "data", "lacks some of it"),
        ("", ("filesystem", "/x"), "complete", "web", "lacks some of it"),
        ("", ("image-save", "the image itself"), "complete", "bad:1", "lacks some of it"),
        ("", ("", ""), "partial", "web", "partial"),
    ],
)
def test_what_it_does_not_hold(
    engine: FakeEngine, but: str, gap: tuple[str, str], status: str, refused: str, why: str
) -> None:
    scene(engine)
    for name in ("child:1", "twin:1", "copy:1"):
        engine.remove_image(name)
    bundle(engine, "web", but=but, gap=gap, status=status)
    row = next(one for one in plan(engine).rows if one.item.name == refused)
    assert row.decision == "refuse" and why in row.why, row
    if gap[0]:
        row = next(one for one in plan(engine, accept_gaps=True).rows if one.item.name == refused)
        assert row.decision == "remove" and row.held.gaps


def test_gaps_of_another_volume_do_not_count(engine: FakeEngine) -> None:
    scene(engine)
    bundle(engine, "web", gap=("volumes", "/shared/x"))
    assert decisions(plan(engine))["data"] == "remove"


def test_another_volume_of_the_same_name(engine: FakeEngine) -> None:
    scene(engine)
    bundle(engine, "web")
    engine.volumes["data"] = {**engine.volumes["data"], "CreatedAt": "2030-01-01T00:00:00Z"}
    row = next(one for one in plan(engine).rows if one.item.name == "data")
    assert row.decision == "refuse" and "another volume of this name" in row.why


def test_a_name_that_a_clean_container_took_over(engine: FakeEngine) -> None:
    """Nothing is denied on its account."""
    scene(engine)
    with pytest.raises(NotHeld, match="no evidence holds clean"):
        carry_out(engine, plan(engine, "clean"))
    assert not denied.load() and engine.container("clean").running


def test_a_short_name_is_not_a_container_id(engine: FakeEngine) -> None:
    made = scene(engine)
    engine.add_image(FakeImage(made["web"][:6]))
    assert plan(engine, made["web"][:6]).subject["kind"] == "image"
    assert plan(engine, made["web"][:12]).subject["kind"] == "container"
    with pytest.raises(NotFound, match="no container and no image"):
        plan(engine, "nothing")


@pytest.mark.thorough
@pytest.mark.parametrize("method", ["remove", "remove_network", "remove_volume", "remove_image"])
@pytest.mark.parametrize("done", [False, True])
def test_cut_off_anywhere_and_gone_on_with(engine: FakeEngine, method: str, done: bool) -> None:
    made = scene(engine)
    for name in ("child:1", "twin:1", "copy:1"):
        engine.remove_image(name)
    bundle(engine, "web")
    engine.pause(made["web"])
    first = plan(engine)
    engine.fail(method, EngineUnreachable("no answer"), done=done)
    with pytest.raises(EngineUnreachable):
        carry_out(engine, first)
    assert set(denied.load()) == {first.subject["image"], MANIFEST}
    engine.mutations.clear()
    second = record_begun(engine, ref="web")
    assert second is not None and second.id == first.id and second.again
    carry_out(engine, second)
    fits(second.to_json(), "eradication")
    assert {row.outcome for row in second.rows if row.decision == "remove"} <= {"removed", "gone"}
    assert not {"web"} & {engine.container(one).name for one in engine.containers()}
    assert set(engine.volume_names()) == {"shared"}
    assert [one.method for one in engine.mutations if one.method == "remove"] == ["remove"][
        : method == "remove" and not done
    ]
    case = cases.load_case(cases.list_cases()[0].id)
    assert case.state == "eradicated" and record_begun(engine, ref="web") is None


def test_who_uses_it_by_now_keeps_it(engine: FakeEngine) -> None:
    made = scene(engine)
    bundle(engine, "web")
    found = plan(engine)
    engine.create({"Image": "other:1", "HostConfig": {"Binds": ["data:/x"], "NetworkMode": "mine"}}, "new")
    carry_out(engine, found)
    outcomes = {row.item.name: (row.outcome, row.why) for row in found.rows}
    assert outcomes["web"][0] == "removed" and "ran on after" in outcomes["web"][1] and found.gaps
    assert outcomes["mine"] == ("kept", "used by new") and outcomes["data"] == ("kept", "used by new")
    assert made["web"] not in engine.containers()


def test_a_frozen_one_never_runs_again(engine: FakeEngine) -> None:
    made = scene(engine)
    engine.pause(made["web"])
    item = find(engine, asked(engine, container="web")).items[0]
    engine.mutations.clear()
    assert remove(engine, item).outcome == "removed"
    assert [one.method for one in engine.mutations] == ["remove"]
    assert remove(engine, item).outcome == "gone"


def test_only_one_at_a_time(engine: FakeEngine) -> None:
    scene(engine)
    bundle(engine, "web")
    found = plan(engine)
    with cases.target_lock(found.subject["id"], "web"):
        carry_out(engine, found)
    row = next(one for one in found.rows if one.item.name == "web")
    assert row.outcome == "failed" and "a run is under way" in row.why
    assert next(one for one in found.rows if one.item.name == "data").outcome == "kept"


def test_file_digests_are_checked(engine: FakeEngine) -> None:
    with pytest.raises(UsageProblem, match="not a sha256"):
        plan(engine, "bad:1", digests=("abc",))


def test_evidence_that_was_altered_after_a_kill(engine: FakeEngine) -> None:
    made = scene(engine)
    path = bundle(engine, "web")
    engine.pause(made["web"])
    engine.fail("remove", EngineUnreachable("no answer"))
    with pytest.raises(EngineUnreachable):
        carry_out(engine, plan(engine))
    (path / "data/engine/networks.json").write_bytes(b"[]")
    begun = record_begun(engine, ref="web")
    assert begun is not None
    done = carry_out(engine, judged_anew(begun))
    assert {row.decision for row in done.rows} == {"refuse", "keep"} and made["web"] in engine.containers()


def test_a_label_alone_makes_no_network_irkits(engine: FakeEngine) -> None:
    made = scene(engine)
    engine.create_network(NetworkSpec("theirs", False, {}, {"dev.irkit.case": "x"}))
    engine.connect("theirs", made["web"])
    found = find(engine, asked(engine, container="web"))
    assert ("network", "theirs") in {(one.kind, one.name) for one in found.items}


def test_how_it_was_stopped_is_told_as_it_was(engine: FakeEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Exit code 137: it did not heed its signal, and the engine killed it."""
    made = scene(engine)
    assert stop(engine, engine.container("web")) == "asked to end by SIGTERM, ended by SIGKILL (exit code 137)"
    engine.start("web")
    monkeypatch.setattr(engine, "stop", lambda ref, grace=None: engine.end(ref, 0))
    assert stop(engine, engine.container(made["web"])) == "stopped by SIGTERM, exit code 0"


def test_evidence_older_than_its_end_is_said(engine: FakeEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    """It was snapshotted, ran on, and was stopped: nothing runs now, and yet the bundle lacks its last hours."""
    scene(engine)
    bundle(engine, "web")
    engine.stop("web", 0)
    real = engine.container

    def ended(ref: str) -> Any:
        found = real(ref)
        state = {**found.state, "Running": False, "FinishedAt": "2999-01-01T00:00:00.1Z"}
        return Container({**found.raw, "State": state})

    monkeypatch.setattr(engine, "container", ended)
    assert RAN_ON in next(row.why for row in plan(engine).rows if row.item.name == "web")


def test_a_bundle_forged_under_another_key(engine: FakeEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    scene(engine)
    monkeypatch.setenv("IRKIT_HOME", str(home().parent / "theirs"))
    forged = bundle(engine, "web")
    monkeypatch.setenv("IRKIT_HOME", str(home().parent / "mine"))
    keys.generate("default")
    case = cases.open_case(Target(engine.container("web").id, "web", "bad:1", "x", engine.endpoint))
    (case.folder / "bundles").mkdir()
    shutil.copytree(forged, case.folder / "bundles" / forged.name)
    row = next(row for row in plan(engine).rows if row.item.name == "web")
    assert row.decision == "refuse" and "does not verify" in row.why


def test_a_name_that_was_given_to_another_image_meanwhile(engine: FakeEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    bad = engine.image("twin:1")
    real = engine.image

    def moved(ref: str) -> Any:
        return real("other:1") if ref == "twin:1" else real(ref)

    monkeypatch.setattr(engine, "image", moved)
    removed: list[str] = []
    monkeypatch.setattr(engine, "remove_image", removed.append)
    remove_image(engine, bad.id)
    assert removed == [bad.id]


def test_digests_that_somebody_allowed_meanwhile_are_denied_again(engine: FakeEngine) -> None:
    scene(engine)
    bundle(engine, "web")
    found = plan(engine)
    found.denied = True
    carry_out(engine, found)
    assert set(found.digests) <= set(denied.load())


def test_gaps_of_the_image_are_named_alike() -> None:
    assert volumes.OF_THE_IMAGE == holds.OF_THE_IMAGE


@pytest.mark.parametrize("newer", ["0000", "ffff"])
def test_of_two_runs_in_one_second_the_later_bundle_is_the_newest(engine: FakeEngine, newer: str) -> None:
    """What follows the second in a run's name is random."""
    scene(engine)
    made = bundle(engine, "web")
    older = made.rename(made.with_name("20260131t000000z-8888"))
    later = Path(shutil.copytree(older, older.with_name(f"20260131t000000z-{newer}")))
    for path, time in ((older, 1), (later, 2)):
        os.utime(path / "seal.dsse.json", ns=(time, time))
    assert list(stored_bundles(()).paths) == [later, older]
