"""Alerts are hostile: whatever comes, it is an alert within the limits, or malformed."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from irkit.watch.alert import (
    CONTAINER_ID,
    CONTAINER_NAME,
    DEPTH_LIMIT,
    PRIORITIES,
    SIZE_LIMIT,
    Malformed,
    Mapped,
    at,
    moment,
    nested,
    parse,
)

FALCO = rb"""{"hostname":"h","output":"17:18:29.082520347: Notice A shell was spawned in a container with an attached terminal","priority":"Notice",
"rule":"Terminal shell in container","source":"syscall","tags":["T1059","container","shell"],"time":"2021-05-29T17:18:29.082520347Z",
"output_fields":{"container.id":"6c9b72f1c563","container.image.repository":null,"container.name":"web-1","evt.time":1622308709082520347,
"evt.time.iso8601":1622308709082520347,"k8s.ns.name":null,"proc.cmdline":"bash","proc.name":"bash","proc.tty":34816,"user.loginuid":-1}}"""
EVENT = {
    "status": "exec_start: /bin/sh -c id", "id": "a" * 64, "from": "shop/web:1", "Type": "container", "Action": "exec_start: /bin/sh -c id",
    "Actor": {"ID": "a" * 64, "Attributes": {"image": "shop/web:1", "name": "web-1", "com.example.tier": "front"}},
    "scope": "local", "time": 1622308709, "timeNano": 1622308709082520347,
}  # fmt: skip
MAPPED = Mapped("target.id", "name", "level", "when", "text", "labels", {"severe": "critical"})


def test_falco_s_form() -> None:
    alert = parse("falco", FALCO, 1.0)
    assert (alert.rule, alert.priority, alert.container) == ("Terminal shell in container", "notice", "6c9b72f1c563")
    assert alert.tags == ("T1059", "container", "shell") and alert.message.startswith("17:18:29")
    assert alert.time == pytest.approx(1622308709.08252) and alert.fields["proc"]["name"] == "bash"
    assert alert.fields["evt"]["time"] == {"iso8601": 1622308709082520347}


@pytest.mark.parametrize(
    ("fields", "found"),
    [
        ({"container.id": "host"}, ""),
        ({"container.id": "host", "container.name": "host"}, ""),
        ({"container.id": ""}, ""),
        ({"container.id": None}, ""),
        ({}, ""),
        ({"container.id": None, "container.name": "web-1"}, "web-1"),
        ({"container.id": "6c9b72f1c563", "container.full_id": "6c9b72f1c563" + "0" * 52}, "6c9b72f1c563" + "0" * 52),
    ],
)
def test_which_container_falco_means(fields: dict[str, Any], found: str) -> None:
    row = {"rule": "x", "priority": "Error", "output_fields": fields}
    assert parse("falco", json.dumps(row).encode(), 1.0).container == found


@pytest.mark.parametrize(
    "identity", ["../../etc", "6C9B72F1C563", "6c9b72f1c56", "web-1", "a" * 65, "6c9b72f1c563\n", "/v1/x", "-f"]
)
def test_a_container_s_id_has_one_form(identity: str) -> None:
    row = {"rule": "x", "priority": "Error", "output_fields": {"container.id": identity}}
    with pytest.raises(Malformed, match="no container's id"):
        parse("falco", json.dumps(row).encode(), 1.0)


def test_the_engine_s_form() -> None:
    alert = parse("events", json.dumps(EVENT).encode(), 1.0)
    assert (alert.rule, alert.container, alert.message) == ("exec_start", "a" * 64, "/bin/sh -c id")
    assert alert.fields["detail"] == "/bin/sh -c id" and alert.fields["com"]["example"]["tier"] == "front"
    assert alert.time == pytest.approx(1622308709.08252)
    connect = {
        "Type": "network",
        "Action": "connect",
        "Actor": {"ID": "b" * 64, "Attributes": {"container": "c" * 64}},
        "timeNano": 1,
    }
    assert parse("events", json.dumps(connect).encode(), 5.0).rule == "network:connect"
    assert parse("events", json.dumps(connect).encode(), 5.0).container == "c" * 64


def test_another_detector_s_form() -> None:
    row = {
        "target": {"id": "web-1"},
        "name": "odd",
        "level": "Severe",
        "when": 1622308709082,
        "text": "t",
        "labels": ["a"],
    }
    alert = parse("json", json.dumps(row).encode(), 1.0, MAPPED)
    assert (alert.container, alert.rule, alert.priority, alert.tags) == ("web-1", "odd", "critical", ("a",))
    assert alert.time == pytest.approx(1622308709.082)
    with pytest.raises(Malformed, match="priority"):
        parse("json", json.dumps({**row, "level": "purple"}).encode(), 1.0, MAPPED)
    with pytest.raises(Malformed, match="no `json` mapping"):
        parse("json", b"{}", 1.0)


@pytest.mark.parametrize(
    ("line", "why"),
    [
        (b"", "no JSON"),
        (b"[]", "no JSON object"),
        (b"{", "no JSON"),
        (b'{"a": 1, "a": 2}', "twice"),
        (b'{"rule": NaN}', "no JSON number"),
        (b'{"rule": 1e999}', "too large"),
        (b"\xff\xfe{}", "UTF-8"),
        (b'{"a": ' + b"[" * 40 + b"]" * 40 + b"}", "deep"),
        (b'{"a": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", "deep"),
        (b'{"a": [' + b"1," * 6000 + b"1]}", "values"),
        (b'{"a": "' + b"x" * SIZE_LIMIT + b'"}', "larger"),
        (b'{"a": ' + b"9" * 5000 + b"}", "no JSON"),
        (b'{"priority": "Error"}', "names no rule"),
        (b'{"rule": "x"}', "no priority"),
        (b'{"rule": "x", "priority": "\\u202eevil"}', "not known"),
        (b'{"rule": "' + b"x" * 300 + b'", "priority": "Error"}', "256"),
        (b'{"rule": "x", "priority": "Error", "tags": "a"}', "tags"),
        (b'{"rule": "x", "priority": "Error", "output_fields": []}', None),
        (b'{"rule": "x", "priority": "Error", "output_fields": [1]}', "no object"),
    ],
)
def test_what_is_no_alert_is_malformed(line: bytes, why: str | None) -> None:
    if why is None:
        assert parse("falco", line, 1.0).container == ""
        return
    with pytest.raises(Malformed, match=why):
        parse("falco", line, 1.0)


PLAIN = (
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8)
)
JSON = PLAIN | st.lists(PLAIN, max_size=3) | st.dictionaries(st.text(max_size=4), PLAIN, max_size=3)
KEYS = (
    "rule", "priority", "time", "tags", "output", "output_fields", "Type", "Action", "Actor", "timeNano", "status", "id", "target", "name",
    "level", "when", "text", "labels",
)  # fmt: skip
ROWS = st.dictionaries(
    st.sampled_from(KEYS),
    JSON | st.sampled_from([*PRIORITIES, "Terminal shell", "exec_start: x", "a" * 64, "web-1"]),
    max_size=6,
)
FIELDS = st.dictionaries(
    st.sampled_from(["container.id", "container.name", "container.full_id", "proc.name", "evt.time", "evt.time.x"]),
    JSON,
    max_size=4,
)


def checked(source: str, line: bytes) -> None:
    try:
        alert = parse(source, line, 1000.0, MAPPED)
    except Malformed:
        return
    assert alert.priority in PRIORITIES and 0 < len(alert.rule) <= 256 and alert.time > 0
    assert not alert.container or CONTAINER_ID.fullmatch(alert.container) or CONTAINER_NAME.fullmatch(alert.container)
    json.dumps(alert.scope)


@given(source=st.sampled_from(["falco", "events", "json"]), line=st.binary(max_size=200))
def test_any_bytes_are_an_alert_or_malformed(source: str, line: bytes) -> None:
    checked(source, line)


@given(source=st.sampled_from(["falco", "events", "json"]), row=ROWS, fields=FIELDS)
def test_any_object_is_an_alert_or_malformed(source: str, row: dict[str, Any], fields: dict[str, Any]) -> None:
    checked(source, json.dumps({"output_fields": fields, **row}).encode())
    checked(
        source,
        json.dumps(
            {**row, "output_fields": fields, "rule": "x", "priority": "error", "name": "n", "level": "debug"}
        ).encode(),
    )


@given(st.dictionaries(st.text("ab.", max_size=8), st.integers()))
def test_fields_are_nested_by_their_dots(flat: dict[str, int]) -> None:
    found = nested(flat)
    for name, value in flat.items():
        if not any(other != name and other.startswith(name + ".") for other in flat):
            here: Any = found
            for part in name.split("."):
                here = here[part]
            assert here == value


def test_a_path_may_have_dots_of_its_own() -> None:
    row = {"a.b": {"c": 1}, "a": {"b.c": 2}, "x": {"y": {"z": 3}}}
    assert at(row, "a.b.c") in (1, 2) and at(row, "x.y.z") == 3 and at(row, "x.q") is None and at(row, "") is None
    assert DEPTH_LIMIT < 100


@pytest.mark.parametrize(
    ("said", "seconds"),
    [
        ("2021-05-29T17:18:29.082520347Z", 1622308709.08252),
        ("2021-05-29T17:18:29+0000", 1622308709),
        ("2021-05-29T19:18:29+02:00", 1622308709),
        ("2021-05-29T17:18:29", 1622308709),
        (1622308709, 1622308709),
        (1622308709082, 1622308709.082),
        (1622308709082520, 1622308709.08252),
        (1622308709082520347, 1622308709.08252),
    ],
)
def test_times(said: Any, seconds: float) -> None:
    assert moment(said) == pytest.approx(seconds, abs=1e-3)


@pytest.mark.parametrize("said", ["", "yesterday", None, True, -1, 0, [], "9" * 100, 10**400])
def test_a_bad_time_is_that_of_receipt(said: Any) -> None:
    row = {"rule": "x", "priority": "Error", "time": said, "output_fields": {}}
    assert parse("falco", json.dumps(row).encode(), 77.0).time == 77.0
