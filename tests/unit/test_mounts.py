"""A volume that is a folder of the host in disguise is seen as what it is, by everybody who judges mounts."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from irkit.audit.model import Subject, ask
from irkit.audit.rebuilt import of_recipe
from irkit.audit.run import BY_ID, of_container
from irkit.engine.fake.engine import FakeEngine
from irkit.engine.interface import Container
from irkit.errors import EngineError
from irkit.mounts import UNSEEN, seen_through, shown, volumes_of, with_sources
from irkit.recover.plan import SAME, make_plan
from irkit.recover.secrets import Answers
from irkit.scope.host import find_host
from irkit.scope.scene import gather

BIND = {"type": "none", "o": "bind"}


@pytest.mark.parametrize(
    ("options", "paths"),
    [
        ({}, ()),
        ({**BIND, "device": "/run"}, ("/run",)),
        ({"type": "none", "o": "rw,rbind", "device": "/"}, ("/",)),
        ({"type": "ext4", "o": "noatime,bind", "device": "//etc/../etc/"}, ("/etc",)),
        ({"type": "bind", "device": "/etc"}, ("/etc",)),
        ({**BIND, "device": "/proc/1/root/etc"}, ("/etc",)),
        ({**BIND, "device": "/proc/1/root"}, ("/",)),
        ({**BIND, "device": "/proc/self/root/var/run/"}, ("/var/run",)),
        ({**BIND, "device": "/proc/1/rooting"}, ("/proc/1/rooting",)),
        ({"type": "proc", "device": "x"}, ("/proc",)),
        ({"type": "devtmpfs", "device": "devtmpfs"}, ("/dev",)),
        ({"type": "overlay", "device": "overlay", "o": "lowerdir=/srv:/etc,upperdir=/home/u,workdir=/w"}, ("/srv", "/etc", "/home/u")),
        ({"type": "ext4", "device": "/dev/sda1"}, ("/dev/sda1",)),
        ({"type": "tmpfs", "device": "tmpfs", "o": "size=100m"}, ()),
        ({"type": "nfs", "device": ":/export", "o": "addr=10.0.0.9"}, ()),
        ({"type": "cifs", "device": "//server/share"}, ()),
    ],
)  # fmt: skip
def test_what_options_show(options: dict[str, str], paths: tuple[str, ...]) -> None:
    assert shown(options) == paths


@given(st.dictionaries(st.sampled_from(["type", "o", "device"]), st.text()))
def test_any_options_give_normal_paths(options: dict[str, str]) -> None:
    for one in shown(options):
        assert one.startswith("/") and not one.startswith("//") and ".." not in one.split("/")


def test_rows() -> None:
    volume = {"Type": "volume", "Name": "v", "Source": "/d/v/_data", "Destination": "/v", "Driver": "local", "RW": True}
    options = {"type": "none", "o": "bind,ro,rshared", "device": "/etc"}
    (row,) = seen_through([volume], [{"Name": "v", "Driver": "local", "Options": options}])
    assert row == {**volume, "Type": "bind", "Source": "/etc", "RW": False, "Propagation": "rshared"}
    assert seen_through([volume], [{"Name": "v", "Driver": "local", "Options": None}]) == [volume]
    assert seen_through([volume], []) == [{**volume, UNSEEN: True}]
    other = {**volume, "Driver": "rclone"}
    assert seen_through([other], []) == [other], "what another driver does is not known by its options"


class Silent(FakeEngine):
    """It tells nothing of volumes."""

    def volume(self, name: str) -> Any:
        raise EngineError("no")


def staged(device: str, kind: type[FakeEngine] = FakeEngine) -> tuple[FakeEngine, Container]:
    engine = kind("irkit-test/image:1")
    engine.volumes["shared"] = {"Name": "shared", "Driver": "local", "Options": {**BIND, "device": device}}
    made = engine.create({"Image": "irkit-test/image:1", "HostConfig": {"Binds": ["shared:/mnt"]}}, "web")
    return engine, engine.container(made)


def states(subject: Subject) -> dict[str, tuple[str, str]]:
    found = (ask(BY_ID[one], subject) for one in ("5.6", "5.32"))
    return {one.check.id: (one.state, one.evidence) for one in found}


@pytest.mark.parametrize(("device", "check"), [("/etc", "5.6"), ("/", "5.6"), ("/run/docker.sock", "5.32")])
def test_everybody_sees_it(device: str, check: str) -> None:
    engine, container = staged(device)
    body = {"Image": container.image_id, "HostConfig": {"Binds": ["shared:/mnt"]}}
    for subject in (of_container(engine, "web"), of_recipe(engine, "web", body)):
        assert states(subject)[check] == ("fail", f"mounted: {device}")
    (row,) = [one.row for one in find_host(gather(engine, container, visible=False)) if one.row.kind == "mount"]
    assert row.severity == "critical" and device in row.subject and "by the volume shared" in row.detail


def test_a_volume_that_is_made_with_the_container() -> None:
    engine, container = staged("/srv")
    config = {"DriverConfig": {"Name": "local", "Options": {**BIND, "device": "/etc"}}}
    for mount in ({"Source": "new"}, {}):
        host = {"Mounts": [{"Type": "volume", "Target": "/mnt", "VolumeOptions": config, **mount}]}
        assert states(of_recipe(engine, "web", {"Image": container.image_id, "HostConfig": host}))["5.6"][0] == "fail"
    there = {"Mounts": [{"Type": "volume", "Source": "shared", "Target": "/mnt", "VolumeOptions": config}]}
    subject = of_recipe(engine, "web", {"Image": container.image_id, "HostConfig": there})
    assert states(subject)["5.6"][0] == "warn", "one that is there is taken as it is, and nobody saw that it is no link"


def test_what_nobody_can_tell_is_no_pass() -> None:
    engine, container = staged("/etc", Silent)
    assert volumes_of(engine, container.raw["Mounts"]) == []
    assert {one[0] for one in states(of_container(engine, "web")).values()} == {"unknown"}
    (row,) = [one.row for one in find_host(gather(engine, container, visible=False)) if one.row.kind == "mount"]
    assert "does not tell" in row.detail and with_sources(engine, container)["Mounts"][0][UNSEEN]
    plan = make_plan(engine, container, container.image_id, Answers(), ("docker-socket",))
    assert "does not tell" in plan.not_hardened[0].why


@pytest.mark.parametrize("device", ["/", "/run", "/var/run", "/run/podman"])
def test_hardening_tells_a_folder_that_may_hold_the_socket(device: str) -> None:
    engine, container = staged(device)
    plan = make_plan(engine, container, container.image_id, Answers(), ("docker-socket",))
    (left,) = plan.not_hardened
    assert f"{device} of the host is mounted at /mnt by the volume shared, and may have" in left.why


def test_hardening_takes_a_socket_away() -> None:
    engine, container = staged("/run/docker.sock")
    plan = make_plan(engine, container, container.image_id, Answers(), ("docker-socket",))
    assert [one.name for one in plan.hardened] == ["docker-socket"] and not plan.recipe.body["HostConfig"]["Binds"]
    (said,) = plan.hardened
    assert said.what.count("/mnt") == 1
    assert not any("shared with the old container" in one for one in plan.notes), "it is not shared any more"
    plain = staged("/srv/data")
    plan = make_plan(*plain, plain[1].image_id, Answers(), ("docker-socket",))
    assert plan.hardened == plan.not_hardened == ()
    assert any("/mnt: shared with the old container" in one for one in plan.notes)
    assert any(
        "/srv/data of the host is a link, to an engine's socket perhaps, was not seen" in one for one in plan.notes
    )


def test_the_compromised_image_itself_is_told() -> None:
    engine = FakeEngine("irkit-test/image:1", "irkit-test/other:1")
    container = engine.container(engine.create({"Image": "irkit-test/image:1"}, "web"))
    same, other = (make_plan(engine, container, one, Answers()) for one in (container.image_id, "irkit-test/other:1"))
    assert SAME in same.notes and SAME not in other.notes
