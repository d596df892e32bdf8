"""The vocabulary of rules: every fact that a rule may ask for, by kind of subject.

This table is the one place that names them: the reader of rules, their JSON Schema (a test holds the two together),
``irkit rules list --facts`` and the tables in docs/rules.md are made from it or checked against it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Searched:
    """In place of a text that is too long to be held.  ``found``: the lists of patterns (their sources) that fit one of its lines."""

    found: frozenset[tuple[str, ...]]


Value = str | int | bool | tuple[str, ...] | Searched
FLAG, NUMBER, WORD, TEXT, TEXTS, EXACT, REGEX = "flag", "number", "word", "text", "texts", "exact", "regex"
TYPES: Mapping[str, str] = {
    FLAG: "true or false; a fact that is not known counts as false",
    NUMBER: "a whole number, a list of them, or {min: 1, max: 9}",
    WORD: "one of a few words, or a list of them",
    TEXT: "a glob over the whole text, a list of them, or {regex: …}",
    TEXTS: "a list of texts: a glob that one of them must fit, a list of globs, or {regex: …}",
    EXACT: "exactly these words, no more and no fewer",
    REGEX: "a regular expression (RE2), or a list of them, searched line by line",
}


@dataclass(frozen=True, slots=True)
class Fact:
    """One fact: ``type`` is one of :data:`TYPES`; ``words``: all that a ``word`` may be."""

    name: str
    type: str
    meaning: str
    words: tuple[str, ...] = ()


_CHANGES = ("added", "changed", "deleted")
_TYPES = (
    "elf", "script", "text", "archive", "image", "bytecode", "pe", "mach-o", "document", "database", "font", "media",
    "empty", "data",
)  # fmt: skip
_STATES = ("intact", "upgraded", "altered", "unknown", "unowned")
_ASPECTS = ("content", "mode", "owner", "times", "xattrs", "acl", "capabilities", "target", "kind", "rdev")
_CHANGE = (
    Fact("path", TEXT, "the path in the container"),
    Fact("name", TEXT, "its last component"),
    Fact("folder", TEXT, "all before that; `/` for the root's own entries"),
    Fact("change", WORD, "what happened since the image", _CHANGES),
    Fact("kind", WORD, "what it is now (what it was, when deleted)", ("file", "directory", "symlink", "fifo", "socket", "char", "block")),
    Fact("origin", WORD, "where it lies", ("layer", "tmpfs", "volume", "mount")),
    Fact("moved_from", TEXT, "the path that the same file had in the image"),
    Fact("opaque", FLAG, "a directory that hides all that the image had under it"),
    Fact("uid", NUMBER, "owner now"),
    Fact("gid", NUMBER, "group now"),
    Fact("size", NUMBER, "bytes now"),
    Fact("mode", NUMBER, "permission bits now, as a decimal number (0o4755 is 2541)"),
    Fact("setuid", FLAG, "a regular file with the setuid or setgid bit now that the image did not have there with the same content"),
    Fact("setgid", FLAG, "a regular file with the setgid bit now"),
    Fact("sticky", FLAG, "the sticky bit is set now"),
    Fact("executable", FLAG, "a regular file with an execute bit now"),
    Fact("world_writable", FLAG, "everybody may write it now (not symbolic links; not directories with the sticky bit)"),
    Fact("hardlinks", FLAG, "a regular file with more than one name"),
    Fact("target", TEXT, "where a symbolic link points now"),
    Fact("rdev", TEXT, "device number `major:minor`"),
    Fact("content_changed", FLAG, "other bytes than in the image"),
    Fact("mode_changed", FLAG, "other permission bits"),
    Fact("owner_changed", FLAG, "another user or group"),
    Fact("times_changed", FLAG, "another mtime"),
    Fact("xattrs_changed", FLAG, "other extended attributes (capabilities and ACLs not counted)"),
    Fact("acl_changed", FLAG, "another POSIX ACL"),
    Fact("target_changed", FLAG, "a symbolic link that points elsewhere"),
    Fact("kind_changed", FLAG, "a file became a link, a directory a file, …"),
    Fact("capabilities_changed", FLAG, "other file capabilities"),
    Fact("only", EXACT, "exactly these aspects changed", _ASPECTS),
    Fact("same_size", FLAG, "changed, and as many bytes as before"),
    Fact("same_mtime", FLAG, "changed, and the same mtime as before"),
    Fact("capabilities", TEXTS, "file capabilities now, `cap_net_raw`"),
    Fact("future", FLAG, "its mtime lies after the moment of acquisition"),
    Fact("older_than_image", FLAG, "added, yet its mtime lies before the image was made"),
    Fact("backdated", FLAG, "its mtime lies well before its ctime or birth"),
    Fact("zero_nanoseconds", FLAG, "its mtime is a whole second, as touch(1) leaves it"),
    Fact("type", WORD, "what its bytes are", _TYPES),
    Fact("interpreter", TEXT, "a script's interpreter, without its folder"),
    Fact("static", FLAG, "an ELF file that needs no loader"),
    Fact("stripped", FLAG, "an ELF file without symbols"),
    Fact("packed", FLAG, "an ELF file that shows signs of a packer"),
    Fact("rpath", TEXTS, "folders that an ELF file names for its libraries"),
    Fact("foreign", FLAG, "an ELF file for another architecture than the image's"),
    Fact("entropy", NUMBER, "hundredths of a bit a byte, 0 to 800"),
    Fact("double_extension", FLAG, "a name like `invoice.pdf.sh`"),
    Fact("hidden", FLAG, "a component of its path begins with a dot, or is blank or unprintable"),
    Fact("web_root", FLAG, "it lies where a web server takes its pages from"),
    Fact("package", TEXT, "the package that owns it"),
    Fact("package_state", WORD, "whether it is what its package brought", _STATES),
    Fact("package_claimed", FLAG, "only the container's own package database vouches for it, and the image's does not"),
    Fact("conffile", FLAG, "its package expects that administrators change it"),
    Fact("source_unchanged", FLAG, "bytecode whose source is unchanged since the image and is a package's, or has the size and time that the bytecode names"),
    Fact("copy_of", TEXT, "the path of a file of the image that has the same bytes"),
    Fact("mount", FLAG, "the kernel's mount table, read from the host, shows a mount here"),
    Fact("beneath", TEXT, "of the origin `layer`: the mount point under which it lies hidden"),
    Fact("yara", TEXTS, "YARA rules that fit it"),
    Fact("ioc", TEXTS, "indicators that fit it"),
    Fact("added_lines", REGEX, "lines of text that are new"),
    Fact("removed_lines", REGEX, "lines of text that are gone"),
    Fact("content", REGEX, "its text now"),
    Fact("log", WORD, "which kind of log it is", ("text", "history", "utmp", "lastlog")),
    Fact("log_emptied", FLAG, "a log that had content and has none"),
    Fact("log_shrank", FLAG, "a log that is shorter than it was"),
    Fact("log_rewritten", FLAG, "a log that does not begin with what it had"),
    Fact("log_cut", NUMBER, "lines of a text log that are gone, though a line before them is still there (rotation takes all, trimming the head)"),
    Fact("log_linked_away", FLAG, "a log or history that became a link into /dev"),
    Fact("log_zeroed", NUMBER, "records of a login log that were overwritten with zeros"),
    Fact("log_holes", NUMBER, "runs of zeros in a text log"),
    Fact("running", FLAG, "a process runs it or maps it"),
    Fact("listening", FLAG, "that process listens on a port"),
    Fact("connected", FLAG, "that process has a connection beyond the container"),
)  # fmt: skip
_PROCESS = (
    Fact("path", TEXT, "the program's path"),
    Fact("name", TEXT, "the process's name (comm)"),
    Fact("args", TEXTS, "its arguments"),
    Fact("cmdline", TEXT, "its arguments, joined by blanks"),
    Fact("uid", NUMBER, "its effective user id in the container"),
    Fact("pid", NUMBER, "its pid on the host"),
    Fact("deleted", FLAG, "the program's file was deleted"),
    Fact("memory", FLAG, "the program was started from a tmpfs or a memfd"),
    Fact("memfd", FLAG, "the program was started from a memfd"),
    Fact("execed", FLAG, "started by `docker exec`, or a child of that"),
    Fact("root", FLAG, "it runs as user 0"),
    Fact("other_user", FLAG, "it runs as another user than the image's"),
    Fact("capabilities", TEXTS, "effective capabilities, `cap_sys_admin`"),
    Fact("extra_capabilities", TEXTS, "effective capabilities beyond the engine's default set"),
    Fact("exe_change", WORD, "its program since the image", ("added", "changed")),
    Fact("exe_package_state", WORD, "whether its program is what a package brought", _STATES),
    Fact("listening", FLAG, "it listens on a port"),
    Fact("connected", FLAG, "it has a connection beyond the container"),
    Fact("environment", TEXTS, "names of its environment's variables"),
    Fact("cwd", TEXT, "its working folder"),
    Fact("yara", TEXTS, "YARA rules that fit its program"),
    Fact("ioc", TEXTS, "indicators that fit its program or its connections"),
    Fact("type", WORD, "what its program's bytes are", _TYPES),
)  # fmt: skip
_SOCKET = (
    Fact("protocol", WORD, "without the `6` of IPv6", ("tcp", "udp", "raw", "unix", "icmp", "sctp", "packet", "udplite")),
    Fact("state", TEXT, "`listen`, `established`, …"),
    Fact("listening", FLAG, "it listens (TCP), or is unconnected (UDP)"),
    Fact("exposed", FLAG, "the image or the container's configuration exposes the port"),
    Fact("local", TEXT, "local address"),
    Fact("port", NUMBER, "local port"),
    Fact("peer", TEXT, "the other side's address"),
    Fact("peer_port", NUMBER, "the other side's port"),
    Fact("loopback", FLAG, "bound to, or connected over, loopback only"),
    Fact("ioc", TEXTS, "indicators that fit the other side"),
    Fact("process", TEXT, "name of the process that holds it"),
    Fact("process_memory", FLAG, "that process runs from memory"),
    Fact("process_deleted", FLAG, "that process's program was deleted"),
)  # fmt: skip
_CONFIG = (
    Fact("name", WORD, "which setting", (
        "user", "entrypoint", "cmd", "env", "working_dir", "capability", "mount", "device", "privileged", "port", "label",
        "healthcheck", "security_opt", "network_mode", "pid_mode", "ipc_mode", "userns_mode", "stop_signal", "volume", "shell",
    )),
    Fact("change", WORD, "against the image's configuration", ("added", "changed", "removed")),
    Fact("value", TEXT, "now (`NAME=value` of env, `source:target` of mount, `cap_sys_admin` of capability)"),
    Fact("before", TEXT, "in the image"),
    Fact("writable", FLAG, "a mount that may be written"),
)  # fmt: skip
_PACKAGE = (
    Fact("manager", WORD, "whose database", ("dpkg", "apk", "rpm", "pip", "npm")),
    Fact("name", TEXT, "the package"),
    Fact("change", WORD, "since the image", ("installed", "removed", "upgraded", "downgraded", "reinstalled", "changed")),
    Fact("version", TEXT, "now"),
    Fact("before", TEXT, "in the image"),
)  # fmt: skip
ENTRY_FILES = (
    "passwd", "shadow", "group", "gshadow", "sudoers", "cron", "anacron", "at", "inittab", "authorized_keys", "known_hosts",
    "sshd_config", "ssh_config", "ld.so.preload", "ld.so.conf", "profile", "systemd", "resolv.conf", "nsswitch", "pam",
    "apt-source", "apt-config", "apk-source", "yum-source", "pip-config", "npm-config", "git-config", "php-config",
    "python-start", "hosts", "cron-script", "init", "entrypoint", "git-hook", "pam-module", "package-key", "web",
)  # fmt: skip
_ENTRY = (
    Fact("file", WORD, "which kind of file", ENTRY_FILES),
    Fact("change", WORD, "since the image", ("added", "changed", "removed")),
    Fact("subject", TEXT, "the user, the key's fingerprint, the line, …"),
    Fact("path", TEXT, "the file's path"),
    Fact("problem", TEXT, "why it could not be compared"),
    Fact("changed", TEXTS, "names of the facts that differ, of a changed entry"),
    Fact("malformed", FLAG, "the line is not of the file's form"),
    Fact("signs", TEXTS, "what its command or code shows: `download`, `pipe-to-shell`, `reverse-shell`, `temporary-path`, …"),
    Fact("signs_new", TEXTS, "signs that it did not show in the image"),
    Fact("command", TEXT, "the command that it starts"),
    Fact("commands", TEXTS, "new lines of a script that show a sign"),
    Fact("user", TEXT, "the user that it is about, or runs as"),
    Fact("uid", NUMBER, "user id"),
    Fact("gid", NUMBER, "group id"),
    Fact("uid0", FLAG, "user id 0"),
    Fact("gid0", FLAG, "group id 0"),
    Fact("shared_uid", FLAG, "another account has the same user id"),
    Fact("duplicate", FLAG, "the name stands there twice"),
    Fact("login", FLAG, "its shell lets somebody in"),
    Fact("home", TEXT, "home folder"),
    Fact("shell", TEXT, "login shell"),
    Fact("empty_password", FLAG, "anybody can log in without a password"),
    Fact("password_set", FLAG, "there is a password's hash"),
    Fact("locked", FLAG, "the password is locked"),
    Fact("algorithm", TEXT, "the hash's algorithm"),
    Fact("group", TEXT, "the group"),
    Fact("members", TEXTS, "the group's members"),
    Fact("members_added", TEXTS, "members that are new"),
    Fact("privileged", FLAG, "a group whose members are as good as root"),
    Fact("nopasswd", FLAG, "sudo asks for no password"),
    Fact("all_commands", FLAG, "sudo allows all commands"),
    Fact("everyone", FLAG, "sudo allows it to everybody"),
    Fact("as_root", FLAG, "runs as root"),
    Fact("risky", FLAG, "a setting that weakens the service"),
    Fact("setting", TEXT, "the setting's text"),
    Fact("schedule", TEXT, "when it runs"),
    Fact("at_boot", FLAG, "runs at start"),
    Fact("every_minute", FLAG, "runs each minute"),
    Fact("key_type", TEXT, "`ssh-ed25519`, …"),
    Fact("fingerprint", TEXT, "`SHA256:…`"),
    Fact("comment", TEXT, "the key's comment"),
    Fact("options", TEXTS, "the key's options"),
    Fact("forced_command", TEXT, "the only command that the key may start"),
    Fact("authority", FLAG, "a certificate authority"),
    Fact("keyword", TEXT, "the setting's name"),
    Fact("value", TEXT, "the setting's value"),
    Fact("section", TEXT, "the section that it stands in"),
    Fact("unit", TEXT, "the unit of systemd"),
    Fact("executes", FLAG, "the setting starts a program"),
    Fact("timer", FLAG, "a timer of systemd"),
    Fact("library", TEXT, "the library that is named"),
    Fact("temporary", FLAG, "it lies in a folder that everybody may write"),
    Fact("hidden", FLAG, "a component of the named path begins with a dot"),
    Fact("outside", FLAG, "it lies outside the system's own folders"),
    Fact("address", TEXT, "address"),
    Fact("names", TEXTS, "names"),
    Fact("loopback", FLAG, "the address is loopback"),
    Fact("engine", FLAG, "the engine wrote this line itself"),
    Fact("variable", TEXT, "the variable that is set"),
    Fact("preload", FLAG, "the variable loads code into other programs"),
    Fact("unsafe_path", FLAG, "PATH has a folder that everybody may write, or a relative one, in front"),
    Fact("proxy", FLAG, "the variable names a proxy"),
    Fact("service", TEXT, "the service of PAM"),
    Fact("module", TEXT, "the module of PAM"),
    Fact("permits", FLAG, "lets everybody in"),
    Fact("nullok", FLAG, "lets empty passwords in"),
    Fact("uri", TEXT, "where packages come from"),
    Fact("insecure", FLAG, "signatures or certificates are not checked"),
    Fact("plain_http", FLAG, "fetched without TLS"),
    Fact("credentials", FLAG, "holds a credential"),
    Fact("language", TEXT, "language of the page"),
    Fact("interpreter", TEXT, "interpreter of the script"),
    Fact("type", TEXT, "type of the statement, or of the bytes"),
    Fact("web_root", FLAG, "lies where a web server takes its pages from"),
    Fact("suspicious", FLAG, "code of a page that runs what it is sent"),
    Fact("size", NUMBER, "bytes"),
)  # fmt: skip
KINDS: Mapping[str, Mapping[str, Fact]] = {
    kind: {fact.name: fact for fact in facts}
    for kind, facts in (
        ("change", _CHANGE), ("process", _PROCESS), ("socket", _SOCKET), ("entry", _ENTRY), ("config", _CONFIG), ("package", _PACKAGE),
    )
}  # fmt: skip
ALIASES: Mapping[str, tuple[str, str]] = {"account": ("entry", "passwd")}
"""Older kinds: the kind that they stand for, and the ``file`` that is added to their conditions."""


def rows() -> Iterator[dict[str, object]]:
    """Every fact, as in ``irkit rules list --facts --json``."""
    for kind, facts in KINDS.items():
        for fact in facts.values():
            row: dict[str, object] = {"on": kind, "name": fact.name, "type": fact.type, "meaning": fact.meaning}
            yield {**row, "words": list(fact.words)} if fact.words else row


def markdown() -> str:
    """The tables of docs/rules.md, between its two marks."""
    lines: list[str] = []
    for kind, facts in KINDS.items():
        lines += [f"### on: {kind}", "", "| fact | type | meaning |", "|---|---|---|"]
        for fact in facts.values():
            words = ": " + ", ".join(f"`{word}`" for word in fact.words) if fact.words else ""
            lines.append(f"| `{fact.name}` | {fact.type} | {fact.meaning}{words} |")
        lines.append("")
    return "\n".join(lines)
