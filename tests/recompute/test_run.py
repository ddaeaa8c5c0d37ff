"""Runs that are damaged, incomplete, or only partly kept, derived again as far as that goes."""

from __future__ import annotations

import errno
import json
import tracemalloc
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest

from pytest_modellens.cassette.entry import decode_entry
from pytest_modellens.cassette.tape import TapeReader, TapeWriter, packed
from pytest_modellens.cassette.writer import Cassette, make_folder
from pytest_modellens.errors import StorageError
from pytest_modellens.providers.llamacpp import LlamaCppProvider
from pytest_modellens.recompute.run import Recomputed, recompute
from pytest_modellens.record import to_json
from pytest_modellens.runner import CellRun
from pytest_modellens.storage import RunFolder, decoding, read_run
from pytest_modellens.suite.loader import load_suite
from tests.plugin.fake_server import fake_server, stream

if TYPE_CHECKING:
    from pathlib import Path

KEYS = ("suite", "case", "params", "provider", "model")
LOAD = "load: {concurrency: 2, requests: 12, warmup: 2}"


pytestmark = pytest.mark.usefixtures("machine_may_be_busy")


def recorded(path: Path, keys: str, *, times: int = 1, words: tuple[str, ...] = ("Par", "is")) -> Path:
    """Measure a cell `times` times, keep its raw bytes, and return the run's folder."""
    suite = path / "s.yaml"
    suite.write_text(f"cases:\n- {{name: a, prompt: hi, expect: {{contains: Paris}}, {keys}}}\n")
    (cell,) = load_suite(suite).cells()
    folder = make_folder(path / "cassettes", "run")
    cassette = Cassette(folder, "main", limit_bytes=2**30)
    meta: dict[str, Any] = {"cassette": {"folder": str(folder)}, "cells": []}
    with (
        fake_server(stream(*words)) as server,
        RunFolder.create(path / "results", "x", now=datetime.now(UTC)) as run_folder,
    ):
        provider = LlamaCppProvider(server.url)
        for _ in range(times):
            run = CellRun(provider, cell, suite="s.yaml", model="m", cassette=cassette)
            run.run()
            rows = [to_json(record) for record in run.records]
            run_folder.append(rows)
            if run.load is not None:
                more: dict[str, Any] = {"server": {}, "degraded": []}
                meta["cells"].append({**{key: rows[0][key] for key in KEYS}, **run.load.evidence(), **more})
        run_folder.write_run(meta)
        provider.close()
    cassette.close()
    return run_folder.path


def change(folder: Path, *changes: dict[str, Any]) -> None:
    """Change the first records of a run."""
    path = folder / "requests.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    for row, more in zip(rows, changes, strict=False):
        row |= more
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))


def again(folder: Path, **more: Any) -> Recomputed:
    return recompute(folder, now=datetime.now(UTC), **more)


NOT_KEPT = {"cassette": None, "cassette_note": "no room"}


@pytest.mark.parametrize("without", [1, 3])
@pytest.mark.parametrize("keys", ["rounds: 4, warmup: 1", LOAD])
def test_requests_without_raw_bytes_before_others_are_part_of_their_cell(
    tmp_path: Path, keys: str, without: int
) -> None:
    folder = recorded(tmp_path, keys)
    # The entry that the record no longer names would count as one without a record.
    change(folder, *[NOT_KEPT] * without)
    cassette = tmp_path / "less"
    cassette.mkdir()
    (tape,) = (tmp_path / "cassettes" / "run").iterdir()
    with TapeReader(tape) as reader:
        contents = [reader.read(at) for at in reader.positions[without:]]
    writer = TapeWriter(cassette / "main.cassette")
    links: list[dict[str, Any]] = [{}] * without + [
        {"cassette": f"main.cassette:{writer.append(packed(content))}"} for content in contents
    ]
    writer.close()
    change(folder, *links)
    made = again(folder, cassette=cassette)
    assert (made.derived, made.carried_over, made.rescued) == (len(contents), without, 0)
    assert (made.requests, made.loads) == ([], [])
    assert read_run(made.folder).records == read_run(folder).records


@pytest.mark.parametrize("keys", ["rounds: 3, warmup: 1", LOAD])
def test_cell_that_was_measured_twice_is_two_cells(tmp_path: Path, keys: str) -> None:
    folder = recorded(tmp_path, keys, times=2)
    made = again(folder)
    assert (made.requests, made.loads, made.carried_over) == ([], [], 0)
    assert read_run(made.folder).records == read_run(folder).records
    assert read_run(made.folder).meta["cells"] == read_run(folder).meta["cells"]


def test_load_without_any_raw_bytes_stays_as_it_was(tmp_path: Path) -> None:
    folder = recorded(tmp_path, LOAD)
    change(folder, *[NOT_KEPT] * 14)
    (tape,) = (tmp_path / "cassettes" / "run").iterdir()
    rows = recorded(tmp_path, "rounds: 1, warmup: 0")  # somebody else's entry
    (other,) = (tmp_path / "cassettes" / "run-2").iterdir()
    tape.write_bytes(other.read_bytes())
    made = again(folder)
    assert (made.derived, made.carried_over, made.rescued) == (1, 14, 1)
    assert read_run(made.folder).records[:14] == read_run(folder).records
    assert read_run(made.folder).meta["cells"] == read_run(folder).meta["cells"]
    assert rows != folder


def test_progress_is_told_for_every_request(tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    again(recorded(tmp_path, "rounds: 3, warmup: 0"), on_progress=lambda done, of: told.append((done, of)))
    assert told == [(1, 3), (2, 3), (3, 3)]


def test_unexpected_answer_is_found_again_and_a_changed_one_judged_anew(tmp_path: Path) -> None:
    folder = recorded(tmp_path, "rounds: 2, warmup: 0", words=("Lon", "don"))
    failure = read_run(folder).records[0]["expect_failures"]
    assert len(failure) == 1
    # As if an older decoder had read another answer, and an own check had said something.
    change(folder, {"response": "Paris", "expect_failures": []}, {"expect_failures": ["said by a check of one's own"]})
    made = again(folder)
    assert [row["expect_failures"] for row in read_run(made.folder).records] == [
        failure,
        ["said by a check of one's own"],
    ]
    assert {change.field for change in made.requests} == {"response", "expect_failures"}


def test_fields_that_a_hook_added_stay(tmp_path: Path) -> None:
    folder = recorded(tmp_path, "rounds: 1, warmup: 0")
    change(folder, {"params": {"rack": "b12"}, "mine": 7, "hardware": {"cpu_percent_peak": 3.0}})
    made = again(folder)
    assert made.requests == []
    assert read_run(made.folder).records == read_run(folder).records


def test_line_that_is_no_record_is_left_out_and_said(tmp_path: Path) -> None:
    folder = recorded(tmp_path, "rounds: 1, warmup: 0")
    key = {name: read_run(folder).records[0][name] for name in KEYS}
    with (folder / "requests.jsonl").open("a") as file:
        file.write(f'{{"some": "line"}}\n{json.dumps(key | {"round": "x"})}\n')
    made = again(folder)
    assert read_run(made.folder).records == read_run(folder).records[:1]
    assert (made.derived, made.carried_over) == (1, 0)
    assert made.problems == [f"{folder}: 2 lines of requests.jsonl are no records; left out"]


def test_entry_that_this_version_cannot_read_is_said(tmp_path: Path) -> None:
    folder = recorded(tmp_path, "rounds: 2, warmup: 0")
    (tape,) = (tmp_path / "cassettes" / "run").iterdir()
    writer = TapeWriter(tape)
    at = writer.append(packed(b"\x81\xa1a\x01"))
    writer.close()
    change(folder, {"cassette": f"main.cassette:{at}"})
    made = again(folder)
    # The first record's own entry has no record now.
    assert (made.derived, made.carried_over, made.rescued) == (2, 1, 1)
    (problem,) = made.problems
    assert f"main.cassette:{at} is no entry of this version (Object missing required field" in problem


def test_run_of_which_nothing_can_be_read_is_refused(tmp_path: Path) -> None:
    folder = recorded(tmp_path, "rounds: 1, warmup: 0")
    (tape,) = (tmp_path / "cassettes" / "run").iterdir()
    tape.write_bytes(tape.read_bytes()[:60])
    with pytest.raises(StorageError, match=r"no record has raw bytes to recompute it from .*is cut off or damaged"):
        again(folder)
    assert [path.name for path in folder.parent.iterdir() if path.is_dir()] == [folder.name]


def test_series_beside_the_records_are_taken_over(tmp_path: Path) -> None:
    folder = recorded(tmp_path, "rounds: 1, warmup: 0")
    key = {name: read_run(folder).records[0][name] for name in KEYS}
    row = {**key, "summary": {"cpu_percent_peak": 50.0}, "series": [{"at_ms": 0.0, "cpu_percent": 50.0}]}
    (folder / "hardware.jsonl").write_text(f'{json.dumps(row)}\n{{"cut')
    (folder / "server.jsonl").write_text(json.dumps({**row, "summary": {}, "series": []}) + "\n")
    made = again(folder)
    assert json.loads((made.folder / "hardware.jsonl").read_text()) == row
    assert json.loads((made.folder / "server.jsonl").read_text())["case"] == "a"
    assert "50" in (made.folder / "hardware.csv").read_text()


def test_run_without_run_json_needs_to_be_told_where_its_cassette_is(tmp_path: Path) -> None:
    folder = recorded(tmp_path, LOAD)
    (folder / "run.json").unlink()
    with pytest.raises(StorageError, match="was recorded without a cassette"):
        again(folder)
    made = again(folder, cassette=tmp_path / "cassettes" / "run")
    assert made.derived == 14
    assert made.requests == []
    assert "run.json: cannot be read" in made.problems[0]
    assert len(read_run(made.folder).meta["cells"]) == 1


@pytest.mark.parametrize("keys", ["rounds: 400, warmup: 0", "load: {concurrency: 2, requests: 400}"])
def test_answers_are_not_held_in_memory(tmp_path: Path, keys: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoding, "_BYTES", 100_000)  # of lines that CSV files are made of at once
    answer = ("word " * 3_000,) * 2
    folder = recorded(tmp_path, keys, words=answer)
    again(folder)  # imports take memory too
    tracemalloc.start()
    try:
        made = again(folder)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert made.requests == []
    assert peak < (folder / "requests.jsonl").stat().st_size / 2


def test_run_that_loses_records_meanwhile_is_refused_and_nothing_is_left(tmp_path: Path) -> None:
    folder = recorded(tmp_path, "rounds: 3, warmup: 0")
    path = folder / "requests.jsonl"

    def lose(done: int, of: int) -> None:
        if done == of:
            path.write_bytes(path.read_bytes().partition(b"\n")[0] + b"\n")

    with pytest.raises(StorageError, match=r"lost records while it was read \(who else works on it\?\)"):
        again(folder, on_progress=lose)
    assert {*folder.parent.iterdir()} == {folder.parent / ".gitignore", folder}


def test_run_that_grows_meanwhile_is_taken_as_it_was(tmp_path: Path) -> None:
    folder = recorded(tmp_path, "rounds: 3, warmup: 0")
    before, path = read_run(folder).records, folder / "requests.jsonl"
    line = path.read_bytes().partition(b"\n")[0] + b"\n"

    def grow(_done: int, _of: int) -> None:
        with path.open("ab") as file:
            file.write(line)

    made = again(folder, on_progress=grow)
    assert (made.derived, made.carried_over, made.requests) == (3, 0, [])
    assert read_run(made.folder).records == before


def test_disk_without_room_for_what_is_derived_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = recorded(tmp_path, "rounds: 1, warmup: 0")

    def full(**_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("pytest_modellens.recompute.run.TemporaryFile", full)
    with pytest.raises(StorageError, match=r"results: cannot hold the records that were derived \(No space left"):
        again(folder)


def test_entries_say_all_that_the_format_promises(tmp_path: Path) -> None:
    recorded(tmp_path, "rounds: 1, warmup: 0")
    (tape,) = (tmp_path / "cassettes" / "run").iterdir()
    with TapeReader(tape) as reader:
        entry = decode_entry(reader.read(reader.positions[0]))
    assert entry.sent_ns is not None
    assert entry.submitted_ns <= entry.sent_ns <= entry.finished_ns
    assert b"".join(data for _, _, data in entry.reads()) == entry.data
    assert entry.data.startswith(b"HTTP/1.1 200 OK\r\n")
    assert json.loads(entry.body)["messages"] == [{"role": "user", "content": "hi"}]
    assert (entry.provider, entry.class_, entry.error, entry.served) == ("llamacpp", "LlamaCppProvider", None, True)
