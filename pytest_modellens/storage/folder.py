"""The folder of the run that is being recorded."""

from __future__ import annotations

import contextlib
import re
import unicodedata
from datetime import UTC
from typing import TYPE_CHECKING, Any

import msgspec

from pytest_modellens.errors import StorageError
from pytest_modellens.record import SCHEMA_VERSION
from pytest_modellens.storage.lines import LineFile, there_and_back
from pytest_modellens.storage.rows import Rows
from pytest_modellens.storage.whole import write_whole

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from datetime import datetime
    from pathlib import Path
    from types import TracebackType
    from typing import Self

__all__ = ["HARDWARE", "REQUESTS", "RUN", "SERVER", "RunFolder"]

RUN = "run.json"
REQUESTS = "requests.jsonl"
HARDWARE = "hardware.jsonl"
SERVER = "server.jsonl"

_LONGEST_NAME = 60


class RunFolder:
    """One run on disk, open for writing until `close()`."""

    def __init__(self, path: Path, *, started_at: str) -> None:
        """Open `path`, an existing folder; `create` makes a new one."""
        self.path = path
        self.started_at = started_at
        """UTC, ISO 8601."""
        self._requests = LineFile(path / REQUESTS)
        self._series: dict[str, LineFile] = {}
        self._counts = {"requests": 0, "ok": 0, "errors": 0}

    @classmethod
    def create(cls, results_dir: Path, name: str, *, now: datetime) -> Self:
        """Return a new folder `<UTC time>-<name>` in `results_dir`, which is made when missing.

        A results folder made here keeps its runs out of git; one that exists is left as it is.

        Raises:
            StorageError: the folder cannot be made or written.
        """
        utc = now.astimezone(UTC)
        base = f"{utc:%Y%m%dT%H%M%SZ}-{_kebab(name)}"
        try:
            _make_results(results_dir)
            path = _make_unique(results_dir, base)
        except OSError as exc:
            raise StorageError(
                f"{results_dir}: cannot hold results ({exc.strerror}; choose another folder with --modellens-results)"
            ) from exc
        return cls(path, started_at=utc.isoformat(timespec="milliseconds"))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def append(self, records: Iterable[Mapping[str, Any]]) -> None:
        """Add `records` to requests.jsonl, each as it comes.

        Raises:
            StorageError: the disk took no more; the rest is kept and written, in order, with the next ones.
        """
        self._requests.append(map(self._counted, records))

    @property
    def size(self) -> int:
        """Bytes of all records so far, also of those that are not on disk yet."""
        return self._requests.size

    @property
    def records(self) -> Rows:
        """Every record so far, also those that are not on disk yet.

        Raises:
            StorageError: they cannot be read.
        """
        try:
            return Rows(self._requests)
        except OSError as exc:
            raise StorageError(f"{self.path / REQUESTS}: cannot be read ({exc.strerror})") from exc

    def lines(self) -> Iterator[bytes]:
        """Yield the lines of all of them.

        Raises:
            OSError: they cannot be read.
        """
        return self._requests.lines()

    def _counted(self, record: Mapping[str, Any]) -> Mapping[str, Any]:
        if record.get("phase") != "warmup":
            self._counts["requests"] += 1
            self._counts["ok" if record.get("ok") is True else "errors"] += 1
        return record

    def write_hardware(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Add `rows` to hardware.jsonl, under the same promise as `append`.

        A row holds suite, case, params, provider and model of its cell, `summary` (what
        `HardwareSampler.summary()` returned) and `series`.
        """
        self._add_series(HARDWARE, rows)

    def write_server(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Add `rows` to server.jsonl, under the same promise as `append`.

        A row holds suite, case, params, provider and model of its cell, `summary` and `series` (of `ServerScraper`).
        """
        self._add_series(SERVER, rows)

    def _add_series(self, name: str, rows: Iterable[Mapping[str, Any]]) -> None:
        file = self._series.get(name)
        if file is None:
            file = self._series[name] = LineFile(self.path / name)
        file.append(rows)

    def write_run(self, meta: Mapping[str, Any]) -> None:
        """Replace run.json by `meta`, as a whole or not at all.

        Adds `schema_version`, `name`, `started_at` and `counts` (measured requests: all, ok, errors). A run has ended
        when `meta` holds an `ended_at` that is not None.

        Raises:
            StorageError: it cannot be written; the one before stays.
        """
        full = {"name": self.path.name, "started_at": self.started_at, "ended_at": None, **meta}
        full |= {"schema_version": SCHEMA_VERSION, "counts": self._counts}
        ordered = msgspec.json.encode(there_and_back(full), order="sorted")
        path = self.path / RUN
        try:
            write_whole(path, msgspec.json.format(ordered, indent=2) + b"\n")
        except OSError as exc:
            raise StorageError(f"{path}: cannot be written ({exc.strerror}; the one before is kept)") from exc

    def close(self) -> None:
        """Write what is still kept and close the files; harmless when called again.

        Raises:
            StorageError: records were lost.
        """
        with contextlib.ExitStack() as stack:
            for file in self._series.values():
                stack.callback(file.close)
            stack.callback(self._requests.close)


def _make_results(results_dir: Path) -> None:
    results_dir.parent.mkdir(parents=True, exist_ok=True)
    try:
        results_dir.mkdir()
    except FileExistsError:
        if not results_dir.is_dir():
            raise
    else:
        (results_dir / ".gitignore").write_text("*\n!.gitignore\n", encoding="utf-8")


def _make_unique(results_dir: Path, base: str) -> Path:
    number = 1
    while True:
        path = results_dir / (base if number == 1 else f"{base}-{number}")
        # mkdir decides between runs that start in the same second; asking first would leave a gap between them.
        try:
            path.mkdir()
        except FileExistsError:
            number += 1
        else:
            return path


def _kebab(name: str) -> str:
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode("ascii").lower()
    return re.sub(r"[^a-z0-9]+", "-", plain)[:_LONGEST_NAME].strip("-") or "run"
