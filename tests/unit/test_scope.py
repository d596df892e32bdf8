"""The blast radius, over inspects made by hand."""

from __future__ import annotations

import json
import re
from typing import Any
from xml.etree import ElementTree

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from irkit import schemas
from irkit.actions.proof import PEER_LIMIT
from irkit.cli import scope as cli
from irkit.engine.interface import Container, Image, Network
from irkit.environment import secret_kind
from irkit.errors import NotFound
from irkit.models import Target
from irkit.scope import find
from irkit.scope.connections import SHOWN, describe, find_connections
from irkit.scope.contained import PROBED_PEERS
from irkit.scope.find import collect, find_static
from irkit.scope.graph import LABEL_LIMIT, quoted, to_dot
from irkit.scope.host import host_path, judge
from irkit.scope.model import CLOSED, KINDS, REASONS, SEVERITIES, Row, Scope
from irkit.scope.scene import Scene, gather, with_containment
from irkit.scope.shared import overlap
from irkit.scope.svg import SHOWN as SVG_SHOWN
from irkit.scope.svg import to_svg
from irkit.text import printable
from tests.fits import fits

HOSTILE = "x\x1b[2J\"><script>alert('1')</script>&amp;\\N\n\u202e]]>"


def box(name: str, *, env: tuple[str, ...] = (), mounts: tuple[dict[str, Any], ...] = (), net: str = "", image: str = "", **host: Any) -> Container:  # fmt: skip
    """An inspected container; ``net`` is ``network=address``; ``host`` goes into HostConfig."""
    running, labels = host.pop("running", True), host.pop("labels", {})
    ports, user = host.pop("ports", {}), host.pop("user", "1000")
    network, _, address = net.partition("=")
    endpoints = {network: {"NetworkID": f"id-{network}", "IPAddress": address, "Gateway": "10.0.0.1"}} if network else {}  # fmt: skip
    return Container({
        "Id": (name.encode().hex() + "0" * 64)[:64], "Name": f"/{name}", "Image": f"sha256:{image or name}",
        "State": {"Running": running, "Paused": False, "Pid": 0},
        "Config": {"Image": image or name, "Env": list(env), "Labels": labels, "User": user},
        "HostConfig": {"NetworkMode": network or "none", **host},
        "NetworkSettings": {"Networks": endpoints, "Ports": ports}, "Mounts": list(mounts),
    })  # fmt: skip


def volume(name: str, writable: bool = True) -> dict[str, Any]:
    source = f"/var/lib/docker/volumes/{name}/_data"
    return {"Type": "volume", "Name": name, "Source": source, "Destination": "/data", "Driver": "local", "RW": writable}


def bind(source: str, inside: str = "/in", writable: bool = True) -> dict[str, Any]:
    return {"Type": "bind", "Source": source, "Destination": inside, "RW": writable, "Propagation": "rprivate"}


def stage(target: Container, *others: Container, visible: bool = True, networks: tuple[Network, ...] = (), image_env: tuple[str, ...] = ()) -> Scene:  # fmt: skip
    plain = with_containment(target, others, visible)
    known = {network.id: network for network in networks}
    return Scene(target, others, plain.contain, known, frozenset(image_env))


def found(scene: Scene) -> Scope:
    return collect(scene, "unix:///x", find_static(scene))


def rows(scope: Scope, kind: str) -> list[Row]:
    return [row for row in scope.rows if row.kind == kind]


def one(scope: Scope, kind: str, subject: str = "") -> Row:
    (row,) = [row for row in rows(scope, kind) if subject in row.subject]
    return row


def bridge(name: str, **raw: Any) -> Network:
    return Network({"Id": f"id-{name}", "Name": name, "Driver": "bridge", **raw})


# -- peers ----------------------------------------------------------------------------------------------------


def test_peers_of_the_same_network_only() -> None:
    other = box("db", net="app=10.0.0.3")
    scope = found(stage(box("web", net="app=10.0.0.2"), other, box("far", net="else=10.1.0.2"), networks=(bridge("app"),)))  # fmt: skip
    row = one(scope, "peer", "db")
    assert (row.severity, row.closed, row.contained) == ("medium", "yes", "leaves the network: closed and probed")
    assert "10.0.0.3" in row.detail
    assert scope.related["network"] == (other.id,) and scope.names[other.id] == "db"
    assert one(scope, "peer", "outside").closed == "yes"


def test_a_peer_that_is_worth_more_weighs_more() -> None:
    sock = bind("/var/run/docker.sock")
    scope = found(stage(box("web", net="app=10.0.0.2"), box("ci", net="app=10.0.0.3", mounts=(sock,), Privileged=True)))
    assert one(scope, "peer", "ci").severity == "high"
    assert "privileged, holds an engine's socket" in one(scope, "peer", "ci").detail


def test_no_peers_by_no_network_or_by_the_host() -> None:
    for mode in ("none", "host"):
        scope = found(stage(box("web", net=f"{mode}="), box("other", net=f"{mode}=")))
        assert rows(scope, "peer") == [] and scope.related["network"] == ()
    assert one(scope, "network-mode", "host network").closed == "frozen"


def test_internal_networks_and_kept_apart_containers() -> None:
    network = bridge("app", Internal=True, Options={"com.docker.network.bridge.enable_icc": "false"})
    scope = found(stage(box("web", net="app=10.0.0.2"), box("db", net="app=10.0.0.3"), networks=(network,)))
    assert one(scope, "peer", "db").severity == "low" and "apart" in one(scope, "peer", "db").detail
    assert "outside" not in one(scope, "peer", "the host").subject


def test_the_promises_depend_on_what_contain_can_do() -> None:
    def sentence(scene: Scene) -> str:
        return one(found(scene), "peer", "db").contained

    db = box("db", net="app=10.0.0.3")
    assert "can't be probed from here" in sentence(stage(box("web", net="app=10.0.0.2"), db, visible=False))
    assert "not running" in sentence(stage(box("web", net="app=10.0.0.2", running=False), db))
    many = [box(f"p{number}", net=f"app=10.0.1.{number}") for number in range(PROBED_PEERS)]
    assert "32 of its 33 peers are probed" in sentence(stage(box("web", net="app=10.0.0.2"), db, *many))
    assert PROBED_PEERS == PEER_LIMIT


def test_members_that_the_engine_does_not_list_and_other_hosts() -> None:
    network = bridge("app", Driver="overlay", Containers={"lb-app": {"Name": "app-endpoint", "IPv4Address": "10.0.0.9/24"}})  # fmt: skip
    scope = found(stage(box("web", net="app=10.0.0.2"), networks=(network,)))
    assert "not by the engine" in one(scope, "peer", "app-endpoint").detail
    assert "other hosts" in one(scope, "peer", "others on app").detail


def test_a_contained_target_says_so() -> None:
    network = bridge("irkit-c1", Internal=True, Labels={"dev.irkit.case": "c1", "dev.irkit.role": "quarantine"})
    scope = found(stage(box("web", net="irkit-c1=10.0.0.2"), networks=(network,)))
    assert "contained already, by case c1" in one(scope, "network-mode").detail
    assert rows(scope, "peer") == []


def test_ports_are_merged_over_address_families() -> None:
    ports = {
        "80/tcp": [{"HostIp": "0.0.0.0", "HostPort": "8080"}, {"HostIp": "::", "HostPort": "8080"}],
        "90/sctp": [{"HostIp": "127.0.0.1", "HostPort": "90"}],
    }
    scope = found(stage(box("web", net="app=10.0.0.2", ports=ports)))
    assert one(scope, "port", "8080/tcp").contained == "published port: closed and probed"
    assert one(scope, "port", "8080/tcp").detail == "0.0.0.0, :: port 8080 of the host → 80/tcp"
    assert (one(scope, "port", "90/sctp").contained, one(scope, "port", "90/sctp").severity) == (
        "published port: closed, not probed",
        "low",
    )


# -- namespaces -----------------------------------------------------------------------------------------------


def test_namespaces_in_both_directions_by_id_and_name() -> None:
    web, peer = box("web", net="app=10.0.0.2"), box("peer", net="app=10.0.0.3")
    side = box("side", PidMode="container:web", NetworkMode=f"container:{web.id}")
    scope = found(stage(web, side, peer))
    row = one(scope, "namespace", "side")
    assert "network and pid namespaces" in row.detail and row.severity == "high" and "not frozen" in row.contained
    assert scope.related["namespace"] == (side.id,)
    back = found(stage(side, web, peer))
    assert one(back, "namespace", "web").severity == "high"
    assert one(back, "network-mode").subject == "network of web"
    assert "web leaves the network, and the target with it" in one(back, "peer", "peer").contained
    assert web.id not in back.related["network"]


def test_siblings_of_one_namespace_and_a_holder_that_is_gone() -> None:
    left, right = (box(name, IpcMode="container:gone", NetworkMode="container:gone") for name in ("left", "right"))
    scope = found(stage(left, right))
    assert scope.related["namespace"] == (right.id,)
    assert one(scope, "network-mode").closed == "frozen" and "gone" in one(scope, "network-mode").contained


def test_host_namespaces_and_strangers() -> None:
    scope = found(stage(box("web", PidMode="host", CapAdd=["sys_ptrace"]), box("other", PidMode="host"), box("plain")))
    assert one(scope, "namespace", "host pid").severity == "critical"
    assert one(scope, "capability", "SYS_PTRACE").severity == "critical"
    assert one(scope, "namespace", "other").severity == "low"
    assert len(scope.related["namespace"]) == 1


# -- volumes, image, project ----------------------------------------------------------------------------------


def test_shared_volumes_and_folders() -> None:
    web = box("web", mounts=(volume("data"), bind("/srv/app/logs"), bind("/etc/localtime", writable=False)))
    reader = box("reader", mounts=(volume("data", writable=False),))
    logs = box("logs", mounts=(bind("/srv/app"), bind("/etc/localtime", writable=False)))
    scope = found(stage(web, reader, logs, box("none", mounts=(volume("data2"), bind("/srv/app/logs2")))))
    assert scope.related["volume"] == (logs.id, reader.id)
    row = one(scope, "volume", "data")
    assert (row.severity, row.closed) == ("high", "frozen") and "can't write to it" in row.contained
    assert "still reads" in row.contained and "read-only" in row.detail
    back = found(stage(reader, web))
    assert one(back, "volume", "data").severity == "low"


def test_mounts_overlap_by_path_not_by_prefix() -> None:
    assert overlap(bind("/srv/a/"), bind("/srv//a/b")) and not overlap(bind("/srv/a"), bind("/srv/ab"))
    assert overlap(volume("v"), bind("/var/lib/docker/volumes/v/_data/sub"))
    assert not overlap({"Type": "volume", "Name": "x"}, {"Type": "volume", "Name": "y"})


def test_volumes_of_other_drivers_leave_the_host() -> None:
    scope = found(stage(box("web", mounts=({**volume("nas"), "Driver": "nfs"},))))
    assert "other hosts" in one(scope, "volume", "nas").detail


def test_same_image_and_project() -> None:
    project = {"com.docker.compose.project": "shop", "com.docker.swarm.service.name": "shop_web"}
    twin = box("twin", image="app", running=False)
    scope = found(stage(box("web", image="app", labels=project), twin, box("db", labels=project)))
    assert scope.related["image"] == (twin.id,)
    assert (one(scope, "image").severity, one(scope, "image").closed) == ("low", "no")
    assert {row.detail.partition(":")[0] for row in rows(scope, "label")} == {
        "same compose project", "same swarm service", "swarm service shop_web",
    }  # fmt: skip


# -- the host -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "writable", "severity"),
    [
        ("/", False, "critical"), ("/var/run", False, "critical"), ("/proc", False, "high"), ("/etc/", True, "critical"),
        ("/etc/nginx", True, "high"), ("/etc/nginx", False, "low"), ("/home/me/.ssh", False, "high"), ("/srv/x", True, "medium"),
        ("/srv/x", False, "low"), ("//dev", True, "critical"), ("/home/me/app", True, "medium"), ("/data", True, "critical"),
        ("/data/root/volumes", True, "medium"),
    ],
)  # fmt: skip
def test_host_mounts_are_judged(source: str, writable: bool, severity: str) -> None:
    assert judge(source, writable, "/data/root")[0] == severity


def test_host_path() -> None:
    assert [host_path(path) for path in ("/var/run/x.sock", "/var/running", "", "/a/../b/")] == [
        "/run/x.sock", "/var/running", "/", "/b",
    ]  # fmt: skip


def test_engine_sockets_are_critical_even_read_only() -> None:
    for name in ("docker.sock", "podman.sock", "containerd.sock"):
        scope = found(stage(box("web", mounts=(bind(f"/somewhere/{name}", writable=False),))))
        row = one(scope, "mount")
        assert (row.severity, row.closed) == ("critical", "frozen") and "rotate" in row.contained


def test_devices_privileges_and_capabilities() -> None:
    target = box(
        "web", CapAdd=["CAP_SYS_ADMIN", "net_admin"], CapDrop=["NET_RAW"], DeviceCgroupRules=["b 8:* rmw"],
        SecurityOpt=["seccomp:unconfined", "apparmor=unconfined", "no-new-privileges"], user="0:0", UsernsMode="host", IpcMode="host",
        Devices=[{"PathOnHost": "/dev/sda", "PathInContainer": "/dev/x", "CgroupPermissions": "rwm"}, {"PathOnHost": "/dev/fuse"}],
        RestartPolicy={"Name": "always", "MaximumRetryCount": 0},
    )  # fmt: skip
    scope = found(stage(target))
    got = {(row.kind, row.subject): row.severity for row in scope.rows}
    assert got == {
        ("capability", "SYS_ADMIN"): "critical", ("device", "/dev/sda"): "critical", ("capability", "NET_ADMIN"): "high",
        ("device", "b 8:* rmw"): "high", ("privilege", "seccomp=unconfined"): "high", ("namespace", "host ipc namespace"): "high",
        ("privilege", "apparmor=unconfined"): "medium", ("device", "/dev/fuse"): "medium", ("namespace", "host user namespace"): "medium",
        ("privilege", "runs as root"): "low", ("restart", "always"): "low",
    }  # fmt: skip
    assert [row.severity for row in scope.rows] == sorted((row.severity for row in scope.rows), key=SEVERITIES.index)


def test_privileged_says_it_once_and_rm_is_a_risk() -> None:
    scope = found(stage(box("web", Privileged=True, CapAdd=["ALL"], AutoRemove=True)))
    assert one(scope, "privilege", "privileged").severity == "critical"
    assert rows(scope, "capability") == [] and one(scope, "restart", "--rm").severity == "medium"


# -- secrets --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("entry", "secret"),
    [
        ("DB_PASSWORD=x", True), ("APIKEY=x", True), ("JWT_TOKEN=x", True), ("DB_PASS=x", True), ("MY_KEY=x", True), ("SENTRY_DSN=x", True),
        ("DATABASE_URL=postgres://u:p@h/x", True), ("X=-----BEGIN RSA PRIVATE KEY-----", True), ("Y=AKIAABCDEFGHIJKLMNOP", True),
        ("PWD=/app", False), ("KEYBOARD=us", False), ("AUTHOR=me", False), ("PASSWORD_FILE=/run/secrets/db", False), ("PASSWORD=", False),
        ("ALLOW_EMPTY_PASSWORD=yes", False), ("URL=https://host/a@b", False), ("PASSTHROUGH=1", False), ("MODE=prod", False),
        ("GPG_KEY=A035C8C19219BA821ECEA86B64E628F8D684696D", False), ("GPG_KEYS=" + " ".join(2 * ["AFD8691FDAEDF03BDF6E460563F15A9B715376CA"]), False),
        ("CONF=mode=prod\nexport API_TOKEN='x1y2'\n", True), ('CONF={\n  "db_password": "hunter2",\n}', True), ("CONF=a\n-----BEGIN RSA PRIVATE KEY-----", True),
        ("CONF=url: postgres://u:p@h/x\nb", True), ("CONF=mode=prod\nname: web\n", False), ("CONF=api_token=\nmode=x", False),
        ("GPG_KEY=hunter2hunter2", True), ("API_KEY=A035C8C19219BA821ECEA86B64E628F8D684696D", True),
    ],
)  # fmt: skip
def test_what_looks_like_a_secret(entry: str, secret: bool) -> None:
    name, _, value = entry.partition("=")
    assert bool(secret_kind(name, value)) == secret


def test_secrets_relate_by_value_and_values_are_never_shown() -> None:
    web = box("web", env=("DATABASE_URL=postgres://app:hunter2hunter2@db/x", "API_TOKEN=t0psecret", "GPG_KEY=0123456789", "A_KEY=abc", "broken"))  # fmt: skip
    db = box("db", env=("POSTGRES_PASSWORD=hunter2hunter2",))
    api = box("api", env=("ANYTHING=t0psecret",))
    plain = box("plain", env=("GPG_KEY=0123456789", "A_KEY=abc", "POSTGRES_PASSWORD=other"))
    scope = found(stage(web, db, api, plain, image_env=("GPG_KEY=0123456789",)))
    assert scope.related["secret"] == (api.id, db.id)
    assert one(scope, "environment", "GPG_KEY").severity == "low"
    assert one(scope, "secret", "DATABASE_URL").detail == "db has the same value, in POSTGRES_PASSWORD"
    for text in (json.dumps(scope.to_json()), to_dot(scope), to_svg(scope)):
        for value in ("hunter2", "t0psecret", "0123456789", "abc", "postgres://"):
            assert value not in text


def test_mounted_secrets() -> None:
    mine, theirs = bind("/srv/db.txt", "/run/secrets/db"), bind("/srv/db.txt", "/elsewhere")
    other = box("db", mounts=(theirs,))
    scope = found(stage(box("web", mounts=(mine,)), other))
    assert scope.related["secret"] == (other.id,) and rows(scope, "mount") == rows(scope, "volume") == []
    assert {row.closed for row in rows(scope, "secret")} == {"no"} and len(rows(scope, "secret")) == 2


# -- connections ----------------------------------------------------------------------------------------------


def sock(local: int, remote: str, port: int, state: str = "established", protocol: str = "tcp") -> dict[str, Any]:
    return {"protocol": protocol, "local": "10.0.0.2", "local_port": local, "remote": remote, "remote_port": port, "state": state, "uid": 0, "inode": 1}  # fmt: skip


def test_connections_name_who_is_at_the_other_end() -> None:
    scene = stage(box("web", net="app=10.0.0.2"), box("db", net="app=10.0.0.3"), box("far", net="else=10.9.0.3"))
    sockets = [
        sock(80, "0.0.0.0", 0, "listen"), sock(4001, "10.0.0.3", 5432), sock(4002, "10.0.0.3", 5432), sock(80, "10.0.0.1", 40000),
        sock(4003, "::ffff:10.9.0.3", 80, protocol="tcp6"), sock(4004, "93.184.215.14", 443, "syn-sent"), sock(4005, "169.254.169.254", 80),
        sock(4006, "192.168.7.7", 22), sock(4007, "10.0.0.99", 22, "time-wait"), sock(4008, "127.0.0.11", 53), sock(4009, "172.20.0.5", 9),
    ]  # fmt: skip
    got = {row.row.detail: (row.row.subject, row.row.severity) for row in describe(scene, sockets, ["172.20.0.5"])}
    assert got == {
        "10.0.0.3: to its tcp port 5432, 2 connections": ("db", "medium"),
        "10.0.0.1: comes in to the target's tcp port 80": ("the host (gateway of app)", "low"),
        "10.9.0.3: to its tcp port 80": ("far", "medium"),
        "93.184.215.14: to its tcp port 443": ("outside", "high"),
        "169.254.169.254: to its tcp port 80": ("the cloud's metadata service", "high"),
        "192.168.7.7: to its tcp port 22": ("outside (a private address)", "high"),
        "172.20.0.5: to its tcp port 9": ("this host", "high"),
    }


def test_a_flood_of_connections_is_counted() -> None:
    sockets = [sock(1, f"10.1.{number // 250}.{number % 250}", 80) for number in range(SHOWN + 7)]
    got = list(describe(stage(box("web", net="app=10.0.0.2")), sockets))
    assert len(got) == SHOWN + 1 and got[-1].row.detail.startswith("7 more")


def test_connections_that_are_not_seen_are_a_row() -> None:
    (row,) = find_connections(stage(box("web", net="app=10.0.0.2")), "another host")
    assert row.row.detail == "not seen: another host" and row.row.closed == "yes"


# -- gathering ------------------------------------------------------------------------------------------------


class Fake:
    """As much of an engine as is asked; ``gone`` vanishes between the list and the question."""

    endpoint = "unix:///fake"

    def __init__(self, *every: Container) -> None:
        self.every = {one.id: one for one in every}

    def containers(self, label: str = "") -> tuple[str, ...]:
        return (*self.every, "gone")

    def container(self, ref: str) -> Container:
        if ref not in self.every:
            raise NotFound("no such container")
        return self.every[ref]

    def network(self, ref: str) -> Network:
        raise NotFound("no such network")

    def image(self, ref: str) -> Image:
        raise NotFound("no such image")

    def info(self) -> Any:
        return type("Info", (), {"root_dir": "/var/lib/docker"})


def test_races_are_survived_and_the_order_is_stable() -> None:
    web, db = box("web", net="app=10.0.0.2"), box("db", net="app=10.0.0.3", image="web")
    engine: Any = Fake(web, db)
    first, second = find.related(engine, web), find.related(engine, web)
    assert first == second and first.related["network"] == first.related["image"] == (db.id,)
    assert gather(engine, web, False).others == (db,)
    assert to_svg(first) == to_svg(second) and to_dot(first) == to_dot(second)


# -- how it is shown ------------------------------------------------------------------------------------------


def hostile_scope(text: str = HOSTILE) -> Scope:
    mount = bind(f"/srv/{text}", f"/run/{text}")
    return found(stage(
        box("web", net="app=10.0.0.2", mounts=(mount,), env=(f"{text.replace('=', '')}_TOKEN=abcdef",), labels={"com.docker.compose.project": text}),
        box(text or "x", net="app=10.0.0.3", mounts=(mount,), labels={"com.docker.compose.project": text}),
    ))  # fmt: skip


def test_json_fits_its_schema() -> None:
    jsonschema.Draft202012Validator.check_schema(schemas.load("scope"))
    scope = hostile_scope()
    fits(scope.to_json(), "scope")
    properties = schemas.load("scope")["properties"]
    assert properties["rows"]["items"]["properties"]["kind"]["enum"] == list(KINDS)
    assert properties["rows"]["items"]["properties"]["closed"]["enum"] == list(CLOSED)
    assert properties["related"]["required"] == list(REASONS)


def test_the_table_shows_no_control_characters(capsys: pytest.CaptureFixture[str]) -> None:
    cli._print(hostile_scope())
    shown = capsys.readouterr()
    assert "\x1b[2J" not in shown.out + shown.err and "\u202e" not in shown.out and "\\x1b[2J" in shown.out
    assert shown.err.startswith("1 related container: 1 by network, 1 by volume")


def test_the_summary_of_a_lonely_container() -> None:
    assert cli.summary(found(stage(box("web")))) == "no other container is related"


@given(st.text(max_size=60))
def test_the_svg_is_xml_that_holds_nothing_but_text(text: str) -> None:
    root = ElementTree.fromstring(to_svg(hostile_scope(text)))
    assert {element.tag.partition("}")[2] for element in root.iter()} == {"svg", "title", "rect", "path", "circle", "text"}  # fmt: skip
    assert {name for element in root.iter() for name in element.attrib} <= {
        "width", "height", "viewBox", "font-family", "font-size", "role", "fill", "x", "y", "text-anchor", "d", "stroke",
        "stroke-dasharray", "rx", "cx", "cy", "r",
    }  # fmt: skip


def test_the_svg_says_how_many_it_leaves_out() -> None:
    others = [box(f"p{number}", net=f"app=10.0.1.{number}") for number in range(SVG_SHOWN + 4)]
    assert "and 5 more in the table" in to_svg(found(stage(box("web", net="app=10.0.0.2"), *others)))


STRING = re.compile(r'"(?:[^"\\]|\\.)*"', re.DOTALL)


def dot_text(string: str) -> str:
    """What Graphviz shows for a quoted string without line breaks: its lexer, then its label's escapes."""
    inner = string[1:-1].replace('\\"', '"')
    return re.sub(r"\\(.)", r"\1", inner, flags=re.DOTALL).replace("&amp;", "&")


@given(st.text(max_size=60))
def test_dot_strings_give_the_text_back(text: str) -> None:
    string = quoted(text)
    assert STRING.fullmatch(string) and "\n" not in string
    assert dot_text(string) == printable(text, LABEL_LIMIT)


@given(st.text(max_size=40))
def test_dot_is_made_of_irkits_own_words_outside_its_strings(text: str) -> None:
    bare = STRING.sub('""', to_dot(hostile_scope(text)))
    for line in bare.splitlines():
        assert re.fullmatch(r"digraph scope \{|\}|  [a-z0-9]+( -> [a-z0-9]+)? \[[a-zA-Z0-9=, \"]+\];", line), line


def test_a_scope_without_rows_is_drawn_too() -> None:
    empty = Scope(Target("i", HOSTILE, "", "", ""), (), {})
    ElementTree.fromstring(to_svg(empty))
    assert to_dot(empty).endswith("}\n")
