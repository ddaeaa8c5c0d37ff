"""Hooks that other plugins and a project's conftest.py can implement."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import pytest


def pytest_modellens_environment(config: pytest.Config) -> dict[str, Any]:
    """Return more about this run's environment, for `run.json`; called once, before anything is measured.

    ::

        def pytest_modellens_environment(config):
            return {"rack": "b12", "driver": "580.65"}
    """
    raise NotImplementedError("a specification, never called")


def pytest_modellens_update_record(config: pytest.Config, record: dict[str, Any]) -> None:
    """Change one record, or add to its `params`, before it is written; plain JSON types only.

    What prompts were is in `run.json`, which `pytest_modellens_update_run` changes.

    ::

        def pytest_modellens_update_record(config, record):
            record["response"] = ""  # confidential
    """


def pytest_modellens_update_run(config: pytest.Config, run: dict[str, Any]) -> None:
    """Change what `run.json` and the run's reports say, before they are written; plain JSON types only.

    Called each time, with all that is known of the run so far, as if it had not been called before. Prompts are under
    `asked`, a cell each; why tests failed, which quotes answers, is under `failed`.

    ::

        def pytest_modellens_update_run(config, run):
            for cell in run["asked"]:
                cell["asked"] |= {"prompt": "", "system_prompt": None, "messages": []}  # confidential
            for cell in run["failed"]:
                cell["why"] = ""
    """


def pytest_modellens_report(config: pytest.Config, records: Sequence[dict[str, Any]], directory: Path) -> None:
    """Write a report of your own; called once after the run, with all its records and its folder.

    The records are read from the disk, each time they are gone through: a run of any size fits into memory, and to
    change one changes nothing.

    ::

        def pytest_modellens_report(config, records, directory):
            (directory / "count.txt").write_text(str(len(records)))
    """
