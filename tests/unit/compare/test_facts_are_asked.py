"""Every fact that the vocabulary offers is asked for by a shipped rule, or stands here with the reason why not."""

from __future__ import annotations

import pytest

from irkit.compare.describe import config_values
from irkit.compare.rules import load_rules
from irkit.compare.state import ConfigChange
from irkit.compare.vocabulary import KINDS

FILE = "a rule on the file's change says it for every entry: a job, key or setting of this file is a finding whatever it holds"
NARROW = "says nothing by itself; there to narrow a user's rule"
HITS = "each YARA hit is a finding of its own, with the rule's severity"
UNASKED = {
    "change": {
        **dict.fromkeys(("folder", "uid", "gid", "mode", "sticky", "rdev", "package", "stripped", "static"), NARROW),
        **dict.fromkeys(("entropy", "content", "removed_lines", "running", "listening", "connected"), NARROW),
        "setgid": "`setuid` holds for both bits",
        **dict.fromkeys(("owner_changed", "times_changed", "xattrs_changed", "acl_changed"), "asked as `only`: with other content it is that which tells"),
        "zero_nanoseconds": "archives and packages leave whole seconds as touch(1) does: `backdated` and `older_than_image` tell more",
        "rpath": "programs that were built elsewhere have one as well",
        "source_unchanged": "takes away, as noise: bytecode of an unchanged source",
        "yara": HITS,
    },
    "process": {
        **dict.fromkeys(("args", "uid", "pid", "cwd", "type", "listening"), NARROW),
        "capabilities": "`extra_capabilities` holds those that the engine would not have given",
        "yara": HITS,
    },
    "socket": dict.fromkeys(("local", "port", "peer"), NARROW),
    "entry": {
        **dict.fromkeys(("subject", "path", "size", "language", "web_root", "variable", "section", "hidden", "names", "address", "value"), NARROW),
        **dict.fromkeys(("command", "commands", "schedule", "at_boot", "every_minute", "as_root", "interpreter", "timer", "unit"), FILE),
        **dict.fromkeys(("key_type", "fingerprint", "comment", "options", "forced_command", "authority"), FILE),
        **dict.fromkeys(("preload", "unsafe_path", "proxy", "library", "temporary", "type", "all_commands"), FILE),
        **dict.fromkeys(("uri", "plain_http", "credentials"), FILE),
        **dict.fromkeys(("service", "module"), "`permits`, `executes` and `outside` tell which line of PAM is bad"),
        "nullok": "Debian's own pam_unix lines have it",
        "signs_new": "`signs` holds them too; a page's new ones make it `suspicious`",
        **dict.fromkeys(("uid", "gid", "gid0", "home", "shell", "group", "members", "locked", "algorithm"), NARROW),
        "shared_uid": "two accounts of one user id are harmless but for 0, which `uid0` tells",
        "setting": "`risky` tells which setting weakens",
    },
    "config": {"writable": "a folder of the host's that can only be read is a finding as well"},
    "package": dict.fromkeys(("manager", "version", "before"), NARROW),
}  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_each_fact_has_a_rule_or_a_reason(kind: str) -> None:
    assert set(KINDS[kind]) - load_rules().asked(kind) == set(UNASKED[kind])


@pytest.mark.parametrize(("kind", "fact"), [("entry", "problem"), ("change", "package_claimed"), *((kind, "ioc") for kind in ("change", "process", "socket"))])  # fmt: skip
def test_what_can_not_be_trusted_or_compared_is_a_finding(kind: str, fact: str) -> None:
    assert fact in load_rules().asked(kind)


def test_all_facts_of_a_setting_are_given() -> None:
    mount = ConfigChange("mount", "added", "/etc:/host:rw")
    assert set(config_values(mount)) == set(KINDS["config"])
