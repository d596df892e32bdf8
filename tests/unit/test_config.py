"""The operator's configuration."""

from __future__ import annotations

from pathlib import Path

import pytest

from irkit.config import Config, load_config, read_config
from irkit.documents import parse
from irkit.errors import PlaybookInvalid

FULL = b"""
apiVersion: irkit/v1
kind: Config
actions:
  run: {programs: [/usr/local/bin/page]}
  http: {allow: ["https://api.example.net/v1/"]}
notify:
  oncall: {type: webhook, url: "https://hooks.example.net/x", token_file: /etc/irkit/token}
  mail: {type: smtp, host: mail.example.net, from: ir@example.net, to: [ops@example.net]}
  siem: {type: syslog, transport: tcp, host: 10.0.0.1}
playbooks: {require_signature: true, min: 2, shipped: require}
"""


def test_everything_is_off_without_a_file(tmp_path: Path) -> None:
    assert load_config(tmp_path / "none.yaml") == Config()
    assert not Config().allows("https://api.example.net/v1/x")


def test_all_of_it_is_read() -> None:
    config = read_config(parse(FULL, "c"))
    assert config.programs == ("/usr/local/bin/page",)
    assert config.channels["mail"].port == 587
    assert config.channels["siem"].port == 601
    assert config.signatures.required and config.signatures.minimum == 2 and config.signatures.shipped == "require"


@pytest.mark.parametrize(
    ("url", "good"),
    [
        ("https://api.example.net/v1/x", True),
        ("https://api.example.net:443/v1/x?y=1", True),
        ("https://api.example.net/v1", True),
        ("http://api.example.net/v1/x", False),
        ("https://api.example.net/v10/x", False),
        ("https://api.example.net/v1/../v2", False),
        ("https://api.example.net/v1/%2e%2E/v2", False),
        ("https://api.example.net:444/v1/x", False),
        ("https://api.example.net.evil.org/v1/x", False),
        ("https://api.example.net@evil.org/v1/x", False),
        ("https://evil.org\\@api.example.net/v1/x", False),
    ],
)
def test_only_what_lies_below_an_allowed_address(url: str, good: bool) -> None:
    assert read_config(parse(FULL, "c")).allows(url) is good


@pytest.mark.parametrize(
    "text",
    [
        b"actions: {run: {programs: [page]}}",
        b"actions: {http: {allow: ['ftp://x']}}",
        b"actions: {https: {}}",
        b"notify: {a: {type: pigeon}}",
        b"playbooks: {min: 0}",
        b"other: 1",
    ],
)
def test_mistakes_name_their_place(text: bytes) -> None:
    with pytest.raises(PlaybookInvalid, match=r"c:\d+:\d+: "):
        read_config(parse(b"apiVersion: irkit/v1\nkind: Config\n" + text, "c"))
