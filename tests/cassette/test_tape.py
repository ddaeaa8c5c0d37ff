"""The file of a cassette: what is whole is found, whatever happened to the rest."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

import pytest

from pytest_modellens.cassette.tape import TapeReader, TapeWriter, packed
from pytest_modellens.errors import StorageError

if TYPE_CHECKING:
    from pathlib import Path

CONTENTS = [b"one" * 50, b"two \xabMLC in the middle" * 20, b"", b"four"]


@pytest.fixture
def tape(tmp_path: Path) -> Path:
    """A file of four entries."""
    path = tmp_path / "main.cassette"
    writer = TapeWriter(path)
    for content in CONTENTS:
        writer.append(packed(content))
    writer.close()
    return path


def contents(path: Path) -> tuple[list[bytes], list[str]]:
    with TapeReader(path) as reader:
        return [reader.read(at) for at in reader.positions], reader.problems


def test_entries_come_back_in_order_by_the_positions_they_were_given(tmp_path: Path) -> None:
    path = tmp_path / "main.cassette"
    writer = TapeWriter(path)
    positions = [writer.append(packed(content)) for content in CONTENTS]
    writer.close()
    with TapeReader(path) as reader:
        assert reader.positions == positions
        assert [reader.read(at) for at in positions] == CONTENTS
        assert reader.problems == []
    assert path.stat().st_mode & 0o077 == 0


def test_file_that_exists_is_added_to(tape: Path) -> None:
    writer = TapeWriter(tape)
    writer.append(packed(b"five"))
    writer.close()
    assert contents(tape) == ([*CONTENTS, b"five"], [])


def test_file_cut_off_anywhere_keeps_every_whole_entry(tape: Path) -> None:
    data = tape.read_bytes()
    with TapeReader(tape) as reader:
        ends = [*reader.positions[1:], len(data)]
    for size in range(len(data)):
        tape.write_bytes(data[:size])
        found, problems = contents(tape)
        whole = sum(end <= size for end in ends)
        assert found == CONTENTS[:whole]
        at_a_boundary = size <= reader.positions[0] or size in ends
        assert len(problems) == (not at_a_boundary), size


@pytest.mark.parametrize("number", range(4))
def test_damaged_entry_costs_only_itself(tape: Path, number: int) -> None:
    data = bytearray(tape.read_bytes())
    with TapeReader(tape) as reader:
        begin = reader.positions[number]
    for offset in (0, 5, 9, 13):  # mark, length, checksum, contents
        damaged = bytearray(data)
        damaged[begin + offset] ^= 0x55
        tape.write_bytes(damaged)
        found, problems = contents(tape)
        assert found == CONTENTS[:number] + CONTENTS[number + 1 :]
        (problem,) = problems
        assert problem.startswith(f"{tape}: ")
        assert f"byte {begin}" in problem
        assert "damaged" in problem


def test_entry_after_one_that_was_cut_off_is_found(tape: Path) -> None:
    tape.write_bytes(tape.read_bytes()[:-3])
    writer = TapeWriter(tape)
    writer.append(packed(b"five"))
    writer.close()
    found, problems = contents(tape)
    assert found == [*CONTENTS[:3], b"five"]
    assert len(problems) == 1


def test_disk_that_takes_half_an_entry_leaves_none_of_it(tape: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write, before = os.write, tape.read_bytes()
    writer = TapeWriter(tape)

    def half(descriptor: int, data: bytes) -> int:
        if len(data) > 20:
            return write(descriptor, data[:20])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr("pytest_modellens.cassette.tape.os.write", half)
        with pytest.raises(OSError, match="No space"):
            writer.append(packed(os.urandom(20)))
    assert tape.read_bytes() == before
    writer.append(packed(b"five"))
    writer.close()
    assert contents(tape) == ([*CONTENTS, b"five"], [])


def test_empty_file_is_an_empty_cassette(tmp_path: Path) -> None:
    path = tmp_path / "main.cassette"
    path.touch()
    assert contents(path) == ([], [])


def test_file_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"gone\.cassette: cannot be read \(No such file or directory\)"):
        TapeReader(tmp_path / "gone.cassette")
