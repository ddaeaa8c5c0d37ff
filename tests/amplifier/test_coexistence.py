"""Our pytest plugin beside amplifier-core's: in either order, with and without what that one needs."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from pytest_modellens import cli, plugin

ROOT = Path(__file__).parents[2]
OURS, THEIRS, ASYNC = "pytest_modellens.plugin", "amplifier_core.pytest_plugin", "pytest_asyncio.plugin"
TESTS = """
import pytest

def test_own(coordinator, modellens_options):
    assert coordinator.session_id == "test-session"

@pytest.fixture
def modellens_options(pytestconfig):
    return pytestconfig.getoption("modellens_provider")
"""
needs_kernel = pytest.mark.skipif(find_spec("amplifier_core") is None, reason="the extra 'amplifier' is not installed")


def run(folder: Path, *arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), **env},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@needs_kernel
@pytest.mark.parametrize("order", [(OURS, ASYNC, THEIRS), (ASYNC, THEIRS, OURS), (THEIRS, OURS, ASYNC)])
def test_both_plugins_work_in_any_order(tmp_path: Path, order: tuple[str, ...]) -> None:
    (tmp_path / "test_own.py").write_text(TESTS)
    named = [argument for name in order for argument in ("-p", name)]
    options = ("-o", "asyncio_default_fixture_loop_scope=function")
    done = run(tmp_path, *named, *options, PYTEST_DISABLE_PLUGIN_AUTOLOAD="1")
    assert "1 passed" in done.stdout, done.stdout + done.stderr


@needs_kernel
def test_ours_works_where_theirs_is_switched_off(tmp_path: Path) -> None:
    (tmp_path / "test_own.py").write_text("def test_own(): pass\n")
    done = run(tmp_path, "-p", "no:amplifier_module", "-p", "no:asyncio")
    assert "1 passed" in done.stdout, done.stdout + done.stderr


WITHOUT_ASYNCIO = """
import functools
import importlib.machinery as machinery

def find_spec(found, name, path=None, target=None):
    return None if name.partition(".")[0] == "pytest_asyncio" else found(name, path, target)

machinery.PathFinder.find_spec = functools.partial(find_spec, machinery.PathFinder.find_spec)
"""
POINTS = {"ours": f"modellens = {OURS}", "theirs": f"amplifier_module = {THEIRS}"}
SAID = "ERROR: amplifier-core's pytest plugin needs pytest-asyncio, which is not installed (pip install"
"""What ours says of it."""
DIES = "ModuleNotFoundError: No module named 'pytest_asyncio'"
"""What pytest says of it; docs/amplifier.md has it as well."""


def loaded_in_order(folder: Path, *order: str, more: str = "") -> str:
    """Return a path on which the distribution that pytest finds first has these plugins, in this order."""
    info = folder / "early" / "early-1.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: early\nVersion: 1\n")
    (info / "entry_points.txt").write_text("\n".join(["[pytest11]", *(POINTS[name] for name in order)]))
    (info.parent / "sitecustomize.py").write_text(more)
    (folder / "test_own.py").write_text("def test_own(): pass\n")
    return f"{info.parent}{os.pathsep}{ROOT}"


@needs_kernel
@pytest.mark.parametrize("asyncio", ["there", "switched off"])
@pytest.mark.parametrize("order", [("ours", "theirs"), ("theirs", "ours")])
def test_plugins_that_pytest_finds_by_itself_work_in_either_order(
    tmp_path: Path, order: tuple[str, str], asyncio: str
) -> None:
    path = loaded_in_order(tmp_path, *order)
    options = ("-o", "asyncio_default_fixture_loop_scope=function") if asyncio == "there" else ("-p", "no:asyncio")
    done = run(tmp_path, "--trace-config", *options, PYTHONPATH=path)
    assert "1 passed" in done.stdout, done.stdout + done.stderr
    at = {"ours": done.stdout.index(" modellens  "), "theirs": done.stdout.index(" amplifier_module  ")}
    assert sorted(at, key=at.__getitem__) == [*order]


@needs_kernel
@pytest.mark.parametrize(
    ("order", "more", "said"),
    [
        (("ours", "theirs"), (), SAID),
        (("theirs", "ours"), (), DIES),
        (("theirs", "ours"), ("-p", "modellens"), SAID),
        (("theirs", "ours"), ("-p", "no:amplifier_module"), "1 passed"),
        (("ours", "theirs"), ("-p", "no:amplifier_module"), "1 passed"),
    ],
)
def test_missing_asyncio_is_said_whichever_comes_first(
    tmp_path: Path, order: tuple[str, str], more: tuple[str, ...], said: str
) -> None:
    path = loaded_in_order(tmp_path, *order, more=WITHOUT_ASYNCIO)
    done = run(tmp_path, *more, "-p", "no:asyncio", PYTHONPATH=path)
    assert said in done.stdout + done.stderr
    assert ("Traceback" in done.stderr or "Error while loading plugin" in done.stderr) == (said == DIES)
    assert (done.returncode == 0) == (said == "1 passed")


@needs_kernel
def test_line_of_the_project_lets_ours_come_first(tmp_path: Path) -> None:
    path = loaded_in_order(tmp_path, "theirs", "ours", more=WITHOUT_ASYNCIO)
    (tmp_path / "pyproject.toml").write_text('[tool.pytest.ini_options]\naddopts = ["-p", "modellens"]\n')
    done = run(tmp_path, "-p", "no:asyncio", PYTHONPATH=path)
    assert SAID in done.stderr


@needs_kernel
def test_what_pytest_says_of_it_is_in_the_documentation() -> None:
    text = (ROOT / "docs" / "amplifier.md").read_text(encoding="utf-8")
    assert DIES in text
    assert {"pip install pytest-asyncio", "-p no:amplifier_module", "-p modellens"} <= {*text.split("`")}


@needs_kernel
@pytest.mark.parametrize("how", ["option", "variable"])
def test_nothing_is_said_where_pytest_loads_no_plugin_by_itself(tmp_path: Path, how: str) -> None:
    path = loaded_in_order(tmp_path, "theirs", "ours", more=WITHOUT_ASYNCIO)
    if (
        how == "option"
        and "--disable-plugin-autoload" not in run(tmp_path, "--help", "-p", "no:amplifier_module").stdout
    ):
        pytest.skip("this pytest has only the variable")
    options = ("--disable-plugin-autoload",) if how == "option" else ()
    env = {} if options else {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    done = run(tmp_path, *options, "-p", "modellens", PYTHONPATH=path, **env)
    assert "1 passed" in done.stdout, done.stdout + done.stderr


class Manager:
    def __init__(self, *blocked: str, **known: bool) -> None:
        self.blocked = blocked
        self.config = SimpleNamespace(known_args_namespace=SimpleNamespace(**known))

    def is_blocked(self, name: str) -> bool:
        return name in self.blocked

    def get_plugin(self, name: str) -> Any:
        return {"pytestconfig": self.config}[name]


def installed(monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    monkeypatch.delenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", raising=False)
    monkeypatch.setattr(plugin, "find_spec", lambda name: object() if name in names else None)


def test_what_their_plugin_lacks_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    installed(monkeypatch, "amplifier_core")
    manager: Any = Manager()
    with pytest.raises(pytest.UsageError, match="needs pytest-asyncio, which is not installed"):
        plugin._check_amplifier(manager)


def test_nothing_is_said_where_nothing_is_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    manager: Any = Manager("amplifier_module")
    for names in ((), ("amplifier_core", "pytest_asyncio"), ("amplifier_core",)):
        installed(monkeypatch, *names)
        plugin._check_amplifier(manager)
    told: Any = Manager(disable_plugin_autoload=True)
    plugin._check_amplifier(told)
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    nobody: Any = Manager()
    plugin._check_amplifier(nobody)


@pytest.mark.parametrize("is_loaded", [True, False])
def test_end_waits_a_moment_for_the_kernels_threads(monkeypatch: pytest.MonkeyPatch, is_loaded: bool) -> None:
    waits: list[float] = []
    monkeypatch.setattr(time, "sleep", waits.append)
    if is_loaded:
        monkeypatch.setitem(sys.modules, "amplifier_core._engine", object())
    else:
        monkeypatch.delitem(sys.modules, "amplifier_core._engine", raising=False)
    plugin.pytest_unconfigure()
    assert cli.main(["schema"]) == 0
    assert waits == ([0.05, 0.05] if is_loaded else [])
