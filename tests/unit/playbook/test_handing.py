"""Actions on a sealed bundle, in a real run on a fake engine: each is seen again by irkit's own commands."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from irkit import cases, documents
from irkit.actions import handing
from irkit.actions.context import Context
from irkit.actions.registry import ACTIONS
from irkit.cli.main import run as irkit
from irkit.engine.fake.engine import FakeEngine
from irkit.events import silent
from irkit.evidence import keys, names
from irkit.evidence.authorities import trust_authority
from irkit.evidence.keys import trusted_keys
from irkit.evidence.verify import verify_bundle
from irkit.evidence.writer import BundleWriter
from irkit.home import home
from irkit.models import Target
from irkit.playbook.journal import Journal
from irkit.playbook.lint import lint
from irkit.playbook.model import Playbook
from irkit.playbook.reader import read_playbook
from irkit.playbook.runner import Outcome, Runner
from irkit.trust import local
from irkit.trust.content import ImageContent
from tests.fakes.tsa import Authority

IMAGE = "irkit-test/image:1"
HEAD = "apiVersion: irkit/v1\nkind: Playbook\nid: own\nname: Own\nsteps:\n"
SEALED = "  - {id: engine, uses: acquire.engine}\n  - {id: seal, uses: evidence.seal}\n"


@dataclass
class Ended:
    outcome: Outcome
    context: Context

    @property
    def bundle(self) -> Path:
        assert self.context.facts.sealed is not None
        return self.context.facts.sealed.path

    def row(self, step: str) -> dict[str, Any]:
        return next(row for row in self.outcome.steps if row["id"] == step)

    def registered(self, name: str) -> dict[str, Any]:
        rows = [json.loads(line) for line in (self.context.run_folder / "journal.jsonl").read_text().splitlines()]
        return next(row["data"] for row in rows if row["type"] == "step-finished" and row["id"] == name)  # type: ignore[no-any-return]


def book(steps: str) -> Playbook:
    return read_playbook(documents.parse((HEAD + steps).encode(), "p.yaml"), "sha256:0", Path("p.yaml"))


def play(steps: str, *, dry: bool = False) -> Ended:
    engine = FakeEngine(IMAGE, endpoint="tcp://nowhere.invalid:2376")
    target = engine.create({"Image": IMAGE, "HostConfig": {}}, "target")
    before = engine.container(target)
    case = cases.open_case(Target(before.id, before.name, before.image_ref, before.image_id, engine.endpoint))
    run, where = case.new_run()
    signer = keys.load_signer("default", "evidence", lambda _: None)
    context = Context(
        engine, case, run, case.target, before, BundleWriter(case.folder / "bundles" / run), silent, lambda: None, lambda: signer
    )  # fmt: skip
    journal = Journal(where / "journal.jsonl")
    try:
        return Ended(Runner(book(steps), context, journal, {}, lambda: None, dry=dry).run(), context)
    finally:
        journal.close()


@pytest.fixture(autouse=True)
def key(irkit_home: Path) -> None:
    keys.generate("default")


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Authority]:
    with Authority(tmp_path_factory.mktemp("tsa")).serving() as served:
        yield served


def allow(url: str) -> None:
    (home() / "config.yaml").write_text(
        f"apiVersion: irkit/v1\nkind: Config\nactions: {{http: {{allow: ['{url}']}}}}\n"
    )


def test_stamped(authority: Authority) -> None:
    step = f"  - {{id: stamp, uses: evidence.timestamp, with: {{tsa: '{authority.url}'}}}}\n"
    refused = play(SEALED + step)
    assert refused.row("stamp")["outcome"] == "failed" and "may not be asked" in refused.row("stamp")["message"]
    allow(authority.url)
    assert play(SEALED + step).row("stamp")["outcome"] == "degraded"  # an authority that nobody trusts proves nothing
    trust_authority("tsa", authority.root)
    ended = play(SEALED + step + step.replace("id: stamp", "id: again"))
    assert ended.row("stamp")["outcome"] == "succeeded" and ended.row("again")["outcome"] == "skipped"
    found = verify_bundle(ended.bundle, trusted_keys("evidence"))
    assert found.ok and found.stamp.state == "valid" and found.stamp.time == ended.registered("stamp")["time"]
    assert handing.was_stamped(ended.context, {}) is not None


def test_an_authority_that_is_down_may_be_asked_again() -> None:
    allow("http://127.0.0.1:9/")
    step = "  - {id: stamp, uses: evidence.timestamp, with: {tsa: 'http://127.0.0.1:9/'}, retry: {attempts: 2, delay: 0.01}}\n"
    ended = play(SEALED + step)
    journal = (ended.context.run_folder / "journal.jsonl").read_text()
    assert journal.count('"step-retried"') == 1 and ended.row("stamp")["outcome"] == "failed"


def test_handed_over_and_packed(tmp_path: Path) -> None:
    ended = play(
        SEALED + "  - {id: hand, uses: evidence.handover, with: {to: 'Ann Lee', why: analysis, from: 'Bob'}}\n"
        "  - {id: pack, uses: evidence.pack}\n"
    )
    assert ended.outcome.status == "succeeded"
    tar = Path(ended.registered("pack")["path"])
    assert tar.parent == ended.context.case.folder / "exports"
    assert irkit(["bundle", "custody", "show", str(tar), "--expect-head", ended.registered("hand")["head"]]) == 0
    assert verify_bundle(tar, trusted_keys("evidence")).digest == ended.registered("pack")["digest"]
    args = {"to": "Ann Lee", "why": "analysis", "from": ""}
    ended.context.step = "hand"
    done = handing.was_handed_over(ended.context, args)
    assert done is not None and done.data["head"] == ended.registered("hand")["head"]
    ended.context.step = "other"
    assert handing.was_handed_over(ended.context, args) is None


def test_encrypted(tmp_path: Path) -> None:
    assert irkit(["key", "age", "-o", str(tmp_path / "ann.age")]) == 0
    from irkit.evidence.age import identities_from

    recipient = str(identities_from([tmp_path / "ann.age"])[0].to_public())
    ended = play(SEALED + f"  - {{id: lock, uses: evidence.encrypt, with: {{recipients: ['{recipient}']}}}}\n")
    tar, plain = ended.registered("lock")["path"], tmp_path / "plain"
    assert irkit(["bundle", "decrypt", tar, "--identity", str(tmp_path / "ann.age"), "-o", str(plain)]) == 0
    assert (plain / names.TAG_MANIFEST).read_bytes() == (ended.bundle / names.TAG_MANIFEST).read_bytes()


@pytest.mark.parametrize("recipients", ["[]", "[/etc/passwd]", "[age1nonsense]", "['ssh-rsa x']"])
def test_recipients_that_are_none(recipients: str) -> None:
    ended = play(SEALED + f"  - {{id: lock, uses: evidence.encrypt, with: {{recipients: {recipients}}}}}\n")
    assert ended.row("lock")["outcome"] == "failed"
    assert (
        not list((ended.context.case.folder / "exports").glob("*"))
        or not (ended.context.case.folder / "exports").exists()
    )


def test_altered_evidence_is_neither_packed_nor_handed_over() -> None:
    ended = play(SEALED)
    (ended.bundle / "data/index.json").write_bytes(b"{}")
    for run, args in ((handing.pack, {}), (handing.hand_over, {"to": "x", "why": "y", "from": ""})):
        with pytest.raises(Exception, match="does not verify"):
            run(ended.context, args)


SIGN = "  - {id: sign, uses: image.sign, with: {image: 'irkit-test/image:1', key: release}}\n"


def test_an_image_is_signed(monkeypatch: pytest.MonkeyPatch) -> None:
    content = ImageContent("sha256:" + "1" * 64, ("sha256:" + "2" * 64,), "linux/amd64")
    monkeypatch.setattr(local, "read_through", lambda engine, image: content)
    keys.generate("release", uses=("image",))
    assert "may not sign images" in play(SIGN).row("sign")["message"]
    text = "apiVersion: irkit/v1\nkind: Config\nactions: {sign: {keys: [release, locked, default, nobody]}}\n"
    (home() / "config.yaml").write_text(text)
    ended = play(SIGN)
    assert Path(ended.registered("sign")["signature"]).is_file()
    statement = json.loads(Path(ended.registered("sign")["signature"]).read_bytes())
    assert content.config.removeprefix("sha256:") in base64.b64decode(statement["payload"]).decode()
    for name in ("default", "nobody", "/etc/shadow", "../x"):
        assert play(SIGN.replace("release", name)).row("sign")["outcome"] == "failed"
    keys.generate("locked", uses=("image",), passphrase=b"x")
    assert "passphrase" in play(SIGN.replace("release", "locked")).row("sign")["message"]


def test_a_dry_run_does_none_of_it() -> None:
    steps = (
        SEALED
        + SIGN
        + "  - {id: pack, uses: evidence.pack}\n  - {id: h, uses: evidence.handover, with: {to: x, why: y}}\n"
    )
    ended = play(steps, dry=True)
    assert [ended.row(one)["outcome"] for one in ("sign", "pack", "h")] == ["planned"] * 3
    assert not (ended.context.case.folder / "exports").exists()


def test_changes_are_counted() -> None:
    ended = play(
        "  - {id: c, uses: compare.changes, register: c}\n  - {id: w, uses: wait_for, with: {seconds: 0}, when: c.added >= 0}\n"
    )
    assert ended.row("c")["outcome"] == "degraded"  # a remote engine: tmpfs can't be seen
    assert set(ended.registered("c")) == set(ACTIONS["compare.changes"].gives) and ended.registered("c")["unseen"] > 0
    assert ended.row("w")["outcome"] == "succeeded"


def test_what_lint_says() -> None:
    rules = {
        (one.level, one.rule, one.step) for one in lint(book("  - {id: pack, uses: evidence.pack}\n" + SEALED + SIGN))
    }
    assert ("error", "not-sealed", "pack") in rules and ("warning", "no-approval", "sign") in rules
    fine = lint(book(SEALED + "  - {id: v, uses: evidence.verify}\n  - {id: pack, uses: evidence.pack}\n"))
    assert fine == []
