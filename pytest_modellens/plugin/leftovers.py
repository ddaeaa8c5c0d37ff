"""What interrupted xdist workers had measured: no report of theirs reaches the controller, so a file has to."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_modellens.plugin.stash import OF_CELLS

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pytest

    from pytest_modellens.plugin.stash import Evidence

__all__ = ["leave", "take"]


_OF_RUN = {"asked": list, "servers": dict}
"""Texts about prompts and machines, which reach the disk through `pytest_modellens_update_run` alone."""


def leave(config: pytest.Config, folder: str, worker: str, evidence: Evidence) -> None:
    """Write what the interrupted item of `worker` has measured, for the controller to find in the run's folder.

    As the project's hooks want it, as nobody knows how long the file stays: they are called here. What run.json alone
    would hold is left out where they may change it.
    """
    from pytest_modellens.plugin.updating import UpdatedCells
    from pytest_modellens.storage.lines import encode

    # The interruption goes on: an error here, of a hook too, would only take its place.
    with contextlib.suppress(Exception):
        cells = UpdatedCells(config)
        records = [cells.updated(record) for record in evidence["records"]]
        rows = {name: cells.follow(evidence[name]) for name in OF_CELLS}
        left = {**evidence, **rows, "records": records, "is_updated": True}
        if config.hook.pytest_modellens_update_run.get_hookimpls():
            left |= {name: empty() for name, empty in _OF_RUN.items()}
        _path(folder, worker).write_bytes(encode(left))


def take(folder: str | Path) -> Iterator[Evidence]:
    """Yield what workers have left, and remove it."""
    import msgspec

    for path in sorted(Path(folder).glob(_path("", "*").name)):
        with contextlib.suppress(OSError, msgspec.DecodeError):  # of a worker killed while it was writing
            yield msgspec.json.decode(path.read_bytes())
        path.unlink(missing_ok=True)


def _path(folder: str, worker: str) -> Path:
    return Path(folder, f"interrupted-{worker}.json")
