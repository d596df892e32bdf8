"""Indicators of compromise: lists that a user gives, and fast answers to "does this stand in one of them?".

Kinds: digests (md5, sha1, sha256, sha512), addresses and networks, domain names (which stand for what is below them,
too), URLs, file names, paths.  Forms of files: :mod:`irkit.compare.ioc_formats`.  What could not be used is counted, by reason.
"""

from __future__ import annotations

import hashlib
import ipaddress
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from irkit.compare.patterns import glob, is_glob
from irkit.text import printable

LIMIT = 5_000_000
"""Indicators of one list."""
GLOBS = 1000
"""Paths with wildcards, of one list: each is tried for each file."""
TEXT_LIMIT = 1024 * 1024
"""Characters of a text that are searched for addresses, names and URLs."""
DIGESTS: Mapping[int, str] = {32: "md5", 40: "sha1", 64: "sha256", 128: "sha512"}
"""Algorithm by the number of hexadecimal digits."""
_EMPTY = frozenset(hashlib.new(name, usedforsecurity=False).digest() for name in DIGESTS.values())
_HEX = re.compile(r"[0-9a-fA-F]+")
_LABEL = re.compile(r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9])?")
_IN_TEXT = re.compile(r"[a-zA-Z][a-zA-Z0-9+.-]{1,15}://[^\s\"'<>\\^`{|}]{1,2000}|[A-Za-z0-9_-][A-Za-z0-9_.:-]{3,254}")
_NAME_ENDINGS = frozenset({
    "sh", "py", "pl", "rb", "so", "ko", "php", "jsp", "exe", "dll", "elf", "bin", "zip", "gz", "tgz", "jar", "js", "lua", "out", "txt", "conf",
    "service", "ps1", "bat",
})  # fmt: skip


@dataclass(frozen=True, slots=True)
class Match:
    """One indicator that fits.  ``kind``: md5, sha1, sha256, sha512, address, network, domain, url, name or path."""

    kind: str
    value: str
    source: str

    def __str__(self) -> str:
        return f"{self.kind} {self.value} in {self.source}"


@dataclass(slots=True)
class Indicators:
    """One list.  ``unused``: reason → how often; ``examples``: reason → the first that it was said of."""

    source: str
    digests: dict[str, set[bytes]] = field(default_factory=dict)
    addresses: set[bytes] = field(default_factory=set)
    networks: dict[tuple[int, int], set[int]] = field(default_factory=dict)
    domains: set[str] = field(default_factory=set)
    urls: set[str] = field(default_factory=set)
    names: set[str] = field(default_factory=set)
    paths: set[str] = field(default_factory=set)
    globs: list[str] = field(default_factory=list)
    unused: dict[str, int] = field(default_factory=dict)
    examples: dict[str, str] = field(default_factory=dict)

    def __len__(self) -> int:
        plain = (
            len(self.addresses)
            + len(self.domains)
            + len(self.urls)
            + len(self.names)
            + len(self.paths)
            + len(self.globs)
        )
        return plain + sum(map(len, self.digests.values())) + sum(map(len, self.networks.values()))

    def skip(self, reason: str, example: str) -> None:
        """Count what can't be used."""
        self.unused[reason] = self.unused.get(reason, 0) + 1
        self.examples.setdefault(reason, printable(example, 120))

    def add(self, value: str, kind: str = "") -> None:
        """An indicator of a kind, or of the kind that it looks like.  What can't be used is counted."""
        text = refang(value.strip().strip("\"'"))
        if not text:
            return
        why = self._add(text, kind) if len(text) <= 4096 else "longer than 4096 characters"
        if why:
            self.skip(why, value)

    def _add(self, text: str, kind: str) -> str:
        kind = kind or kind_of(text)
        adders = {
            "digest": self._digest, "address": self._address, "network": self._address, "domain": self._domain,
            "url": self._url, "name": self._name, "path": self._path,
        }  # fmt: skip
        if kind == "domain or name":
            return self._domain(text) or self._name(text)
        adder = adders.get(kind)
        return adder(text) if adder else "not of a kind that irkit knows"

    def add_digest(self, text: str) -> bool:
        """Add what is a digest and nothing else, without further questions: lists of a million are of these."""
        algorithm = DIGESTS.get(len(text))
        if algorithm is None:
            return False
        try:
            raw = bytes.fromhex(text)
        except ValueError:
            return False
        if len(raw) * 2 != len(text) or raw in _EMPTY:  # fromhex passes over blanks
            return False
        self.digests.setdefault(algorithm, set()).add(raw)
        return True

    def _digest(self, text: str) -> str:
        if self.add_digest(text):
            return ""
        if len(text) in DIGESTS and _HEX.fullmatch(text):
            return "the digest of an empty file, which fits every empty file"
        return "no digest that irkit knows"

    def _address(self, text: str) -> str:
        try:
            network = ipaddress.ip_network(text, strict=False)
        except ValueError:
            return "no address"
        if network.is_loopback or network.is_unspecified or network.is_link_local:
            return "an address of this machine itself"
        if network.prefixlen < (8 if network.version == 4 else 19):
            return "a network so wide that it would fit everything"
        if network.prefixlen == network.max_prefixlen:
            self.addresses.add(network.network_address.packed)
        else:
            key = (network.version, network.prefixlen)
            self.networks.setdefault(key, set()).add(int(network.network_address))
        return ""

    def _domain(self, text: str) -> str:
        name = text.lower().rstrip(".").removeprefix("*.")
        if not is_domain(name):
            return "no domain name"
        self.domains.add(name)
        return ""

    def _url(self, text: str) -> str:
        if "://" not in text:
            return "no URL"
        self.urls.add(plain_url(text))
        return ""

    def _name(self, text: str) -> str:
        if "/" in text:
            return self._path(text) if text.startswith("/") else "a relative path"
        if len(text) < 3 or is_glob(text):
            return "a file name that would fit too much"
        self.names.add(text)
        return ""

    def _path(self, text: str) -> str:
        if not text.startswith("/") or len(text) < 3:
            return "no absolute path of Linux"
        if not is_glob(text):
            self.paths.add(text)
        elif len(self.globs) < GLOBS and len(text.replace("*", "").replace("?", "")) > 4:
            self.globs.append(text)
        else:
            return "a path with wildcards that would fit too much, or one too many of them"
        return ""


class IocLists:
    """All lists together.  ``kind`` of an answer says how it fits."""

    def __init__(self, lists: Iterable[Indicators] = ()) -> None:
        self.lists = tuple(one for one in lists if len(one))

    def __bool__(self) -> bool:
        return bool(self.lists)

    def of_file(self, path: str, digests: Mapping[str, str]) -> tuple[Match, ...]:
        """By digests (``algorithm → hex``), path and name."""
        return tuple(match for one in self.lists for match in _of_file(one, path, digests))

    def of_address(self, text: str) -> tuple[Match, ...]:
        """By address, or a network that holds it; an IPv4 address inside an IPv6 one counts as itself."""
        try:
            address = ipaddress.ip_address(text.partition("%")[0])
        except ValueError:
            return ()
        if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped:
            address = address.ipv4_mapped
        return tuple(match for one in self.lists for match in _of_address(one, address))

    def of_name(self, name: str) -> tuple[Match, ...]:
        """By domain name, or one above it."""
        found = []
        labels = name.lower().rstrip(".").split(".")
        for one in self.lists:
            for start in range(max(0, len(labels) - 16), len(labels)) if one.domains else ():
                if (above := ".".join(labels[start:])) in one.domains:
                    found.append(Match("domain", above, one.source))
                    break
        return tuple(found)

    def of_url(self, url: str) -> tuple[Match, ...]:
        """By the URL, and by its host."""
        plain = plain_url(url)
        found = tuple(Match("url", plain, one.source) for one in self.lists if plain in one.urls)
        host = plain.partition("://")[2].partition("/")[0].rpartition("@")[2]
        host = host[1:].partition("]")[0] if host.startswith("[") else host.partition(":")[0]
        return found + self.of_address(host) + self.of_name(host)

    def of_text(self, text: str, limit: int = 50) -> tuple[Match, ...]:
        """By the URLs, addresses and names that stand in a text, its first :data:`TEXT_LIMIT` characters; at most ``limit``."""
        if not any(one.urls or one.addresses or one.networks or one.domains for one in self.lists):
            return ()
        found: dict[Match, None] = {}
        for match in _IN_TEXT.finditer(refang(text[:TEXT_LIMIT])):
            word = match[0]
            if "://" in word:
                hits = self.of_url(word.rstrip(".,;:)]"))
            elif "." in word or ":" in word:
                host = word.strip(".:-").partition(":")[0] if word.count(":") <= 1 else word.strip(".-")
                hits = self.of_address(host) or self.of_name(host)
            else:
                continue
            found.update(dict.fromkeys(hits))
            if len(found) >= limit:
                break
        return tuple(found)[:limit]


def _of_file(one: Indicators, path: str, digests: Mapping[str, str]) -> Iterator[Match]:
    for algorithm, known in one.digests.items():
        text = digests.get(algorithm, "")
        if text and _HEX.fullmatch(text) and len(text) % 2 == 0 and bytes.fromhex(text) in known:
            yield Match(algorithm, text.lower(), one.source)
    if path in one.paths:
        yield Match("path", printable(path), one.source)
    name = path.rpartition("/")[2]
    if name in one.names:
        yield Match("name", printable(name), one.source)
    for pattern in one.globs:
        if glob(pattern).fullmatch(path):
            yield Match("path", printable(pattern), one.source)


def _of_address(one: Indicators, address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> Iterator[Match]:
    if address.packed in one.addresses:
        yield Match("address", str(address), one.source)
    number, bits = int(address), address.max_prefixlen
    for (version, length), known in one.networks.items():
        if version == address.version and (start := number >> (bits - length) << (bits - length)) in known:
            yield Match("network", f"{type(address)(start)}/{length}", one.source)


def refang(text: str) -> str:
    """Undo what makes indicators harmless in mails: ``hxxp``, ``[.]``, ``(dot)``, ``[:]``, ``[://]``."""
    if not any(mark in text for mark in ("[", "(", "{", "hxx", "hXX", "HXX", "\\.")):
        return text
    text = re.sub(r"\bh(?:xx|XX)p(s?)(?=(?:\[|:))", r"http\1", text, flags=re.IGNORECASE)
    text = re.sub(r"[\[({]\s?(?:\.|dot)\s?[\])}]", ".", text, flags=re.IGNORECASE)
    text = re.sub(r"[\[({](://|:|/|@)[\])}]", r"\1", text)
    return text.replace("\\.", ".")


def kind_of(text: str) -> str:
    """What an indicator without a kind looks like; "" when that can't be told."""
    if len(text) in DIGESTS and _HEX.fullmatch(text):
        return "digest"
    if "://" in text:
        return "url"
    try:
        ipaddress.ip_network(text, strict=False)
    except ValueError:
        pass
    else:
        return "address"
    if text.startswith("/"):
        return "path"
    if any(char.isspace() for char in text):
        return ""
    name = text.lower().rstrip(".").removeprefix("*.")
    if is_domain(name):
        return "domain or name" if name.rpartition(".")[2] in _NAME_ENDINGS else "domain"
    return "name" if "/" not in text else ""


def is_domain(name: str) -> bool:
    """Whether it has the form of a domain name with at least two labels (RFC 1035, underscores allowed)."""
    labels = name.split(".")
    good = len(name) <= 253 and len(labels) >= 2 and not labels[-1].isdigit()
    return good and all(_LABEL.fullmatch(label) or (label.isalnum() and not label.isascii()) for label in labels)


def plain_url(url: str) -> str:
    """Scheme and host in lower case, without a slash or a fragment at the end."""
    scheme, _, rest = url.strip().partition("://")
    host, slash, path = rest.partition("/")
    return f"{scheme.lower()}://{host.lower()}{slash}{path.partition('#')[0]}".rstrip("/")
