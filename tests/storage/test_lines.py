from __future__ import annotations

import errno
import os
import resource
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pytest_modellens.errors import StorageError
from pytest_modellens.storage.lines import LineFile, encode

if TYPE_CHECKING:
    from collections.abc import Iterator

FULL = Path("/dev/full")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "requests.jsonl"


@contextmanager
def files_end_at(size: int) -> Iterator[None]:
    """Let this process write no file beyond `size` bytes, as a full disk would: not pytest's own output either."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_lines_are_written_in_order_by_one_write(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    writes = []
    good = os.write

    def write(descriptor: int, data: bytes) -> int:
        writes.append(bytes(data))
        return good(descriptor, data)

    file = LineFile(path)
    monkeypatch.setattr(os, "write", write)
    file.append([{"n": 1}, {"n": 2}])
    assert writes == [b'{"n":1}\n{"n":2}\n']
    assert path.read_bytes() == writes[0]
    file.append([])
    assert len(writes) == 1
    file.close()


def test_many_lines_are_written_while_they_are_made(path: Path) -> None:
    sizes = []

    def rows() -> Iterator[dict[str, str]]:
        for _ in range(30):
            sizes.append(path.stat().st_size)
            yield {"text": "x" * 100_000}

    file = LineFile(path)
    file.append(rows())
    assert 0 < sizes[-1] < path.stat().st_size
    assert sizes[-1] > 2_000_000
    file.close()


def test_disk_that_is_full_is_asked_once_for_many_lines(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def full(descriptor: int, data: bytes) -> int:
        asked.append(len(data))
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    file = LineFile(path)
    with monkeypatch.context() as patch:
        patch.setattr(os, "write", full)
        with pytest.raises(StorageError, match="30 lines are not on disk yet"):
            file.append({"text": "x" * 100_000} for _ in range(30))
    assert len(asked) == 1
    file.close()
    assert len(path.read_bytes().splitlines()) == 30


def test_lines_are_added_to_what_is_there(path: Path) -> None:
    path.write_bytes(b'{"n":0}\n')
    file = LineFile(path)
    file.append([{"n": 1}])
    file.close()
    file.close()
    assert path.read_bytes() == b'{"n":0}\n{"n":1}\n'


def test_disk_that_fills_in_the_middle_leaves_no_torn_line(path: Path) -> None:
    file = LineFile(path)
    file.append([{"n": 1}])
    with files_end_at(12):
        with pytest.raises(StorageError, match=r"1 lines are not on disk yet \(File too large; make room"):
            file.append([{"n": 2}])
        assert path.read_bytes() == b'{"n":1}\n'
        with pytest.raises(StorageError, match="2 lines are not on disk yet"):
            file.append([{"n": 3}])
    assert path.read_bytes() == b'{"n":1}\n'
    file.append([{"n": 4}])
    file.close()
    assert path.read_bytes() == b'{"n":1}\n{"n":2}\n{"n":3}\n{"n":4}\n'


def test_lines_that_never_reached_the_disk_are_reported_at_the_end(path: Path) -> None:
    file = LineFile(path)
    with files_end_at(4):
        with pytest.raises(StorageError):
            file.append([{"n": 1}])
        with pytest.raises(StorageError, match=r"requests\.jsonl: 1 lines were lost \(File too large\)"):
            file.close()
    file.close()


@pytest.mark.skipif(not FULL.exists(), reason="no /dev/full here")
def test_full_device_is_a_storage_error() -> None:
    file = LineFile(FULL)
    with pytest.raises(StorageError, match=r"/dev/full: 1 lines are not on disk yet \(No space left on device"):
        file.append([{"n": 1}])
    with pytest.raises(StorageError, match="/dev/full: 1 lines were lost"):
        file.close()


def test_tail_that_could_not_be_cut_is_cut_before_the_next_write(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = LineFile(path)
    good = os.write

    def write_a_part(descriptor: int, data: bytes) -> int:
        if len(data) < 8:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return good(descriptor, data[:3])

    def refuse(*_: Any) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with monkeypatch.context() as broken:
        broken.setattr(os, "write", write_a_part)
        broken.setattr(os, "ftruncate", refuse)
        with pytest.raises(StorageError, match="No space left"):
            file.append([{"n": 1}])
    assert path.read_bytes() == b'{"n'
    with monkeypatch.context() as broken:
        broken.setattr(os, "ftruncate", refuse)
        with pytest.raises(StorageError, match="Input/output error"):
            file.append([{"n": 2}])
    file.append([])
    file.close()
    assert path.read_bytes() == b'{"n":1}\n{"n":2}\n'


def test_short_writes_are_continued(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = LineFile(path)
    good = os.write
    monkeypatch.setattr(os, "write", lambda descriptor, data: good(descriptor, data[:5]))
    file.append([{"text": "0123456789"}])
    file.close()
    assert path.read_bytes() == b'{"text":"0123456789"}\n'


def test_interrupted_write_is_neither_torn_nor_doubled(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = LineFile(path)
    good = os.write

    def interrupt(descriptor: int, data: bytes) -> int:
        good(descriptor, data)
        raise KeyboardInterrupt

    with monkeypatch.context() as interrupted:
        interrupted.setattr(os, "write", interrupt)
        with pytest.raises(KeyboardInterrupt):
            file.append([{"n": 1}])
    file.append([{"n": 2}])
    file.close()
    assert path.read_bytes() == b'{"n":1}\n{"n":2}\n'


def test_row_that_is_no_json_is_refused_and_the_file_goes_on(path: Path) -> None:
    file = LineFile(path)
    with pytest.raises(TypeError):
        file.append([{"n": 1}, {"n": object()}])
    file.append([{"n": 2}])
    file.close()
    assert path.read_bytes() == b'{"n":1}\n{"n":2}\n'


def test_file_that_cannot_be_opened_is_a_storage_error(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"none/x\.jsonl: cannot be opened for writing \(No such file"):
        LineFile(tmp_path / "none" / "x.jsonl")


def test_line_holds_no_nan_and_no_infinity() -> None:
    assert encode({"a": float("nan"), "b": [float("inf")]}) == b'{"a":null,"b":[null]}'


def test_line_holds_half_a_surrogate_pair_as_a_question_mark() -> None:
    row = {"response": "a\ud83db", "\ud800": [1, {"x": "\udfff"}], "ok": True}
    assert encode(row) == b'{"response":"a?b","?":[1,{"x":"?"}],"ok":true}'
