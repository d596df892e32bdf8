"""Where packages come from: apt, apk, yum and dnf, pip, npm; and git's configuration.  Passwords in them are never shown."""

from __future__ import annotations

import re
from collections.abc import Iterator

from irkit.compare.content.lines import Line, Lines
from irkit.compare.content.model import Entry, Fact
from irkit.compare.content.signs import command_facts, command_signs

_CREDENTIALS = re.compile(r"(?<=://)[^/@\s]{1,200}@")
_SECRETS = re.compile(r"(?i)(_authtoken|_auth|_password|password|token|secret)(\s{0,8}[=:]\s{0,8})(\S+)")


def masked(text: str) -> str:
    """Without user, password and tokens."""
    return _SECRETS.sub(r"\1\2***", _CREDENTIALS.sub("***@", text))


def _source(key: str, line: Line, text: str, uri: str, facts: dict[str, Fact]) -> Entry:
    shown = {name: masked(value) if isinstance(value, str) else value for name, value in facts.items()}
    uri = uri.strip()
    return Entry(
        masked(key), masked(text), line.number, masked(text),
        {"uri": masked(uri), "plain_http": any(word.lower().startswith(("http://", "ftp://")) for word in uri.split()), "local": uri.startswith(("/", "file:", "copy:", "cdrom:")),
         "credentials": bool(_CREDENTIALS.search(uri)), "insecure": False, **shown},
        {"text": text},
    )  # fmt: skip


def apt_list(lines: Lines, _path: str) -> Iterator[Entry]:
    """sources.list(5), one-line form.  ``uri``, ``suite``, ``components``, ``options``; ``insecure``: signatures are not asked for."""
    for line in lines.statements():
        text = line.text.split("#", 1)[0].strip()
        kind, _, rest = text.replace("\t", " ").partition(" ")
        rest, options = rest.strip(), ""
        if rest.startswith("["):
            options, _, rest = rest[1:].partition("]")
        words = rest.split()
        uri, suite, parts = (words[0] if words else ""), (words[1] if len(words) > 1 else ""), tuple(words[2:])
        lowered = options.lower().replace(" ", "")
        facts: dict[str, Fact] = {"type": kind, "suite": suite, "components": parts, "options": options.strip(),
                                  "insecure": "trusted=yes" in lowered or "allow-insecure=yes" in lowered}  # fmt: skip
        yield _source(f"{kind} {uri} {suite}", line, text, uri, facts)


def apt_sources(lines: Lines, _path: str) -> Iterator[Entry]:
    """sources.list(5), deb822 form: as :func:`apt_list`, a stanza an entry."""
    stanza: dict[str, str] = {}
    first, last = Line(0, ""), ""
    for line in (*lines.lines, Line(0, "")):
        text = line.text
        if not text.strip():
            if stanza:
                yield _stanza(stanza, first)
            stanza, last = {}, ""
        elif text.startswith("#"):
            continue
        elif text[0] in " \t" and last:
            stanza[last] = f"{stanza[last]} {text.strip()}" if len(stanza[last]) < 65536 else stanza[last]
        else:
            first = first if stanza else line
            name, _, value = text.partition(":")
            last = name.strip().lower()
            stanza[last] = value.strip()


def _stanza(stanza: dict[str, str], first: Line) -> Entry:
    uri, suite = stanza.get("uris", ""), stanza.get("suites", "")
    facts: dict[str, Fact] = {
        "type": stanza.get("types", ""), "suite": suite, "components": tuple(stanza.get("components", "").split()),
        "options": f"signed-by={stanza['signed-by'][:200]}" if "signed-by" in stanza else "",
        "insecure": "yes" in (stanza.get("trusted", "").lower(), stanza.get("allow-insecure", "").lower()),
        "enabled": stanza.get("enabled", "yes").lower() != "no",
    }  # fmt: skip
    text = " ".join(f"{name}={value}" for name, value in sorted(stanza.items()))
    return _source(f"{uri} {suite}", first, text, uri, facts)


_HOOK = re.compile(r"(?i)\b(Pre-Invoke|Post-Invoke|Pre-Install-Pkgs|Post-Invoke-Success)\b")


def apt_config(lines: Lines, _path: str) -> Iterator[Entry]:
    """apt.conf(5), a line an entry.  ``executes``: a hook runs a command; ``insecure``: signatures are not asked for."""
    for line in lines.statements("#/"):
        facts = command_facts(line.text)
        lowered = line.text.lower().replace(" ", "")
        facts["executes"] = bool(_HOOK.search(line.text))
        facts["insecure"] = any(
            f'{word}"true"' in lowered or f"{word}true" in lowered
            for word in ("allowunauthenticated", "allowinsecurerepositories")
        )
        facts["insecure"] = bool(facts["insecure"]) or 'verify-peer"false"' in lowered
        yield _source(line.text, line, line.text, "", facts)


def apk_repositories(lines: Lines, _path: str) -> Iterator[Entry]:
    """apk-repositories(5): ``uri``, ``tag``."""
    for line in lines.statements():
        tag, uri = ("", line.text)
        if line.text.startswith("@"):
            tag, _, uri = line.text[1:].replace("\t", " ").partition(" ")
        yield _source(line.text, line, line.text, uri, {"tag": tag})


def settings(lines: Lines, _path: str) -> Iterator[Entry]:
    """An INI file (yum's .repo, pip.conf, .npmrc without sections): ``section``, ``keyword``, ``value``, ``uri``, ``insecure``."""
    section = ""
    for line in lines.statements("#;"):
        if line.text.startswith("["):
            section = line.text.strip("[]")
            continue
        keyword, _, value = (part.strip() for part in line.text.partition("="))
        name, off = keyword.lower(), value.lower() in ("0", "no", "false")
        insecure = (
            name in ("gpgcheck", "repo_gpgcheck", "sslverify", "strict-ssl", "localpkg_gpgcheck") and off
        ) or name in ("trusted-host",)
        secret = bool(_SECRETS.search(line.text))
        facts: dict[str, Fact] = {
            "section": section,
            "keyword": masked(keyword),
            "value": "***" if secret else value,
            "insecure": insecure,
        }
        uri = value if "://" in value else ""
        found = _source(f"[{section}] {keyword}", line, f"[{section}] {line.text}", uri, facts)
        yield Entry(
            found.key,
            masked(line.text),
            found.line,
            found.body,
            {**found.facts, "credentials": secret or bool(found.facts["credentials"])},
            found.hidden,
        )


_GIT_NAMES = "hookspath sshcommand pager editor fsmonitor askpass gitproxy helper clean smudge process textconv command driver cmd"
_GIT_RUNS = frozenset(_GIT_NAMES.split())


def git_config(lines: Lines, _path: str) -> Iterator[Entry]:
    """git-config(1): ``section``, ``keyword``, ``value``, ``executes`` (git runs or reads what it names), ``redirects`` (it fetches from elsewhere), ``signs``."""
    section = ""
    for line in lines.joined("#;"):
        text = line.text
        if text.startswith("["):
            head, _, text = text[1:].partition("]")
            section, text = head.strip(), text.strip()
            if not text:
                continue
        keyword, _, value = (part.strip() for part in text.partition("="))
        runs = (
            keyword.lower() in _GIT_RUNS
            or (section == "alias" and value.lstrip('"').startswith("!"))
            or (keyword.lower() == "path" and section.lower().startswith("include"))
        )
        facts: dict[str, Fact] = {
            "section": masked(section),
            "keyword": keyword,
            "value": masked(value),
            "executes": runs,
            "redirects": section.lower().startswith("url "),
            "signs": command_signs(value),
        }
        body = f"[{section}] {keyword} = {value}"
        yield Entry(masked(f"[{section}] {keyword}"), masked(body), line.number, masked(body), facts, {"text": body})


def php_settings(lines: Lines, _path: str) -> Iterator[Entry]:
    """php.ini, .user.ini, and .htaccess: ``keyword``, ``value``, ``executes``: code is loaded, or files of other kinds are run."""
    for line in lines.statements("#;"):
        if line.text.startswith("["):
            continue
        text = line.text.removeprefix("php_value ").removeprefix("php_admin_value ").strip()
        keyword, value = (*re.split(r"[=\s]", text, maxsplit=1), "")[:2]
        name = keyword.lower()
        runs = name in (
            "auto_prepend_file",
            "auto_append_file",
            "extension",
            "zend_extension",
            "sethandler",
            "addhandler",
            "addtype",
            "loadmodule",
        )
        risky = name in ("allow_url_include", "disable_functions", "open_basedir", "allow_url_fopen", "enable_dl")
        facts: dict[str, Fact] = {"keyword": name, "value": value.strip(" =\"'"), "executes": runs, "risky": risky}
        yield Entry(f"{name} {value}" if runs else name, text, line.number, text, facts)
