"""A load's records while it is under way."""

from __future__ import annotations

import tracemalloc
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from msgspec.structs import replace

from pytest_modellens.record import Record, to_json
from pytest_modellens.storage import list_runs, read_run
from pytest_modellens.storage.folder import RunFolder
from pytest_modellens.storage.lines import encode
from pytest_modellens.storage.spool import NOTE, Judged, Spool, judged_rows, left_spools
from tests.disks import fill_disk
from tests.storage.test_folder import NOW

if TYPE_CHECKING:
    from pathlib import Path


def record(number: int, **changes: Any) -> Record:
    gaps = [10.0 + number + n for n in range(63)]
    fields: dict[str, Any] = {
        "suite": "a.yaml",
        "case": "a",
        "params": {"concurrency": 4},
        "provider": "vllm",
        "model": "tiny",
        "round": number,
        "started_at": f"2026-11-21T20:30:00.{number:03}+00:00",
        "ok": True,
        "response": f"word {number} " * 64,
        "ttft_ms": 50.0 + number,
        "inter_chunk_ms": gaps,
        "itl_ms": gaps,
        "sent_ns": 10**15 + number,
        "ended_ns": 10**15 + 700_000_000 + number,
        "notes": ["its own"],
        "timeline": {"event_ns": [*range(64)]},
    }
    return Record(**fields | changes)


def judged(spool: Spool, records: list[Record]) -> Judged:
    """Return what is judged of `records`, which go through `spool`."""
    shorts = [spool.add(one) for one in records]
    settled = [
        replace(one, phase="transient" if n == 0 else "measured", sent_ns=n, ended_ns=n + 5)
        for n, one in enumerate(shorts)
    ]
    return Judged(spool, settled)


def test_short_records_have_what_a_load_is_judged_by(tmp_path: Path) -> None:
    spool = Spool(tmp_path, "main", keeping=frozenset({"itl_ms"}))
    first, second = spool.add(record(0)), spool.add(record(1, expect_failures=["wrong"]))
    assert (second.ttft_ms, second.sent_ns, second.params) == (51.0, 10**15 + 1, {"concurrency": 4})
    assert (second.itl_ms, second.inter_chunk_ms, second.response) == (record(1).itl_ms, [], "")
    assert (first.expect_failures, second.expect_failures) == ([], ["wrong"])
    assert second.params is first.params


def test_records_are_read_as_they_were_judged(tmp_path: Path) -> None:
    spool = Spool(tmp_path, "main")
    found = judged(spool, [record(n) for n in range(4)])
    spool.close()
    spool.remove()
    assert [*tmp_path.iterdir()] == []
    expected = [
        replace(record(n), phase="transient" if n == 0 else "measured", sent_ns=n, ended_ns=n + 5) for n in range(4)
    ]
    assert [*found] == expected
    assert (found[-1], found[1:3], len(found)) == (expected[-1], expected[1:3], 4)
    with pytest.raises(IndexError):
        found[4]


def test_file_gives_the_rows_that_are_to_be_kept(tmp_path: Path) -> None:
    spool = Spool(tmp_path, "main")
    found = judged(spool, [record(n) for n in range(3)])
    spool.close()
    rows = judged_rows(spool.path, found.changes(), {"degraded": ["hot"]})
    assert [*map(encode, rows)] == [encode(to_json(one) | {"degraded": ["hot"]}) for one in found]


def test_load_that_was_cut_off_says_so_in_each_record(tmp_path: Path) -> None:
    spool = Spool(tmp_path, "gw1")
    for n in range(3):
        spool.add(record(n))
    with spool.path.open("ab") as file:
        file.write(b'{"half')
    rows = [*judged_rows(spool.path, None, {})]
    assert [row["notes"] for row in rows] == [["its own", NOTE]] * 3
    assert [row["sent_ns"] for row in rows] == [0, 1, 2]
    spool.close()


def test_disk_that_fills_is_asked_once_and_no_record_is_lost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spool = Spool(tmp_path, "main")
    shorts = [spool.add(record(0))]
    states = [spool.is_on_disk]
    with monkeypatch.context() as full:
        asked: list[int] = []

        def refused(descriptor: int, data: bytes) -> int:
            asked.append(len(data))
            raise OSError(28, "No space left on device")

        full.setattr("pytest_modellens.storage.lines.os.write", refused)
        shorts += [spool.add(record(n)) for n in range(1, 50)]
        assert len(asked) == 1
        spool.close()
    assert [*states, spool.is_on_disk] == [True, False]
    assert [one.response for one in Judged(spool, shorts)] == [record(n).response for n in range(50)]


def test_run_that_was_killed_during_a_load_has_its_records(tmp_path: Path) -> None:
    with RunFolder.create(tmp_path, "smoke", now=NOW) as run:
        run.append([to_json(record(9))])
        spool = Spool(run.path, "main")
        for n in range(3):
            spool.add(record(n))
        spool.close()
        run.write_run({})
        found = read_run(run.path)
        assert [row["round"] for row in found.records] == [9, 0, 1, 2]
        assert found.problems == []
        (info,) = list_runs(tmp_path)
        assert (info.requests, info.ok) == (4, 4)


def test_run_that_was_killed_while_a_load_was_adopted_has_each_record_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with RunFolder.create(tmp_path, "smoke", now=NOW) as run:
        run.append([to_json(record(9))])
        spool = Spool(run.path, "main")
        found = judged(spool, [record(n) for n in range(3)])
        spool.close()
        begun = spool.path.rename(spool.path.with_name(f"{spool.path.stem}@{run.size}.jsonl"))
        run.append([*judged_rows(begun, found.changes(), {})][:2])
        assert left_spools(run.path) == [(begun, len(msgspec.json.encode(to_json(record(9)))) + 1)]
        assert [row["round"] for row in read_run(run.path).records] == [9, 0, 1, 2]
        assert list_runs(tmp_path)[0].requests == 4


def test_full_disk_names_no_file_that_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ".load-x@y.jsonl.tmp").write_text("")
    fill_disk(monkeypatch)
    Spool(tmp_path, "main").close()
    assert [path.name[:10] for path, _ in left_spools(tmp_path)] == [".load-main"]


def test_what_stays_in_memory_is_a_small_part_of_a_record(tmp_path: Path) -> None:
    def grown(spool: Spool | None, number: int) -> int:
        tracemalloc.start()
        try:
            before = tracemalloc.get_traced_memory()[0]
            kept = [record(n) if spool is None else spool.add(record(n)) for n in range(number)]
            return (tracemalloc.get_traced_memory()[0] - before) // len(kept)
        finally:
            tracemalloc.stop()

    whole = grown(None, 200)
    few, many = (grown(Spool(tmp_path, "main"), number) for number in (200, 800))
    assert many < whole / 5
    assert many < 1.2 * few


def test_records_are_adopted_a_few_at_a_time(tmp_path: Path) -> None:
    def peak(number: int) -> int:
        with RunFolder.create(tmp_path, "smoke", now=NOW) as run:
            spool = Spool(run.path, "main")
            changes = judged(spool, [record(n) for n in range(number)]).changes()
            spool.close()
            tracemalloc.start()
            try:
                run.append(judged_rows(spool.path, changes, {}))
                return tracemalloc.get_traced_memory()[1]
            finally:
                tracemalloc.stop()

    assert peak(2000) < 1.2 * peak(500)
