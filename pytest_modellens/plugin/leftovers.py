"""What interrupted xdist workers had measured: no report of theirs reaches the controller, so a file has to."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pytest_modellens.plugin.stash import Evidence

__all__ = ["leave", "take"]


def leave(folder: str, worker: str, evidence: Evidence) -> None:
    """Write what the interrupted item of `worker` has measured, for the controller to find in the run's folder."""
    from pytest_modellens.storage.lines import encode

    # The interruption goes on: an error here would only take its place.
    with contextlib.suppress(OSError):
        _path(folder, worker).write_bytes(encode(evidence))


def take(folder: str | Path) -> Iterator[Evidence]:
    """Yield what workers have left, and remove it."""
    import msgspec

    for path in sorted(Path(folder).glob(_path("", "*").name)):
        with contextlib.suppress(OSError, msgspec.DecodeError):  # of a worker killed while it was writing
            yield msgspec.json.decode(path.read_bytes())
        path.unlink(missing_ok=True)


def _path(folder: str, worker: str) -> Path:
    return Path(folder, f"interrupted-{worker}.json")
