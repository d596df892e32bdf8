"""The relay of a failover: bytes both ways, only to what was published, bounded; its rules lapse and lead nowhere else."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from irkit.engine.interface import PortBinding
from irkit.errors import EngineError
from irkit.quarantine import diversion, firewall, release
from irkit.quarantine.firewall import Table, belongs, relay_table, table_name
from irkit.recover import relay as relaying
from irkit.recover.relay import Relay, meant

HOME = "127.0.0.1"
WHOLE = b"0123456789abcdef" * 524288
"""More than all buffers on the way hold."""


def published(inside: int, host_ip: str = "", number: int = 8000) -> PortBinding:
    return PortBinding(inside, "tcp", host_ip, number)


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> None:
    """No namespaces, and every connection was meant for port 8000 of the loopback address."""

    def same(path: str | None, make: Callable[[], object]) -> object:
        return make()

    monkeypatch.setattr(relaying, "in_netns", same)
    monkeypatch.setattr(relaying, "original", lambda link: (HOME, 8000))
    monkeypatch.setattr(relaying, "GRACE", 0.05)


@contextlib.contextmanager
def echo() -> Iterator[int]:
    """A server that sends back all it was sent once the client has ended."""
    with socket.create_server((HOME, 0)) as server:
        threads = []

        def answer(link: socket.socket) -> None:
            with link, contextlib.suppress(OSError):
                taken = b""
                while piece := link.recv(65536):
                    taken += piece
                link.sendall(taken)

        def serve() -> None:
            with contextlib.suppress(OSError):
                while True:
                    thread = threading.Thread(target=answer, args=(server.accept()[0],), daemon=True)
                    threads.append(thread)
                    thread.start()

        threading.Thread(target=serve, daemon=True).start()
        yield server.getsockname()[1]
        server.shutdown(socket.SHUT_RDWR)


@contextlib.contextmanager
def relay(inside: int) -> Iterator[Relay]:
    made = Relay("/proc/self/ns/net", HOME, (published(inside),), True)
    try:
        yield made
    finally:
        made.close()


def dial(made: Relay) -> socket.socket:
    return socket.create_connection((HOME, made.door(socket.AF_INET)), 10)


def ask(made: Relay, words: bytes) -> bytes:
    with dial(made) as link:
        sender = threading.Thread(target=lambda: (link.sendall(words), link.shutdown(socket.SHUT_WR)))
        sender.start()
        sender.join()
        found = b""
        while piece := link.recv(65536):
            found += piece
        return found


def until(true: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + 10
    while not true() and time.monotonic() < deadline:
        time.sleep(0.002)
    return true()


@pytest.mark.usefixtures("here")
class TestRelay:
    def test_bytes_and_ends_pass_both_ways(self) -> None:
        with echo() as inside, relay(inside) as made:
            assert ask(made, WHOLE) == WHOLE and ask(made, b"") == b""
            assert made.arrived == {published(inside): 2} and until(lambda: made.open == 0)

    def test_nothing_but_what_was_published_is_reached(self, monkeypatch: pytest.MonkeyPatch) -> None:
        with echo() as inside, relay(inside) as made:
            monkeypatch.setattr(relaying, "original", lambda link: (HOME, inside))
            assert refused(made)

            def unknown(link: socket.socket) -> tuple[str, int]:
                raise OSError(2, "no such connection was diverted")

            monkeypatch.setattr(relaying, "original", unknown)
            assert refused(made)
            assert made.refused == 2 and not made.arrived

    def test_a_server_that_refuses_ends_the_connection(self) -> None:
        with socket.create_server((HOME, 0)) as gone:
            inside = gone.getsockname()[1]
        with relay(inside) as made:
            assert refused(made) and until(lambda: made.open == 0)

    def test_it_takes_no_more_than_it_can_hold(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(relaying, "PAIRS", 2)
        with echo() as inside, relay(inside) as made, contextlib.ExitStack() as stack:
            held = [stack.enter_context(dial(made)) for _ in range(4)]
            assert until(lambda: made.open == 2) and sum(made.arrived.values()) == 2
            held[0].close()
            assert until(lambda: sum(made.arrived.values()) == 3), "the next one has its turn"

    def test_a_reader_that_does_not_read_costs_one_buffer(self) -> None:
        with echo() as inside, relay(inside) as made, dial(made) as link:
            link.sendall(WHOLE)
            link.shutdown(socket.SHUT_WR)
            assert until(lambda: any(len(one) for one in waiting(made)))
            assert max(len(one) for one in waiting(made)) <= 2 * relaying.BUFFER

    def test_shut_it_takes_none_and_goes_on_with_those_it_has(self) -> None:
        with echo() as inside, relay(inside) as made, dial(made) as link:
            link.sendall(b"be")
            assert until(lambda: made.open == 1)
            made.shut()
            assert until(lambda: not made.doors)
            link.sendall(b"fore")
            link.shutdown(socket.SHUT_WR)
            assert b"".join(iter(lambda: link.recv(100), b"")) == b"before"

    def test_what_is_open_at_the_end_is_cut_and_counted(self) -> None:
        with echo() as inside, relay(inside) as made, dial(made) as link:
            assert until(lambda: made.open == 1)
            assert made.close() == 1
            assert link.recv(1) == b""

    def test_a_namespace_that_is_gone(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def gone(path: str | None, make: object) -> object:
            raise FileNotFoundError(2, "gone", path)

        monkeypatch.setattr(relaying, "in_netns", gone)
        with pytest.raises(FileNotFoundError):
            Relay("/proc/0/ns/net", HOME, (published(80),), True)


def waiting(made: Relay) -> list[bytearray]:
    return [flow.waiting for pair in list(made._pairs.values()) for flow in pair.flows.values()]


def refused(made: Relay) -> bool:
    with dial(made) as link:
        try:
            return link.recv(1) == b""
        except ConnectionResetError:
            return True


def test_a_binding_of_one_address_comes_before_those_of_any() -> None:
    one, every, six = published(1, "10.0.0.1"), published(2, "0.0.0.0"), published(3, "::")
    all_of_them = (every, six, one)
    four, sixth = socket.AF_INET, socket.AF_INET6
    assert meant(all_of_them, four, "10.0.0.1", 8000) == one
    assert meant(all_of_them, four, "10.0.0.2", 8000) == every
    assert meant(all_of_them, sixth, "::1", 8000) == six
    assert meant((one,), four, "10.0.0.2", 8000) is None and meant(all_of_them, four, "10.0.0.1", 8001) is None


CASE = "2026-01-01-web-abcd"
DOORS = {int(socket.AF_INET): 40004, int(socket.AF_INET6): 40006}


def test_the_rules_divert_published_ports_and_nothing_else() -> None:
    text = diversion.rules(CASE, DOORS, near=False)
    assert f"table inet {relay_table(CASE)}" in text and f'comment "irkit case {CASE}"' in text
    assert text.count("type nat hook prerouting priority -110") == text.count("type nat hook output priority -110") == 1
    assert all(("@any_" in step or "@one_" in step) for step in text.split(";") if "redirect" in step)
    near = diversion.rules(CASE, DOORS, near=True)
    assert "prerouting" not in near and "hook output" in near


def test_what_the_rules_match_lapses() -> None:
    ports = (published(80, "0.0.0.0", 80), published(443, "10.0.0.1", 8443), published(80, "::", 80))
    text = diversion.elements(CASE, ports, DOORS)
    adds = [line for line in text.splitlines() if line.startswith("add")]
    assert [line.partition("{")[2] for line in adds] == [
        " 1 timeout 15s }", " 80 timeout 5s }", " 10.0.0.1 . 8443 timeout 5s }", " 80 timeout 5s }",
    ]  # fmt: skip
    assert text.count("flush set") == 5, "what is there is refreshed, not added to"


class Nft:
    """What nft would answer, by the verb's last words; what was run."""

    def __init__(self, **answers: object) -> None:
        self.answers, self.asked = answers, list[str]()

    def __call__(self, arguments: list[str], rules: str = "") -> str:
        self.asked.append(" ".join(arguments))
        return json.dumps({"nftables": self.answers.get(arguments[-1], [])})


def fake_nft(monkeypatch: pytest.MonkeyPatch, **answers: object) -> Nft:
    made = Nft(**answers)
    monkeypatch.setattr(firewall, "nft", made)
    monkeypatch.setattr(firewall, "available", lambda: True)
    return made


def test_only_lapsed_tables_are_left_over(monkeypatch: pytest.MonkeyPatch) -> None:
    """One without a port has open connections, as long as its run says so."""
    dead, alive, open_still = (relay_table(one) for one in ("dead", "alive", "open"))
    rows = [
        {"table": {"family": "inet", "name": one}} for one in (dead, alive, open_still, table_name("dead"), "foreign")
    ]
    kept = {"set": {"name": diversion.KEPT, "elem": [1]}}
    sets = {
        dead: [{"set": {"name": "any_ipv4"}}, {"set": {"name": diversion.KEPT}}],
        alive: [{"set": {"name": "any_ipv4", "elem": [80]}}, kept], open_still: [{"set": {"name": "any_ipv4"}}, kept],
    }  # fmt: skip
    nft = fake_nft(monkeypatch, tables=rows, **sets)
    monkeypatch.setattr(firewall, "cases_of", lambda found: {one.name for one in found})
    assert release.relays() == (sorted([alive, open_still]), [dead])
    assert not any("delete" in one for one in nft.asked)
    release.remove_lapsed_relays()
    assert [one for one in nft.asked if "delete" in one] == [f"delete table inet {dead}"]


def test_an_emptied_table_is_kept_as_long_as_somebody_says_so() -> None:
    for text in (diversion.elements(CASE, (), DOORS), diversion.elements(CASE, (published(80, "", 80),), DOORS)):
        assert f"{diversion.KEPT} {{ 1 timeout {diversion.KEPT_FOR}s }}" in text
    rules = diversion.rules(CASE, DOORS, near=False)
    assert f"set {diversion.KEPT}" in rules and f"@{diversion.KEPT}" not in rules


def test_a_table_that_goes_meanwhile_is_nobody_s_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    listed = json.dumps({"nftables": [{"table": {"family": "inet", "name": relay_table("gone")}}]})

    def nft(arguments: list[str], rules: str = "") -> str:
        if "tables" in arguments:
            return listed
        raise EngineError("nft refused: No such file or directory")

    monkeypatch.setattr(firewall, "nft", nft)
    monkeypatch.setattr(firewall, "available", lambda: True)
    assert release.relays() == ([], [])


def test_a_case_s_relay_is_its_own() -> None:
    assert belongs(Table("inet", relay_table(CASE)), CASE) and not belongs(Table("inet", relay_table(CASE)), "other")
    assert relay_table(CASE) != table_name(CASE)


def chain(**more: object) -> dict[str, object]:
    return {"chain": {"family": "ip", "table": "filter", "name": "INPUT", "hook": "input", "policy": "accept", **more}}


@pytest.mark.parametrize(
    ("chains", "rows", "found"),
    [
        ([chain()], [], ""),
        ([chain(policy="drop")], [], "the chain INPUT of the table ip filter"),
        ([chain()], [{"rule": {}}], "the chain INPUT of the table ip filter"),
        ([chain(hook="forward", policy="drop")], [], ""),
        ([chain(table="irkit_0123", policy="drop")], [], ""),
    ],
)
def test_a_host_s_input_filter_is_seen(
    monkeypatch: pytest.MonkeyPatch, chains: list[object], rows: list[object], found: str
) -> None:
    fake_nft(monkeypatch, chains=chains, INPUT=rows)
    monkeypatch.setattr(diversion, "_read", lambda path: "")
    assert diversion.input_filter() == found


def test_older_rules_that_can_not_be_read_count(monkeypatch: pytest.MonkeyPatch) -> None:
    fake_nft(monkeypatch)
    monkeypatch.setattr(diversion, "_read", lambda path: "nat\nfilter\n" if "ip_" in path else "")
    monkeypatch.setenv("PATH", "/nonexistent")
    assert diversion.input_filter() == "the chain INPUT of iptables-legacy"
