"""The checks of `inside/`, each file in a process of its own.

The kernel's Rust engine can end a process by a signal after everything is done, and its pytest plugin belongs into runs
that ask for it only. So what a check found is read from its report, and its exit status is looked at only for that.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import xml.etree.ElementTree as ET
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
INSIDE = Path(__file__).with_name("inside")
CHECKS = sorted(path.stem for path in INSIDE.glob("check_*.py"))
MODULES = sorted(path.name for path in ROOT.glob("amplifier_module_provider_modellens_*"))
QUIET = ("-p", "no:cacheprovider", "-p", "no:xdist", "-q", "--strict-markers")
CRASHES = {-signal.SIGABRT, -signal.SIGSEGV}
"""How the engine ends a process that had nothing left to do."""

pytestmark = [
    pytest.mark.skipif(find_spec("amplifier_core") is None, reason="the extra 'amplifier' is not installed"),
    pytest.mark.model,
]


def run(tmp_path: Path, *arguments: str) -> ET.Element:
    """Run pytest apart and return its report, once nothing in it is wrong."""
    report = tmp_path / "report.xml"
    # Keys and addresses of this machine's owner are nobody's business, and no server of theirs is asked.
    env = {name: value for name, value in os.environ.items() if not name.endswith(("_API_KEY", "_BASE_URL"))}
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *QUIET, f"--junitxml={report}", *arguments],
        cwd=ROOT,
        env={**env, "PYTHONPATH": f"{ROOT}{os.pathsep}{INSIDE / 'modules'}"},
        capture_output=True,
        text=True,
        timeout=1800,
        check=False,
    )
    assert report.exists(), done.stdout + done.stderr
    suite = ET.parse(report).getroot()[0]
    wrong = {name: suite.get(name) for name in ("failures", "errors", "skipped") if suite.get(name) != "0"}
    assert not wrong, done.stdout + done.stderr
    assert done.returncode in {0, *CRASHES}, done.stdout + done.stderr
    return suite


@pytest.mark.parametrize("check", CHECKS)
def test_checks_pass(check: str, tmp_path: Path) -> None:
    suite = run(tmp_path, "-p", "no:amplifier_module", "-p", "no:asyncio", str(INSIDE / f"{check}.py"))
    assert int(suite.get("tests", "0")) > 0


@pytest.mark.parametrize("module", MODULES)
def test_shipped_behaviour_tests_pass(module: str, tmp_path: Path) -> None:
    shipped = str(INSIDE / "behaviour.py")
    options = ("-o", "asyncio_default_fixture_loop_scope=function", f"--module-path={ROOT / module}")
    assert run(tmp_path, *options, shipped).get("tests") == "5"
