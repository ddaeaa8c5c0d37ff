"""What docs/ci.md tells people to copy: it is valid, and its commands do what the page says."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from pytest_modellens.gate.baseline import read_baseline
from pytest_modellens.storage import list_runs

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = Path(__file__).parents[2]
FILES = ROOT / "docs" / "ci"
SUITE = """
defaults: {max_tokens: 4, rounds: 6, warmup: 1}
cases:
- {name: capital, prompt: What is the capital of France?}
"""


@pytest.fixture
def shell(tmp_path: Path, tiny_model: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """A clean checkout of a project with a suite, in which commands find this Python, and the smallest of models."""
    (tmp_path / "suites").mkdir()
    (tmp_path / "suites" / "chat.yaml").write_text(SUITE)
    programs = tmp_path / "bin"
    programs.mkdir()
    for name, command in (("python", ""), ("modellens", "-m pytest_modellens.cli")):
        script = programs / name
        script.write_text(f'#!/bin/sh\nexec "{sys.executable}" {command} "$@"\n')
        script.chmod(script.stat().st_mode | stat.S_IXUSR)
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("MODELLENS_", "GITHUB_", "CI"))}
    env = {
        **kept,
        "PATH": f"{programs}:{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "MODELLENS_MODEL": str(tiny_model),
        "MODELLENS_REPORT": "off",
        "CI": "true",
        # The projects that these commands are for have no settings of pytest's for xdist or coverage.
        "PYTEST_ADDOPTS": "-p no:cacheprovider",
    }

    def run(command: str, **more: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", command],
            cwd=tmp_path, env={**env, **more}, capture_output=True, text=True, timeout=300, check=False,
        )  # fmt: skip

    return run


def github() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((FILES / "github.yml").read_text(encoding="utf-8"))
    return found


def steps() -> dict[str, dict[str, Any]]:
    return {step["name"]: step for step in github()["jobs"]["speed"]["steps"] if "name" in step}


@pytest.mark.parametrize(
    ("schema", "file"), [("github-workflows", "github.yml"), ("gitlab-ci", "gitlab.yml")], ids=["github", "gitlab"]
)
def test_file_keeps_to_the_published_schema(schema: str, file: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "check_jsonschema", "--builtin-schema", f"vendor.{schema}", str(FILES / file)],
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr


def test_workflow_may_write_nothing() -> None:
    assert github()["permissions"] == {"contents": "read"}


@pytest.mark.model
def test_commands_of_the_workflow_do_what_they_say(shell: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / "env").touch()
    named = shell(steps()["Name the machine"]["run"], GITHUB_ENV=str(tmp_path / "env"))
    assert named.returncode == 0, named.stderr
    name, _, baseline = (tmp_path / "env").read_text().strip().partition("=")
    assert name == "BASELINE"
    page = {"BASELINE": baseline, "GITHUB_STEP_SUMMARY": str(tmp_path / "summary.md")}
    first = shell(steps()["Judge a pull request"]["run"], **page)
    assert first.returncode == 0, first.stdout
    assert f"gate: no baseline, against baseline {baseline} (0 sessions)" in first.stdout
    assert "### " in (tmp_path / "summary.md").read_text(encoding="utf-8")
    assert (tmp_path / "junit.xml").exists()
    accepted = shell(steps()["Accept what was merged"]["run"], **page)
    assert "this run is its session 1" in accepted.stdout or "not made a baseline: " in accepted.stdout
    kept = steps()["Keep the baseline"]["with"]["path"]
    assert kept == steps()["Restore the baseline"]["with"]["path"] == "results/baselines"
    if "session 1" in accepted.stdout:
        assert len(read_baseline(tmp_path / kept / baseline).sessions) == 1


@pytest.mark.model
def test_shell_script_judges_and_accepts(shell: Callable[..., Any], tmp_path: Path) -> None:
    script = f"sh {FILES / 'speed.sh'}"
    judged = shell(script, BASELINE="main")
    assert judged.returncode == 0, judged.stdout
    assert "gate: no baseline, against baseline main (0 sessions)" in judged.stdout
    accepted = shell(f"{script} --accept", BASELINE="main")
    assert "baseline main: this run is its session 1" in accepted.stdout or "not made a baseline" in accepted.stdout
    assert len(list_runs(tmp_path / "results")) == 2
    assert shell(script, SUITES="nowhere/").returncode == 4


@pytest.mark.model
def test_commands_of_gitlab_do_what_they_say(shell: Callable[..., Any]) -> None:
    job = yaml.safe_load((FILES / "gitlab.yml").read_text(encoding="utf-8"))["speed"]
    script = "\n".join(job["script"])
    judged = shell(script, CI_PIPELINE_SOURCE="merge_request_event")
    assert judged.returncode == 0, judged.stdout
    assert "gate: no baseline, against baseline main-" in judged.stdout
    accepted = shell(script, CI_PIPELINE_SOURCE="push")
    assert "this run is its session 1" in accepted.stdout or "not made a baseline: " in accepted.stdout


def test_page_shows_every_file_and_format() -> None:
    from pytest_modellens.report.export import FORMATS

    text = (ROOT / "docs" / "ci.md").read_text(encoding="utf-8")
    for path in FILES.iterdir():
        assert f"(ci/{path.name})" in text
    for name in FORMATS:
        assert f"--format {name} " in text
