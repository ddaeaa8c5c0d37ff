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

    ::

        def pytest_modellens_update_record(config, record):
            record["response"] = ""  # confidential
    """


def pytest_modellens_report(config: pytest.Config, records: Sequence[dict[str, Any]], directory: Path) -> None:
    """Write a report of your own; called once after the run, with all its records and its folder.

    The records are read from the disk, each time they are gone through: a run of any size fits into memory, and to
    change one changes nothing.

    ::

        def pytest_modellens_report(config, records, directory):
            (directory / "count.txt").write_text(str(len(records)))
    """
