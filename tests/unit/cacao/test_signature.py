"""CACAO's own signatures: X.590's own examples hold, any altered byte is told, and only trusted keys count."""

from __future__ import annotations

import base64
import copy
import datetime
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from hypothesis import given
from hypothesis import strategies as st

from irkit.cacao.imported import import_, parse
from irkit.cacao.signature import Verdict, message, sign, verify
from irkit.cli.main import cli
from irkit.errors import CheckFailed, NotTrusted, UsageProblem
from irkit.evidence.keys import PublicKey, Signer, generate, load_public_pem, trusted_keys
from irkit.evidence.validity import Validity
from tests.unit.cacao.test_cacao import FLOW, THEIRS, exported, problems

EXAMPLE_KEY = "MCowBQYDK2VwAyEAubMonBfU9pvIbj5RCiWQLD45Jvu6mKr+kQXjvjW8ZkU"
"""ITU-T X.590, appendix B.1; the two values are those of 7.1.6 and 7.2.6."""
EXAMPLE = {"hash_algorithm": "sha-256", "algorithm": "Ed25519", "public_key": EXAMPLE_KEY}
VALUE = "F1Sj4VcZlSt5GO3Bcu4izpCklj9DbKDNvc2Trpdznfqgv9HMPUGVtefMsHfTqel-dN20lUXsdoeD8PpVr1ssCg"
COUNTERSIGNED = "b_7Xu5qmpCGx7f0VneTUuFxGOcck3Fk5duNlRzDo-ifG1faoK3-xV_xc62DyHnPIgAGDbbSOlKf9kaxs_qAjBA"
STATEMENT = {"statement": "Hello signed world!", "otherProperties": ["home", "food"]}


def signer(kind: str = "ed25519", name: str = "plans", validity: Validity | None = None) -> Signer:
    private: Any = ec.generate_private_key(ec.SECP256R1()) if kind == "p256" else ed25519.Ed25519PrivateKey.generate()
    return Signer(PublicKey(name, private.public_key(), ("playbook",), validity=validity or Validity()), private)


@pytest.fixture(params=["p256", "ed25519"])
def ann(request: Any) -> Signer:
    return signer(request.param, "ann")


def signed(key: Signer, document: dict[str, Any] | None = None, **more: Any) -> dict[str, Any]:
    found = sign(document or exported(FLOW), key, "Ann", **more)
    return json.loads(json.dumps(found))  # type: ignore[no-any-return]


def only(document: dict[str, Any], *keys: Signer) -> Verdict:
    (found,) = verify(document, [one.public for one in keys])
    return found


def raw(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def test_the_standards_own_example() -> None:
    over = message(STATEMENT, [EXAMPLE], "sha-256")
    assert over == b"e005ae762a01723f3b58fa8edb2b2cc3b126ca087077189072cfd9a27e6079d5"
    pem = f"-----BEGIN PUBLIC KEY-----\n{EXAMPLE_KEY}=\n-----END PUBLIC KEY-----\n".encode()
    assert PublicKey("x", load_public_pem(pem, "x")).verifies(raw(VALUE), over)


def test_the_standards_own_countersigned_example() -> None:
    outer = {
        "hash_algorithm": "-- some hashing algorithm --", "algorithm": "-- some signing algorithm --",
        "public_key": "-- some public key --", "value": "-- some existing digital signature --",
    }  # fmt: skip
    inner = {**EXAMPLE, "value": COUNTERSIGNED}
    over = message(STATEMENT, [{**outer, "signature": inner}, inner], "sha-256")
    assert over == b"d77acfa79aa675f22d4517f534df7919f2fdf9821b73f03e97140067abce9ab9"
    pem = f"-----BEGIN PUBLIC KEY-----\n{EXAMPLE_KEY}=\n-----END PUBLIC KEY-----\n".encode()
    assert PublicKey("x", load_public_pem(pem, "x")).verifies(raw(COUNTERSIGNED), over)


def test_there_and_back(ann: Signer) -> None:
    document = signed(ann)
    assert problems(document) == []  # OASIS' schema of signatures is part of it
    assert only(document, ann).good and only(document, ann).signee == "Ann"
    (one,) = document["signatures"]
    assert len(raw(one["value"])) == 64 and "=" not in one["value"] + one["public_key"]
    assert import_(document).exact  # a signature is no change of the playbook
    shuffled = json.loads(json.dumps(document, indent=7, ensure_ascii=True, sort_keys=True))
    assert only(shuffled, ann).good


def test_several(ann: Signer) -> None:
    bob = signer("p256", "bob")
    document = signed(bob, signed(ann))
    assert problems(document) == []
    assert [one.good for one in verify(document, [ann.public, bob.public])] == [True, True]
    assert [one.good for one in verify(document, [bob.public])] == [False, True]
    assert "no key that is trusted" in verify(document, [bob.public])[0].why


def leaves(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    if isinstance(value, dict):
        return [path, *(one for name, inner in value.items() for one in leaves(inner, (*path, name)))]
    if isinstance(value, list):
        return [path, *(one for number, inner in enumerate(value) for one in leaves(inner, (*path, number)))]
    return [path]


@pytest.mark.thorough
def test_any_altered_value_is_told(ann: Signer) -> None:
    document = signed(ann)
    places = [one for one in leaves(document) if one]
    for place in places:
        changed = copy.deepcopy(document)
        where = changed
        for name in place[:-1]:
            where = where[name]
        old = where[place[-1]]
        where[place[-1]] = not old if isinstance(old, bool) else f"{old}x" if isinstance(old, str) else [old]
        try:
            found = verify(changed, [ann.public])
        except CheckFailed:
            continue
        assert not any(one.good for one in found), place
    assert len(places) > 100


@pytest.mark.thorough
def test_any_altered_byte_is_told(ann: Signer) -> None:
    data = json.dumps(signed(ann), separators=(",", ":")).encode()
    for position in range(0, len(data), 7):
        changed = data[:position] + bytes([data[position] ^ 1]) + data[position + 1 :]
        try:
            found = verify(parse(changed), [ann.public])
        except (CheckFailed, UsageProblem):
            continue
        assert not any(one.good for one in found), changed[max(0, position - 30) : position + 10]


def test_another_key_of_the_same_name_does_not_count(ann: Signer) -> None:
    other = signer(ann.public.kind, "ann")
    assert not only(signed(other), ann).good and not only(signed(other), ann).altered
    stolen = signed(other)
    stolen["signatures"][0]["public_key"] = signed(ann)["signatures"][0]["public_key"]
    assert only(stolen, ann).altered


CASES: list[tuple[Callable[[dict[str, Any]], Any], str]] = [
    (lambda s: s.update(algorithm="RS256"), "its algorithm is RS256; irkit verifies ES256, Ed25519"),
    (lambda s: s.update(algorithm="EdDSA"), "its algorithm is EdDSA"),
    (lambda s: s.update(algorithm="HS256"), "its algorithm is HS256"),
    (lambda s: s.update(hash_algorithm="md5"), "its hash algorithm is md5"),
    (lambda s: s.update(type="x509"), "not 'jss'"),
    (lambda s: s.update(value="*"), "no base64url"),
    (lambda s: s.update(value="AAAA"), "has 3 bytes"),
    (lambda s: s.update(thumbprint="x"), "one of public_key"),
    (lambda s: s.pop("public_key"), "one of public_key"),
    (lambda s: s.update(public_key="no base64"), "trusted|base64"),
    (lambda s: s.update(public_key="AAAA"), "no key that is trusted"),
]


@pytest.mark.parametrize(("change", "said"), CASES)
def test_what_does_not_count(ann: Signer, change: Any, said: str) -> None:
    document = signed(ann)
    change(document["signatures"][0])
    found = only(document, ann)
    assert not found.good and re.search(said, found.why), found.why


def remade(key: Signer, document: dict[str, Any], **more: Any) -> dict[str, Any]:
    """The signature made anew over other words of its own."""
    from irkit.cacao.signature import _made

    (one,) = document["signatures"]
    bare = {name: value for name, value in {**one, **more}.items() if value is not None}
    return {**document, "signatures": [_made(document, bare, key)]}


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"revoked": True}, "revoked"), ({"revoked": "false"}, "revoked"), ({"valid_until": "2020-01-01T00:00:00.000Z"}, "good until 2020"),
        ({"valid_from": "2999-01-01T00:00:00.000Z"}, "good from 2999"), ({"valid_from": "soon"}, "no time"),
        ({"related_to": "playbook--a0777575-5c4c-4710-9f01-15776103837f"}, "related_to"), ({"related_version": "2020"}, "related_version"),
        ({"related_to": None}, "related_to"),
    ],
)  # fmt: skip
def test_one_that_holds_and_does_not_count(ann: Signer, more: dict[str, Any], said: str) -> None:
    found = only(remade(ann, signed(ann), **more), ann)
    assert found.key == "ann" and not found.good and not found.altered and said in found.why


@pytest.mark.parametrize("hashing", ["sha-384", "sha-512"])
def test_other_hashes(ann: Signer, hashing: str) -> None:
    assert only(remade(ann, signed(ann), hash_algorithm=hashing), ann).good


def test_a_revocation_takes_the_place_of_the_rest(ann: Signer) -> None:
    bob = signer("ed25519", "bob")
    document = signed(bob, signed(ann))
    revoked = json.loads(json.dumps(sign(document, ann, "Ann", revoke=True)))
    keys = [ann.public, bob.public]
    assert problems(revoked) == [] and [one.good for one in verify(revoked, keys)] == [False, True]
    both = {**revoked, "signatures": [*document["signatures"], *revoked["signatures"][:1]]}
    found = verify(both, keys)
    assert [one.good for one in found] == [False, True, False] and "later version" in found[0].why
    mallory = remade(signer("ed25519", "mallory"), {**document, "signatures": document["signatures"][:1]}, revoked=True)
    crowded = {**document, "signatures": [*document["signatures"], *mallory["signatures"]]}
    assert [one.good for one in verify(crowded, keys)][:2] == [True, True]
    with pytest.raises(UsageProblem, match="has made no signature"):
        sign(document, signer(name="eve"), "Eve", revoke=True)


def test_keys_that_may_not_vouch_any_more(ann: Signer) -> None:
    gone = PublicKey("ann", ann.public.key, ("playbook",), validity=Validity(revoked="2025-01-01T00:00:00.000000Z"))
    (found,) = verify(signed(ann), [gone])
    assert not found.good and "revoked as of" in found.why


def certificate(key: Signer, days: int = 1) -> str:
    begin = datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=2)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "ann")])
    made = (
        x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public.key).serial_number(1)
        .not_valid_before(begin).not_valid_after(begin + datetime.timedelta(days=2 + days))
        .sign(key.private, hashes.SHA256() if key.public.kind == "p256" else None)
    )  # fmt: skip
    from cryptography.hazmat.primitives.serialization import Encoding

    return base64.b64encode(made.public_bytes(Encoding.DER)).decode()


def test_other_ways_to_name_a_key(ann: Signer) -> None:
    document = signed(ann)
    print_of = base64.urlsafe_b64encode(bytes.fromhex(ann.public.id[7:])).decode().rstrip("=")
    for more in (
        {"public_cert_chain": [certificate(ann)]},
        {"thumbprint": print_of},
        {"cert_url": "https://x.example/c"},
    ):
        again = remade(ann, document, public_key=None, **more)
        assert problems(again) == [] and only(again, ann).good, more
        assert not only(again, signer(ann.public.kind, "other")).good
    for more, said in (
        ({"public_cert_chain": [certificate(ann, -1)]}, "certificate is good from"), ({"public_cert_chain": []}, "no certificate"),
        ({"public_cert_chain": ["AAAA"]}, "can't be read"),
    ):  # fmt: skip
        assert said in only(remade(ann, document, public_key=None, **more), ann).why


def test_countersigned(ann: Signer) -> None:
    document, bob = signed(ann), signer("p256", "bob")
    (outer,) = document["signatures"]
    bare = {**remade(bob, document)["signatures"][0], "id": "jss--a0777575-5c4c-4710-9f01-15776103837f"}
    bare |= {"public_key": signed(bob)["signatures"][0]["public_key"], "algorithm": "ES256"}
    inner = {name: value for name, value in bare.items() if name != "value"}
    made = bob.sign(message(document, [{**outer, "signature": inner}, inner], "sha-256"))
    from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

    value = b"".join(one.to_bytes(32, "big") for one in decode_dss_signature(made))
    inner["value"] = base64.urlsafe_b64encode(value).decode().rstrip("=")
    both = {**document, "signatures": [{**outer, "signature": inner}]}
    keys = [ann.public, bob.public]
    assert problems(both) == [] and [one.good for one in verify(both, keys)] == [True, True]
    both["signatures"][0]["value"] = outer["value"][:-4] + "AAAA"
    assert [one.good for one in verify(both, keys)] == [False, False]


def test_limits(ann: Signer) -> None:
    document = signed(ann)
    document["signatures"] *= 100
    found = verify(document, [ann.public])
    assert len(found) == 21 and "no more than 20" in found[-1].why
    deep = document["signatures"][0]
    for _ in range(30):
        deep = {**document["signatures"][0], "signature": deep}
    assert "too deep" in verify({**document, "signatures": [deep]}, [ann.public])[-1].why
    with pytest.raises(CheckFailed, match="no list"):
        verify({**document, "signatures": {}}, [ann.public])
    assert "no signature object" in verify({**document, "signatures": ["x"]}, [ann.public])[0].why


@pytest.mark.parametrize("value", [2**60, "\ud800", float("inf"), float("nan")])
def test_what_has_no_canonical_form(ann: Signer, value: Any) -> None:
    with pytest.raises(CheckFailed, match="canonical"):
        sign({**exported(FLOW), "severity": value}, ann, "Ann")
    assert "canonical" in only({**signed(ann), "severity": value}, ann).why


SOME = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.just(EXAMPLE_KEY),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from([*EXAMPLE, "type", "id", "value", "signature", "public_cert_chain", "thumbprint", "valid_until", "modified"]), inner),
    max_leaves=8,
)  # fmt: skip
KNOWN = signer()


@given(SOME, st.booleans())
def test_anything_may_come(value: Any, whole: bool) -> None:
    document = {**THEIRS, "signatures": value if whole else [value]}
    try:
        found = verify(document, [KNOWN.public])
    except CheckFailed:
        return
    assert not any(one.good for one in found)


# -- from the command line -------------------------------------------------------------------------------------------


def irkit(*argv: str) -> Any:
    return CliRunner().invoke(cli, list(argv), standalone_mode=False)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("IRKIT_HOME", str(tmp_path / "home"))
    generate("plans", uses=("playbook",))
    return tmp_path


def test_export_signed_and_import(home: Path) -> None:
    out, back = home / "c.json", home / "back.yaml"
    assert irkit("playbook", "export", "contain", "--sign", "--key", "plans", "-o", str(out)).return_value == 0
    done = irkit("playbook", "import", str(out), "-o", str(back), "--require-signature", "--json")
    assert done.return_value == 0, done.output
    told = json.loads(done.stdout)
    assert told["exact"] and told["signatures"][0]["key"] == "plans" and told["signatures"][0]["good"]
    out.write_text(out.read_text().replace("Contain", "Contaln", 1))
    again = irkit("playbook", "import", str(out), "-o", str(home / "b.yaml"), "--unverified")
    assert isinstance(again.exception, NotTrusted) and "was altered" in again.exception.message
    assert not (home / "b.yaml").exists()


def test_another_person_signs_and_revokes(home: Path) -> None:
    theirs, to = home / "theirs.json", home / "t.yaml"
    theirs.write_text(json.dumps(THEIRS))
    generate("bob", "ed25519", uses=("playbook",))
    for key in ("plans", "bob"):
        assert irkit("playbook", "cacao-sign", str(theirs), "--key", key, "--signee", "Team").return_value == 0
    (home / "home/config.yaml").write_text(
        "apiVersion: irkit/v1\nkind: Config\nplaybooks: {require_signature: true, min: 2}\n"
    )
    done = irkit("playbook", "import", str(theirs), "-o", str(to))
    assert done.return_value == 4 and "good, by the key bob" in done.output
    assert irkit("playbook", "cacao-sign", str(theirs), "--key", "bob", "--revoke", "--json").return_value == 0
    refused = irkit("playbook", "import", str(theirs), "-o", str(home / "u.yaml"))
    assert "1 of 2" in refused.exception.message and "revoked" in refused.exception.message
    assert {one.name for one in trusted_keys("playbook")} == {"plans", "bob"}


def test_what_nobody_here_can_vouch_for(home: Path) -> None:
    theirs = home / "theirs.json"
    theirs.write_text(json.dumps(signed(signer(name="stranger"), copy.deepcopy(THEIRS))))
    refused = irkit("playbook", "import", str(theirs), "-o", str(home / "t.yaml"))
    assert isinstance(refused.exception, NotTrusted) and "--unverified" in str(refused.exception.hint)
    assert irkit("playbook", "import", str(theirs), "-o", str(home / "t.yaml"), "--unverified").return_value == 4
    theirs.write_text(json.dumps(THEIRS))
    unsigned = irkit("playbook", "import", str(theirs), "-o", str(home / "v.yaml"), "--require-signature")
    assert isinstance(unsigned.exception, NotTrusted) and "not signed" in unsigned.exception.message


def test_a_key_for_something_else_signs_no_playbook(home: Path) -> None:
    generate("seals", uses=("evidence",))
    done = irkit("playbook", "export", "contain", "--sign", "--key", "seals")
    assert "is not for playbook" in done.exception.message
    past = irkit("playbook", "export", "contain", "--sign", "--key", "plans", "--valid-until", "2020-01-01")
    assert "is past" in past.exception.message
    assert irkit("playbook", "export", "contain", "--valid-until", "2030-01-01").exception is not None
