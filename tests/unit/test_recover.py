"""Recipes, secrets, hardening and the comparison afterwards, as functions."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from irkit import secret_sources
from irkit.engine.interface import Container, Image
from irkit.errors import Refused, UsageProblem
from irkit.playbook.model import Var
from irkit.recover.compared import UNEXPECTED, Meant, differences
from irkit.recover.config import Recipe, recipe
from irkit.recover.harden import NAMES, Hardened, chosen, harden
from irkit.recover.plan import Plan
from irkit.recover.secrets import Answers, find_burnt, hidden, with_secrets

OLD = "a" * 64
IMAGE_CONFIG: dict[str, Any] = {"Env": ["PATH=/bin"], "Cmd": ["serve"], "User": "app", "ExposedPorts": {"8080/tcp": {}}}


def container(identity: str = OLD, networks: dict[str, Any] | None = None, *, host: dict[str, Any] | None = None, **config: Any) -> Container:  # fmt: skip
    return Container({
        "Id": identity, "Name": "/web", "Image": "sha256:old", "State": {"Running": True},
        "Config": {"Image": "web:1", "Hostname": identity[:12], "Env": ["PATH=/bin"], "Cmd": ["serve"], "User": "app", **config},
        "HostConfig": {"NetworkMode": "default", "Memory": 1, "PidsLimit": 1, "ReadonlyRootfs": True, "SecurityOpt": ["no-new-privileges"], **(host or {})},
        "NetworkSettings": {"Networks": networks or {}, "Ports": {}}, "Mounts": [],
    })  # fmt: skip


def made(before: Container, config: dict[str, Any] | None = None) -> Recipe:
    return recipe(
        before, Image({"Id": "sha256:old", "Config": IMAGE_CONFIG if config is None else config}), "sha256:new"
    )


def on(network: str, ip: str = "10.0.0.2", mac: str = "", **more: Any) -> dict[str, Any]:
    generated = "02:42:" + ":".join(f"{int(one):02x}" for one in ip.split("."))
    return {
        network: {
            "NetworkID": f"id-{network}",
            "EndpointID": "e",
            "IPAddress": ip,
            "MacAddress": mac or generated,
            **more,
        }
    }


# -- recipes ----------------------------------------------------------------------------------------------------


def test_a_secondary_bridge_is_joined_again() -> None:
    both = {**on("bridge"), **on("front", Aliases=["shop", OLD[:12]])}
    plan = made(container(networks=both, host={"NetworkMode": "front"}))
    assert [one.network for one in plan.networks] == ["bridge"] and plan.leave == ()
    assert plan.body["NetworkingConfig"] == {"EndpointsConfig": {"front": {"Aliases": ["shop"]}}}
    alone = made(container(networks=on("bridge")))
    assert alone.networks == () and alone.leave == () and "NetworkingConfig" not in alone.body


def test_limits_as_podman_names_them() -> None:
    plan = made(container(host={"Ulimits": [{"Name": "RLIMIT_NOFILE", "Soft": 1, "Hard": 2}, {"Name": "core", "Soft": 0, "Hard": 0}]}))  # fmt: skip
    assert plan.body["HostConfig"]["Ulimits"] == [
        {"Name": "nofile", "Soft": 1, "Hard": 2},
        {"Name": "core", "Soft": 0, "Hard": 0},
    ]


def test_a_network_that_was_left_is_left_again() -> None:
    plan = made(container(networks=on("back"), host={"NetworkMode": "front"}))
    assert plan.leave == ("front",) and [one.network for one in plan.networks] == ["back"]


@pytest.mark.parametrize("mode", ["front", "default"])
def test_a_fixed_mac_is_kept_and_told(mode: str) -> None:
    network = "bridge" if mode == "default" else mode
    mac = "02:11:22:33:44:55"
    plan = made(container(networks=on(network, mac=mac), host={"NetworkMode": mode}))
    assert plan.body["MacAddress"] == mac and any(mac in one for one in plan.notes)
    assert "MacAddress" not in made(container(networks=on(network), host={"NetworkMode": mode})).body


def test_what_an_image_would_put_in_its_place() -> None:
    image = {**IMAGE_CONFIG, "Entrypoint": ["/entry"]}
    none = made(container(Entrypoint=None), image)
    assert none.body["Entrypoint"] == [""] and none.body["Cmd"] == ["serve"]
    other = made(container(Entrypoint=["/mine"]), image)
    assert other.body["Entrypoint"] == ["/mine"] and other.body["Cmd"] == ["serve"], "the engine takes no image's command then"  # fmt: skip
    same = made(container(Entrypoint=["/entry"]), image)
    assert "Entrypoint" not in same.body and "Cmd" not in same.body


def test_a_name_that_is_another_s() -> None:
    shared = made(container(Hostname="other", host={"NetworkMode": "container:x"}, ExposedPorts={"1/tcp": {}}))
    assert "Hostname" not in shared.body and shared.body["ExposedPorts"] == {}
    assert "Hostname" not in made(container(Hostname="host", host={"UTSMode": "host"})).body
    assert made(container(Hostname="shop-1")).body["Hostname"] == "shop-1"


# -- secrets ----------------------------------------------------------------------------------------------------

VALUES = {"DB_PASSWORD": "hunter2hunter2", "API_TOKEN": "t0ken-t0ken", "MODE": "prod"}
BEFORE = container(Env=[f"{name}={value}" for name, value in VALUES.items()])


def nobody(_: str) -> None:
    return None


def test_secrets_are_not_carried_over() -> None:
    plan = made(BEFORE)
    burnt = find_burnt(BEFORE, plan, IMAGE_CONFIG, Answers())
    assert [(one.name, one.answer) for one in burnt] == [("DB_PASSWORD", "missing"), ("API_TOKEN", "missing")]
    with pytest.raises(Refused) as caught:
        with_secrets(BEFORE, plan, burnt, Answers(), nobody)
    told = caught.value.message + str(caught.value.hint) + repr(plan) + "".join(map(str, burnt)) + json.dumps([one.to_json() for one in burnt])  # fmt: skip
    assert "DB_PASSWORD" in told and not any(value in told for value in ("hunter2", "t0ken"))


def test_each_answer(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"fresh-value\n")
    said = Answers(secret_sources.parse_all([f"DB_PASSWORD=@{tmp_path / 'f'}"]), keep=frozenset({"API_TOKEN"}), drop=frozenset({"MODE"}))  # fmt: skip
    plan = made(BEFORE)
    burnt = find_burnt(BEFORE, plan, IMAGE_CONFIG, said)
    done, answered = with_secrets(BEFORE, plan, burnt, said, nobody)
    assert done.body["Env"] == ["API_TOKEN=t0ken-t0ken", "DB_PASSWORD=fresh-value"]
    assert {one.name: one.answer for one in answered} == {"DB_PASSWORD": "new", "API_TOKEN": "kept", "MODE": "dropped"}
    assert set(done.hidden) == {"fresh-value", "t0ken-t0ken"} and "fresh-value" not in repr(done)


def test_a_person_is_asked_and_the_old_value_is_no_answer() -> None:
    plan = made(BEFORE)
    burnt = find_burnt(BEFORE, plan, IMAGE_CONFIG, Answers())
    done, _ = with_secrets(BEFORE, plan, burnt, Answers(), lambda name: f"new-{name}")
    assert "DB_PASSWORD=new-DB_PASSWORD" in done.body["Env"]
    with pytest.raises(Refused, match="is the old one"):
        with_secrets(BEFORE, plan, burnt, Answers(), lambda name: VALUES[name])


def test_a_value_that_the_new_image_has_too_is_burnt_as_well() -> None:
    image = {**IMAGE_CONFIG, "Env": ["PATH=/bin", "API_TOKEN=t0ken-t0ken"]}
    plan = made(BEFORE, image)
    assert "API_TOKEN=t0ken-t0ken" not in plan.body["Env"]
    said = Answers(drop=frozenset({"API_TOKEN", "DB_PASSWORD"}))
    burnt = find_burnt(BEFORE, plan, image, said)
    assert {one.name: one.answer for one in burnt} == {"DB_PASSWORD": "dropped", "API_TOKEN": "dropped"}
    told = {one.name: str(one) for one in burnt}
    assert told["API_TOKEN"].endswith("set to nothing in the new container, because the new image sets it")
    assert told["DB_PASSWORD"].endswith("left out of the new container")
    env = with_secrets(BEFORE, plan, burnt, said, nobody)[0].body["Env"]
    assert "API_TOKEN=" in env and not [one for one in env if one.startswith("DB_PASSWORD")]
    silent = Answers(drop=frozenset({"DB_PASSWORD"}))
    left = find_burnt(BEFORE, plan, image, silent)
    assert "the new image sets it" in next(str(one) for one in left if one.name == "API_TOKEN")
    with pytest.raises(Refused, match="the new image sets it"):
        with_secrets(BEFORE, plan, left, silent, nobody)
    other = find_burnt(BEFORE, plan, {"Env": ["API_TOKEN=another"]}, said)
    assert {one.name: one.answer for one in other}["API_TOKEN"] == "gone"
    assert "gets the value that the new image has" in next(str(one) for one in other if one.name == "API_TOKEN")


def test_a_secret_under_a_name_that_is_given_twice() -> None:
    before = container(Env=["API_TOKEN=first-one", "API_TOKEN=", "MODE=prod"])
    plan = made(before)
    burnt = find_burnt(before, plan, IMAGE_CONFIG, Answers())
    assert [(one.name, one.answer) for one in burnt] == [("API_TOKEN", "missing")]
    said = Answers(drop=frozenset({"API_TOKEN"}))
    done, _ = with_secrets(before, plan, find_burnt(before, plan, IMAGE_CONFIG, said), said, nobody)
    assert done.body["Env"] == ["MODE=prod"]
    with pytest.raises(Refused, match="is the old one"):
        with_secrets(before, plan, burnt, Answers(), lambda name: "first-one")


def test_what_is_dropped_is_not_said_to_be_gone_where_the_new_image_has_it() -> None:
    image = {**IMAGE_CONFIG, "Env": ["PATH=/bin", "API_TOKEN=the-image-s"]}
    said = Answers(drop=frozenset({"API_TOKEN", "DB_PASSWORD"}))
    words = {one.name: str(one) for one in find_burnt(BEFORE, made(BEFORE), image, said)}
    assert words["API_TOKEN"].endswith("the new container gets the value that the new image has")
    assert words["DB_PASSWORD"].endswith("left out of the new container")


@pytest.mark.parametrize("said", [Answers(keep=frozenset({"NOPE"})), Answers(keep=frozenset({"MODE"}), drop=frozenset({"MODE"}))])  # fmt: skip
def test_answers_that_make_no_sense(said: Answers) -> None:
    with pytest.raises(UsageProblem):
        find_burnt(BEFORE, made(BEFORE), IMAGE_CONFIG, said)


@given(st.text(min_size=1))
def test_clear_text_is_never_a_reference_and_never_told(value: str) -> None:
    if value.startswith(("@", "fd:")):
        return
    for text in (value, f"DB={value}"):
        with pytest.raises(UsageProblem) as caught:
            secret_sources.parse(text)
        assert caught.value.message == "a secret is not given by a reference"
        with pytest.raises(UsageProblem) as caught:
            Var("secrets", "secrets", [], False, "").check([text])
        assert caught.value.message == "a secret is not given by a reference"


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    ends = os.pipe()
    yield ends
    for one in ends:
        os.close(one)


def test_descriptors(pipe: tuple[int, int]) -> None:
    reading, writing = pipe
    os.write(writing, b"value")
    source = secret_sources.parse(f"A=fd:{reading}")
    for early in (source.check, source.read, secret_sources.parse("A=fd:999999").check):
        with pytest.raises(UsageProblem, match="not started with a descriptor"):
            early()
    os.set_inheritable(reading, True)
    os.dup2(os.open(os.devnull, os.O_RDONLY), writing)  # the end of the pipe
    source.check()
    assert source.read() == "value", "looking takes nothing away"
    with pytest.raises(UsageProblem, match="is empty"):
        source.read()


@pytest.mark.parametrize(("content", "why"), [(b"", "empty"), (b"\n", "empty"), (b"\xff\xfe", "not UTF-8"), (b"a\0b", "NUL"), (b"x" * 200_000, "longer")])  # fmt: skip
def test_what_is_no_value(tmp_path: Path, content: bytes, why: str) -> None:
    (tmp_path / "f").write_bytes(content)
    with pytest.raises(UsageProblem, match=why):
        secret_sources.parse(f"A=@{tmp_path / 'f'}").read()
    with pytest.raises(UsageProblem, match="can't be read"):
        secret_sources.parse(f"A=@{tmp_path / 'none'}").read()
    for place in (tmp_path, tmp_path / "none"):
        with pytest.raises(UsageProblem, match="can't be read"):
            secret_sources.parse(f"A=@{place}").check()


def test_each_line_and_each_password_is_blotted_out() -> None:
    found = hidden(["first-line\nsecond", "db://u:pass1234@h", "ab"])
    assert set(found) == {"first-line\nsecond", "db://u:pass1234@h", "first-line", "pass1234", "second"}
    assert list(map(len, found)) == sorted(map(len, found), reverse=True)


# -- hardening ----------------------------------------------------------------------------------------------------


def hardened(names: tuple[str, ...] = NAMES, image: dict[str, Any] | None = None, *, host: dict[str, Any], **config: Any) -> Hardened:  # fmt: skip
    return harden(made(container(host=host, **config)), names, image or IMAGE_CONFIG)


@pytest.mark.parametrize(
    ("name", "host", "after"),
    [
        ("privileged", {"Privileged": True, "SecurityOpt": ["label=disable", "no-new-privileges"]}, {"Privileged": False, "SecurityOpt": ["no-new-privileges"]}),
        ("capabilities", {"CapAdd": ["NET_BIND_SERVICE", "SYS_ADMIN", "CAP_NET_ADMIN"]}, {"CapAdd": ["NET_BIND_SERVICE"]}),
        ("capabilities", {"CapAdd": ["ALL"]}, {"CapAdd": []}),
        ("docker-socket", {"Binds": ["/var/run/docker.sock:/s.sock:ro", "/srv:/srv"]}, {"Binds": ["/srv:/srv"]}),
        ("docker-socket", {"Mounts": [{"Type": "bind", "Source": "/run/podman/podman.sock", "Target": "/p"}]}, {"Mounts": []}),
        ("host-network", {"NetworkMode": "host"}, {"NetworkMode": "default", "PortBindings": {"8080/tcp": [{"HostIp": "", "HostPort": "8080"}]}}),
        ("host-pid", {"PidMode": "host"}, {"PidMode": ""}),
        ("host-ipc", {"IpcMode": "host"}, {"IpcMode": ""}),
        ("host-uts", {"UTSMode": "host"}, {"UTSMode": ""}),
        ("host-userns", {"UsernsMode": "host"}, {"UsernsMode": ""}),
        ("memory", {"Memory": 0, "MemoryReservation": 2 * 1024**3}, {"Memory": 2 * 1024**3}),
        ("pids", {"PidsLimit": None}, {"PidsLimit": 512}),
        ("pids", {"PidsLimit": -1}, {"PidsLimit": 512}),
        ("no-new-privileges", {"SecurityOpt": None}, {"SecurityOpt": ["no-new-privileges"]}),
        ("no-new-privileges", {"SecurityOpt": ["no-new-privileges:false", "label=x"]}, {"SecurityOpt": ["label=x", "no-new-privileges"]}),
        ("seccomp", {"SecurityOpt": ["seccomp:unconfined", "no-new-privileges"]}, {"SecurityOpt": ["no-new-privileges"]}),
        ("apparmor", {"SecurityOpt": ["apparmor=unconfined", "no-new-privileges"]}, {"SecurityOpt": ["no-new-privileges"]}),
        ("system-paths", {"MaskedPaths": [], "ReadonlyPaths": []}, {"MaskedPaths": None, "ReadonlyPaths": None}),
    ],
)  # fmt: skip
def test_each_is_taken_away_and_told(name: str, host: dict[str, Any], after: dict[str, Any]) -> None:
    done = hardened(host=host)
    assert {key: done.recipe.body["HostConfig"][key] for key in after} == after
    assert [one.name for one in done.changes] == [name]
    assert hardened(tuple(one for one in NAMES if one != name), host=host).changes == (), "--keep"
    assert harden(done.recipe, NAMES, IMAGE_CONFIG).changes == (), "twice is once"


def test_a_read_only_root_leaves_what_is_mounted_alone() -> None:
    done = hardened(host={"ReadonlyRootfs": False, "Binds": ["v:/tmp"], "Tmpfs": {"/run": "size=1m"}})
    assert done.recipe.body["HostConfig"]["Tmpfs"].keys() == {"/run", "/var/tmp"}
    assert (
        done.recipe.body["HostConfig"]["Tmpfs"]["/run"] == "size=1m"
        and done.recipe.body["HostConfig"]["ReadonlyRootfs"]
    )
    other = harden(
        made(container(host={"ReadonlyRootfs": False})), NAMES, IMAGE_CONFIG, {"/run": ("/v/1",), "/tmp": ("/v/2",)}
    )
    assert other.recipe.body["HostConfig"]["Tmpfs"].keys() == {"/var/tmp"}, "of --volumes-from"


def test_root() -> None:
    over = hardened(host={}, User="0:0")
    assert "User" not in over.recipe.body and [one.name for one in over.changes] == ["root-user"]
    only = hardened(host={}, User="root", image={"User": ""})
    assert (
        only.changes == () and [one.name for one in only.left] == ["root-user"] and only.recipe.body["User"] == "root"
    )


def test_what_it_can_not_do_is_told() -> None:
    done = hardened(host={"Binds": ["/var/run/:/hostrun"]})
    assert done.changes == () and "may have the engine's socket in it" in done.left[0].why
    twice = hardened(host={"Binds": ["//run:/hostrun"]})
    assert "may have the engine's socket in it" in twice.left[0].why, "two slashes are one to Linux"
    kept = hardened(chosen(["all"], ["privileged"]), host={"Privileged": True})
    assert [one.name for one in kept.left] == ["privileged"] and kept.recipe.body["HostConfig"]["Privileged"]


def test_a_socket_of_another_container_s_is_told() -> None:
    plan = made(container(host={"VolumesFrom": ["peer"]}))
    done = harden(plan, NAMES, IMAGE_CONFIG, {"/s": ("/run/docker.sock",), "/r": ("/var/run",), "/d": ("/srv",)})
    assert [(one.name, one.why.split(" ")[0]) for one in done.left] == [
        ("docker-socket", "/run/docker.sock"),
        ("docker-socket", "/var/run"),
    ]
    assert "by --volumes-from, and is the engine's socket" in done.left[0].why
    own = made(container(host={"Binds": ["/run/docker.sock:/s"], "VolumesFrom": ["peer"]}))
    assert harden(own, NAMES, IMAGE_CONFIG, {"/s": ("/run/docker.sock",)}).left == ()


@pytest.mark.parametrize("link", ["/srv/docker.sock", "/tmp/x"])
def test_a_link_to_a_socket_is_taken_away_once(link: str) -> None:
    plan = made(container(host={"Binds": [f"{link}:/s", "/srv:/srv"]}))
    done = harden(plan, ("docker-socket",), IMAGE_CONFIG, {"/s": ("/run/docker.sock", "/run"), "/srv": ("/srv",)})
    assert done.recipe.body["HostConfig"]["Binds"] == ["/srv:/srv"] and done.left == ()
    assert [one.what for one in done.changes] == ["the engine's socket is not mounted at /s"]


def test_a_well_configured_one_is_left_alone() -> None:
    plan = made(container())
    done = harden(plan, NAMES, IMAGE_CONFIG)
    assert done.recipe is plan and done.changes == done.left == ()


def test_what_the_engine_did_not_do_is_not_hardened() -> None:
    before = container(host={"Memory": 0, "PidsLimit": 0})
    hard = harden(made(before), NAMES, IMAGE_CONFIG)
    plan = Plan(
        before, None, Image({"Id": "sha256:new", "Config": IMAGE_CONFIG}), hard.recipe, Answers(), (), hard.changes
    )
    done = plan.checked(container(NEW, host={"Memory": 0, "PidsLimit": 512}))
    assert [one.name for one in done.hardened] == ["pids"]
    assert [(one.name, one.why) for one in done.not_hardened] == [("memory", "the engine did not do it")]


def test_names() -> None:
    assert (
        chosen(["all"], []) == NAMES
        and chosen([], ["pids"]) == ()
        and chosen(["pids", "memory"], ["pids"]) == ("memory",)
    )
    with pytest.raises(UsageProblem, match="nothing to harden is called web-1"):
        chosen(["web-1"], [])


# -- the comparison ----------------------------------------------------------------------------------------------


def why(before: Container, after: Container, **meant: Any) -> dict[str, str]:
    return {one.path: one.why for one in differences(before, after, Meant(**meant))}


NEW = "b" * 64


def test_expected_differences() -> None:
    before = container(networks=on("front", "10.0.0.2", Aliases=["shop", OLD[:12]]), Env=["A=1", "S=old"])
    after = container(
        NEW, on("front", "10.0.0.3", Aliases=["shop", NEW[:12]]), Env=["A=1", "S=new"], Image="sha256:new"
    )
    assert why(before, after, secrets=frozenset({"S"})) == {
        "Config.Env[S]": "secret", "Config.Hostname": "id", "Config.Image": "image", "Networks[front].Aliases": "id",
        "Networks[front].IPAddress": "network", "Networks[front].MacAddress": "network",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ({"Env": ["A=1"]}, {"Env": ["A=2"]}),
        ({"Labels": {"a": ""}}, {"Labels": {}}),
        ({"Cmd": ["mine"]}, {"Cmd": ["serve"]}),
        ({"Hostname": "shop"}, {}),
        ({"host": {"Memory": 5}}, {"host": {"Memory": 6}}),
        ({"host": {"Sysctls": {"a": "1"}}}, {}),
        ({"networks": on("front")}, {}),
        ({}, {"networks": on("front")}),
        ({"networks": on("front", mac="02:11:22:33:44:55")}, {"networks": on("front")}),
        ({"networks": on("front", IPAMConfig={"IPv4Address": "10.0.0.2"})}, {"networks": on("front", "10.0.0.3", IPAMConfig={"IPv4Address": "10.0.0.2"})}),
        ({"networks": on("front", Aliases=["shop"])}, {"networks": on("front", Aliases=[])}),
    ],
)  # fmt: skip
def test_what_nothing_explains(before: dict[str, Any], after: dict[str, Any]) -> None:
    old, new = container(**before), container(NEW, **after)
    images = {"old_image": IMAGE_CONFIG, "new_image": IMAGE_CONFIG}
    assert UNEXPECTED in why(old, new, **images).values()
    assert UNEXPECTED not in why(old, container(NEW, **before), **images).values()


def test_by_the_image_only_what_is_the_image_s() -> None:
    before, after = container(Cmd=["serve"]), container(NEW, Cmd=["serve2"])
    assert why(before, after, old_image={"Cmd": ["serve"]}, new_image={"Cmd": ["serve2"]})["Config.Cmd"] == "image"
    assert why(before, after, old_image={"Cmd": ["other"]}, new_image={"Cmd": ["serve2"]})["Config.Cmd"] == UNEXPECTED
    assert why(before, after, hardened=frozenset({"Config.Cmd"}))["Config.Cmd"] == "hardened"
