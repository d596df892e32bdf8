"""A real registry (Debian's docker-registry) on a loopback port, a proxy before it that can lie, and images to put there."""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import http.client
import io
import json
import re
import shutil
import socket
import subprocess
import tarfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

OCI = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"
PROGRAM = shutil.which("docker-registry", path="/usr/bin:/usr/local/bin:/bin")


def sha256(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


@dataclass
class Reply:
    """What the registry answered, for a lie to change."""

    status: int
    headers: dict[str, str]
    body: bytes


Lie = Callable[[str, Reply], Reply | None]


@dataclass
class Registry:
    """The registry; ``address`` is the proxy's, the name under which images are known."""

    direct: str
    address: str
    lies: list[tuple[re.Pattern[str], Lie]] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)

    # -- putting things there ---------------------------------------------------------------------------------

    def call(self, method: str, path: str, body: bytes = b"", **headers: str) -> Reply:
        connection = http.client.HTTPConnection(self.direct, timeout=20)
        connection.request(method, path, body or None, headers)
        response = connection.getresponse()
        data = response.read()
        connection.close()
        return Reply(response.status, {k.lower(): v for k, v in response.getheaders()}, data)

    def blob(self, repo: str, data: bytes) -> dict[str, Any]:
        begun = self.call("POST", f"/v2/{repo}/blobs/uploads/", **{"Content-Length": "0"})
        assert begun.status == 202, begun
        path = begun.headers["location"].partition(self.direct)[2] or begun.headers["location"]
        done = self.call("PUT", f"{path}&digest={sha256(data)}", data, **{"Content-Type": "application/octet-stream"})
        assert done.status == 201, done
        return {"digest": sha256(data), "size": len(data)}

    def manifest(self, repo: str, document: dict[str, Any] | bytes, tag: str = "") -> str:
        data = document if isinstance(document, bytes) else json.dumps(document).encode()
        kind = json.loads(data).get("mediaType", OCI)
        done = self.call("PUT", f"/v2/{repo}/manifests/{tag or sha256(data)}", data, **{"Content-Type": kind})
        assert done.status == 201, done
        return sha256(data)

    def get(self, repo: str, wanted: str) -> dict[str, Any]:
        accept = ", ".join((OCI, INDEX, "application/vnd.docker.distribution.manifest.v2+json"))
        found = self.call("GET", f"/v2/{repo}/manifests/{wanted}", Accept=accept)
        assert found.status == 200, found
        document: dict[str, Any] = json.loads(found.body)
        return document

    def image(self, repo: str, tag: str = "", *, text: str = "clean", platform: str = "linux/amd64", labels: dict[str, str] | None = None, tree: bytes | None = None) -> str:  # fmt: skip
        """An image of one layer; its manifest's digest."""
        tar = tree if tree is not None else one_file("hello", text.encode())
        packed = gzip.compress(tar, mtime=0)
        system, architecture = platform.split("/")
        config = json.dumps(
            {"os": system, "architecture": architecture, "config": {"Labels": labels or {}, "Cmd": ["/bin/sh"], "Env": ["PATH=/bin"]}, "rootfs": {"type": "layers", "diff_ids": [sha256(tar)]}, "history": [{"created_by": "tests"}]}
        ).encode()  # fmt: skip
        document = {
            "schemaVersion": 2, "mediaType": OCI, "config": {"mediaType": CONFIG, **self.blob(repo, config)},
            "layers": [{"mediaType": LAYER, **self.blob(repo, packed)}],
        }  # fmt: skip
        return self.manifest(repo, document, tag)

    def index(self, repo: str, children: dict[str, str], tag: str = "") -> str:
        """An index of ``platform → digest``."""
        rows = []
        for platform, digest in children.items():
            size = len(self.call("GET", f"/v2/{repo}/manifests/{digest}", Accept=OCI).body)
            system, architecture = platform.split("/")
            rows.append(
                {
                    "mediaType": OCI,
                    "digest": digest,
                    "size": size,
                    "platform": {"os": system, "architecture": architecture},
                }
            )
        return self.manifest(repo, {"schemaVersion": 2, "mediaType": INDEX, "manifests": rows}, tag)

    def refer(
        self, repo: str, subject: str, layers: list[dict[str, Any]], artifact: str, listed_under: str = ""
    ) -> str:
        """A manifest that refers to another, listed by the tag that stands in for the referrers API."""
        size = len(self.call("GET", f"/v2/{repo}/manifests/{subject}", Accept=f"{OCI}, {INDEX}").body)
        document = {
            "schemaVersion": 2, "mediaType": OCI, "artifactType": artifact, "config": {"mediaType": artifact, **self.blob(repo, b"{}")},
            "layers": layers, "subject": {"mediaType": OCI, "digest": subject, "size": size},
        }  # fmt: skip
        digest = self.manifest(repo, document)
        tag = (listed_under or subject).replace(":", "-")
        try:
            rows = self.get(repo, tag)["manifests"]
        except AssertionError:
            rows = []
        rows.append({"mediaType": OCI, "digest": digest, "size": len(json.dumps(document)), "artifactType": artifact})
        self.manifest(repo, {"schemaVersion": 2, "mediaType": INDEX, "manifests": rows}, tag)
        return digest

    @contextlib.contextmanager
    def lying(self, pattern: str, lie: Lie) -> Iterator[None]:
        """For requests whose path matches, the answer is what ``lie`` makes of it; ``None`` breaks the connection off."""
        entry = (re.compile(pattern), lie)
        self.lies.append(entry)
        try:
            yield
        finally:
            self.lies.remove(entry)


def one_file(name: str, data: bytes) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        entry = tarfile.TarInfo(name)
        entry.size = len(data)
        tar.addfile(entry, io.BytesIO(data))
    return buffer.getvalue()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


@contextlib.contextmanager
def serving(folder: Path) -> Iterator[Registry]:
    """Start both; stop both."""
    assert PROGRAM is not None, "docker-registry is missing: scripts/setup installs it"
    direct = f"127.0.0.1:{free_port()}"
    config = folder / "config.yml"
    config.write_text(
        f"version: 0.1\nlog: {{level: error, accesslog: {{disabled: true}}}}\nstorage:\n  filesystem: {{rootdirectory: {folder / 'data'}}}\n"
        f"  delete: {{enabled: true}}\nhttp:\n  addr: {direct}\n"
    )
    with (folder / "registry.log").open("wb") as log:
        process = subprocess.Popen([PROGRAM, "serve", str(config)], stdout=log, stderr=log, stdin=subprocess.DEVNULL)
    registry = Registry(direct, "")
    try:
        _wait(registry, process)
        with _proxy(registry) as address:
            registry.address = address
            yield registry
    finally:
        process.terminate()
        process.wait(10)


def _wait(registry: Registry, process: subprocess.Popen[bytes]) -> None:
    for _ in range(200):
        assert process.poll() is None, "docker-registry ended"
        with contextlib.suppress(OSError):
            if registry.call("GET", "/v2/").status == 200:
                return
        time.sleep(0.05)
    raise AssertionError("docker-registry does not answer")


@contextlib.contextmanager
def _proxy(registry: Registry) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *args: object) -> None:
            pass

        def parse_request(self) -> bool:
            if self.raw_requestline[:1] == b"\x16":  # TLS: say no as Go's servers do, so that engines try without
                self.wfile.write(b"HTTP/1.0 400 Bad Request\r\n\r\nClient sent an HTTPS request to an HTTP server.\n")
                self.close_connection = True
                return False
            return super().parse_request()

        def _serve(self) -> None:
            registry.asked.append(f"{self.command} {self.path}")
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            if self.headers.get("Transfer-Encoding") == "chunked":
                body = self._chunks()
            kept: dict[str, str] = {}
            for name, value in self.headers.items():
                if name.lower() not in ("connection", "transfer-encoding", "content-length"):
                    kept[name] = f"{kept[name]}, {value}" if name in kept else value  # skopeo sends Accept many times
            connection = http.client.HTTPConnection(registry.direct, timeout=20)
            connection.request(self.command, self.path, body or None, kept)
            answer = connection.getresponse()
            found: Reply | None = Reply(answer.status, dict(answer.getheaders()), answer.read())
            connection.close()
            length = answer.getheader("Content-Length")
            for pattern, lie in list(registry.lies):
                if found is not None and pattern.search(self.path):
                    found = lie(self.path, found)
            if found is None:
                self.close_connection = True
                return
            self.send_response(found.status)
            for name, value in found.headers.items():
                if name.lower() not in ("content-length", "connection", "transfer-encoding"):
                    self.send_header(name, value)
            self.send_header("Content-Length", length if self.command == "HEAD" and length else str(len(found.body)))
            self.end_headers()
            if self.command != "HEAD":
                with contextlib.suppress(OSError):
                    self.wfile.write(found.body)

        def _chunks(self) -> bytes:
            found = bytearray()
            while size := int(self.rfile.readline().strip() or b"0", 16):
                found += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
            return bytes(found)

        do_GET = do_HEAD = do_PUT = do_POST = do_PATCH = do_DELETE = _serve

    class Server(ThreadingHTTPServer):
        def handle_error(self, *args: object) -> None:
            """A client that hangs up is no error of the server's."""

    server = Server(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield f"127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
