"""A run's requests by column on the disk, beside the lines that they were read from: a Parquet file.

It is made of requests.jsonl alone and can be deleted at any time. It names the file that it was made of, by size and
times, and the layout; where either is another, or it is damaged, it is made anew.
"""

from __future__ import annotations

import os
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pytest_modellens.errors import StorageError
from pytest_modellens.record import SCHEMA_VERSION
from pytest_modellens.storage.batches import KINDS, Batch, Gaps, Same, same_or_all
from pytest_modellens.storage.decoding import whole

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping
    from pathlib import Path
    from typing import Self

__all__ = ["CACHE", "DAMAGED", "Cache", "Stamp", "Writer"]

CACHE = ".requests.parquet"
FORMAT = 1
"""Raised when the same lines make another file."""
DAMAGED = (pa.ArrowException, OSError)
"""What reading a damaged cache raises."""

_UNWRITABLE = (pa.ArrowException, OSError, OverflowError)
_SETTLED_NS = 2_000_000_000
"""Age of a file from which on a change of it changes its time: clocks of file systems go in steps of up to 2 s."""
_ABANDONED_S = 3600.0
_TYPES = {
    "str": pa.string(),
    "json": pa.string(),
    "float": pa.float64(),
    "int": pa.int64(),
    "bool": pa.bool_(),
    "gaps": pa.list_(pa.float64()),
}
_KINDS = {**KINDS, "start": "int", "size": "int"}
"""Those of a batch, and where each line is in the file."""
_SCHEMA = pa.schema([pa.field(name, _TYPES[kind]) for name, kind in _KINDS.items()])
_TEXTS = [name for name, kind in _KINDS.items() if _TYPES[kind] == pa.string()]


class Stamp(msgspec.Struct, frozen=True):
    """What a cache was made of, and how."""

    size: int
    modified_ns: int
    changed_ns: int
    layout: str

    @classmethod
    def of(cls, path: Path) -> Self | None:
        """Return that of a cache of `path` made now; None when the file is so new that a change might not be seen.

        Raises:
            OSError: it cannot be looked at.
        """
        about = path.stat()
        if time.time_ns() - about.st_mtime_ns < _SETTLED_NS:
            return None
        layout = f"{FORMAT} {SCHEMA_VERSION} {_KINDS}"
        return cls(about.st_size, about.st_mtime_ns, about.st_ctime_ns, layout)


class _Told(msgspec.Struct):
    """What a cache says of itself."""

    stamp: Stamp
    problems: list[str]


class Cache:
    """An open cache."""

    def __init__(self, requests: Path, file: pq.ParquetFile, problems: list[str]) -> None:
        self._requests = requests
        self._file = file
        self.problems = problems
        """What could not be read of the lines, as `batches_of_lines` says it."""

    @classmethod
    def open(cls, requests: Path, stamp: Stamp) -> Self | None:
        """Return that of the file `requests`; None when there is none, or it is damaged, or of another file."""
        try:
            file = pq.ParquetFile(requests.with_name(CACHE), read_dictionary=_TEXTS, page_checksum_verification=True)
            told = msgspec.json.decode((file.metadata.metadata or {}).get(b"modellens", b""), type=_Told)
        except (*DAMAGED, KeyError, msgspec.MsgspecError):
            return None
        if told.stamp != stamp:
            file.close()
            return None
        return cls(requests, file, [f"{requests}{rest}" for rest in told.problems])

    def batches(self, columns: Collection[str] | None) -> Iterator[Batch]:
        """Yield the records with those columns; None is all.

        Raises:
            one of `DAMAGED`: it is.
        """
        wanted = None if columns is None else [*{*columns, "start", "size"}]
        with self._file as file:
            for group in range(file.num_row_groups):
                yield _batch(file.read_row_group(group, columns=wanted, use_threads=False), self._line)

    def remove(self) -> None:
        """Throw it away."""
        with suppress(OSError):
            self._requests.with_name(CACHE).unlink()

    def _line(self, start: int, size: int) -> bytes:
        try:
            with self._requests.open("rb") as file:
                file.seek(start)
                return file.read(size)
        except OSError as exc:
            raise StorageError(f"{self._requests}: cannot be read ({exc.strerror})") from exc


class Writer:
    """Writes a cache while records are read; one that is not finished leaves none, and one that cannot says why."""

    def __init__(self, requests: Path, stamp: Stamp | None) -> None:
        """Begin that of the file `requests`, which `stamp` is of; None writes nothing."""
        self.why: str | None = None
        """Why there will be none; None when nothing failed."""
        self._requests, self._stamp = requests, stamp
        self._temporary = requests.with_name(f"{CACHE}.{os.getpid()}.tmp")
        self._writer: Any = None
        if stamp is not None:
            self._tried(self._open)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(*_UNWRITABLE):
            self._close()
        with suppress(OSError):
            self._temporary.unlink(missing_ok=True)

    def add(self, batch: Batch) -> None:
        """Write some records."""
        self._tried(lambda: self._writer.write_batch(_record_batch(batch), row_group_size=len(batch)))

    def finish(self, problems: list[str], *, read: int) -> None:
        """Keep what was written.

        Args:
            problems: what could not be read of the lines.
            read: bytes that were read of them.
        """
        if self._stamp is not None and read == self._stamp.size:
            self._tried(lambda: self._keep([problem.removeprefix(str(self._requests)) for problem in problems]))

    def _open(self) -> None:
        for path in self._requests.parent.glob(f"{CACHE}.*.tmp"):  # left by a process that was killed
            if time.time() - path.stat().st_mtime > _ABANDONED_S:
                path.unlink()
        self._writer = pq.ParquetWriter(
            self._temporary,
            _SCHEMA,
            compression="lz4",
            use_dictionary=_TEXTS,
            write_statistics=False,
            write_page_checksum=True,
        )

    def _keep(self, problems: list[str]) -> None:
        assert self._stamp is not None
        told = msgspec.json.encode(_Told(self._stamp, problems)).decode()
        self._writer.add_key_value_metadata({"modellens": told})
        self._close()
        if Stamp.of(self._requests) == self._stamp:
            self._temporary.replace(self._requests.with_name(CACHE))

    def _close(self) -> None:
        writer, self._writer = self._writer, None
        if writer is not None:
            writer.close()

    def _tried(self, step: Callable[[], None]) -> None:
        if self.why is not None or (self._writer is None and step != self._open):
            return
        try:
            step()
        except _UNWRITABLE as exc:
            self.why = getattr(exc, "strerror", None) or str(exc)


def _record_batch(batch: Batch) -> pa.RecordBatch:
    arrays = [_array(batch[name], _TYPES[kind]) for name, kind in _KINDS.items()]
    return pa.RecordBatch.from_arrays(arrays, schema=_SCHEMA)


def _array(values: Any, kind: pa.DataType) -> pa.Array:
    if isinstance(values, Gaps):
        ends = np.concatenate(([0], np.cumsum(values.lengths))).astype(np.int32)
        return pa.ListArray.from_arrays(pa.array(ends), pa.array(values.values), type=kind)
    if isinstance(values, Same):
        return pa.repeat(pa.scalar(values.value, kind), len(values))
    return pa.array(values, kind)


def _batch(table: pa.Table, line: Callable[[int, int], bytes]) -> Batch:
    def make(name: str) -> Any:
        return _values(table.column(name).combine_chunks())

    def record(at: int) -> Mapping[str, Any]:
        return whole(line(*(table.column(name)[at].as_py() for name in ("start", "size"))))

    return Batch(table.num_rows, make, record)


def _values(array: Any) -> Any:
    """Return what `_array` made the array of."""
    if isinstance(array, pa.ChunkedArray):
        array = array.chunk(0)
    if isinstance(array, pa.ListArray):
        return Gaps(array.flatten().to_numpy(), array.value_lengths().to_numpy().astype(np.int64))
    if array.null_count == len(array):
        return Same(None, len(array))
    if isinstance(array, pa.DictionaryArray):
        texts = [*array.dictionary.to_pylist(), None]
        if len(array.dictionary) == 1 and not array.null_count:
            return Same(texts[0], len(array))
        return [*map(texts.__getitem__, array.indices.fill_null(-1).to_pylist())]
    return same_or_all(array.to_pylist() if array.null_count else array.to_numpy(zero_copy_only=False).tolist())
