"""The plugin is loaded in every pytest run of an environment; nobody must notice."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LIST_MODULES = """
import sys, pytest
pytest.main(sys.argv[1:])
print("MODULES", *sorted(sys.modules))
"""
HEAVY = {
    "requests",
    "yaml",
    "msgspec",
    "psutil",
    "numpy",
    "pandas",
    "scipy",
    "filelock",
    "jsonschema",
    "pynvml",
    "matplotlib",
    "jinja2",
    "prometheus_client",
    "pyarrow",
}


def modules(folder: Path, *arguments: str) -> set[str]:
    """Return what a run of pytest with no plugin but perhaps ours has imported."""
    done = subprocess.run(
        [sys.executable, "-c", LIST_MODULES, "-p", "no:cacheprovider", *arguments],
        cwd=folder,
        env={**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    (line,) = (line for line in done.stdout.splitlines() if line.startswith("MODULES"))
    return {*line.split()[1:]}


@pytest.mark.parametrize("arguments", [["--version"], ["--version", "--version"], ["--collect-only"], []])
def test_pytest_imports_nothing_foreign_with_the_plugin(tmp_path: Path, arguments: list[str]) -> None:
    (tmp_path / "test_own.py").write_text("def test_own(): pass\n")
    (tmp_path / "suites").mkdir()
    (tmp_path / "suites" / "foreign.yaml").write_text("jobs: [build]\n")
    without = modules(tmp_path, *arguments)
    with_plugin = modules(tmp_path, "-p", "pytest_modellens.plugin", *arguments)
    added = {name.partition(".")[0] for name in with_plugin - without} - sys.stdlib_module_names
    assert added <= {"pytest_modellens"}


def test_plugin_adds_few_modules_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "test_own.py").write_text("def test_own(): pass\n")
    loaded = modules(tmp_path, "-p", "pytest_modellens.plugin")
    ours = {name for name in loaded if name.startswith("pytest_modellens")}
    assert ours == {
        "pytest_modellens",
        "pytest_modellens.errors",
        "pytest_modellens.plugin",
        "pytest_modellens.plugin.collect",
        "pytest_modellens.plugin.fixtures",
        "pytest_modellens.plugin.gate_asked",
        "pytest_modellens.plugin.hookspec",
        "pytest_modellens.plugin.option_table",
        "pytest_modellens.plugin.options",
        "pytest_modellens.plugin.stash",
        "pytest_modellens.plugin.values",
    }


@pytest.mark.parametrize("module", ["pytest_modellens", "pytest_modellens.plugin", "pytest_modellens.cli"])
def test_importing_a_front_imports_nothing_heavy(module: str) -> None:
    assert HEAVY.isdisjoint(imported_by(module))


@pytest.mark.parametrize("module", ["lens", "recorder", "evidence"])
def test_measuring_imports_nothing_that_only_reports_need(module: str) -> None:
    assert {"numpy", "scipy", "pandas", "matplotlib", "jinja2"}.isdisjoint(
        imported_by(f"pytest_modellens.plugin.{module}")
    )


def imported_by(module: str) -> set[str]:
    done = subprocess.run(
        [sys.executable, "-c", f"import sys, {module}; print(*sys.modules)"],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return {*done.stdout.split()}
