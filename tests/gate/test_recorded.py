"""Recorded runs that the gate reads: of any size, whatever is in them."""

from __future__ import annotations

import tracemalloc
from typing import TYPE_CHECKING, Any

import pytest

from pytest_modellens.gate.recorded import candidate_session, recorded_session, recorded_sides
from pytest_modellens.gate.session import session_of
from pytest_modellens.storage import read_run
from tests.gate.test_baseline import record, run_folder

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

COUNT, LONG = 400, "word " * 10_000
NAME = "20260101T000000Z-run"
LIMITS = {"tokens_per_second": -0.05}


def rows(*, of_two: bool) -> Iterator[dict[str, Any]]:
    for number in range(COUNT):
        arm = ("baseline", "candidate")[number % 2] if of_two else None
        more = {"arm": arm, "provider": arm or "vllm"}
        yield record("ab"[number % 4 // 2], number // 4, response=LONG, **more)


@pytest.mark.parametrize(
    ("read", "of_two"),
    [
        (recorded_session, False),
        (candidate_session, True),
        (lambda folder: recorded_sides(folder, limits=LIMITS), True),
    ],
)
def test_answers_are_not_held_in_memory(tmp_path: Path, read: Callable[[Path], Any], of_two: bool) -> None:
    run_folder(tmp_path, NAME, rows=rows(of_two=of_two))
    folder = tmp_path / NAME
    assert read(folder) is not None  # imports take memory too
    tracemalloc.start()
    try:
        read(folder)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < (folder / "requests.jsonl").stat().st_size / 10


def test_session_is_that_of_the_records_and_what_cannot_be_read_is_said(tmp_path: Path) -> None:
    run_folder(tmp_path, NAME, rows=[record(number=number) for number in range(3)])
    folder = tmp_path / NAME
    with (folder / "requests.jsonl").open("a") as file:
        file.write('{"suite": "s.yaml"}\n{"cut')
    run = read_run(folder)
    session, wrong = recorded_session(folder)
    assert session == session_of(NAME, run.meta, run.records[:3])
    assert wrong == [f"{folder / 'requests.jsonl'}:5: is cut off (the run was killed while it wrote)"]
