"""The operator's configuration, ``IRKIT_HOME/config.yaml``: what playbooks may do beyond the engine (docs/configuration.md).

Everything in it is off by default: a playbook alone can start no program and reach no address.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

from irkit import documents
from irkit.documents import Doc
from irkit.home import CONFIG, config_file

API_VERSION = "irkit/v1"
NAME = CONFIG
CHANNELS = ("webhook", "smtp", "syslog")
TRANSPORTS = ("udp", "tcp", "unix")
SECURITY = ("starttls", "tls", "none")
SHIPPED = ("trust", "require")


@dataclass(frozen=True, slots=True)
class Channel:
    """Where notifications go.  ``type``: one of ``CHANNELS``; the other fields are those of that type."""

    name: str
    type: str
    url: str = ""
    token_file: str = ""
    host: str = ""
    port: int = 0
    security: str = "starttls"
    sender: str = ""
    to: tuple[str, ...] = ()
    user: str = ""
    password_file: str = ""
    transport: str = "udp"
    path: str = "/dev/log"


@dataclass(frozen=True, slots=True)
class Signatures:
    """Whether playbooks must be signed, by how many keys, and whether that goes for shipped ones (``trust|require``)."""

    required: bool = False
    minimum: int = 1
    shipped: str = "trust"


@dataclass(frozen=True, slots=True)
class Config:
    """``programs``: absolute paths that the action ``run`` may start.  ``urls``: prefixes that ``http`` may ask.
    ``sign_keys``: names of keys with which ``image.sign`` may vouch.
    """

    programs: tuple[str, ...] = ()
    urls: tuple[str, ...] = ()
    channels: Mapping[str, Channel] = field(default_factory=lambda: MappingProxyType({}))
    signatures: Signatures = Signatures()
    helper_image: str = ""
    """``probes.image``: the signed image whose containers probe where irkit can't; by name."""
    sign_keys: tuple[str, ...] = ()
    restore_hooks: Mapping[str, tuple[str, ...]] = field(default_factory=lambda: MappingProxyType({}))
    """``restore.hooks``: argument lists of programs that write a backup as a tar to their output; by name."""

    def allows(self, url: str) -> bool:
        """Whether ``http`` may ask for it: scheme, host and port the same, and the path below the prefix' path."""
        from urllib.parse import unquote, urlsplit  # not before the target is frozen: imports count there

        asked = urlsplit(url)
        if asked.username or asked.password or "\\" in url or ".." in unquote(asked.path).split("/"):
            return False
        for prefix in self.urls:
            known = urlsplit(prefix)
            base = known.path.rstrip("/")
            same = (asked.scheme, asked.hostname, _port(asked)) == (known.scheme, known.hostname, _port(known))
            if same and (asked.path == base or asked.path.startswith(base + "/") or asked.path == known.path):
                return True
        return False


def _port(url: Any) -> int:
    return url.port or {"https": 443, "http": 80}.get(url.scheme, 0)


def load_config(path: Path | None = None) -> Config:
    """The configuration; the default one when there is no file.  Raises ``PlaybookInvalid`` naming line and column."""
    path = path or config_file()
    if not path.is_file():
        return Config()
    doc, _ = documents.load(path)
    return read_config(doc)


def read_config(doc: Doc) -> Config:
    """The configuration from a document."""
    doc.choice("apiVersion", (API_VERSION,))
    doc.choice("kind", ("Config",))
    actions = doc.mapping("actions", None)
    channels = doc.mapping("notify", None)
    config = Config(
        _programs(actions.mapping("run", None)), _urls(actions.mapping("http", None)),
        MappingProxyType({name: _channel(name, channels.mapping(name)) for name in list(channels.values)}),
        _signatures(doc.mapping("playbooks", None)), _probes(doc.mapping("probes", None)), _sign_keys(actions.mapping("sign", None)),
        _hooks(doc.mapping("restore", None)),
    )  # fmt: skip
    for one in (actions, channels, doc):
        one.done()
    return config


def _probes(doc: Doc) -> str:
    image = doc.text("image", "")
    doc.done()
    return image


def _programs(doc: Doc) -> tuple[str, ...]:
    programs = doc.texts("programs", ())
    for one in programs:
        if not one.startswith("/"):
            raise doc.places["programs"].error(f"{one!r} must be an absolute path")
    doc.done()
    return programs


def _sign_keys(doc: Doc) -> tuple[str, ...]:
    keys = doc.texts("keys", ())
    doc.done()
    return keys


def _hooks(doc: Doc) -> Mapping[str, tuple[str, ...]]:
    hooks = doc.mapping("hooks", None)
    found = {}
    for name in list(hooks.values):
        argv = hooks.texts(name)
        if not argv or not argv[0].startswith("/"):
            raise hooks.places[name].error(f"the hook {name!r} must begin with the absolute path of a program")
        found[name] = argv
    hooks.done()
    doc.done()
    return MappingProxyType(found)


def _urls(doc: Doc) -> tuple[str, ...]:
    urls = doc.texts("allow", ())
    for one in urls:
        _web(one, doc, "allow")
    doc.done()
    return urls


def _web(url: str, doc: Doc, key: str) -> str:
    from urllib.parse import urlsplit

    try:
        parts = urlsplit(url)
        good = parts.scheme in ("http", "https") and parts.hostname and not parts.username
        _port(parts)
    except ValueError:
        good = False
    if not good:
        raise doc.places[key].error(f"{url!r} is no address like https://hooks.example.net/path")
    return url


def _channel(name: str, doc: Doc) -> Channel:
    kind = doc.choice("type", CHANNELS)
    if kind == "webhook":
        channel = Channel(name, kind, _web(doc.text("url"), doc, "url"), doc.text("token_file", ""))
    elif kind == "smtp":
        security = doc.choice("security", SECURITY, "starttls")
        if security == "none" and "user" in doc.values:
            raise doc.places["user"].error(
                "without TLS the password would be sent in plain", "security: starttls, or tls"
            )
        channel = Channel(
            name, kind, host=doc.text("host"), port=doc.integer("port", {"tls": 465, "starttls": 587, "none": 25}[security]),
            security=security, sender=doc.text("from"), to=doc.texts("to"), user=doc.text("user", ""),
            password_file=doc.text("password_file", ""),
        )  # fmt: skip
    else:
        transport = doc.choice("transport", TRANSPORTS, "udp")
        channel = Channel(
            name, kind, host=doc.text("host", "127.0.0.1"), port=doc.integer("port", 601 if transport == "tcp" else 514),
            transport=transport, path=doc.text("path", "/dev/log"),
        )  # fmt: skip
    doc.done()
    return channel


def _signatures(doc: Doc) -> Signatures:
    minimum = doc.integer("min", 1)
    if minimum < 1:
        raise doc.places["min"].error("'min' must be at least 1")
    found = Signatures(doc.boolean("require_signature", False), minimum, doc.choice("shipped", SHIPPED, "trust"))
    doc.done()
    return found
