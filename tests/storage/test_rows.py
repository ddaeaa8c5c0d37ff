"""Rows of a line file, read whenever they are looked at."""

from __future__ import annotations

import tracemalloc
from functools import partial
from typing import TYPE_CHECKING

import pytest

from pytest_modellens.errors import StorageError
from pytest_modellens.storage.folder import RunFolder
from pytest_modellens.storage.lines import LineFile
from pytest_modellens.storage.rows import Rows
from tests.disks import fill_disk
from tests.storage.test_folder import NOW

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


@pytest.fixture
def file(tmp_path: Path) -> Iterator[LineFile]:
    lines = LineFile(tmp_path / "requests.jsonl")
    yield lines
    lines.close()


def test_rows_can_be_gone_through_again_and_picked(file: LineFile) -> None:
    file.append({"n": n, "text": "é" * n} for n in range(5))
    rows = Rows(file)
    assert len(rows) == 5
    assert [row["n"] for row in rows] == [row["n"] for row in rows] == [0, 1, 2, 3, 4]
    assert (rows[2]["text"], rows[-1]["n"], [row["n"] for row in rows[1:4:2]]) == ("éé", 4, [1, 3])
    with pytest.raises(IndexError):
        rows[5]


def test_rows_are_those_of_their_time_and_changing_one_changes_nothing(file: LineFile) -> None:
    file.append([{"n": 0}])
    rows = Rows(file)
    rows[0]["n"] = 7
    file.append([{"n": 1}])
    assert [*rows] == [{"n": 0}]
    assert [*Rows(file)] == [{"n": 0}, {"n": 1}]


def test_rows_that_the_disk_refuses_are_among_them(file: LineFile, monkeypatch: pytest.MonkeyPatch) -> None:
    file.append([{"n": 0}])
    with monkeypatch.context() as full:
        fill_disk(full)
        with pytest.raises(StorageError, match="2 lines are not on disk yet"):
            file.append([{"n": 1}, {"n": 2}])
        rows = Rows(file)
        assert [*rows] == [{"n": 0}, {"n": 1}, {"n": 2}]
        assert (rows[0], rows[2]) == ({"n": 0}, {"n": 2})
    file.append([{"n": 3}])
    assert [*rows] == [{"n": 0}, {"n": 1}, {"n": 2}]
    assert rows[2] == {"n": 2}


def test_line_that_is_being_written_in_parts_is_not_among_them(file: LineFile, tmp_path: Path) -> None:
    file.append([{"n": 0}])
    with (tmp_path / "requests.jsonl").open("ab") as other:
        other.write(b'{"n":')
    assert [*Rows(file)] == [{"n": 0}]


def test_records_whose_folder_is_gone_are_a_storage_error(tmp_path: Path) -> None:
    with RunFolder.create(tmp_path, "smoke", now=NOW) as run:
        run.append([{"ok": True}])
        assert [*run.lines()] == [b'{"ok":true}\n']
        (run.path / "requests.jsonl").unlink()
        with pytest.raises(StorageError, match=r"requests\.jsonl: cannot be read \(No such file or directory\)"):
            _ = run.records


def peak(action: Callable[[], object]) -> int:
    tracemalloc.start()
    try:
        action()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_memory_does_not_grow_with_the_rows(tmp_path: Path) -> None:
    def write_and_read(number: int) -> None:
        file = LineFile(tmp_path / f"{number}.jsonl")
        file.append({"n": n, "text": "x" * 4000} for n in range(number))
        assert sum(row["n"] for row in Rows(file)) == number * (number - 1) // 2
        file.close()

    few, many = (peak(partial(write_and_read, number)) for number in (1000, 4000))
    assert many < 1.2 * few
