"""Runs that were recorded before: finding, listing, and reading them whatever happened to the process."""

from __future__ import annotations

import difflib
import re
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from pytest_modellens.errors import StorageError
from pytest_modellens.record import SCHEMA_VERSION
from pytest_modellens.storage.folder import REQUESTS, RUN
from pytest_modellens.storage.spool import left_spools

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

__all__ = [
    "UNREADABLE",
    "Run",
    "RunInfo",
    "find_run",
    "iter_requests",
    "iter_rows",
    "list_runs",
    "read_meta",
    "read_run",
    "request_lines",
]

_STAMP = re.compile(r"\d{8}T\d{6}Z-")
UNREADABLE = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)
"""What decoding a line that is none raises."""
_SHOWN = 5
_BUFFER = 1 << 18
"""Bytes that are asked for at once: lines are thousands long, and Python's own 8192 take four times as long."""


@dataclass(frozen=True, slots=True)
class Run:
    """A recorded run."""

    folder: Path
    meta: dict[str, Any]
    """What run.json says; empty when it is missing or damaged."""
    records: list[dict[str, Any]]
    problems: list[str]
    """What could not be read, a sentence each; empty for a whole run."""


@dataclass(frozen=True, slots=True)
class RunInfo:
    """What a list of runs shows of one. Warm-up requests are not counted."""

    folder: Path
    name: str
    started_at: str | None
    """UTC, ISO 8601; None when run.json does not say."""
    requests: int
    ok: int
    errors: int
    is_finished: bool
    """False when the run goes on, or was killed."""


class _Counts(msgspec.Struct):
    requests: int
    ok: int
    errors: int


class _Meta(msgspec.Struct):
    started_at: str | None = None
    ended_at: str | None = None
    counts: _Counts | None = None


class _Outcome(msgspec.Struct):
    ok: bool
    phase: str = "measured"


def read_run(folder: Path) -> Run:
    """Return the run in `folder`, as much as is readable.

    Raises:
        StorageError: there is no such run, it may not be read, or a newer version of this plugin wrote it.
    """
    problems: list[str] = []
    meta = read_meta(folder, problems)
    return Run(folder, meta, [*iter_requests(folder, problems)], problems)


def read_meta(folder: Path, problems: list[str]) -> dict[str, Any]:
    """Return what run.json says, empty when it is missing or damaged; adds what could not be read to `problems`.

    Raises:
        StorageError: there is no such run, or a newer version of this plugin wrote it.
    """
    if not folder.is_dir():
        raise StorageError(f"{folder}: no such run (modellens list shows those there are)")
    meta = _read_meta(folder, problems)
    _check_version(meta, folder / RUN)
    return meta


def iter_rows(
    path: Path,
    problems: list[str],
    decode: Callable[[bytes], Any] | None = None,
    lines: Callable[[], Iterable[bytes]] | None = None,
    first: int = 1,
) -> Iterator[Any]:
    """Yield the objects of a file of JSON lines, one at a time; adds what could not be read to `problems`.

    Args:
        path: the file.
        problems: gets a sentence for each line that is no JSON object.
        decode: tried first, if given; a line that it refuses is yielded as a dict.
        lines: returns the lines to read; None takes those of the file.
        first: number of the first of them.

    Raises:
        StorageError: a newer version of this plugin wrote it.
    """
    try:
        with nullcontext(lines()) if lines is not None else path.open("rb") as file:
            for number, line in enumerate(file, first):
                if decode is not None:
                    try:
                        row = decode(line)
                    except UNREADABLE:
                        pass
                    else:
                        _check_version(row, path)
                        yield row
                        continue
                row = _decode(line)
                if isinstance(row, dict):
                    _check_version(row, path)
                    yield row
                elif line.strip():
                    cut = not line.endswith(b"\n")
                    what = "is cut off (the run was killed while it wrote)" if cut else "is not a JSON object; left out"
                    problems.append(f"{path}:{number}: {what}")
    except OSError as exc:
        problems.append(f"{path}: cannot be read ({exc.strerror})")


def iter_requests(folder: Path, problems: list[str], decode: Callable[[bytes], Any] | None = None) -> Iterator[Any]:
    """Yield the records of the run in `folder` as `iter_rows` does, last those of loads that were under way at a kill.

    Raises:
        StorageError: a newer version of this plugin wrote them.
    """
    for path, lines in request_lines(folder):
        yield from iter_rows(path, problems, decode, lines)


def request_lines(folder: Path) -> list[tuple[Path, Callable[[], Iterator[bytes]]]]:
    """Return the files that hold the records of the run in `folder`, each with what returns its lines of them."""
    return [(path, partial(_lines, path, size)) for path, size in _parts(folder)]


def _parts(folder: Path) -> list[tuple[Path, int | None]]:
    """Return the files that hold a run's records, and how many bytes of each belong to it; None: all."""
    left = left_spools(folder)
    # Where it was killed while it wrote those of a load to its requests, the load's own file has all of them.
    size = min((begins for _, begins in left if begins is not None), default=None)
    return [(folder / REQUESTS, size), *((path, None) for path, _ in left)]


def _lines(path: Path, size: int | None) -> Iterator[bytes]:
    with path.open("rb", buffering=_BUFFER) as file:
        if size is None:
            yield from file
            return
        for line in file:
            size -= len(line)
            if size < 0:
                return
            yield line


def list_runs(results_dir: Path) -> list[RunInfo]:
    """Return the runs in `results_dir`, newest first; empty when there is no such folder.

    Raises:
        StorageError: the folder may not be read.
    """
    return [_info(folder) for folder in _folders(results_dir)]


def find_run(results_dir: Path, text: str) -> Path:
    """Return the folder that `text` means: a path, a run's name, the beginning or end of one name, or "latest".

    Raises:
        StorageError: nothing or more than one run matches; the message names the nearest.
    """
    path = Path(text)
    if path.name in {RUN, REQUESTS}:
        path = path.parent
    if (path / RUN).is_file() or (path / REQUESTS).is_file():
        return path
    by_name = {folder.name: folder for folder in _folders(results_dir)}
    if not by_name:
        raise StorageError(f"{results_dir}: holds no runs (looked for {text!r}; run a suite first)")
    if text == "latest":
        return next(iter(by_name.values()))
    matches = [name for name in by_name if name == text] or [
        name for name in by_name if text and (name.startswith(text) or name.endswith(text))
    ]
    if len(matches) == 1:
        return by_name[matches[0]]
    if matches:
        raise StorageError(f"{results_dir}: {text!r} matches {len(matches)} runs ({_some(matches)}; give more of one)")
    near = difflib.get_close_matches(text, by_name, n=_SHOWN, cutoff=0.4) or list(by_name)
    raise StorageError(f"{results_dir}: no run {text!r} (nearest: {_some(near)})")


def _some(names: list[str]) -> str:
    return ", ".join(names[:_SHOWN]) + (", …" if len(names) > _SHOWN else "")


def _folders(results_dir: Path) -> list[Path]:
    try:
        found = [path for path in results_dir.iterdir() if _STAMP.match(path.name) and path.is_dir()]
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as exc:
        raise StorageError(f"{results_dir}: cannot be read ({exc.strerror})") from exc
    # Within one second the suffixes -2 … -10 follow their length.
    return sorted(found, key=lambda path: (path.name[:16], len(path.name), path.name), reverse=True)


def _info(folder: Path) -> RunInfo:
    try:
        meta = msgspec.json.decode(_read_bytes(folder / RUN, []) or b"{}", type=_Meta)
    except UNREADABLE:
        meta = _Meta()
    ended = meta.ended_at is not None
    # A run that was killed has counts from its start, so its records are counted instead.
    counts = meta.counts if ended and meta.counts is not None else _count(folder)
    return RunInfo(folder, folder.name, meta.started_at, counts.requests, counts.ok, counts.errors, is_finished=ended)


def _count(folder: Path) -> _Counts:
    decoder = msgspec.json.Decoder(_Outcome)
    outcomes = []
    for _, lines in request_lines(folder):
        with suppress(OSError):
            for line in lines():
                try:
                    outcome = decoder.decode(line)
                except UNREADABLE:
                    continue
                if outcome.phase != "warmup":
                    outcomes.append(outcome.ok)
    return _Counts(requests=len(outcomes), ok=sum(outcomes), errors=len(outcomes) - sum(outcomes))


def _read_meta(folder: Path, problems: list[str]) -> dict[str, Any]:
    data = _read_bytes(folder / RUN, problems)
    meta = _decode(data)
    if isinstance(meta, dict):
        return meta
    if data:
        problems.append(f"{folder / RUN}: is not a JSON object; what was run is not known")
    return {}


def _read_bytes(path: Path, problems: list[str]) -> bytes:
    try:
        return path.read_bytes()
    except OSError as exc:
        problems.append(f"{path}: cannot be read ({exc.strerror})")
        return b""


def _decode(data: bytes) -> Any:
    """Return the JSON value; None when it is none."""
    try:
        return msgspec.json.decode(data)
    except UNREADABLE:
        return None


def _check_version(row: Any, path: Path) -> None:
    version = row.get("schema_version", SCHEMA_VERSION)
    if not isinstance(version, int) or version > SCHEMA_VERSION:
        raise StorageError(
            f"{path}: written by a newer pytest-modellens (schema_version {version!r}, this one reads up to "
            f"{SCHEMA_VERSION}; upgrade it)"
        )
