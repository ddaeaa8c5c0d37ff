"""docs/write-a-provider.md does what it says: its package is found through its entry point, and passes the kit."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pytest_modellens.providers.registry import GROUP
from pytest_modellens.storage import read_run
from pytest_modellens.testing import ScriptedServer

if TYPE_CHECKING:
    from collections.abc import Iterator

PAGE = Path(__file__).parents[2] / "docs" / "write-a-provider.md"
FILES: dict[str, str] = dict(
    re.findall(r"^```\w+\n# ([\w.]+)\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
)
PAGES = {
    "/live": {},
    "/about": {"version": "1.2"},
    "/v1/models": {"data": [{"id": "contract-model", "size_label": "7B", "weights_gb": 4.1}]},
}


@pytest.fixture
def stranger(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> pytest.Pytester:
    """An environment in which the page's package is installed, and nothing else of it."""
    project = tomllib.loads(FILES["pyproject.toml"])["project"]
    site = pytester.mkdir("site")
    (site / "acme_modellens.py").write_text(FILES["acme_modellens.py"], encoding="utf-8")
    info = site / f"{project['name'].replace('-', '_')}-{project['version']}.dist-info"
    info.mkdir()
    header = f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n"
    (info / "METADATA").write_text(header, encoding="utf-8")
    points = "\n".join(f"{name} = {value}" for name, value in project["entry-points"][GROUP].items())
    (info / "entry_points.txt").write_text(f"[{GROUP}]\n{points}\n", encoding="utf-8")
    monkeypatch.setenv("PYTHONPATH", f"{site}:{Path(__file__).parents[2]}")
    return pytester


@pytest.fixture
def acme() -> Iterator[ScriptedServer]:
    with ScriptedServer(pages=PAGES) as server:
        yield server


def test_class_is_forty_lines() -> None:
    assert len(FILES["acme_modellens.py"].rstrip().splitlines()) <= 40


def test_entry_point_is_found_and_measured(stranger: pytest.Pytester, acme: ScriptedServer) -> None:
    stranger.path.joinpath("chat.yaml").write_text("cases: [{name: a, prompt: hi, rounds: 2, warmup: 0}]\n")
    result = stranger.runpytest_subprocess("--provider", f"acme={acme.root}/v1", "chat.yaml")
    result.assert_outcomes(passed=1)
    (folder,) = (path for path in stranger.path.glob("results/*") if path.is_dir())
    run = read_run(folder)
    assert [(record["provider"], record["model"], record["ok"]) for record in run.records] == [
        ("acme", "contract-model", True)
    ] * 2
    (server,) = run.meta["servers"].values()
    assert server["version"] == "1.2"
    assert server["models"][0]["size_bytes"] == 4_100_000_000
    assert {prompt.fields["priority"] for prompt in acme.prompts} == {"interactive"}


def test_page_passes_the_kit(stranger: pytest.Pytester) -> None:
    stranger.path.joinpath("test_acme.py").write_text(FILES["test_acme.py"], encoding="utf-8")
    result = stranger.runpytest_subprocess("-p", "no:cacheprovider", "test_acme.py")
    outcomes = result.parseoutcomes()
    assert {*outcomes} == {"passed"}
    shown = re.search(r"=+ (\d+) passed in", PAGE.read_text(encoding="utf-8"))
    assert shown is not None
    assert int(shown.group(1)) == outcomes["passed"]
