"""The requests of a run by column, from wherever they are read fastest, as often as they are wanted."""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING

from pytest_modellens.storage.decoding import batches_of_lines, batches_of_rows
from pytest_modellens.storage.folder import REQUESTS
from pytest_modellens.storage.reading import request_lines

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
    from pathlib import Path
    from typing import Any

    from pytest_modellens.storage.batches import Batch

__all__ = ["LARGE", "Requests", "batches_of"]

LARGE = 64_000_000
"""Bytes of requests.jsonl from which on a cache saves more than it takes."""


class Requests:
    """The records of a run, read anew each time they are gone through, so that a run of any size fits into memory."""

    def __init__(self, folder: Path, *, lines: Callable[[], Iterable[bytes]] | None = None) -> None:
        """Of `folder`. `lines` returns the lines to read; None takes those of the folder's files."""
        self.folder = folder
        self._path = folder / REQUESTS
        self._lines = lines
        self.notes: list[str] = []
        """Why the next report will not be faster, a sentence each."""

    def batches(self, problems: list[str] | None = None, columns: Collection[str] | None = None) -> Iterator[Batch]:
        """Yield the records, by column.

        Args:
            problems: gets what could not be read, a sentence each.
            columns: what is needed of them; None is all. Others may be there as well.

        Raises:
            StorageError: a newer version of this plugin wrote them.
        """
        found: list[str] = [] if problems is None else problems
        if self._lines is not None:
            yield from batches_of_lines(self._path, self._lines, found, columns)
            return
        parts = request_lines(self._path.parent)
        if len(parts) == 1 and self._is_large():
            if find_spec("pyarrow") is not None:
                yield from self._cached(parts[0][1], found, columns)
                return
            self._note(
                "each report reads all of requests.jsonl again; with pyarrow the next ones are faster "
                "(pip install 'pytest-modellens[columnar]')"
            )
        for path, lines in parts:
            yield from batches_of_lines(path, lines, found, columns)

    def _is_large(self) -> bool:
        try:
            return self._path.stat().st_size >= LARGE
        except OSError:
            return False

    def _cached(
        self, lines: Callable[[], Iterable[bytes]], problems: list[str], columns: Collection[str] | None
    ) -> Iterator[Batch]:
        from pytest_modellens.storage.cache import DAMAGED, Cache, Stamp, Writer

        stamp = Stamp.of(self._path)
        cache = None if stamp is None else Cache.open(self._path, stamp)
        given = read = 0
        if cache is not None:
            try:
                for batch in cache.batches(columns):
                    yield batch
                    given += len(batch)
            except DAMAGED:
                cache.remove()
            else:
                problems += cache.problems
                return

        def counted() -> Iterator[bytes]:
            nonlocal read
            for line in lines():
                read += len(line)
                yield line

        found: list[str] = []
        with Writer(self._path, stamp) as writer:
            for batch in batches_of_lines(self._path, counted, found):
                writer.add(batch)
                rest = batch.take([*range(given, len(batch))]) if given else batch
                given = max(0, given - len(batch))
                if len(rest):
                    yield rest
            writer.finish(found, read=read)
        problems += found
        if writer.why is not None:
            self._note(f"{self._path.parent}: the next report will not be faster, no cache is kept ({writer.why})")

    def _note(self, text: str) -> None:
        if text not in self.notes:
            self.notes.append(text)


def batches_of(
    records: Requests | Iterable[Mapping[str, Any]],
    problems: list[str] | None = None,
    columns: Collection[str] | None = None,
) -> Iterator[Batch]:
    """Return the records of a run as `Requests.batches` does, or those in memory; what is no record is left out."""
    return records.batches(problems, columns) if isinstance(records, Requests) else batches_of_rows(records)
