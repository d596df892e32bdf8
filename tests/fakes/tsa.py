"""A timestamp authority of the test's own: ``openssl ts -reply`` behind HTTP on loopback."""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

CONFIG = """
[req]
distinguished_name = name
[name]
[ca]
basicConstraints = critical,CA:TRUE
keyUsage = critical,keyCertSign,cRLSign
subjectKeyIdentifier = hash
[stamper]
basicConstraints = critical,CA:FALSE
keyUsage = critical,digitalSignature
extendedKeyUsage = critical,timeStamping
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid
[tsa]
default_tsa = here
[here]
serial = {folder}/serial
crypto_device = builtin
signer_cert = {folder}/tsa.pem
signer_key = {folder}/tsa.key
signer_digest = sha256
default_policy = 1.2.3.4.1
digests = sha256, sha512
accuracy = secs:1
ess_cert_id_alg = sha256
"""


def _openssl(*words: object) -> None:
    subprocess.run(["openssl", *map(str, words)], check=True, capture_output=True)


class Authority:
    """Its root certificate is ``root``; ``answer`` makes a response to a query, as DER."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.root = folder, folder / "ca.pem"
        self.url = ""
        (folder / "conf").write_text(CONFIG.format(folder=folder))
        (folder / "serial").write_text("01")
        new = ["req", "-config", folder / "conf", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
        _openssl(
            *new,
            "-x509",
            "-extensions",
            "ca",
            "-days",
            30,
            "-subj",
            "/CN=test root",
            "-keyout",
            folder / "ca.key",
            "-out",
            self.root,
        )
        _openssl(*new, "-subj", "/CN=test tsa", "-keyout", folder / "tsa.key", "-out", folder / "tsa.csr")
        _openssl(
            "x509", "-req", "-in", folder / "tsa.csr", "-CA", self.root, "-CAkey", folder / "ca.key", "-CAcreateserial", "-days", 30,
            "-extfile", folder / "conf", "-extensions", "stamper", "-out", folder / "tsa.pem",
        )  # fmt: skip

    def answer(self, query: bytes) -> bytes:
        """What the authority says."""
        (self.folder / "query").write_bytes(query)
        _openssl(
            "ts", "-reply", "-config", self.folder / "conf", "-section", "here", "-queryfile", self.folder / "query", "-out",
            self.folder / "reply",
        )  # fmt: skip
        return (self.folder / "reply").read_bytes()

    @contextmanager
    def serving(self) -> Iterator[Authority]:
        """Reachable at ``url``."""
        authority = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                assert self.headers["Content-Type"] == "application/timestamp-query"
                body = authority.answer(self.rfile.read(int(self.headers["Content-Length"])))
                self.send_response(200)
                self.send_header("Content-Type", "application/timestamp-reply")
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        server = HTTPServer(("127.0.0.1", 0), Handler)
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        self.url = f"http://127.0.0.1:{server.server_port}/"
        try:
            yield self
        finally:
            server.shutdown()
            thread.join()
            server.server_close()
