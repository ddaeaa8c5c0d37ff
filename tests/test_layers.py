"""Imports point down: a report never measures, the client knows no provider, and nobody imports the fronts."""

from __future__ import annotations

import ast
import graphlib
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "pytest_modellens"
LAYERS = (
    ("errors", "models", "events", "urls", "text", "redaction", "cost", "commandline"),
    ("measure", "stats", "record"),
    ("providers", "hardware", "embedded", "served", "truth", "bridge"),
    ("suite", "load", "recording", "cassette", "runner", "findings", "keeping", "budget", "serverside"),
    ("storage", "environment", "selfcheck"),
    ("report", "testing", "gate", "recompute", "history"),
    ("plugin", "cli", "amplifier"),
)
"""Lowest first. The package's own `__init__` stands above all of them: it names what users import."""

LAYER = {part: number for number, parts in enumerate(LAYERS) for part in parts}
ROOT = "pytest_modellens"
MODULES = {
    ".".join(("pytest_modellens", *path.relative_to(PACKAGE).with_suffix("").parts)).removesuffix(".__init__"): path
    for path in PACKAGE.rglob("*.py")
}


def imports(path: Path, *, only_at_import: bool = False) -> set[str]:
    """Return our modules that a file imports, anywhere in it, or only those that its own import imports."""
    found: set[str] = set()
    waiting: list[ast.AST] = [ast.parse(path.read_text(encoding="utf-8"))]
    while waiting:
        node = waiting.pop()
        if only_at_import and (
            isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
            or (isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING")
        ):
            continue
        waiting += ast.iter_child_nodes(node)
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: relative import"
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= (names & MODULES.keys()) or {str(node.module)}
    return {name for name in found if name == ROOT or name.startswith(f"{ROOT}.")}


def part(module: str) -> str:
    return module.split(".")[1]


def test_every_part_of_the_package_has_a_layer() -> None:
    assert {part(name) for name in MODULES if name != ROOT} == {*LAYER}


@pytest.mark.parametrize("module", sorted(MODULES.keys() - {ROOT}))
def test_module_imports_only_from_its_layer_and_below(module: str) -> None:
    for imported in imports(MODULES[module]):
        if imported == ROOT:
            assert part(module) in LAYERS[-1], f"{module} imports the package itself"
            continue
        assert imported in MODULES, f"{module} imports {imported}, which does not exist"
        assert LAYER[part(imported)] <= LAYER[part(module)], f"{module} imports {imported}, which is above it"


PLAN = f"{ROOT}.load.plan"
"""When requests are to be sent, as data: what a suite says and a load does."""


@pytest.mark.parametrize("module", [PLAN, *sorted(name for name in MODULES if name.startswith(f"{ROOT}.suite."))])
def test_suite_knows_only_vocabulary_and_the_core(module: str) -> None:
    parts = {part(imported) for imported in imports(MODULES[module]) - {PLAN}} - {"suite"}
    assert parts <= {*LAYERS[0], *LAYERS[1]}


def test_fronts_are_imported_by_nobody() -> None:
    for front in LAYERS[-1]:
        for module, path in MODULES.items():
            if module != ROOT and part(module) == front:
                continue
            assert front not in {part(name) for name in imports(path) if name != ROOT}, f"{module} imports {front}"


def test_modules_import_each_other_in_no_circle() -> None:
    graph = {module: imports(path, only_at_import=True) - {module} for module, path in MODULES.items()}
    assert len([*graphlib.TopologicalSorter(graph).static_order()]) >= len(MODULES)
