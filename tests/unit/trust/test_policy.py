"""The trust policy's file: read strictly, with places; which rule applies; what lint says."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from irkit import documents, schemas
from irkit.cli.main import run
from irkit.errors import IrkitError, PlaybookInvalid
from irkit.evidence import keys
from irkit.trust import versions
from irkit.trust.policy import Policy, load_policy
from irkit.trust.policy_lint import lint
from irkit.trust.policy_reader import read_file
from irkit.trust.reference import parse_reference
from tests.fakes import signers
from tests.fits import fits

ROOT = Path(__file__).parents[3]

HEAD = "apiVersion: irkit/v1\nkind: TrustPolicy\nkeys:\n  a: {public_key: a.pub}\n  b: {public_key: b.pub}\nrepositories:\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("a", "b"):
        (tmp_path / f"{name}.pub").write_bytes(keys.generate(name, uses=("image",)).public.pem)
    return tmp_path


def read(folder: Path, text: str) -> Policy:
    path = folder / "trust.yaml"
    path.write_text(text)
    path.chmod(0o600)
    try:
        fits(documents.load(path)[0].plain(), "trust-policy")
    except jsonschema.ValidationError as error:
        with pytest.raises(IrkitError):
            read_file(path)
        raise AssertionError(str(error)) from error
    return read_file(path)


EVERYTHING = """\
apiVersion: irkit/v1
kind: TrustPolicy
description: all there is
revoked: {keys: [old], digests: ["sha256:ZERO"]}
keys:
  a: {public_key: a.pub, valid_from: 2026-01-01, valid_until: "2099-01-01T00:00:00Z", description: x}
  ring: {key_ring: b}
  old: {public_key: b.pub, revoked_at: 2026-02-01, why: stolen}
  hub: {notary_root: "ZERO"}
registries:
  "registry.example:5000": {plain_http: true, auth: "https://auth.example", lookaside: sigs, notary: "https://notary.example:4443"}
repositories:
  - match: registry.example:5000/team/*
    description: the shop
    keys: [a, ring, hub]
    accept: [cosign, bundle, statement, content-trust]
    threshold: 2
    signed: platform
    identity: exact
    without_repository: accept
    annotations: {env: prod}
    digests: ["sha256:ZERO"]
    revoked_digests: ["sha256:ONE"]
    minimum_version: 1.4.2
    version_label: version
  - match: "**"
    action: deny
    why: only the shop
""".replace("ZERO", "0" * 64).replace("ONE", "1" * 64)


def test_everything_is_read(folder: Path) -> None:
    found = read(folder, EVERYTHING)
    rule = found.rule(parse_reference("registry.example:5000/team/web:1"))
    assert rule is not None and [one.name for one in rule.keys] == ["a", "ring", "hub"]
    assert (rule.threshold, rule.signed, rule.identity, rule.nameless, rule.minimum_version) == (
        2,
        "platform",
        "exact",
        True,
        "1.4.2",
    )
    assert (
        rule.annotations == {"env": "prod"}
        and rule.only == ("sha256:" + "0" * 64,)
        and rule.revoked == ("sha256:" + "1" * 64,)
    )
    assert found.keys["a"].validity.until.startswith("2099") and not found.keys["a"].objection()
    assert found.keys["ring"].revoked, "the same key under another name is revoked too"
    settings = found.registry("registry.example:5000")
    assert settings.plain and settings.lookaside == f"file://{folder}/sigs" and settings.auth == "https://auth.example"
    denied = found.rule(parse_reference("web"))
    assert denied is not None and denied.deny and denied.why == "only the shop"


def test_the_most_specific_rule_applies_alone(folder: Path) -> None:
    names = [
        "**",
        "registry.example/**",
        "registry.example/*/web",
        "registry.example/team/*",
        "registry.example/team/w*",
        "registry.example/team/web",
    ]
    text = HEAD + "".join(f'  - {{match: "{one}", keys: [a]}}\n' for one in names)
    found = read(folder, text)
    reference = parse_reference("registry.example/team/web:1")
    assert [one.pattern.text for one in found.candidates(reference)] == list(
        reversed([*names[:2], names[2], *names[3:]])
    )
    assert found.rule(parse_reference("registry.example/team/db")).pattern.text == "registry.example/team/*"  # type: ignore[union-attr]
    assert found.rule(parse_reference("elsewhere.example/web")).pattern.text == "**"  # type: ignore[union-attr]
    none = read(folder, HEAD + "  - {match: registry.example/web, keys: [a]}\n")
    assert none.rule(parse_reference("web")) is None


@pytest.mark.parametrize(
    ("text", "place", "says"),
    [
        (HEAD + "  - {match: web, keys: [a]}\n", "7:13", "the registry is missing"),
        (HEAD + "  - {match: registry.example/web, keys: [c]}\n", "7:", "no key 'c'"),
        (HEAD + "  - {match: registry.example/web, keys: [a], tresholds: 2}\n", "7:", "unknown key 'tresholds'"),
        (HEAD + "  - {match: registry.example/web, keys: [a], threshold: 0}\n", "7:", "must be at least 1"),
        (HEAD + "  - {match: registry.example/web, keys: [a], threshold: two}\n", "7:", "must be a whole number"),
        (HEAD + "  - {match: registry.example/web, keys: []}\n", "7:", "a rule without keys accepts nothing"),
        (HEAD + "  - {match: registry.example/web, keys: [a], accept: [cosing]}\n", "7:", "no kind of signature 'cosing'"),
        (HEAD + "  - {match: registry.example/web, keys: [a], accept: [gpg]}\n", "7:", "none of the rule's keys can make a gpg signature"),
        (HEAD + "  - {match: registry.example/web, keys: [a], accept: []}\n", "7:", "'accept' is empty"),
        (HEAD + "  - {match: registry.example/web, keys: [a], minimum_version: newest}\n", "7:", "is no version"),
        (HEAD + "  - {match: registry.example/web, keys: [a], minimum_version: 1.4}\n", "7:", "must be a text"),
        (HEAD + "  - {match: registry.example/web, keys: [a], digests: ['sha256:0']}\n", "7:", "is no digest"),
        (HEAD + "  - {match: registry.example/web, keys: [a], digests: []}\n", "7:", "'digests' is empty"),
        (HEAD + "  - {match: registry.example/web, keys: [a], signed: both}\n", "7:", "must be one of reference, platform"),
        (HEAD + "  - {match: registry.example/web, action: deny, keys: [a]}\n", "7:", "unknown key 'keys'"),
        (HEAD + "  - {match: registry.example/web, keys: [a]}\n  - {match: registry.example/web, keys: [b]}\n", "8:", "stands in line 7 already"),
        (HEAD.replace("a.pub", "gone.pub") + "  - {match: registry.example/web, keys: [a]}\n", "4:", "can't read the key"),
        (HEAD.replace("{public_key: a.pub}", "{public_key: a.pub, gpg: x}"), "4:", "needs exactly one of"),
        (HEAD.replace("{public_key: a.pub}", "{}"), "4:", "needs exactly one of"),
        (HEAD.replace("{public_key: a.pub}", "{key_ring: nobody}"), "4:", "no key 'nobody'"),
        (HEAD.replace("{public_key: a.pub}", "{public_key: a.pub, valid_until: soon}"), "4:", "not a time"),
        (HEAD.replace("{public_key: a.pub}", "{public_key: a.pub, valid_from: 2027-01-01, valid_until: 2026-01-01}"), "4:", "would never be good"),
        (HEAD.replace("{public_key: a.pub}", "{public_key: a.pub, fingerprint: AB}"), "4:", "goes with 'gpg' only"),
        (HEAD.replace("{public_key: a.pub}", "{gpg: a.pub, fingerprint: AB}"), "4:", "40 or 64 hexadecimal digits"),
        (HEAD.replace("{public_key: a.pub}", "{gpg: gone.asc, fingerprint: '" + "A" * 40 + "'}"), "4:", "no file"),
        (HEAD.replace("{public_key: a.pub}", "{certificate: a.pub}"), "4:", "holds no certificate"),
        (HEAD.replace("{public_key: a.pub}", "{notary_root: x}"), "4:", "64 hexadecimal digits"),
        ("revoked: {keys: [nobody]}\n" + HEAD, "1:", "no key 'nobody'"),
        ("registries: {Registry.example: {}}\n" + HEAD, "1:", "no registry's name"),
        ("registries: {registry.example: {ca: gone.pem}}\n" + HEAD, "1:", "no file"),
        ("registries: {registry.example: {auth: 'http://x'}}\n" + HEAD, "1:", "must be a URL with https"),
        ("registries: {registry.example: {notary: 'https://me:pw@x'}}\n" + HEAD, "1:", "without a user's name"),
        (HEAD.replace("TrustPolicy", "TrustPolcy"), "2:", "must be one of TrustPolicy"),
    ],
)  # fmt: skip
def test_errors_have_places(folder: Path, text: str, place: str, says: str) -> None:
    path = folder / "trust.yaml"
    path.write_text(text if "match" in text else text + "  - {match: registry.example/web, keys: [b]}\n")
    with pytest.raises(PlaybookInvalid) as caught:
        read_file(path)
    assert f"trust.yaml:{place}" in caught.value.message and says in caught.value.message, caught.value.message
    assert run(["image", "policy", "lint", "--policy", str(path)]) == 2


def test_a_suggestion(folder: Path) -> None:
    path = folder / "trust.yaml"
    path.write_text(HEAD + "  - {match: registry.example/web, keys: [a], treshold: 2}\n")
    with pytest.raises(PlaybookInvalid) as caught:
        read_file(path)
    assert caught.value.hint == "did you mean 'threshold'?"


def test_the_key_ring_s_limits_count(folder: Path) -> None:
    assert run(["key", "revoke", "a", "--why", "stolen"]) == 0
    found = read(folder, HEAD + "  - {match: registry.example/web, keys: [a]}\n")
    assert "revoked" in found.keys["a"].objection() and not found.keys["b"].objection()


@pytest.mark.parametrize(
    ("rules", "remarks"),
    [
        ("  - {match: registry.example/web, keys: [a, b], threshold: 3, minimum_version: '1'}\n", {"threshold"}),
        ("  - {match: registry.example/web, keys: [a, b], minimum_version: '1'}\n", set()),
        ("  - {match: registry.example/web, keys: [a, b]}\n", {"rollback"}),
        ("  - {match: registry.example/web, keys: [a], minimum_version: '1'}\n", {"unused-key"}),
        ("  - {match: '**', keys: [a, b], minimum_version: '1'}\n", {"matches-everything"}),
        ("  - {match: 'registry.example*/web', keys: [a, b], minimum_version: '1'}\n", {"any-registry"}),
        ("  - {match: '*/team/web', keys: [a, b], minimum_version: '1'}\n", {"any-registry"}),
        ("  - {match: '*.example/web', keys: [a, b], minimum_version: '1'}\n", {"any-registry"}),
        ("  - {match: '*.example.com/web', keys: [a, b], minimum_version: '1'}\n", set()),
        ("  - {match: '*.example.com:5000/web', keys: [a, b], minimum_version: '1'}\n", set()),
        ("  - {match: '*.example.co*/web', keys: [a, b], minimum_version: '1'}\n", {"any-registry"}),
        ("  - {match: '**', action: deny}\n  - {match: registry.example/w, keys: [a, b], minimum_version: '1'}\n", set()),
        ("  - {match: registry.example/w*b, keys: [a, b], minimum_version: '1'}\n  - {match: registry.example/we*, keys: [a], minimum_version: '1'}\n", {"ambiguous"}),
        ("  - {match: registry.example/web, keys: [a, b], accept: [bundle], minimum_version: '1'}\n", {"nameless"}),
        ("  - {match: registry.example/*, keys: [a, b], accept: [bundle], without_repository: accept, minimum_version: '1'}\n", {"copied"}),
        ("  - {match: registry.example/web, keys: [a, b], digests: ['sha256:" + "0" * 64 + "'], revoked_digests: ['sha256:" + "0" * 64 + "']}\n", {"nothing-left"}),
    ],
)  # fmt: skip
def test_lint(folder: Path, rules: str, remarks: set[str]) -> None:
    found = lint(read(folder, HEAD + rules))
    assert {one.rule for one in found} == remarks
    errors = any(one.level == "error" for one in found)
    assert run(["image", "policy", "lint", "--policy", str(folder / "trust.yaml")]) == (3 if errors else 0)


def test_lint_knows_who_may_write(folder: Path) -> None:
    found = read(folder, HEAD + "  - {match: registry.example/web, keys: [a, b], minimum_version: '1'}\n")
    found.path.chmod(0o664)
    assert [one.rule for one in lint(found)] == ["writable"]


def test_lint_knows_dead_keys(folder: Path) -> None:
    text = HEAD.replace("{public_key: a.pub}", "{public_key: a.pub, valid_until: 2020-01-01}").replace(
        "b: {public_key: b.pub}", "b: {public_key: a.pub}"
    )
    found = lint(
        read(folder, text + "  - {match: registry.example/web, keys: [a, b], threshold: 2, minimum_version: '1'}\n")
    )
    assert {one.rule for one in found} == {"dead-key", "same-key", "threshold"}
    assert [one.place.line for one in found] == sorted(one.place.line for one in found)


def shown(capsys: pytest.CaptureFixture[str], *argv: str, code: int = 0) -> Any:
    capsys.readouterr()
    assert run(["image", "policy", *argv, "--json"]) == code
    return json.loads(capsys.readouterr().out)


def test_show(folder: Path, irkit_home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert load_policy() is None and run(["image", "policy", "show"]) == 2
    irkit_home.mkdir(exist_ok=True)
    for name in ("a", "b"):
        (irkit_home / f"{name}.pub").write_bytes((folder / f"{name}.pub").read_bytes())
    (irkit_home / "trust.yaml").write_text(
        HEAD + "  - {match: 'registry.example/**', keys: [a]}\n  - {match: registry.example/web, keys: [b], threshold: 1}\n  - {match: registry.example/bad, action: deny}\n"
    )  # fmt: skip
    everything = shown(capsys, "show")
    fits(everything, "policy")
    assert [one["match"] for one in everything["rules"]] == [
        "registry.example/web",
        "registry.example/bad",
        "registry.example/**",
    ]
    one = shown(capsys, "show", "registry.example/web:1")
    assert one["applies"] == "registry.example/web" and len(one["rules"]) == 2
    assert (
        shown(capsys, "show", "web", code=3)["applies"] == ""
        and shown(capsys, "show", "registry.example/bad", code=3)["applies"]
    )
    assert run(["image", "policy", "show", "registry.example/web"]) == 0
    said = capsys.readouterr().out
    assert "← applies, the most specific" in said and "matches too, and is passed over" in said
    fits(shown(capsys, "lint"), "policy-lint")


@pytest.mark.parametrize("words", ["1.2.3 1.2.3", "v1.2 1.2.0", "1.0.0+a 1.0.0+b"])
def test_equal_versions(words: str) -> None:
    one, other = (versions.sort_key(word) for word in words.split())
    assert one is not None and one == other


def test_versions_in_order() -> None:
    order = "0.9 1.0.0-alpha 1.0.0-alpha.1 1.0.0-alpha.beta 1.0.0-beta 1.0.0-beta.2 1.0.0-beta.11 1.0.0-rc.1 1.0.0 1.0.1 1.9 1.10 2"
    keyed = [versions.sort_key(one) for one in order.split()]
    assert None not in keyed and sorted(keyed) == keyed  # type: ignore[type-var]
    assert [versions.sort_key(one) for one in ("", "newest", "1.", "1.2.3.4.5.6.7.8.9", "1 ", "1.2-é", "-1")] == [
        None
    ] * 7


def test_the_documented_policy_is_one(tmp_path: Path) -> None:
    """The example of docs/trust.md, with keys of its names."""
    text = re.search(r"```yaml\n(apiVersion.*?)```", (ROOT / "docs" / "trust.md").read_text(), re.DOTALL)
    assert text is not None
    (tmp_path / "release.pub").write_bytes(keys.generate("release", uses=("image",)).public.pem)
    keys.generate("backup", uses=("image",))
    ca = signers.issue(tmp_path / "ca").ca.read_text()
    for name in ("ops.asc", "corp-ca.pem", "registry-ca.pem"):
        (tmp_path / name).write_text(ca)
    found = read(tmp_path, text[1])
    assert [one.level for one in lint(found)].count("error") == 0
    documented = (ROOT / "docs" / "trust.md").read_text()
    for field in (*schemas.load("trust-policy")["properties"]["repositories"]["items"]["properties"], *schemas.load("trust-policy")["properties"]["keys"]["additionalProperties"]["properties"]):  # fmt: skip
        assert field == "description" or f"`{field}`" in documented, field
