"""Our pytest plugin beside amplifier-core's: in either order, with and without what that one needs."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path
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


@needs_kernel
@pytest.mark.parametrize(
    ("more", "said"),
    [
        (
            ("-p", OURS),
            "ERROR: amplifier-core's pytest plugin needs pytest-asyncio, which is not installed (pip install",
        ),
        (("-p", "no:amplifier_module"), "1 passed"),
    ],
)
def test_missing_asyncio_is_said_in_a_line_where_ours_comes_first(
    tmp_path: Path, more: tuple[str, ...], said: str
) -> None:
    (tmp_path / "hidden").mkdir()
    (tmp_path / "hidden" / "sitecustomize.py").write_text(WITHOUT_ASYNCIO)
    (tmp_path / "test_own.py").write_text("def test_own(): pass\n")
    path = f"{ROOT}{os.pathsep}{tmp_path / 'hidden'}"
    done = run(tmp_path, *more, "-p", "no:asyncio", "--override-ini=addopts=", PYTHONPATH=path)
    assert said in done.stdout + done.stderr
    assert "Traceback" not in done.stderr


class Manager:
    def __init__(self, *blocked: str) -> None:
        self.blocked = blocked

    def is_blocked(self, name: str) -> bool:
        return name in self.blocked


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
