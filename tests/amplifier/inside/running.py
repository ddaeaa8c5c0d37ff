"""pytest run in a process of its own, with a provider of Amplifier, and what it left."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

from pytest_modellens.storage import find_run, read_run

if TYPE_CHECKING:
    from pathlib import Path

    from pytest_modellens.storage import Run

ROUNDS = "defaults: {rounds: 3, warmup: 1, max_tokens: 32}\ncases:\n- {name: a, prompt: hi, model: 'truth:steady'}\n"


def run(folder: Path, *arguments: str, suite: str = ROUNDS, **env: str) -> subprocess.CompletedProcess[str]:
    with started(folder, *arguments, suite=suite, **env) as process:
        try:
            out, err = process.communicate(timeout=120)
        except BaseException:
            process.kill()
            raise
    return subprocess.CompletedProcess(process.args, process.returncode, out, err)


def started(folder: Path, *arguments: str, suite: str = ROUNDS, **env: str) -> subprocess.Popen[str]:
    (folder / "suites").mkdir(exist_ok=True)
    (folder / "suites" / "a.yaml").write_text(suite)
    options = ("-p", "no:cacheprovider", "-p", "no:amplifier_module", "-p", "no:asyncio", "-p", "no:benchmark")
    plugin = () if "modellens" in _plugins() else ("-p", "pytest_modellens.plugin")
    mine = {name: value for name, value in os.environ.items() if not name.startswith("MODELLENS_")}
    return subprocess.Popen(
        [sys.executable, "-m", "pytest", *options, *plugin, *arguments, "suites"],
        cwd=folder,
        env={**mine, "COLUMNS": "100", "MODELLENS_REPORT": "off", **env},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def _plugins() -> set[str]:
    from importlib.metadata import entry_points

    return {point.name for point in entry_points(group="pytest11")}


def kept(folder: Path) -> Run:
    return read_run(find_run(folder / "results", "latest"))
