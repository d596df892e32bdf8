"""Which files matter, by their path, and how each is read: :func:`entries` is all that others need."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator
from functools import cache, partial
from importlib import import_module
from itertools import islice
from typing import Any

from irkit.compare.content.lines import Lines, split
from irkit.compare.content.model import Entry, EntryChange, compare, problem

Reader = Callable[[Lines, str], Iterator[Entry]]
Whole = Callable[[str, str, bytes | None, bytes | None], list[EntryChange]]

ENTRIES_LIMIT = 20_000
PATH_LIMIT = 4096
"""PATH_MAX: no program reads its settings from a longer one."""

_SSH = r"(?:.*/\.ssh/|/etc/ssh/|/etc/dropbear/|/ssh/)"
_READERS: tuple[tuple[str, str, str], ...] = (
    (r"/etc/passwd", "passwd", "accounts.passwd"), (r"/etc/shadow", "shadow", "accounts.shadow"), (r"/etc/group", "group", "accounts.group"),
    (r"/etc/gshadow", "gshadow", "accounts.gshadow"), (r"(?:/usr/local)?/etc/sudoers(?:\.d/.*)?", "sudoers", "sudoers.sudoers"),
    (r"(?:/usr/local)?/etc/doas(?:\.conf|\.d/.*\.conf)", "doas", "sudoers.doas"),
    (r"/etc/crontab|/etc/cron\.d/.*|/etc/crontabs/.*|/var/spool/cron/(?!at|last)(?:crontabs/|tabs/)?[^/]*|/var/cron/tabs/.*", "cron", "schedule.crontab"),
    (r"/etc/anacrontab", "anacron", "schedule.anacrontab"), (r"/var/spool/(?:cron/)?at(?:jobs)?/(?!\.SEQ)[^/]*", "at", "schedule.at_job"),
    (r"/etc/inittab", "inittab", "schedule.inittab"),
    (_SSH + r"(?:authorized_keys[^/]*|authorized_keys\.d/.*|authorized_keys/.*)", "authorized_keys", "ssh.authorized_keys"),
    (_SSH + r"(?:ssh_)?known_hosts2?", "known_hosts", "ssh.known_hosts"), (r"/etc/ssh/sshd_config(?:\.d/.*)?", "sshd_config", "ssh.config"),
    (r"/etc/ssh/ssh_config(?:\.d/.*)?|.*/\.ssh/config", "ssh_config", "ssh.config"),
    (r"/etc/ld\.so\.preload", "ld.so.preload", "system.preload"), (r"/etc/ld\.so\.conf(?:\.d/.*)?|/etc/ld-musl-[^/]*\.path", "ld.so.conf", "system.library_folders"),
    (r"/etc/(?:profile|environment|bash\.bashrc|bashrc|bash_completion|zshenv|zprofile|zshrc|zlogin|csh\.\w+|ksh\.kshrc|mkshrc|shinit|rc\.local|rc\.d/rc\.local)"
     r"|/etc/(?:profile\.d|bashrc\.d|bash_completion\.d|zsh|fish|default|sysconfig|conf\.d|environment\.d|local\.d)/.*|/etc/security/pam_env\.conf"
     r"|.*/\.(?:profile|bash_profile|bash_login|bash_logout|bashrc|bash_aliases|zshrc|zshenv|zprofile|zlogin|zlogout|kshrc|ashrc|shrc|mkshrc|cshrc|tcshrc|login|logout"
     r"|xprofile|xinitrc|xsessionrc|pam_environment)|.*/\.config/fish/.*\.fish|.*/\.ssh/(?:rc|environment)|/etc/ssh/sshrc|/etc/rc\.conf", "profile", "shell.profile"),
    (r".*/systemd/(?:system|user|system-\w+|user-\w+)/.*\.(?:service|timer|socket|path|mount|automount|target|slice|swap|conf)"
     r"|/etc/systemd/[^/]*\.conf(?:\.d/.*)?|/etc/systemd/[^/]*\.conf", "systemd", "system.unit"),
    (r"/etc/resolv\.conf", "resolv.conf", "system.resolver"), (r"/etc/nsswitch\.conf", "nsswitch", "system.name_services"),
    (r"/etc/pam\.conf|(?:/usr/lib|/usr/share|/etc)/pam\.d/.*", "pam", "system.pam"),
    (r"/etc/apt/sources\.list(?:\.d/.*\.list)?", "apt-source", "sources.apt_list"), (r"/etc/apt/sources\.list\.d/.*\.sources", "apt-source", "sources.apt_sources"),
    (r"/etc/apt/apt\.conf(?:\.d/.*)?", "apt-config", "sources.apt_config"), (r"/etc/apk/repositories(?:\.d/.*)?", "apk-source", "sources.apk_repositories"),
    (r"/etc/(?:yum|dnf/dnf)\.conf|/etc/yum\.repos\.d/.*|/etc/zypp/(?:repos|services)\.d/.*", "yum-source", "sources.settings"),
    (r"/etc/pip\.conf|.*/pip/pip\.conf|.*/\.pypirc|.*/(?:\.config/)?uv/uv\.toml", "pip-config", "sources.settings"), (r".*/\.?npmrc|.*/\.yarnrc(?:\.yml)?", "npm-config", "sources.settings"),
    (r"/etc/gitconfig|.*/\.gitconfig|.*/\.config/git/config|.*/(?:\.git|[^/]*\.git)/config|.*/\.git/modules/.*/config", "git-config", "sources.git_config"),
    (r".*/\.htaccess|.*/\.user\.ini|.*/php[^/]*\.ini|.*/php/(?:[\d.]+/\w+/)?conf\.d/.*\.ini", "php-config", "sources.php_settings"),
    (r".*/(?:site|dist)-packages/[^/]*\.pth", "python-start", "code.python_path"),
)  # fmt: skip
_WHOLE: tuple[tuple[str, str, str], ...] = (
    (r"/etc/cron\.(?:hourly|daily|weekly|monthly|yearly)/.*|/etc/periodic/.*", "cron-script", "shell.script"),
    (r"/etc/(?:init\.d|rc\.d|rc[0-6S]\.d|init|runit|sv|service|s6-overlay|s6|s6-rc|services\.d|cont-init\.d|cont-finish\.d|fix-attrs\.d|my_init\.d)/.*"
     r"|/etc/(?:update-motd\.d|network/if-[\w-]*\.d|networkd-dispatcher|NetworkManager/dispatcher\.d|dhcp/dhclient-[\w-]*|ppp/ip-[\w.-]*|logrotate\.d|acpi|udev/rules\.d)/.*"
     r"|.*/\.config/autostart/.*|/etc/xdg/autostart/.*", "init", "shell.script"),
    (r"/docker-entrypoint(?:\.sh|\.d/.*|-[\w.-]*/.*)?|(?:/usr/local/bin|/usr/bin|/opt|/app)?/(?:docker-)?(?:entrypoint|start|init|run)(?:\.sh)?", "entrypoint", "shell.script"),
    (r".*/\.git/(?:modules/.*/)?hooks/(?!.*\.sample$)[^/]*|.*/[^/]*\.git/hooks/(?!.*\.sample$)[^/]*|.*/git-core/templates/hooks/(?!.*\.sample$)[^/]*", "git-hook", "shell.script"),
    (r".*/(?:sitecustomize|usercustomize)\.pyc?", "python-start", "shell.script"),
    (r".*/security/pam_[^/]*\.so", "pam-module", "code.module"),
    (r"/etc/apt/trusted\.gpg(?:\.d/.*)?|/etc/apk/keys/.*|/etc/pki/rpm-gpg/.*|/usr/share/keyrings/.*|/etc/apt/keyrings/.*", "package-key", "code.module"),
    (r"(?i:.*\.(?:php\d?|phtml|phar|pht|phps|jsp|jspx|jspf|asp|aspx|ashx|asmx|asa|cer|cfm)|.*/cgi-bin/.*)", "web", "code.web_page"),
)  # fmt: skip
FILES = tuple(dict.fromkeys((*(file for _, file, _ in _READERS), "hosts", *(file for _, file, _ in _WHOLE))))
"""All kinds of files that an :class:`EntryChange` may name."""


@cache
def _any() -> re.Pattern[str]:
    """One question for all: each pattern is a group, and none has groups of its own."""
    return re.compile("|".join(f"({pattern})" for pattern, _, _ in (*_READERS, *_WHOLE)), re.DOTALL)


def _number(path: str) -> int | None:
    """Which pattern fits first, counted through both tables."""
    if len(path) > PATH_LIMIT or (found := _any().fullmatch(path)) is None or found.lastindex is None:
        return None
    return found.lastindex - 1


@cache
def _load(name: str) -> Any:
    """``MODULE.FUNCTION`` of this package, imported when a file of its kind was changed."""
    module, _, function = name.partition(".")
    return getattr(import_module(f"irkit.compare.content.{module}"), function)


def kind_of(path: str) -> str | None:
    """Which kind of file a path is (one of :data:`FILES`); ``None``: its entries mean nothing to irkit.  Cheap: asked for every change."""
    if path == "/etc/hosts":
        return "hosts"
    number = _number(path)
    return None if number is None else (*_READERS, *_WHOLE)[number][1]


def entries(path: str, before: bytes | None, after: bytes | None, *, own: Collection[str] = ()) -> list[EntryChange]:
    """What changed in a file that matters, entry by entry; nothing for other files.

    ``before``, ``after``: its bytes, ``None`` where it is not there.  ``own``: the container's own names (hostname, short id), by which
    the engine's lines in ``/etc/hosts`` are known.  What could not be compared is an entry with the fact ``problem``.  Never raises.
    """
    if before == after:
        return []
    if path == "/etc/hosts":
        return _by_entries("hosts", partial(_load("system.hosts"), own=own), path, before, after)
    number = _number(path)
    if number is None:
        return []
    if number < len(_READERS):
        _, file, reader = _READERS[number]
        return _by_entries(file, _load(reader), path, before, after)
    _, file, name = _WHOLE[number - len(_READERS)]
    whole: Whole = _load(name)
    return whole(file, path, before, after)


def _by_entries(file: str, reader: Reader, path: str, before: bytes | None, after: bytes | None) -> list[EntryChange]:
    old, new = split(before), split(after)
    was, now = (list(islice(reader(side, path), ENTRIES_LIMIT + 1)) for side in (old, new))
    problems = [*old.problems, *new.problems]
    if max(len(was), len(now)) > ENTRIES_LIMIT:
        problems.append(f"only the first {ENTRIES_LIMIT} entries were compared")
    found = compare(file, was[:ENTRIES_LIMIT], now[:ENTRIES_LIMIT])
    return [*found, *(problem(file, why) for why in dict.fromkeys(problems))]
