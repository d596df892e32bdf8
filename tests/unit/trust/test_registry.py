"""The registry's client: credentials, TLS, what it refuses of answers.  A server on loopback says what it is told to say."""

from __future__ import annotations

import base64
import json
import socket
import ssl
import stat
import threading
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from irkit.errors import NotTrusted, RegistryProblem
from irkit.trust import credentials, strict
from irkit.trust.policy import RegistrySettings
from irkit.trust.reference import Reference
from irkit.trust.registry import OCI_MANIFEST, Registry, read_manifest, sha256
from irkit.trust.transport import Deadline, Web
from tests.fakes.signers import openssl
from tests.fakes.web import Answer, server

BODY = json.dumps({"schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": {}, "layers": []}).encode()


def good(path: str, headers: dict[str, str]) -> Answer:
    return 200, {"Content-Type": OCI_MANIFEST}, BODY


@pytest.fixture(autouse=True)
def docker_config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "docker"
    folder.mkdir()
    monkeypatch.setenv("DOCKER_CONFIG", str(folder))
    return folder / "config.json"


def login(config: Path, registry: str, user: str = "ann", password: str = "s3cret:x") -> None:
    auth = base64.b64encode(f"{user}:{password}".encode()).decode()
    config.write_text(json.dumps({"auths": {registry: {"auth": auth}}}))


def test_a_token_is_asked_for_with_the_login(docker_config: Path) -> None:
    def answer(path: str, headers: dict[str, str]) -> Answer:
        if path.startswith("/token"):
            return 200, {}, json.dumps({"token": "T1"}).encode()
        if headers.get("authorization") != "Bearer T1":
            realm = f'Bearer realm="http://127.0.0.1:{asked.port}/token",service="me",scope="repository:other/secret:push,pull"'
            return 401, {"WWW-Authenticate": realm}, b""
        return good(path, headers)

    with server(answer) as asked:
        login(docker_config, f"127.0.0.1:{asked.port}")
        assert asked.registry().manifest("1").digest == sha256(BODY)
        token = next(row for row in asked.rows if row[0].startswith("/token"))
        assert "scope=repository%3Ateam%2Fweb%3Apull" in token[0] and "other" not in token[0], (
            "irkit asks for what it needs"
        )
        assert base64.b64decode(token[1].removeprefix("Basic ")) == b"ann:s3cret:x"
        assert "s3cret" not in repr(credentials.find(f"127.0.0.1:{asked.port}"))


def test_basic(docker_config: Path) -> None:
    def answer(path: str, headers: dict[str, str]) -> Answer:
        return (
            good(path, headers) if "authorization" in headers else (401, {"WWW-Authenticate": 'Basic realm="x"'}, b"")
        )

    with server(answer) as asked:
        with pytest.raises(RegistryProblem, match="asks for credentials") as caught:
            asked.registry().manifest("1")
        assert caught.value.hint == "`docker login` on this machine"
        login(docker_config, f"127.0.0.1:{asked.port}")
        asked.registry().manifest("1")


def test_credentials_stay_with_their_registry(docker_config: Path) -> None:
    """A registry that sends irkit for a token elsewhere does not get its password there, unless the policy says so."""
    with server(lambda path, headers: (200, {}, b'{"token": "T"}')) as elsewhere:

        def answer(path: str, headers: dict[str, str]) -> Answer:
            if "authorization" in headers:
                return good(path, headers)
            return 401, {"WWW-Authenticate": f'Bearer realm="http://127.0.0.1:{elsewhere.port}/t"'}, b""

        with server(answer) as asked:
            login(docker_config, f"127.0.0.1:{asked.port}")
            with pytest.raises(RegistryProblem, match="without TLS"):
                asked.registry().manifest("1")
            assert elsewhere.rows == []


def test_a_redirected_blob_is_asked_for_without_the_token(docker_config: Path) -> None:
    blob = b"payload"
    with server(lambda path, headers: (200, {}, blob)) as elsewhere:

        def answer(path: str, headers: dict[str, str]) -> Answer:
            if "authorization" not in headers:
                return 401, {"WWW-Authenticate": "Basic"}, b""
            return 307, {"Location": f"http://127.0.0.1:{elsewhere.port}/storage?sig=1"}, b""

        with server(answer) as asked:
            login(docker_config, f"127.0.0.1:{asked.port}")
            assert asked.registry().blob(sha256(blob), 100) == blob
            assert elsewhere.rows == [("/storage?sig=1", "")]
            with pytest.raises(NotTrusted, match="has the digest"):
                asked.registry().blob(sha256(b"other"), 100)
            with pytest.raises(RegistryProblem, match="not followed"):
                asked.registry().manifest("1")


@pytest.mark.parametrize("challenge", ["Bearer " + " " * 60_000, "Bearer " + "a" * 60_000, "Bearer " + 'a="' * 20_000, "Bearer", "", "Digest x", 'Bearer realm="file:///etc/passwd"', 'Bearer realm=""'])  # fmt: skip
def test_challenges_that_lead_nowhere(challenge: str) -> None:
    began = time.monotonic()
    with (
        server(lambda path, headers: (401, {"WWW-Authenticate": challenge}, b"")) as asked,
        pytest.raises(RegistryProblem),
    ):
        asked.registry().manifest("1")
    assert time.monotonic() - began < 2


def test_pages_of_referrers() -> None:
    """Every page is read, on the same server, and not for ever."""
    digest = sha256(b"x")
    pages = {"": ["a", "b"], "?page=2": ["c"], "?page=3": ["d"]}

    def answer(path: str, headers: dict[str, str]) -> Answer:
        query = path.partition("/referrers/")[2].removeprefix(digest)
        names = pages.get(query, ["z"])
        following = {"": "?page=2", "?page=2": f"/v2/team/web/referrers/{digest}?page=3"}.get(query, endless)
        body = json.dumps({"manifests": [{"digest": sha256(name.encode())} for name in names]}).encode()
        return (
            200,
            {"Content-Type": "application/json", **({"Link": f'<{following}>; rel="next"'} if following else {})},
            body,
        )

    with server(answer) as asked:
        endless = ""
        assert asked.registry().referrers(digest) == ("referrers", [sha256(one) for one in (b"a", b"b", b"c", b"d")])
        endless = "?page=4"
        assert len(asked.registry().referrers(digest)[1]) == 5 and len(asked.rows) < 40
        endless = "http://127.0.0.2/v2/"
        with pytest.raises(NotTrusted, match="elsewhere"):
            asked.registry().referrers(digest)


def test_redirects_end() -> None:
    with server(lambda path, headers: (307, {"Location": path + "x"}, b"")) as asked:
        with pytest.raises(RegistryProblem, match="not followed"):
            asked.registry().blob(sha256(b""), 100)
        assert len(asked.rows) == 6


def test_a_credential_helper(docker_config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    helper = tmp_path / "bin" / "docker-credential-shelf"
    helper.parent.mkdir()
    helper.write_text(
        '#!/bin/sh\nread server\n[ "$1 $server" = "get registry.example" ] && echo \'{"Username":"ann","Secret":"pw"}\'\n'
    )
    helper.chmod(helper.stat().st_mode | stat.S_IEXEC)
    monkeypatch.setenv("PATH", f"{helper.parent}:/usr/bin:/bin")
    docker_config.write_text(
        json.dumps(
            {"credHelpers": {"registry.example": "shelf", "odd.example": "../../bin/sh", "token.example": "tok"}}
        )
    )
    found = credentials.find("registry.example")
    assert (found.user, found.password) == ("ann", "pw")
    assert credentials.find("odd.example").trouble and not credentials.find("odd.example").user
    assert "can't be asked" in credentials.find("token.example").trouble
    assert credentials.find("elsewhere.example") == credentials.Credentials()


@pytest.mark.parametrize(
    "text", ["", "[]", "{", '{"auths": []}', '{"auths": {"r.example": {"auth": "!"}}}', '{"auths": {"r.example": []}}']
)
def test_a_bad_configuration_is_no_login(docker_config: Path, text: str) -> None:
    docker_config.write_text(text)
    assert credentials.find("r.example").basic == ""


def test_the_hub_s_login(docker_config: Path) -> None:
    login(docker_config, "https://index.docker.io/v1/")
    assert credentials.find("docker.io").user == "ann" and credentials.find("r.example").user == ""


@pytest.fixture
def certificate(tmp_path: Path) -> tuple[Path, ssl.SSLContext]:
    openssl(
        "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", tmp_path / "tls.key", "-out",
        tmp_path / "tls.pem", "-days", "2", "-subj", "/CN=x", "-addext", "subjectAltName=IP:127.0.0.1", "-addext", "keyUsage=critical,digitalSignature,keyCertSign",
    )  # fmt: skip
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "tls.pem", tmp_path / "tls.key")
    return tmp_path / "tls.pem", context


def test_tls_by_the_policy_s_authority(certificate: tuple[Path, ssl.SSLContext]) -> None:
    ca, context = certificate
    with server(good, context) as asked:
        assert asked.registry(ca=ca).manifest("1").digest == sha256(BODY)
        strange = Registry(Reference(f"127.0.0.1:{asked.port}", "team/web", "1"), RegistrySettings("x"), 5)
        strange.base = strange.base.replace("http:", "https:")
        with pytest.raises(RegistryProblem, match="certificate is not trusted"):
            strange.manifest("1")


def test_credentials_go_only_where_the_policy_says(
    docker_config: Path, certificate: tuple[Path, ssl.SSLContext]
) -> None:
    """Over TLS, too, a registry alone can't have its password sent to another server."""
    ca, context = certificate
    with server(lambda path, headers: (200, {}, b'{"token": "T"}'), context) as elsewhere:
        url = f"https://127.0.0.1:{elsewhere.port}"

        def answer(path: str, headers: dict[str, str]) -> Answer:
            return (
                good(path, headers)
                if "authorization" in headers
                else (401, {"WWW-Authenticate": f'Bearer realm="{url}/t"'}, b"")
            )

        with server(answer, context) as asked:
            login(docker_config, f"127.0.0.1:{asked.port}")
            asked.registry(ca=ca).manifest("1")
            assert [row[1] for row in elsewhere.rows] == [""], "an anonymous token"
            asked.registry(ca=ca, auth=url).manifest("1")
            assert elsewhere.rows[-1][1].startswith("Basic ")


def test_an_answer_that_breaks_off() -> None:
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        client, _ = listener.accept()
        client.recv(4096)
        client.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nshort")
        client.close()

    threading.Thread(target=serve, daemon=True).start()
    with listener, pytest.raises(RegistryProblem, match=r"broke off|as it should"):
        Web(Deadline(5)).get(f"http://127.0.0.1:{listener.getsockname()[1]}/", {}, 1000)


@pytest.mark.parametrize(
    ("name", "settings", "base"),
    [
        ("docker.io", {}, "https://registry-1.docker.io/v2/"), ("registry.example", {}, "https://registry.example/v2/"),
        ("registry.example:5000", {"plain": True}, "http://registry.example:5000/v2/"), ("localhost:5000", {}, "http://localhost:5000/v2/"),
        ("127.0.0.1:5000", {}, "http://127.0.0.1:5000/v2/"), ("[::1]:5000", {}, "http://[::1]:5000/v2/"),
        ("localhost.example", {}, "https://localhost.example/v2/"), ("127.0.0.1.example", {}, "https://127.0.0.1.example/v2/"),
    ],
)  # fmt: skip
def test_without_tls_only_on_this_machine(name: str, settings: dict[str, bool], base: str) -> None:
    assert Registry(Reference(name, "team/web", "1"), RegistrySettings(name, **settings)).base == f"{base}team/web"  # type: ignore[arg-type]


def test_a_loopback_name_that_leads_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("irkit.trust.transport.is_loopback_name", lambda host: False)
    with server(good) as asked, pytest.raises(RegistryProblem, match="no address of this machine"):
        Web(Deadline(5)).get(f"http://127.0.0.1:{asked.port}/", {}, 100, loopback_only=True)
    assert asked.rows == []


@pytest.mark.parametrize("url", ["ftp://x/", "http:///x", "http://a@b/", "http://x:99999/", "http://x/ y", "http://x/\n", "http://x/é", "http://" + "x" * 9000])  # fmt: skip
def test_addresses_that_are_not_asked(url: str) -> None:
    with pytest.raises(RegistryProblem, match="not an address"):
        Web(Deadline(5)).get(url, {}, 100)


@pytest.mark.parametrize(
    ("document", "kind"),
    [
        ({"config": {}, "layers": []}, "application/vnd.docker.distribution.manifest.v1+prettyjws"), ({"config": {}, "layers": []}, ""),
        ({"manifests": []}, OCI_MANIFEST), ({"config": {}, "layers": [], "manifests": []}, OCI_MANIFEST),
        ({"fsLayers": [], "manifests": []}, "application/vnd.oci.image.index.v1+json"), ({}, OCI_MANIFEST),
        ({"config": {}, "layers": [], "mediaType": "application/vnd.oci.image.index.v1+json"}, OCI_MANIFEST),
        ({"config": {}, "layers": [], "mediaType": 1}, OCI_MANIFEST),
    ],
)  # fmt: skip
def test_manifests_that_could_be_something_else(document: dict[str, object], kind: str) -> None:
    with pytest.raises(NotTrusted):
        read_manifest(json.dumps(document).encode(), "sha256:x", kind)


@pytest.mark.parametrize("text", ['{"a":1,"a":2}', '{"a":{"b":1,"B":2}}', "[]", "1", "", '{"a":NaN}', "[" * 100_000, '{"a":"\ud800"}'.encode("utf-8", "surrogatepass"), b"\xff{}"])  # fmt: skip
def test_json_that_two_readers_may_read_differently(text: str | bytes) -> None:
    with pytest.raises(NotTrusted):
        strict.load_object(text if isinstance(text, bytes) else text.encode(), "it")


@given(st.binary(max_size=200))
def test_any_bytes_are_a_manifest_or_refused(data: bytes) -> None:
    with pytest.raises(NotTrusted):
        read_manifest(data, "sha256:x", OCI_MANIFEST)
