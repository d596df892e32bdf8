"""Who may import whom."""

from __future__ import annotations

import ast
import functools
from collections.abc import Iterator
from pathlib import Path

import pytest

import irkit

pytestmark = pytest.mark.thorough  # it parses all of irkit
ROOT = Path(irkit.__file__).parent
CAPABILITIES = ("quarantine", "observe", "acquire", "compare", "trust", "recover")
COMMON = (
    "errors",
    "text",
    "clock",
    "streams",
    "netns",
    "home",
    "home_safety",
    "documents",
    "document_cache",
    "environment",
    "secret_sources",
    "resources",
    "sarif",
    "models",
    "mounts",
    "mountinfo",
    "host_paths",
    "target",
    "yara_rules",
    "package_paths",
    "evidence",
    "engine.interface",
    "engine.docker_config",
    "engine.places",
)


def statements(node: ast.AST) -> Iterator[ast.AST]:
    """All statements at any depth.  Expressions, which are most of a tree, hold no imports."""
    for field in ("body", "orelse", "finalbody", "handlers", "cases"):
        for child in getattr(node, field, ()):
            yield child
            yield from statements(child)


def imports(path: Path) -> Iterator[str]:
    """Every module that a file imports anywhere, dotted; ``from x import y`` gives ``x.y``."""
    for node in statements(ast.parse(path.read_bytes())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@functools.cache
def graph() -> dict[str, list[str]]:
    """Each module and what it imports.  Not made when the module is imported: each test worker would pay for that."""
    return {
        ".".join(("irkit", *path.relative_to(ROOT).with_suffix("").parts)).removesuffix(".__init__"): sorted(
            set(imports(path))
        )
        for path in sorted(ROOT.rglob("*.py"))
    }


def within(module: str, *packages: str) -> bool:
    return any(module == name or module.startswith(f"{name}.") for name in (f"irkit.{one}" for one in packages))


def wrong(importers: tuple[str, ...], imported: tuple[str, ...], but: tuple[str, ...] = ()) -> list[str]:
    return [
        f"{module} imports {name}"
        for module, found in graph().items() if within(module, *importers) and not within(module, *but)
        for name in found if within(name, *imported)
    ]  # fmt: skip


def test_the_walk_sees_something() -> None:
    assert len(graph()) > 50
    assert "irkit.evidence.names" in graph()["irkit.evidence.seal"]


def test_only_the_engine_and_the_doctor_know_docker() -> None:
    users = {module for module, found in graph().items() if any(name.split(".")[0] == "docker" for name in found)}
    assert users
    assert [module for module in users if not within(module, "engine", "cli.doctor")] == []


def test_engine_and_evidence_do_not_know_each_other() -> None:
    assert wrong(("engine",), ("evidence",)) + wrong(("evidence",), ("engine",)) == []


def test_review_only_reads() -> None:
    assert wrong(("review",), ("engine", "playbook", "actions")) == []


def test_nothing_below_imports_the_command_line() -> None:
    below = {module for module in graph() if module != "irkit.__main__" and not within(module, "cli")}
    assert [
        f"{module} imports {name}" for module in sorted(below) for name in graph()[module] if within(name, "cli")
    ] == []


@pytest.mark.parametrize("package", CAPABILITIES)
def test_capabilities_know_neither_their_users_nor_one_another(package: str) -> None:
    others = tuple(one for one in CAPABILITIES if one != package)
    assert wrong((package,), ("actions", "playbook", "cli", "drill", *others)) == []


@pytest.mark.parametrize("package", CAPABILITIES)
def test_capabilities_stand_on_the_common_ground(package: str) -> None:
    allowed = (*COMMON, package)
    found = [
        f"{module} imports {name}"
        for module, names in graph().items() if within(module, package)
        for name in names
        if name.split(".")[0] == "irkit" and not within(name, *allowed) and name != "irkit.__version__"
        and name not in {f"irkit.{one}" for one in allowed}
    ]  # fmt: skip
    assert found == []


def test_actions_do_not_know_playbooks() -> None:
    assert wrong(("actions",), ("playbook", "drill")) == []


def test_the_common_ground_knows_nothing_above() -> None:
    ground = (
        "errors",
        "text",
        "clock",
        "streams",
        "home",
        "documents",
        "resources",
        "models",
        "target",
        "events",
        "engine",
        "evidence",
    )
    assert wrong(ground, ("actions", "playbook", "drill", "review", "cases", *CAPABILITIES)) == []
