"""Signs in commands and scripts that an investigator would want to see.  Heuristics: a sign is a reason to look, no proof.

Each pattern is linear (no nested repetition), and is run on bounded text.  An attacker can write around any of them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from functools import cache
from itertools import islice

from irkit.compare.content.model import Fact

TEXT_LIMIT = 256 * 1024
"""Characters of a script that are searched: of longer ones, half of it at the beginning and half at the end."""

_SHELLS = r"(?:ba|da|z|k|a|fi|c|tc)?sh"
_COMMANDS = {
    "download": r"\b(?:curl|wget|fetch|aria2c|lwp-download|tftp|ftpget)\b|\burlopen\b|\burlretrieve\b",
    "pipe-to-shell": rf"\|\s{{0,8}}(?:sudo\s{{1,8}})?(?:/[\w/]{{1,64}}/)?(?:busybox\s{{1,8}})?(?:{_SHELLS}|python[\d.]{{0,4}}|perl|ruby|node|php)\b",
    "reverse-shell": r"/dev/(?:tcp|udp)/|\b(?:nc|ncat|netcat)\b[^\n|;&]{0,80}\s-\w{0,8}[ec]\b|\bsocat\b[^\n]{0,120}\bexec:|\bbash\s{1,8}-i\b"
                     r"|\bpty\.spawn\b|\bmkfifo\b|fsockopen\(|IO::Socket",
    "base64": r"\bbase64\s{1,8}(?:-d|-D|--d)|\bopenssl\s{1,8}(?:enc|base64)\b|\bb64decode\b|base64_decode|\bxxd\s{1,8}-r",
    "inline-code": rf"\b(?:python[\d.]{{0,4}}|perl|ruby|node|php|lua)\s{{1,8}}-(?:c|e|r|-eval)\b|\b{_SHELLS}\s{{1,8}}-\w{{0,4}}c\b|\beval\b",
    "temporary-path": r"(?<![\w.])/(?:tmp|var/tmp|dev/shm|run/shm|dev/mqueue)(?:/|\b)",
    "hidden-path": r"(?<!~)/\.(?!ssh/|bash|profile|config/|cache/|local/|zsh|\.|/)[\w.-]{1,64}|/\s{1,8}/|/\.\.\.",
    "preload": r"\b(?:LD_PRELOAD|LD_AUDIT|LD_LIBRARY_PATH|NODE_OPTIONS|PYTHONSTARTUP|PYTHONINSPECT|PERL5OPT|RUBYOPT|BASH_ENV|PROMPT_COMMAND|JAVA_TOOL_OPTIONS"
               r"|GCONV_PATH|GIT_SSH_COMMAND)\b",
    "permissions": r"\bchmod\b[^\n;|&]{0,40}(?:\+s|u\+s|[ 0]?[4267][0-7]{3}\b)|\bsetcap\b|\bchattr\b",
    "accounts": r"\b(?:useradd|adduser|usermod|chpasswd|passwd|authorized_keys|/etc/shadow|/etc/sudoers)\b",
    "history": r"\bunset\s{1,8}HIST|\bHISTFILE\s{0,8}=\s{0,8}[\"']?(?:/dev/null|[\"';\s]|$)|\bHIST(?:FILE)?SIZE\s{0,8}=\s{0,8}[\"']?-?0\b"
               r"|\bhistory\s{1,8}-[cw]|\bset\s{1,8}\+o\s{1,8}history|/\.\w{1,20}_history\b",
    "miner": r"stratum\+(?:tcp|ssl)|\bxmrig\b|\bminerd\b|\bnicehash\b|\bcryptonight\b|\brandomx\b",
    "firewall": r"\b(?:iptables|nft|ufw)\b",
    "background": r"\bnohup\b|\bsetsid\b|\bdisown\b",
    "address": r"(?<![\d.])(?!127\.|0\.0\.0\.0|255\.)(?:\d{1,3}\.){3}\d{1,3}(?![\d.])|\.onion\b",
}  # fmt: skip
_WEB = {
    "exec-request": r"\b(?:system|exec|shell_exec|passthru|popen|proc_open|eval|assert|pcntl_exec|include|require)(?:_once)?\s{0,8}\(?[\s@\"'\w.(]{0,64}"
                    r"\$_(?:GET|POST|REQUEST|COOKIE|SERVER|FILES)|getRuntime\(\)\.exec\(\s{0,8}request|`\s{0,8}\$_(?:GET|POST|REQUEST|COOKIE)",
    "variable-call": r"\$_(?:GET|POST|REQUEST|COOKIE)\s{0,8}\[[^\]\n]{1,64}\]\s{0,8}\(|\$\{?\$\w{1,64}\}?\s{0,8}\(",
    "exec": r"\b(?:system|exec|shell_exec|passthru|popen|proc_open|pcntl_exec)\s{0,8}\(|getRuntime\(\)\.exec|ProcessBuilder\s{0,8}\(|WScript\.Shell"
            r"|Process\.Start|child_process|\bsubprocess\.|os\.(?:system|popen)",
    "eval": r"\b(?:eval|assert|create_function)\s{0,8}\(|preg_replace\s{0,8}\(\s{0,8}[\"'][^\"'\n]{0,128}/\w{0,8}e\w{0,8}[\"']|\bExecuteGlobal\b|defineClass\(",
    "decode": r"\b(?:base64_decode|gzinflate|gzuncompress|gzdecode|str_rot13|hex2bin|convert_uudecode)\s{0,8}\(|FromBase64String|Base64\.getDecoder",
    "request": r"\$_(?:GET|POST|REQUEST|COOKIE|FILES)\b|php://input|request\.getParameter|Request\.(?:Form|QueryString|Item)|Request\s{0,8}[\[(]",
    "upload": r"\bmove_uploaded_file\s{0,8}\(|\bfile_put_contents\s{0,8}\(|SaveAs\(",
    "quiet": r"error_reporting\s{0,8}\(\s{0,8}0|@ini_set|@eval|set_time_limit\s{0,8}\(\s{0,8}0",
    "known-shell": r"\b(?:c99shell|r57shell|b374k|wso\s{0,2}[\d.]{1,5}|weevely|FilesMan|antSword|behinder|godzilla|phpspy|reGeorg)\b",
}  # fmt: skip
_DENSE = r"[A-Za-z0-9+/=]{400}|(?:\\x[0-9a-fA-F]{2}){60}|(?:chr\(\d{1,3}\)\s?\.\s?){20}"
_WORDS = {
    "download": ("curl", "wget", "fetch", "aria2c", "download", "tftp", "ftpget", "urlopen", "urlretrieve"), "pipe-to-shell": ("|",),
    "reverse-shell": ("/dev/", "nc", "socat", "bash", "pty.", "mkfifo", "fsockopen", "io::"), "base64": ("base64", "openssl", "b64decode", "xxd"),
    "inline-code": ("python", "perl", "ruby", "node", "php", "lua", "sh", "eval"), "temporary-path": ("/tmp", "/shm", "/dev/mqueue"),  # noqa: S108 - named, not used
    "hidden-path": ("/.", "/ "), "preload": ("ld_", "_options", "startup", "inspect", "opt", "bash_env", "prompt_", "gconv", "git_"),
    "permissions": ("chmod", "setcap", "chattr"), "accounts": ("useradd", "adduser", "usermod", "passwd", "authorized_keys", "shadow", "sudoers"),
    "history": ("hist",), "miner": ("stratum", "xmrig", "minerd", "nicehash", "cryptonight", "randomx"), "firewall": ("iptables", "nft", "ufw"),
    "background": ("nohup", "setsid", "disown"), "address": (".",),
}  # fmt: skip
_WEB_WORDS = {
    "exec-request": ("$_", "getruntime"), "variable-call": ("$",),
    "exec": ("system", "exec", "passthru", "popen", "proc_open", "processbuilder", "wscript", "process.start", "child_process", "subprocess"),
    "eval": ("eval", "assert", "create_function", "preg_replace", "executeglobal", "defineclass"),
    "decode": ("base64_decode", "gz", "str_rot13", "hex2bin", "convert_uudecode", "frombase64string", "getdecoder"),
    "request": ("$_", "php://", "request"), "upload": ("move_uploaded", "file_put_contents", "saveas"),
    "quiet": ("error_reporting", "@ini_set", "@eval", "set_time_limit"),
    "known-shell": ("c99shell", "r57shell", "b374k", "wso", "weevely", "filesman", "antsword", "behinder", "godzilla", "phpspy", "regeorg"),
}  # fmt: skip
"""What a text must hold for a pattern to be tried at all: 20 times as fast on texts without signs."""
SIGNS = tuple(_COMMANDS)
WEB_SIGNS = (*_WEB, "encoded-block", "long-line")
LONG_LINE = 2000


def command_signs(text: str) -> tuple[str, ...]:
    """Which signs a command, or a script, shows: see :data:`SIGNS`."""
    text = searched(text)
    lowered = text.lower()
    return tuple(
        name for name in SIGNS if any(word in lowered for word in _WORDS[name]) and _command(name).search(text)
    )


@cache
def _command(name: str) -> re.Pattern[str]:
    return re.compile(_COMMANDS[name], re.IGNORECASE if name in ("download", "miner") else 0)


@cache
def _web() -> Mapping[str, re.Pattern[str]]:
    return {name: re.compile(pattern, re.IGNORECASE) for name, pattern in _WEB.items()} | {
        "encoded-block": re.compile(_DENSE)
    }


def command_facts(command: str) -> dict[str, Fact]:
    """``command`` (runs of blanks as one) and its ``signs``."""
    return {"command": " ".join(command.split()), "signs": command_signs(command)}


def web_counts(text: str, limit: int = 1000) -> dict[str, int]:
    """How often each of :data:`WEB_SIGNS` stands in a page's code, at most ``limit`` times each."""
    if not text:
        return {}
    text = searched(text)
    lowered = text.lower()
    found = {
        name: _count(pattern, text, limit)
        for name, pattern in _web().items()
        if name not in _WEB_WORDS or any(word in lowered for word in _WEB_WORDS[name])
    }
    found["long-line"] = sum(len(line) > LONG_LINE for line in text.split("\n"))
    return {name: count for name, count in found.items() if count}


def searched(text: str) -> str:
    """What of a text is searched."""
    half = TEXT_LIMIT // 2
    return text if len(text) <= TEXT_LIMIT else f"{text[:half]}\n{text[-half:]}"


def signed_lines(lines: Iterable[str], limit: int = 20) -> tuple[str, ...]:
    """The lines that show a sign other than a bare address or path, the first ``limit``."""
    found: list[str] = []
    for line in islice(lines, 20_000):
        if len(found) >= limit:
            break
        if command_signs(line):
            found.append(" ".join(line.split()))
    return tuple(found)


def _count(pattern: re.Pattern[str], text: str, limit: int) -> int:
    count = 0
    for _ in pattern.finditer(text):
        count += 1
        if count >= limit:
            break
    return count
