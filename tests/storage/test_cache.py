"""The Parquet cache of a run's requests: there when it saves time, never stale, and no loss when it is broken."""

from __future__ import annotations

import os
import sys
import time
from typing import TYPE_CHECKING, Any

import pyarrow.parquet as pq
import pytest

from pytest_modellens.cli import main
from pytest_modellens.errors import StorageError
from pytest_modellens.storage import cache, decoding, requests
from pytest_modellens.storage.cache import CACHE
from pytest_modellens.storage.requests import Requests
from tests.report import runs

if TYPE_CHECKING:
    from pathlib import Path

COUNT = 20


@pytest.fixture(autouse=True)
def _every_run_is_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(requests, "LARGE", 0)
    monkeypatch.setattr(decoding, "_RECORDS", 6)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A run of `COUNT` requests that nobody has touched for a while."""
    made = runs.folder(tmp_path, runs.records(COUNT))
    age(made)
    return made


def age(folder: Path, seconds: int = 60) -> None:
    then = time.time_ns() - seconds * 1_000_000_000
    os.utime(folder / "requests.jsonl", ns=(then, then))


def rounds(folder: Path, *columns: str) -> list[int]:
    return [n for batch in Requests(folder).batches(columns=columns or None) for n in batch["round"]]


def whole(folder: Path) -> tuple[list[Any], list[str]]:
    problems: list[str] = []
    return [batch.record(at) for batch in Requests(folder).batches(problems) for at in range(len(batch))], problems


def left(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir() if path.name.startswith(".")}


def test_cache_is_made_by_the_first_reading_and_read_by_the_next(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert rounds(folder, "round") == [*range(COUNT)]
    assert left(folder) == {CACHE}
    first = whole(folder)
    monkeypatch.setattr(requests, "batches_of_lines", None)
    assert rounds(folder) == rounds(folder, "round") == [*range(COUNT)]
    assert whole(folder) == first == (runs.records(COUNT), [])
    table = pq.read_table(folder / CACHE, columns=["itl_ms", "case"])
    assert table.column("itl_ms")[0].as_py() == runs.record(0)["itl_ms"]


def test_lists_of_gaps_are_list_columns(folder: Path) -> None:
    rounds(folder)
    types = {field.name: str(field.type) for field in pq.read_schema(folder / CACHE)}
    assert {types["itl_ms"], types["inter_chunk_ms"]} == {"list<element: double>"}


def test_only_what_is_asked_for_is_read_of_it(folder: Path) -> None:
    rounds(folder)
    (batch, *_) = Requests(folder).batches(columns=["round"])
    with pytest.raises(KeyError):
        batch["response"]


@pytest.mark.parametrize("text", ["", "[1]\n", "{\n"])
def test_lines_that_came_later_are_in_the_next_report(folder: Path, text: str) -> None:
    rounds(folder)
    with (folder / "requests.jsonl").open("a") as file:
        file.write(text)
    age(folder, 30)
    problems = whole(folder)[1]
    assert len(problems) == bool(text)
    assert whole(folder)[1] == problems


def test_change_that_leaves_the_size_and_the_time_of_the_file_is_seen(folder: Path) -> None:
    rounds(folder)
    path = folder / "requests.jsonl"
    before = path.stat()
    path.write_text(path.read_text().replace('"round":3', '"round":9'))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert path.stat().st_size == before.st_size
    assert rounds(folder)[3] == 9


def test_file_that_was_written_just_now_gets_none(folder: Path) -> None:
    (folder / "requests.jsonl").touch()
    assert rounds(folder) == [*range(COUNT)]
    assert left(folder) == set()


def test_file_that_changes_while_it_is_read_gets_none(folder: Path) -> None:
    reading = Requests(folder).batches()
    next(reading)
    with (folder / "requests.jsonl").open("a") as file:
        file.write("[1]\n")
    assert sum(len(batch) for batch in reading) == COUNT - 6
    assert left(folder) == set()


def test_reading_that_is_given_up_leaves_none(folder: Path) -> None:
    reading = Requests(folder).batches()
    next(reading)
    assert len(left(folder)) == 1
    del reading
    assert left(folder) == set()


def test_cache_of_another_layout_is_made_anew(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rounds(folder)
    before = (folder / CACHE).stat().st_mtime_ns
    monkeypatch.setattr(cache, "FORMAT", 2)
    assert rounds(folder) == [*range(COUNT)]
    assert (folder / CACHE).stat().st_mtime_ns > before


@pytest.mark.parametrize("damage", [b"", b"nothing", b"PAR1" * 9])
def test_cache_that_is_none_is_made_anew(folder: Path, damage: bytes) -> None:
    (folder / CACHE).write_bytes(damage)
    assert rounds(folder) == [*range(COUNT)]
    assert (folder / CACHE).stat().st_size > 1000


def test_parquet_file_of_somebody_else_is_no_cache(folder: Path) -> None:
    rounds(folder)
    pq.write_table(pq.read_table(folder / CACHE, columns=["round"]).slice(3), folder / CACHE)
    assert rounds(folder) == [*range(COUNT)]


def test_cache_that_is_damaged_in_the_middle_is_left_there_and_the_rest_is_of_the_lines(folder: Path) -> None:
    rounds(folder)
    told = pq.ParquetFile(folder / CACHE).metadata.row_group(2)
    columns = {told.column(n).path_in_schema: told.column(n) for n in range(told.num_columns)}
    chunk = columns["round"]
    data = bytearray((folder / CACHE).read_bytes())
    end = chunk.data_page_offset + chunk.total_compressed_size
    data[end - 3 : end] = bytes(255 - one for one in data[end - 3 : end])
    (folder / CACHE).write_bytes(data)
    assert rounds(folder) == [*range(COUNT)]
    assert (folder / CACHE).read_bytes() != data
    assert rounds(folder) == [*range(COUNT)]


def test_folder_that_takes_no_file_is_told(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(pq, "ParquetWriter", refuse)
    assert main(["report", str(folder), "-o", str(folder.parent / "r.html")]) == 0
    told = [line for line in capsys.readouterr().out.splitlines() if line.startswith("note: ")]
    assert told == [f"note: {folder}: the next report will not be faster, no cache is kept (Read-only file system)"]


@pytest.mark.skipif(sys.platform == "win32" or os.geteuid() == 0, reason="needs a user whom the system refuses")
def test_read_only_folder_is_read_all_the_same(folder: Path) -> None:
    folder.chmod(0o500)
    try:
        assert rounds(folder) == [*range(COUNT)]
        assert left(folder) == set()
    finally:
        folder.chmod(0o700)


def test_number_that_no_column_holds_costs_the_cache_alone(tmp_path: Path) -> None:
    folder = runs.folder(tmp_path, [*runs.records(9), runs.record(2**70)])
    age(folder)
    read = Requests(folder)
    assert [batch["round"][-1] for batch in read.batches()] == [5, 2**70]
    assert left(folder) == set()
    (note,) = read.notes
    assert note.startswith(f"{folder}: the next report will not be faster, no cache is kept (")


def test_what_killed_processes_left_is_removed(folder: Path) -> None:
    old, new = folder / f"{CACHE}.1.tmp", folder / f"{CACHE}.2.tmp"
    for path, seconds in ((old, 7200), (new, 60)):
        path.touch()
        os.utime(path, (time.time() - seconds,) * 2)
    rounds(folder)
    assert left(folder) == {CACHE, new.name}


def test_lines_that_vanish_after_the_cache_was_made_are_told(folder: Path) -> None:
    rounds(folder)
    batch = next(Requests(folder).batches())
    (folder / "requests.jsonl").unlink()
    with pytest.raises(StorageError, match=r"requests.jsonl: cannot be read \(No such file"):
        batch.record(0)


def test_load_that_was_cut_off_is_read_from_its_lines(folder: Path) -> None:
    (folder / ".load-main-1.jsonl").write_text("")
    assert rounds(folder) == [*range(COUNT)]
    assert CACHE not in left(folder)


def test_without_pyarrow_a_large_run_says_what_would_help_and_a_small_one_nothing(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(requests, "find_spec", lambda _: None)
    assert main(["report", str(folder), "--csv"]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == (
        "note: each report reads all of requests.jsonl again; with pyarrow the next ones are faster "
        "(pip install 'pytest-modellens[columnar]')"
    )
    assert left(folder) == set()
    monkeypatch.setattr(requests, "LARGE", 10**12)
    assert main(["report", str(folder)]) == 0
    assert "note" not in capsys.readouterr().out


def test_newer_version_of_a_record_is_an_error_and_no_cache(folder: Path) -> None:
    with (folder / "requests.jsonl").open("a") as file:
        file.write('{"schema_version": 99}\n')
    age(folder)
    with pytest.raises(StorageError, match="written by a newer pytest-modellens"):
        rounds(folder)
    assert left(folder) == set()
