"""Docker Content Trust as the last Notary made it: trust data by the real client and server, then by a server that lies."""

from __future__ import annotations

import base64
import json
import os
import re
import secrets
import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from irkit.clock import rfc3339
from irkit.trust import tuf
from irkit.trust.model import Verdict
from irkit.trust.policy import load_policy
from irkit.trust.verify import verify
from tests.fakes import signers
from tests.fakes.registry import OCI, Registry, free_port, serving
from tests.fakes.web import Asked, server

NAMES = ("root", "timestamp", "snapshot", "targets", "targets/releases")


@dataclass
class Notary:
    """The client, with its keys in a folder, and a server."""

    program: str
    folder: Path
    url: str

    def run(self, *argv: object) -> str:
        phrases = {
            f"NOTARY_{role}_PASSPHRASE": "a pass phrase" for role in ("ROOT", "TARGETS", "SNAPSHOT", "DELEGATION")
        }
        done = subprocess.run(
            [self.program, "-s", self.url, "-d", str(self.folder / "keys"), *map(str, argv)], env={**os.environ, **phrases, "NO_PROXY": "*"},
            capture_output=True, text=True, check=False, timeout=60,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr + done.stdout
        return done.stdout

    @property
    def root_key(self) -> str:
        return next(row.split()[1] for row in self.run("key", "list").splitlines() if row.startswith("root"))

    def data(self, gun: str) -> dict[str, bytes]:
        found = {}
        for name in NAMES:
            try:
                with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(f"{self.url}/v2/{gun}/_trust/tuf/{name}.json") as answer:  # fmt: skip
                    found[name] = answer.read()
            except OSError:
                assert name == "targets/releases"
        return found


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    with serving(tmp_path_factory.mktemp("registry")) as found:
        yield found


@pytest.fixture(scope="module")
def notary(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Notary]:
    folder, program, address = tmp_path_factory.mktemp("notary"), signers.tool("notary"), f"127.0.0.1:{free_port()}"
    config = {
        "server": {"http_addr": address}, "trust_service": {"type": "local", "hostname": "", "port": "", "key_algorithm": "ecdsa"},
        "logging": {"level": "error"}, "storage": {"backend": "memory"},
    }  # fmt: skip
    (folder / "server.json").write_text(json.dumps(config))
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen([f"{program}-server", "-config", folder / "server.json"], stdout=log, stderr=log)
    try:
        for _ in range(100):
            try:
                urllib.request.build_opener(urllib.request.ProxyHandler({})).open(f"http://{address}/v2/")
            except OSError as error:
                if "refused" not in str(error):
                    break
            time.sleep(0.05)
        yield Notary(program, folder, f"http://{address}")
    finally:
        process.terminate()
        process.wait(10)


@dataclass
class Signed:
    """A repository whose tag ``1`` trust data name."""

    registry: Registry
    notary: Notary
    repo: str
    digest: str
    folder: Path

    @property
    def gun(self) -> str:
        return f"{self.registry.address}/{self.repo}"

    def ask(self, url: str = "", reference: str = "", **key: str) -> Verdict:
        document = {
            "apiVersion": "irkit/v1", "kind": "TrustPolicy", "keys": {"hub": {"notary_root": self.notary.root_key, **key}},
            "registries": {self.registry.address: {"notary": url or self.notary.url}},
            "repositories": [{"match": f"{self.registry.address}/**", "keys": ["hub"], "accept": ["content-trust"]}],
        }  # fmt: skip
        (self.folder / "trust.yaml").write_text(json.dumps(document))
        return verify(reference or f"{self.gun}:1", load_policy(self.folder / "trust.yaml"), seconds=20)

    def manifest(self, digest: str) -> Path:
        body = self.registry.call("GET", f"/v2/{self.repo}/manifests/{digest}", Accept=OCI).body
        (self.folder / "manifest").write_bytes(body)
        return self.folder / "manifest"


@pytest.fixture
def signed(registry: Registry, notary: Notary, tmp_path: Path) -> Signed:
    repo = f"team/n{secrets.token_hex(3)}"
    found = Signed(registry, notary, repo, registry.image(repo, "1"), tmp_path)
    notary.run("init", found.gun, "-p")
    notary.run("add", found.gun, "1", found.manifest(found.digest), "-p")
    return found


def test_a_tag_by_its_targets(signed: Signed) -> None:
    verdict = signed.ask()
    assert verdict.accepted and [one.kind for one in verdict.keys] == ["content-trust"], verdict
    assert signed.ask(reference=f"{signed.gun}@{signed.digest}").accepted
    signed.registry.image(signed.repo, "1", text="evil")
    assert "its targets has sha256:" in signed.ask().reason
    signed.registry.image(signed.repo, "2")
    assert "have no 2" in signed.ask(reference=f"{signed.gun}:2").reason


def test_the_certificates_id_pins_too(signed: Signed) -> None:
    document = json.loads(signed.notary.data(signed.gun)["root"])
    (identity,) = document["signed"]["roles"]["root"]["keyids"]
    assert signed.ask(notary_root=identity).accepted
    refused = signed.ask(notary_root="1" * 64)
    assert "which the policy does not pin" in refused.reason and "retired upstream" in refused.reason


def test_the_releases_delegation_comes_first(signed: Signed) -> None:
    """As with Docker's own client: who signs releases may be somebody else than who holds the targets' key."""
    issued = signers.issue(signed.folder / "delegate")
    signed.notary.run("key", "import", issued.leaf.with_name("leaf.key"), "--role", "targets/releases")
    signed.notary.run("delegation", "add", signed.gun, "targets/releases", issued.leaf, "--all-paths", "-p")
    newer = signed.registry.image(signed.repo, "1", text="newer")
    signed.notary.run("add", signed.gun, "1", signed.manifest(newer), "-r", "targets/releases", "-p")
    assert signed.ask().resolved == newer and signed.ask().accepted
    with lying(signed, lambda data: {name: body for name, body in data.items() if name != "targets/releases"}) as url:
        assert "knows nothing" in signed.ask(url).reason, "the delegation can't be left out"


Change = Callable[[dict[str, bytes]], dict[str, bytes]]


@contextmanager
def lying(signed: Signed, change: Change) -> Iterator[str]:
    served = change(signed.notary.data(signed.gun))

    def answer(path: str, headers: dict[str, str]) -> tuple[int, dict[str, str], bytes]:
        name = path.partition("/_trust/tuf/")[2].removesuffix(".json")
        return (200, {}, served[name]) if name in served else (404, {}, b"")

    with server(answer) as asked:
        assert isinstance(asked, Asked)
        yield f"http://127.0.0.1:{asked.port}"


def altered(name: str, edit: Callable[[Any], None]) -> Change:
    def change(data: dict[str, bytes]) -> dict[str, bytes]:
        document = json.loads(data[name])
        edit(document)
        return data | {name: json.dumps(document).encode()}

    return change


def flip(document: Any) -> None:
    signature = bytearray(base64.b64decode(document["signatures"][0]["sig"]))
    signature[0] ^= 1
    document["signatures"][0]["sig"] = base64.b64encode(signature).decode()


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda data: {}, "knows nothing of this repository"),
        (altered("root", flip), "root of the trust data is not signed"),
        (altered("timestamp", flip), "Timestamp of the trust data is not signed"),
        (altered("snapshot", flip), "snapshot of the trust data is not the one"),
        (altered("targets", flip), "targets of the trust data is not the one"),
        (altered("root", lambda document: document["signatures"].clear()), "root of the trust data is not signed"),
        (altered("root", lambda document: document["signed"].update(version=9)), "root of the trust data is not signed"),
        (altered("root", lambda document: document["signed"]["roles"]["root"].update(threshold=0)), "can't be read"),
        (altered("timestamp", lambda document: document["signed"].update(expires="2099-01-01T00:00:00Z")), "Timestamp of the trust data is not signed"),
        (altered("timestamp", lambda document: document["signed"].update(version=2.5)), "no whole one"),
        (lambda data: data | {"timestamp": data["targets"]}, "where a 'Timestamp' is wanted"),
        (lambda data: data | {"root": data["root"].replace(b'"_type":"Root"', b'"_type":"Root","_TYPE":"Root"')}, "stands there twice"),
        (lambda data: data | {"root": b"[]"}, "not a JSON object"),
    ],
)  # fmt: skip
def test_a_notary_server_that_lies(signed: Signed, change: Change, reason: str) -> None:
    with lying(signed, change) as url:
        verdict = signed.ask(url)
    assert not verdict.accepted and re.search(reason, verdict.reason), verdict.reason


def test_honestly_served_data_hold(signed: Signed) -> None:
    with lying(signed, lambda data: data) as url:
        assert signed.ask(url).accepted


def test_older_targets_under_newer_snapshots(signed: Signed) -> None:
    old = signed.notary.data(signed.gun)
    signed.notary.run("add", signed.gun, "2", signed.manifest(signed.digest), "-p")
    with lying(signed, lambda data: data | {"targets": old["targets"]}) as url:
        assert "targets of the trust data is not the one" in signed.ask(url).reason


def test_an_older_root_under_a_newer_snapshot(signed: Signed) -> None:
    old = signed.notary.data(signed.gun)
    signed.notary.run("key", "rotate", signed.gun, "targets")
    assert signed.ask().accepted
    with lying(signed, lambda data: data | {"root": old["root"]}) as url:
        assert not signed.ask(url).accepted


def test_a_key_under_another_s_name(signed: Signed) -> None:
    def swap(document: dict[str, Any]) -> None:
        rows = document["signed"]["keys"]
        first, second = list(rows)[:2]
        rows[first], rows[second] = rows[second], rows[first]

    with lying(signed, altered("root", swap)) as url:
        assert "another name" in signed.ask(url).reason


def test_another_repository_s_data(signed: Signed) -> None:
    other = f"{signed.registry.address}/team/other{secrets.token_hex(3)}"
    signed.notary.run("init", other, "-p")
    signed.notary.run("add", other, "1", signed.manifest(signed.digest), "-p")
    data = signed.notary.data(other)
    with lying(signed, lambda _: data) as url:
        assert f"not for {signed.gun}" in signed.ask(url).reason


@pytest.mark.parametrize(("days", "what"), [(20, "Timestamp"), (3700, "Root")])
def test_expired(signed: Signed, days: int, what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Timestamps are good for 14 days, roots and their certificates for 10 years."""
    monkeypatch.setattr(tuf, "now", lambda: rfc3339(time.time() + days * 86400))
    reason = signed.ask().reason
    assert f"the {what} of the trust data expired" in reason or "not for" in reason


def test_no_server(signed: Signed) -> None:
    assert "does not answer" in signed.ask(f"http://127.0.0.1:{free_port()}").reason
