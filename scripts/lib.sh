# shellcheck shell=bash disable=SC2034 # the variables are for the scripts that source this
# What the other scripts share: where the state of a checkout lives, and how a missing tool is found or installed.
# To be sourced. All state is keyed by the checkout's real path, so that two checkouts never disturb one another, and
# by the flavour of the engine, so that several can be up side by side.
#   IRKIT_ENGINE    the flavour of the private engine: one of the table below
#   IRKIT_ENGINE_COPY    2, 3 …: one more engine of that flavour; it has the same addresses, in a network namespace of its own

set -euo pipefail

# A user's shell often lacks the sbin folders, where dockerd, ip and iptables live.
export PATH="$PATH:/usr/local/sbin:/usr/sbin:/sbin"

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)
ENGINE=${IRKIT_ENGINE:-docker-20.10}
KEY=$(printf %s "$ROOT" | sha256sum | cut -c1-8)
# RANGE: the first two numbers of its addresses, a /16 a flavour. TREE_OF: the Debian release and the packages of a root
# filesystem that the engine runs in; without, it is this machine's own dockerd.
case $ENGINE in
    docker-20.10) RANGE=10.231 TREE_OF='' ;; # what Debian 12 has; on another system whatever dockerd is there
    docker-20.10-userns) RANGE=10.232 TREE_OF='' ;;
    docker-26.1) RANGE=10.233 TREE_OF='trixie docker.io,iptables,ca-certificates' ;;
    docker-26.1-containerd) RANGE=10.234 TREE_OF='trixie docker.io,iptables,ca-certificates' ;;
    podman) RANGE=10.235 TREE_OF='bookworm podman,netavark,aardvark-dns,runc,iptables,ca-certificates' ;;
    *)
        printf '%s: no such engine: IRKIT_ENGINE=%s; there are docker-20.10, docker-20.10-userns, docker-26.1, docker-26.1-containerd, podman\n' "${0##*/}" "$ENGINE" >&2
        exit 2
        ;;
esac
[ "$ENGINE" = docker-20.10 ] || KEY=$KEY-$ENGINE
case ${IRKIT_ENGINE_COPY:-1} in
    1) ;;
    [2-9]) KEY=$KEY-$IRKIT_ENGINE_COPY ;;
    *) printf '%s: IRKIT_ENGINE_COPY=%s is no number from 1 to 9\n' "${0##*/}" "$IRKIT_ENGINE_COPY" >&2 && exit 2 ;;
esac
BASE=${IRKIT_DEV_STATE:-/var/tmp/irkit-dev}
STATE=$BASE/$KEY                  # what lasts: the engine's data, logs
TREE=$STATE/tree                  # the root filesystem of an engine that has one of its own
CACHE=/var/tmp/irkit-dev/cache    # root filesystems as tars, shared by all checkouts
RUN=/run/irkit-dev-$KEY           # what is gone after a reboot; short, because a socket's path may have 107 bytes at most
SOCKET=$RUN/docker.sock
CONTAINERD_SOCKET=$RUN/containerd.sock
NETNS=irkit-$KEY
NETNS_FILE=/run/netns/$NETNS
CGROUP=irkit-dev-$KEY             # parent of all containers' cgroups: finds each of their processes, whatever happened to the engine
VENV=$ROOT/.venv

say() { printf '%s\n' "$*" >&2; }
die() { say "${0##*/}: $*"; exit 1; }

# need_root HINT: stop, with a hint, unless root.
need_root() {
    [ "$(id -u)" = 0 ] || die "this needs root. $1"
}

# private_dir DIR...: make folders that only we can write to. /var/tmp belongs to everybody, and what lies in there
# becomes a root filesystem, so a folder that somebody else made is refused.
private_dir() {
    local dir
    for dir; do
        [ -d "$dir" ] || (umask 077 && mkdir -p "$dir")
        if [ ! -O "$dir" ] || [ -L "$dir" ]; then die "$dir belongs to another user: remove it, or set IRKIT_DEV_STATE"; fi
    done
}

# The Debian package for each tool. Looked up by tool, not by package, so that an engine that was installed in
# another way stays as it is.
package_of() {
    case $1 in
        docker | dockerd | containerd) echo docker.io ;;
        ip) echo iproute2 ;;
        busybox) echo busybox-static ;;
        ensurepip) echo python3-venv ;;
        nft) echo nftables ;;
        ps) echo procps ;;
        readelf) echo binutils ;;
        ssh-keygen) echo openssh-client ;;
        dpkg-deb) echo dpkg ;;
        flock | nsenter | unshare) echo util-linux ;;
        update-ca-certificates) echo ca-certificates ;;
        *) echo "$1" ;;
    esac
}

have() {
    case $1 in
        ensurepip) "${PYTHON:-python3}" -c 'import ensurepip, venv' 2>/dev/null ;;
        busybox) [ -x /bin/busybox ] && is_static /bin/busybox ;;
        *) command -v "$1" >/dev/null ;;
    esac
}

# A dynamic busybox is of no use in an image that holds nothing else: it names a program interpreter.
is_static() { ! grep -qa '/ld-linux\|/ld-musl' "$1"; }

# need TOOL...: install the packages of those that are missing, or say which they are.
need() {
    local tool missing=()
    for tool; do
        have "$tool" || missing+=("$(package_of "$tool")")
    done
    [ ${#missing[@]} = 0 ] && return
    mapfile -t missing < <(printf '%s\n' "${missing[@]}" | sort -u)
    command -v apt-get >/dev/null || die "missing: ${missing[*]} (names of Debian packages). There is no apt-get here: install them in your system's way."
    [ "$(id -u)" = 0 ] || die "missing: ${missing[*]}. Run as root: apt-get install --no-install-recommends ${missing[*]}"
    say "installing ${missing[*]}"
    apt_install "${missing[@]}"
    hash -r
    for tool; do
        have "$tool" || die "$tool is still missing after its package was installed"
    done
}

# apt_install PACKAGE...: with no question asked, and with no service of the system started (an engine of the
# system's own would be a second one, and would change the machine's network).
apt_install() (
    guard=/usr/sbin/policy-rc.d
    log=$(mktemp)
    trap 'rm -f "$log"' EXIT
    if [ ! -e "$guard" ]; then
        trap 'rm -f "$log" "$guard"' EXIT
        printf '#!/bin/sh\nexit 101\n' >"$guard"
        chmod 0755 "$guard"
    fi
    apt() { DEBIAN_FRONTEND=noninteractive apt-get -qq -o DPkg::Lock::Timeout=300 "$@" >"$log" 2>&1 </dev/null; }
    # The lists are fetched only where an install fails without: a new machine has none, or old ones.
    apt install -y --no-install-recommends "$@" && exit
    apt update && apt install -y --no-install-recommends "$@" && exit
    tail -n 30 "$log" >&2
    die "apt-get could not install $*: see above; if the package lists could not be fetched, check the network and /etc/apt"
)

# engine_version: the version of the private engine, or a failure when it doesn't answer.
engine_version() {
    [ -S "$SOCKET" ] && DOCKER_HOST=unix://$SOCKET DOCKER_CONTEXT='' timeout 5 docker version --format '{{.Server.Version}}' 2>/dev/null
}

# The name of this machine's Debian release.
codename() { sed -n 's/^VERSION_CODENAME=//p' /etc/os-release; }

# cached TAR FUNCTION [ARG...]: FUNCTION fills a folder, which becomes TAR, in one move. Two checkouts don't make it twice.
cached() {
    local tar=$1 fill=$2
    shift 2
    [ -f "$tar" ] && return
    need_root "A root filesystem can't be made without it. Run once, as root: DOCKER_HOST='${DOCKER_HOST:-}' scripts/make-images all"
    private_dir "$(dirname "$CACHE")" "$CACHE"
    (
        exec 8>"$CACHE/lock"
        flock 8
        [ ! -f "$tar" ] || exit 0
        work=$(mktemp -d "$CACHE/tmp.XXXXXX")
        trap 'rm -rf --one-file-system "$work"' EXIT
        mkdir -m 0755 "$work/root"
        "$fill" "$work/root" "$@" 8>&-
        tar -C "$work/root" --sort=name --numeric-owner --exclude='./dev/*' --exclude='./proc/*' --exclude='./sys/*' -cf "$work/tar" .
        mv "$work/tar" "$tar"
    )
}

# debian_into FOLDER RELEASE PACKAGES: a minimal Debian with these packages (a,b,c) besides.
debian_into() {
    local mirror log=$1.log release=$2 here
    here=$(codename)
    # Debian comes from where this machine gets it, and through the same proxy.
    # shellcheck disable=SC2016 # apt's own variables
    mirror=$(apt-get indextargets --format '$(RELEASE) $(REPO_URI)' 'Created-By: Packages' | awk -v c="$here" '$1 == c {print $2; exit}')
    eval "$(apt-config shell http_proxy Acquire::http::Proxy https_proxy Acquire::https::Proxy)"
    export http_proxy https_proxy
    say "making a Debian $release tree (once, about half a minute): $3"
    # A mount namespace of its own: whatever debootstrap mounts is gone when it ends, however it ends.
    if ! unshare --mount debootstrap --variant=minbase --include="$3" "$release" "$1" ${mirror:+"$mirror"} >"$log" 2>&1; then
        tail -n 20 "$log" "$1/debootstrap/debootstrap.log" >&2 || true
        die "debootstrap failed: see above; the package archive it used: ${mirror:-its default}"
    fi
    rm -rf "$1"/var/cache/apt/* "$1"/var/lib/apt/lists/* "$1"/var/log/* "$1"/etc/resolv.conf "$1"/etc/hostname
    printf '127.0.0.1\tlocalhost\n::1\tlocalhost\n' >"$1/etc/hosts"
}

# alive PID TEXT: the process runs, is no zombie, and its command line has TEXT (a number may have been given away again).
alive() {
    [ -n "${1:-}" ] && tr '\0' ' ' 2>/dev/null <"/proc/$1/cmdline" | grep -qF -- "$2"
}
