"""The cassette of a recorded run: finding it, and reading its entries one at a time."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import msgspec

from pytest_modellens.cassette.entry import decode_entry
from pytest_modellens.cassette.tape import SUFFIX, TapeReader
from pytest_modellens.errors import StorageError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pytest_modellens.cassette.entry import Entry

__all__ = ["Shelf", "find_cassette"]


def find_cassette(run: Path, meta: Mapping[str, Any], given: Path | None) -> Path:
    """Return the folder that holds the cassette of a run.

    Args:
        run: the run's folder.
        meta: what its run.json says.
        given: where to look, there or below; None: where run.json says.

    Raises:
        StorageError: there is none.
    """
    noted = meta.get("cassette")
    recorded = noted.get("folder") if isinstance(noted, dict) else None
    if given is not None:
        names = [Path(recorded).name] if isinstance(recorded, str) else []
        for folder in (given, *(given / name for name in (*names, run.name))):
            if _has_entries(folder):
                return folder
        raise StorageError(f"{given}: holds no cassette of {run.name} (looked for *{SUFFIX} in it and below)")
    if not isinstance(recorded, str):
        raise StorageError(
            f"{run}: was recorded without a cassette (record with pytest --modellens-cassette DIR, "
            "or say where it is with --cassette DIR)"
        )
    folder = Path(recorded)
    if not folder.is_dir():
        raise StorageError(f"{folder}: the cassette is not there any more (say where it is with --cassette DIR)")
    if not _has_entries(folder):
        reasons = noted.get("not_kept") if isinstance(noted, dict) else None
        why = f"; {'; '.join(map(str, reasons))}" if isinstance(reasons, dict) and reasons else ""
        raise StorageError(f"{folder}: no request of the run is in its cassette, so nothing can be recomputed{why}")
    return folder


def _has_entries(folder: Path) -> bool:
    return any(folder.glob(f"*{SUFFIX}"))


class Shelf:
    """All files of one cassette, open. A context manager."""

    def __init__(self, folder: Path) -> None:
        """Open every file and look which entries are whole.

        Raises:
            StorageError: a file cannot be read, or a newer version wrote it.
        """
        self.folder = folder
        self.problems: list[str] = []
        """What cannot be read, a sentence each."""
        self._tapes: dict[str, TapeReader] = {}
        self._stack = ExitStack()
        with self._stack:
            for path in sorted(folder.glob(f"*{SUFFIX}")):
                self._tapes[path.name] = self._stack.enter_context(TapeReader(path))
                self.problems += self._tapes[path.name].problems
            self._stack = self._stack.pop_all()
        self.links = {f"{name}:{at}": at for name, tape in self._tapes.items() for at in tape.positions}
        """Of whole entries, as records have them, file by file in their order; and their positions."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def entry(self, link: str) -> Entry | None:
        """Return the entry at `link`; None, with a problem noted, when it is not there or not whole."""
        if link not in self.links:
            self.problems.append(f"{self.folder}: {link} is not among its whole entries")
            return None
        try:
            return decode_entry(self._tapes[link.rpartition(":")[0]].read(self.links[link]))
        except msgspec.MsgspecError as exc:
            self.problems.append(f"{self.folder}: {link} is no entry of this version ({exc})")
            return None
