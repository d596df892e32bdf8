"""pip and npm."""

from __future__ import annotations

import base64
import hashlib
import json

from irkit.compare.files import MemoryFiles
from irkit.compare.packages import read_packages
from tests.fakes.packages import dpkg

SITE = "/opt/venv/lib/python3.11/site-packages"


def record(*rows: tuple[str, bytes | None]) -> bytes:
    lines = []
    for path, data in rows:
        digest = (
            ""
            if data is None
            else "sha256=" + base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
        )
        lines.append(f"{path},{digest},{'' if data is None else len(data)}")
    return "\r\n".join((*lines, "")).encode()


WHEEL = {
    f"{SITE}/Flask_Thing-2.0.1.dist-info/METADATA": b"Metadata-Version: 2.1\nName: Flask.Thing\nVersion: 2.0.1\n\nName: no\n",
    f"{SITE}/Flask_Thing-2.0.1.dist-info/RECORD": record(
        ("flask_thing/__init__.py", b"code"),
        ("flask_thing/__pycache__/__init__.cpython-311.pyc", None),
        ("../../../bin/flask", b"script"),
        ('"with,comma.py"', b"comma"),
        ("/etc/flask.conf", b"conf"),
        ("Flask_Thing-2.0.1.dist-info/RECORD", None),
        ("../../../../../../../../../bin/up", b"up"),
    ),
}


def test_wheel() -> None:
    packages = read_packages(MemoryFiles(WHEEL))
    assert [(one.manager, one.name, one.version, one.folder) for one in packages.installed] == [
        ("pip", "flask-thing", "2.0.1", SITE)
    ]
    for path, data in {f"{SITE}/flask_thing/__init__.py": b"code", "/opt/venv/bin/flask": b"script", f"{SITE}/with,comma.py": b"comma", "/etc/flask.conf": b"conf", "/bin/up": b"up"}.items():  # fmt: skip
        found = packages.owner(path)
        assert found is not None, path
        assert (found.package, found.algorithm, found.digest) == (
            "flask-thing",
            "sha256",
            hashlib.sha256(data).hexdigest(),
        )
    bytecode = packages.owner(f"{SITE}/flask_thing/__pycache__/__init__.cpython-311.pyc")
    assert bytecode is not None and bytecode.digest == ""
    assert packages.copy_algorithms == {"sha256"}


def test_egg_info() -> None:
    folder = "/usr/lib/python3/dist-packages"
    packages = read_packages(MemoryFiles({
        f"{folder}/old-1.0.egg-info/PKG-INFO": b"Metadata-Version: 1.0\nName: old\nVersion: 1.0\n",
        f"{folder}/old-1.0.egg-info/installed-files.txt": b"../old.py\n../../../../bin/old\n",
        f"{folder}/single-3.egg-info": b"Name: single\nVersion: 3\n",
    }))  # fmt: skip
    assert [(one.name, one.version) for one in packages.installed] == [("old", "1.0"), ("single", "3")]
    for path in (f"{folder}/old.py", "/usr/bin/old"):
        found = packages.owner(path)
        assert found is not None and (found.package, found.digest) == ("old", "")


def test_what_a_system_package_brought_is_not_told_twice() -> None:
    files = dpkg({"python3-flask": {path: data for path, data in WHEEL.items()}})  # noqa: C416
    packages = read_packages(MemoryFiles({**files.files, **WHEEL}))
    assert [one.name for one in packages.installed] == ["python3-flask"]


def test_bad_records() -> None:
    bad = b'a.py,sha256=!!!,1\n"open,quote\nb.py,md9=AAAA,1\n' + b"x" * 200_000 + b",,\n"
    packages = read_packages(MemoryFiles({f"{SITE}/x-1.dist-info/RECORD": bad}))
    assert [(one.name, one.version) for one in packages.installed] == [("x", "1")]
    found = packages.owner(f"{SITE}/a.py")
    assert found is not None and found.digest == ""
    assert {gap.why for gap in packages.problems} >= {
        "a digest is not of a known form",
        "a line is too long, or has a zero byte",
    }


def module(name: str, version: str) -> bytes:
    return json.dumps({"name": name, "version": version}).encode()


NPM = {
    "/app/node_modules/express/package.json": module("express", "4.18.2"),
    "/app/node_modules/express/lib/package.json": b'{"type": "module"}',
    "/app/node_modules/express/node_modules/ms/package.json": module("ms", "2.0.0"),
    "/app/node_modules/ms/package.json": module("ms", "2.1.3"),
    "/app/node_modules/@scope/tool/package.json": module("@scope/tool", "1.0.0"),
    "/app/node_modules/.cache/x/package.json": module("cached", "1.0.0"),
}


def test_npm() -> None:
    packages = read_packages(MemoryFiles(NPM))
    assert [(one.name, one.version, one.folder) for one in packages.installed] == [
        ("@scope/tool", "1.0.0", "/app/node_modules/@scope/tool"),
        ("express", "4.18.2", "/app/node_modules/express"),
        ("ms", "2.0.0", "/app/node_modules/express/node_modules/ms"),
        ("ms", "2.1.3", "/app/node_modules/ms"),
    ]
    owners = {
        "/app/node_modules/express/index.js": "express",
        "/app/node_modules/express/node_modules/ms/index.js": "ms",
        "/app/node_modules/@scope/tool/a/b.js": "@scope/tool",
        "/app/node_modules/.cache/x/y.js": None,
        "/app/node_modules/express": None,
        "/app/index.js": None,
        "/node_modules/x": None,
    }
    for path, name in owners.items():
        found = packages.owner(path)
        assert (found.package if found else None) == name, path


def test_npm_hostile() -> None:
    folder = "/node_modules/x/package.json"
    for text in (
        b"[" * 100_000,
        b'{"name": 5, "version": []}',
        b'{"name": "\\ud800", "version": "1"}',
        b"1" * 10_000,
        b"\xff\xfe",
        b"[]",
    ):
        packages = read_packages(MemoryFiles({folder: text}))
        assert len(packages.installed) <= 1
        assert packages.owner("/node_modules/x/y") is None or text.startswith(b'{"name": "')
