"""What the system loads, asks and starts: ld.so, systemd.unit(5), hosts(5), resolv.conf(5), nsswitch.conf(5), PAM."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Collection, Iterator

from irkit.compare.content.lines import Lines
from irkit.compare.content.model import Entry, Fact
from irkit.compare.content.shell import TEMPORARY, variable_facts
from irkit.compare.content.signs import command_facts, command_signs

_LIBRARIES = ("/lib", "/usr/lib", "/usr/local/lib", "/lib64", "/opt/")


def path_facts(path: str) -> dict[str, Fact]:
    """``temporary``: in a folder that everybody can write; ``hidden``: a component begins with a dot."""
    return {
        "temporary": path.startswith(tuple(f"{folder}/" for folder in TEMPORARY)),
        "hidden": "/." in path or path.startswith("."),
    }


def preload(lines: Lines, _path: str) -> Iterator[Entry]:
    """ld.so(8): libraries between blanks or colons.  ``library``, ``temporary``, ``hidden``, ``outside`` (not in a library folder)."""
    for line in lines.lines:
        for word in line.text.split("#", 1)[0].replace(":", " ").split():
            facts: dict[str, Fact] = {"library": word, **path_facts(word), "outside": not word.startswith(_LIBRARIES)}
            yield Entry(word, word, line.number, word, facts)


def library_folders(lines: Lines, _path: str) -> Iterator[Entry]:
    """ldconfig(8), and musl's ``/etc/ld-musl-*.path``.  ``folder`` or ``include``, ``temporary``, ``hidden``."""
    for line in lines.statements():
        if line.text.startswith(("include ", "include\t")):
            target = line.text[8:].strip()
            yield Entry(f"include {target}", line.text, line.number, target, {"include": target, **path_facts(target)})
            continue
        for word in re.split(r"[:,\s]", line.text.split("#", 1)[0]):
            if word:
                facts: dict[str, Fact] = {
                    "folder": word,
                    **path_facts(word + "/"),
                    "outside": not word.startswith(_LIBRARIES),
                }
                yield Entry(word, word, line.number, word, facts)


def unit(lines: Lines, path: str) -> Iterator[Entry]:
    """systemd.syntax(7).  ``unit``, ``section``, ``keyword``, ``value``; ``executes`` with ``command``, ``signs``; ``as_root``; ``timer``."""
    name = path.rpartition("/")[2]
    folder = path.split("/")[-2] if path.count("/") > 1 else ""
    name = folder.removesuffix(".d") if folder.endswith(".d") and name.endswith(".conf") else name
    section = ""
    for line in lines.joined("#;"):
        if line.text.startswith("["):
            section = line.text.strip("[]")
            continue
        keyword, _, value = (part.strip() for part in line.text.partition("="))
        executes = keyword.startswith("Exec") and section in ("Service", "Socket", "Mount", "Swap")
        facts: dict[str, Fact] = {
            "unit": name,
            "section": section,
            "keyword": keyword,
            "value": value,
            "executes": executes,
            "timer": section == "Timer",
        }
        if executes:
            # systemd.service(5), "COMMAND LINES": special prefixes of the program.
            facts.update(command_facts(value.lstrip("@-:+!|")), as_root=value[:3].strip("@-:|").startswith(("+", "!")))
        elif keyword in ("Environment", "EnvironmentFile"):
            variable, _, setting = value.strip("\"'").partition("=")
            facts.update(
                {**variable_facts(variable, setting), "value": value}
                if keyword == "Environment"
                else path_facts(value.lstrip("-"))
            )
        yield Entry(
            f"[{section}] {keyword}", f"{name}: {keyword}={value}", line.number, f"[{section}] {line.text}", facts
        )


_FOUR, _SIX = (
    ("localhost", "localhost.localdomain", f"localhost{one}", f"localhost{one}.localdomain{one}") for one in (4, 6)
)
_GATEWAY = frozenset({"host.containers.internal", "host.docker.internal", "gateway.docker.internal"})
_OWN_HOSTS: dict[str, set[tuple[str, ...]]] = {
    "127.0.0.1": {("localhost",), _FOUR}, "::1": {("localhost", "ip6-localhost", "ip6-loopback"), ("localhost",), _SIX}, "fe00::": {("ip6-localnet",)},
    "fe00::0": {("ip6-localnet",)}, "ff00::": {("ip6-mcastprefix",)}, "ff00::0": {("ip6-mcastprefix",)}, "ff02::1": {("ip6-allnodes",)},
    "ff02::2": {("ip6-allrouters",)},
}  # fmt: skip
"""What Docker writes into ``/etc/hosts`` (moby, libnetwork/etchosts); podman's are among them."""
_ID = re.compile(r"[0-9a-f]{12}")


def hosts(lines: Lines, _path: str, own: Collection[str] = ()) -> Iterator[Entry]:
    """``address``, ``names``, ``loopback``, ``engine``: the line is one that the engine itself writes when a container starts.

    ``own``: the container's names (hostname, id, aliases); without them a name of 12 hex digits counts as its own.
    """
    for line in lines.statements():
        address, *names = line.text.split("#", 1)[0].split()
        facts: dict[str, Fact] = {
            "address": address, "names": tuple(names), "loopback": _loopback(address), "malformed": not names or _address(address) is None,
            "engine": tuple(names) in _OWN_HOSTS.get(address, ()) or _own_names(address, names, own),
        }  # fmt: skip
        text = " ".join((address, *names))
        yield Entry(text, text, line.number, text, facts)


def _own_names(address: str, names: list[str], own: Collection[str]) -> bool:
    found = _address(address)
    if not names or found is None or _loopback(address):
        return False
    if found.is_private and set(names) <= _GATEWAY:
        return True
    return all(name in own for name in names) if own else all(_ID.fullmatch(name) for name in names)


def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(text[:100])
    except ValueError:
        return None


def _loopback(text: str) -> bool:
    found = _address(text)
    return found is not None and (found.is_loopback or found.is_unspecified)


def resolver(lines: Lines, _path: str) -> Iterator[Entry]:
    """``keyword``, ``value``, ``loopback``, ``engine`` (127.0.0.11 is the engine's own server)."""
    for line in lines.statements("#;"):
        keyword, value = (*line.text.split(None, 1), "")[:2]
        facts: dict[str, Fact] = {
            "keyword": keyword, "value": value.strip(), "loopback": keyword == "nameserver" and _loopback(value.strip()),
            "engine": (keyword, value.strip()) in (("nameserver", "127.0.0.11"), ("options", "ndots:0"), ("options", "edns0 trust-ad ndots:0")),
        }  # fmt: skip
        many = keyword in ("nameserver",)
        yield Entry(
            f"{keyword} {value}" if many else keyword, line.text, line.number, " ".join(line.text.split()), facts
        )


def name_services(lines: Lines, _path: str) -> Iterator[Entry]:
    """``database``, ``services`` in their order (each is a library ``libnss_NAME.so.2`` that programs load)."""
    for line in lines.statements():
        database, _, services = line.text.split("#", 1)[0].partition(":")
        facts: dict[str, Fact] = {"database": database.strip(), "services": tuple(services.split())}
        yield Entry(database.strip(), line.text, line.number, " ".join(line.text.split()), facts)


_CONTROL = re.compile(r"(\[[^\]]*\]|\S+)\s+(\S+)\s*(.*)", re.DOTALL)


def pam(lines: Lines, path: str) -> Iterator[Entry]:
    """pam.conf(5).  ``service``, ``type``, ``control``, ``module``, ``arguments``; ``executes``; ``permits``: a module that lets all in
    is ``sufficient`` or ends the stack; ``outside``: the module is named by a path out of the library folders."""
    single = path.endswith("/pam.conf")
    service = path.rpartition("/")[2]
    for line in lines.joined():
        if line.text.startswith("@include"):
            target = line.text[8:].strip()
            yield Entry(f"include {target}", line.text, line.number, line.text, {"service": service, "include": target})
            continue
        words = line.text.split(None, 1)
        if single and len(words) > 1:
            service, words = words[0], words[1].split(None, 1)
        kind, rest = (*words, "")[:2]
        found = _CONTROL.match(rest)
        control, module, arguments = found.groups() if found else ("", rest, "")
        name = module.rpartition("/")[2]
        facts: dict[str, Fact] = {
            "service": service, "type": kind.lstrip("-"), "control": control, "module": module, "arguments": arguments, "signs": command_signs(arguments),
            "executes": name in ("pam_exec.so", "pam_script.so", "pam_python.so"), "outside": "/" in module and not module.startswith(_LIBRARIES),
            "permits": name == "pam_permit.so" and kind.lstrip("-") in ("auth", "account") and (control == "sufficient" or "done" in control),
            "nullok": "nullok" in arguments.split(),
        }  # fmt: skip
        text = " ".join(line.text.split())
        yield Entry(f"{service} {kind} {name} {arguments}", text, line.number, f"{service} {text}", facts)
