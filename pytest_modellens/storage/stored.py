"""A run on disk whose records stay there: it may be larger than memory."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_modellens.storage.reading import read_meta

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["StoredRun"]


class StoredRun:
    """What is known of a run before its records are read."""

    def __init__(self, folder: Path) -> None:
        """Read what run.json says.

        Raises:
            StorageError: there is no such run, or a newer version of this plugin wrote it.
        """
        self.folder = folder
        self.problems: list[str] = []
        """What could not be read so far, a sentence each."""
        self.meta = read_meta(folder, self.problems)
