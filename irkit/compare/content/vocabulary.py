"""The facts that entries have, by kind of file: name → (type, meaning).  Types: flag, number, text, texts.

Rules are checked against this table, and docs are made of it; a test holds what :func:`entries` returns against it.
"""

from __future__ import annotations

from collections.abc import Mapping

Meaning = tuple[str, str]
Facts = Mapping[str, Meaning]

COMMON: Facts = {
    "changed": ("texts", "which facts differ from before (changed entries)"),
    "before": ("texts", "NAME=value of what the facts were (changed entries)"),
    "clipped": ("flag", "a text fact was cut"),
    "problem": ("text", "what could not be compared; such an entry has no other facts"),
}
"""Of every kind of file.  Each ``texts`` fact NAME also has ``NAME_added`` and ``NAME_removed`` in a changed entry that differs in it."""

_COMMAND: Facts = {
    "command": ("text", "the command, runs of blanks as one"),
    "signs": ("texts", "signs in the command: see irkit.compare.content.signs.SIGNS"),
}
_VARIABLE: Facts = {
    "variable": ("text", "the variable that is set"),
    "value": ("text", "its value"),
    "preload": ("flag", "programs load code from what it names, or run it (LD_PRELOAD, NODE_OPTIONS, …)"),
    "proxy": ("flag", "it names a proxy"),
    "unsafe_path": ("flag", "PATH with a folder that everybody can write"),
}
_PASSWORD: Facts = {
    "empty_password": ("flag", "no password is asked for"),
    "password_set": ("flag", "there is a hash that a password can fit"),
    "locked": ("flag", "no password fits"),
    "elsewhere": ("flag", "the password stands in shadow"),
    "algorithm": ("text", "of the hash: yescrypt, sha512-crypt, md5-crypt, des-crypt, …"),
}
_MALFORMED: Facts = {"malformed": ("flag", "not of the form that its manual page gives")}
_PLACE: Facts = {
    "temporary": ("flag", "in a folder that everybody can write"),
    "hidden": ("flag", "a component begins with a dot"),
    "outside": ("flag", "not in a library folder"),
}
_JOB: Facts = {
    **_COMMAND, **_VARIABLE, **_MALFORMED,
    "schedule": ("text", "when, as it stands"), "user": ("text", "as whom"), "as_root": ("flag", "as root"), "at_boot": ("flag", "@reboot"),
    "every_minute": ("flag", "each minute"),
}  # fmt: skip
_SSH_SETTING: Facts = {
    "keyword": ("text", "in small letters"), "value": ("text", "its value"), "match": ("text", "the Match or Host block it stands in"),
    "risky": ("flag", "by it others can come in, hide, or run something"), "signs": _COMMAND["signs"],
}  # fmt: skip
_SOURCE: Facts = {
    "uri": ("text", "where packages come from, without credentials"), "plain_http": ("flag", "neither encrypted nor authenticated on the way"),
    "local": ("flag", "a path of this file system"), "credentials": ("flag", "it holds a password or token"), "insecure": ("flag", "signatures or certificates are not asked for"),
}  # fmt: skip
_APT: Facts = {
    **_SOURCE, "type": ("text", "deb or deb-src"), "suite": ("text", "suite"), "components": ("texts", "components"), "options": ("text", "options"),
    "enabled": ("flag", "deb822: not switched off"),
}  # fmt: skip
_SETTING: Facts = {
    **_SOURCE,
    "section": ("text", "section"),
    "keyword": ("text", "keyword"),
    "value": ("text", "value, *** for secrets"),
}
_SCRIPT: Facts = {
    "type": ("text", "what its bytes are"), "interpreter": ("text", "of the script"), "size": ("number", "bytes"), "lines_added": ("number", "lines"),
    "lines_removed": ("number", "lines"), "signs": ("texts", "signs in the lines that are new"), "commands": ("texts", "the new lines that show one, at most 20"),
    "signs_before": ("texts", "signs in the old script"), "incomplete": ("flag", "signs were looked for in a part only"),
}  # fmt: skip
_MODULE: Facts = {"module": ("text", "its name"), "type": ("text", "what its bytes are"), "size": ("number", "bytes")}
_WEB_SIGNS = (
    "exec-request",
    "variable-call",
    "exec",
    "eval",
    "decode",
    "request",
    "upload",
    "quiet",
    "known-shell",
    "encoded-block",
    "long-line",
)

FACTS: Mapping[str, Facts] = {
    "passwd": {
        "user": ("text", "name"), "uid": ("number", "-1: no number"), "uid0": ("flag", "root's uid, in whatever form"), "gid": ("number", "-1: no number"),
        "gid0": ("flag", "root's group"), "comment": ("text", "GECOS"), "home": ("text", "folder"), "shell": ("text", "login shell"),
        "login": ("flag", "the shell lets in"), "duplicate": ("flag", "the name occurs more than once"), "shared_uid": ("flag", "the uid does"),
        "nis": ("flag", "a + or - line"), **_PASSWORD, **_MALFORMED,
    },
    "shadow": {
        "user": ("text", "name"), "last_change": ("text", "days since 1970"), "expires": ("text", "days since 1970"), "duplicate": ("flag", "the name occurred before"),
        **_PASSWORD, **_MALFORMED,
    },
    "group": {
        "group": ("text", "name"), "gid": ("number", "-1: no number"), "gid0": ("flag", "root's group"), "members": ("texts", "users"), "privileged": ("flag", "commonly gives more rights"),
        "password_set": _PASSWORD["password_set"], **_MALFORMED,
    },
    "gshadow": {
        "group": ("text", "name"), "members": ("texts", "users"), "administrators": ("texts", "users"), "privileged": ("flag", "commonly gives more rights"),
        **_PASSWORD, **_MALFORMED,
    },
    "sudoers": {
        **_COMMAND, **_MALFORMED, "type": ("text", "user, alias, defaults or include"), "user": ("text", "who, as it stands"), "hosts": ("text", "where"),
        "runas": ("text", "as whom"), "nopasswd": ("flag", "no password is asked for"), "setenv": ("flag", "the environment may be set"),
        "all_commands": ("flag", "any command"), "everyone": ("flag", "for all users"), "as_root": ("flag", "root is among the targets"),
        "alias": ("text", "user, runas, host, cmnd"), "name": ("text", "the alias's"), "members": ("texts", "the alias's"), "scope": ("text", "of the defaults"),
        "setting": ("text", "defaults"), "no_authentication": ("flag", "!authenticate"), "risky": ("flag", "a setting that weakens sudo or its log"),
        "target": ("text", "what is included"), "folder": ("flag", "a folder is included"), "ignored": ("flag", "sudo passes over a file of this name"),
    },
    "doas": {
        **_COMMAND, **_MALFORMED, "action": ("text", "permit or deny"), "user": ("text", "user or :group"), "runas": ("text", "as whom"), "nopasswd": ("flag", "nopass"),
        "as_root": ("flag", "as root"), "all_commands": ("flag", "no command is named"), "setenv": ("flag", "the environment is kept or set"),
    },
    "cron": _JOB, "anacron": {**_JOB, "job": ("text", "identifier")},
    "at": {**_COMMAND, "user": ("text", "uid"), "as_root": ("flag", "as root"), "due": ("number", "seconds since 1970, 0 unknown")},
    "inittab": {**_COMMAND, **_MALFORMED, "id": ("text", "id"), "runlevels": ("text", "runlevels"), "action": ("text", "respawn, sysinit, …")},
    "authorized_keys": {
        **_MALFORMED, "key_type": ("text", "as the key itself says"), "bits": ("number", "of RSA"), "fingerprint": ("text", "SHA256:…"), "comment": ("text", "comment"),
        "options": ("texts", "options as they stand"), "forced_command": ("text", "command="), "signs": _COMMAND["signs"], "from": ("text", "from="),
        "authority": ("flag", "cert-authority"), "environment": ("flag", "it sets variables"),
    },
    "known_hosts": {
        **_MALFORMED, "hosts": ("text", "names, or their hash"), "hashed": ("flag", "hashed"), "marker": ("text", "@revoked, @cert-authority"),
        "key_type": ("text", "type"), "fingerprint": ("text", "SHA256:…"),
    },
    "sshd_config": _SSH_SETTING, "ssh_config": _SSH_SETTING,
    "ld.so.preload": {"library": ("text", "path"), **_PLACE},
    "ld.so.conf": {"folder": ("text", "path"), "include": ("text", "path"), **_PLACE},
    "profile": {**_COMMAND, **_VARIABLE, "alias": ("text", "the alias's name"), "function": ("text", "the function's name")},
    "systemd": {
        **_COMMAND, **_VARIABLE, "unit": ("text", "name"), "section": ("text", "section"), "keyword": ("text", "keyword"), "executes": ("flag", "a command line"),
        "as_root": ("flag", "with full privileges, whatever User= says"), "timer": ("flag", "when a timer fires"), "temporary": _PLACE["temporary"], "hidden": _PLACE["hidden"],
    },
    "hosts": {
        **_MALFORMED, "address": ("text", "address"), "names": ("texts", "names"), "loopback": ("flag", "this machine"), "engine": ("flag", "a line that the engine writes"),
    },
    "resolv.conf": {"keyword": ("text", "keyword"), "value": ("text", "value"), "loopback": ("flag", "this machine"), "engine": ("flag", "the engine's own server")},
    "nsswitch": {"database": ("text", "database"), "services": ("texts", "in order")},
    "pam": {
        "service": ("text", "service"), "type": ("text", "auth, account, …"), "control": ("text", "control"), "module": ("text", "module"), "arguments": ("text", "arguments"),
        "signs": _COMMAND["signs"], "executes": ("flag", "runs a program or script"), "permits": ("flag", "lets everybody in"), "nullok": ("flag", "empty passwords"),
        "outside": _PLACE["outside"], "include": ("text", "service"),
    },
    "apt-source": _APT, "apk-source": {**_SOURCE, "tag": ("text", "tag")}, "yum-source": _SETTING, "pip-config": _SETTING, "npm-config": _SETTING,
    "apt-config": {**_SOURCE, **_COMMAND, "executes": ("flag", "a hook runs a command")},
    "git-config": {
        "section": ("text", "section"), "keyword": ("text", "keyword"), "value": ("text", "value"), "executes": ("flag", "git runs or reads what it names"), "redirects": ("flag", "git fetches from elsewhere"), "signs": _COMMAND["signs"],
    },
    "php-config": {
        "keyword": ("text", "in small letters"), "value": ("text", "value"), "executes": ("flag", "code is loaded, or other files are run"), "risky": ("flag", "weakens PHP's limits"),
    },
    "python-start": {**_COMMAND, **_SCRIPT, "executes": ("flag", "run whenever Python starts")},
    "cron-script": _SCRIPT, "init": _SCRIPT, "entrypoint": _SCRIPT, "git-hook": _SCRIPT, "pam-module": _MODULE, "package-key": _MODULE,
    "web": {
        "language": ("text", "php, jsp, asp, …"), "type": ("text", "what its bytes are"), "web_root": ("flag", "its path is one that servers commonly serve"),
        "size": ("number", "bytes"), "signs": ("texts", "what it holds: see signs.WEB_SIGNS"), "signs_new": ("texts", "more often than before"),
        "suspicious": ("flag", "new, and: executes a request's data, decodes and evaluates, or names a known web shell"), "incomplete": ("flag", "only a part was searched"),
        **{f"count_{name.replace('-', '_')}": ("number", f"how often {name}") for name in _WEB_SIGNS},
    },
}  # fmt: skip


def table() -> str:
    """The table of docs/content.md: a row a kind of file, its facts with their types."""
    rows = [
        f"| `{file}` | {' · '.join(f'`{name}` {kind}' for name, (kind, _) in sorted(facts.items()))} |"
        for file, facts in sorted(FACTS.items())
    ]
    return "\n".join(("| file | facts |", "|---|---|", *rows))
