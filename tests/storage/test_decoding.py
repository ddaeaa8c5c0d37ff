"""Lines into columns, whatever else is among the lines and wherever they are cut into groups."""

from __future__ import annotations

from itertools import chain, count
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from pytest_modellens.errors import StorageError
from pytest_modellens.storage import decoding
from pytest_modellens.storage.batches import Batch, Same
from pytest_modellens.storage.decoding import batches_of_lines, batches_of_rows
from tests.report import runs

if TYPE_CHECKING:
    from collections.abc import Iterator

PATH = Path("requests.jsonl")


def line(n: int, **fields: Any) -> bytes:
    return msgspec.json.encode(runs.record(n) | fields) + b"\n"


def read(lines: list[bytes], problems: list[str]) -> list[Batch]:
    return [*batches_of_lines(PATH, lambda: lines, problems)]


@pytest.fixture(params=[1, 2000, 10**9], ids=["one at once", "some at once", "all at once"])
def _at_once(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoding, "_AT_ONCE", request.param)


@pytest.mark.usefixtures("_at_once")
@pytest.mark.parametrize("records", [1, 3, 8192])
def test_lines_that_are_none_are_told_by_their_number_and_the_others_know_their_place(
    records: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decoding, "_RECORDS", records)
    lines = [line(0), b"[1]\n", line(1), b"\n", b'{"suite": 7}\n', line(2), line(3), b"{\n", line(4), b'{"suite": "a']
    problems: list[str] = []
    batches = read(lines, problems)
    assert [n for batch in batches for n in batch["round"]] == [0, 1, 2, 3, 4]
    assert problems == [
        "requests.jsonl:2: is not a JSON object; left out",
        "requests.jsonl:8: is not a JSON object; left out",
        "requests.jsonl:10: is cut off (the run was killed while it wrote)",
        "requests.jsonl: 1 lines are no records; left out",
    ]
    data = b"".join(lines)
    for batch in batches:
        assert len(batch) <= max(2 * records, 2)
        for at, (start, size) in enumerate(zip(batch["start"], batch["size"], strict=True)):
            assert msgspec.json.decode(data[start : start + size]) == batch.record(at)


@pytest.mark.usefixtures("_at_once")
def test_newer_version_is_an_error_wherever_it_is() -> None:
    lines = [line(0), line(1), line(2, schema_version=99), line(3)]
    with pytest.raises(StorageError, match=r"requests.jsonl: written by a newer pytest-modellens \(schema_version 99"):
        read(lines, [])


@pytest.mark.usefixtures("_at_once")
def test_what_was_read_before_the_disk_failed_is_kept() -> None:
    def lines() -> Iterator[bytes]:
        yield from (line(0), b"{\n", line(1))
        raise OSError(5, "Input/output error")

    problems: list[str] = []
    (batch,) = batches_of_lines(PATH, lines, problems)
    assert [*batch["round"]] == [0, 1]
    assert problems == [
        "requests.jsonl:2: is not a JSON object; left out",
        "requests.jsonl: cannot be read (Input/output error)",
    ]


def test_nothing_but_lines_that_are_none_is_no_batch() -> None:
    problems: list[str] = []
    assert read([b"1\n", b'{"suite": 7}\n'], problems) == []
    assert len(problems) == 2


def test_column_that_is_the_same_is_kept_once_and_read_like_any_other() -> None:
    (batch,) = batches_of_rows(runs.records(5))
    same, different = batch["case"], batch["round"]
    assert isinstance(same, Same)
    assert not isinstance(different, Same)
    assert [*same] == [runs.record(0)["case"]] * 5
    assert (same[-1], [*same[1:3]], len(same)) == (same.value, [same.value] * 2, 5)
    with pytest.raises(IndexError):
        same[5]


@pytest.mark.parametrize("value", [0.0, -0.0])
def test_zeros_keep_their_signs(value: float) -> None:
    (batch,) = batches_of_rows([runs.record(n, ttft_ms=of) for n, of in enumerate([value, -value, value])])
    assert repr([*batch["ttft_ms"]]) == repr([value, -value, value])


@pytest.mark.parametrize("chosen", [[], [1], [0, 3], [0, 1, 2, 3]])
def test_some_records_have_what_they_had(chosen: list[int]) -> None:
    rows = [runs.record(n, itl_ms=[float(n)] * n or None) for n in range(4)]
    (batch,) = batches_of_rows(rows)
    for some in (batch.take(chosen), batch.where([at in chosen for at in range(4)])):
        assert len(some) == len(chosen)
        assert [*some["round"]] == chosen
        assert [*some["case"]] == [rows[at]["case"] for at in chosen]
        assert some.gaps("itl_ms").lengths.tolist() == chosen
        assert some.gaps("itl_ms").values.tolist() == [*chain.from_iterable([float(n)] * n for n in chosen)]
        assert [some.record(at) for at in range(len(chosen))] == [rows[at] for at in chosen]
        assert [*some.each(lambda case, n: (case, n), "case", "round")] == [(rows[at]["case"], at) for at in chosen]
        assert [*some.each(str.upper, "case")] == [rows[at]["case"].upper() for at in chosen]


def test_what_is_the_same_is_made_once() -> None:
    (batch,) = batches_of_rows(runs.records(5))
    made = count()
    found = batch.each(lambda *_: next(made) == 0, "case", "suite")
    assert ([*found], next(made)) == ([True] * 5, 1)
    assert batch.where(found) is batch
