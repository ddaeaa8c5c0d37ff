from __future__ import annotations

import json
import os
import threading
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from pytest_modellens.errors import StorageError
from pytest_modellens.storage import RunFolder, find_run, list_runs, read_run
from pytest_modellens.storage import folder as module

NOW = datetime(2026, 11, 21, 20, 30, tzinfo=UTC)


def create(results: Path, name: str = "smoke", now: datetime = NOW) -> RunFolder:
    return RunFolder.create(results, name, now=now)


def test_folder_is_named_by_utc_time_and_name(tmp_path: Path) -> None:
    with create(tmp_path / "results", now=NOW.astimezone(timezone(timedelta(hours=5)))) as run:
        assert run.path == tmp_path / "results" / "20261121T203000Z-smoke"
        assert run.started_at == "2026-11-21T20:30:00.000+00:00"


@pytest.mark.parametrize(
    ("name", "kebab"),
    [
        ("Nightly run #3", "nightly-run-3"),
        ("../../etc/passwd", "etc-passwd"),
        ("Größe Ω", "groe"),
        ("", "run"),
        ("日本", "run"),
        ("CON", "con"),
        ("a\x00b\nc", "a-b-c"),
        ("x" * 59 + "-yz", "x" * 59),
    ],
)
def test_folder_name_is_safe_whatever_the_user_typed(tmp_path: Path, name: str, kebab: str) -> None:
    with create(tmp_path, name) as run:
        assert run.path.name == f"20261121T203000Z-{kebab}"


def test_folders_of_the_same_second_get_numbers(tmp_path: Path) -> None:
    names = []
    for _ in range(3):
        with create(tmp_path) as run:
            names.append(run.path.name)
    assert names == [f"20261121T203000Z-smoke{suffix}" for suffix in ("", "-2", "-3")]


def test_folders_are_unique_when_runs_start_together(tmp_path: Path) -> None:
    paths: list[Path] = []
    barrier = threading.Barrier(8)

    def start() -> None:
        barrier.wait()
        with create(tmp_path / "new" / "results") as run:
            paths.append(run.path)

    threads = [threading.Thread(target=start) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(paths)) == 8


def test_results_folder_made_here_keeps_runs_out_of_git(tmp_path: Path) -> None:
    create(tmp_path / "results").close()
    assert (tmp_path / "results" / ".gitignore").read_text() == "*\n!.gitignore\n"


def test_results_folder_that_exists_is_left_as_it_is(tmp_path: Path) -> None:
    create(tmp_path).close()
    assert [path.name for path in tmp_path.iterdir()] == ["20261121T203000Z-smoke"]


def test_results_folder_that_is_a_file_is_a_storage_error(tmp_path: Path) -> None:
    (tmp_path / "results").write_text("")
    with pytest.raises(
        StorageError,
        match=r"results: cannot hold results \(File exists; choose another folder with --modellens-results\)",
    ):
        create(tmp_path / "results")


def test_results_folder_that_cannot_be_written_is_a_storage_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(self: Path, *_: Any, **__: Any) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "mkdir", refuse)
    with pytest.raises(StorageError, match=r"cannot hold results .Permission denied"):
        create(tmp_path / "results")


def test_run_json_is_sorted_indented_and_counts_measured_requests(tmp_path: Path) -> None:
    with create(tmp_path) as run:
        run.append([{"ok": True, "phase": "warmup"}, {"ok": True, "phase": "measured"}, {"ok": True}])
        run.append([{"ok": False, "phase": "measured"}])
        run.write_run({"zebra": float("nan"), "ended_at": "2026-11-21T20:31:00+00:00", "a": {"c": 1, "b": "\ud800"}})
    text = (run.path / "run.json").read_text(encoding="utf-8")
    meta = json.loads(text)
    assert meta == {
        "schema_version": 1,
        "name": "20261121T203000Z-smoke",
        "started_at": "2026-11-21T20:30:00.000+00:00",
        "ended_at": "2026-11-21T20:31:00+00:00",
        "counts": {"requests": 3, "ok": 2, "errors": 1},
        "a": {"b": "?", "c": 1},
        "zebra": None,
    }
    assert text == json.dumps(meta, indent=2, sort_keys=True) + "\n"
    assert sorted(path.name for path in run.path.iterdir()) == ["requests.jsonl", "run.json"]


def test_run_json_stays_whole_when_the_disk_is_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    with create(tmp_path) as run:
        run.write_run({"a": 1})
        before = (run.path / "run.json").read_bytes()
        with monkeypatch.context() as full:
            full.setattr(os, "fsync", refuse)
            with pytest.raises(
                StorageError, match=r"run\.json: cannot be written \(No space left on device; the one before is kept\)"
            ):
                run.write_run({"a": 2})
        assert (run.path / "run.json").read_bytes() == before
        assert sorted(path.name for path in run.path.iterdir()) == ["requests.jsonl", "run.json"]


def test_hardware_is_written_beside_the_requests(tmp_path: Path) -> None:
    with create(tmp_path) as run:
        run.write_hardware([{"case": "a", "series": [{"at_ms": 0.5}]}])
        run.write_hardware([{"case": "b", "series": []}])
    lines = (run.path / module.HARDWARE).read_text().splitlines()
    assert [json.loads(line)["case"] for line in lines] == ["a", "b"]


def test_folder_closes_its_requests_even_when_the_hardware_was_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = create(tmp_path)
    run.append([{"ok": True}])
    run.write_hardware([{"case": "a"}])
    good = os.fsync
    calls: list[int] = []

    def refuse_once(descriptor: int) -> None:
        calls.append(descriptor)
        if len(calls) == 1:
            raise OSError(5, "Input/output error")
        good(descriptor)

    monkeypatch.setattr(os, "fsync", refuse_once)
    with pytest.raises(StorageError, match="lines were lost"):
        run.close()
    assert len(calls) == 2
    run.close()


def test_run_can_be_found_listed_and_read_again(tmp_path: Path) -> None:
    with create(tmp_path) as run:
        run.append([{"ok": True, "phase": "measured", "response": "ja\n"}])
        run.write_run({"ended_at": "2026-11-21T20:31:00+00:00"})
    assert find_run(tmp_path, "latest") == run.path
    assert read_run(run.path).records == [{"ok": True, "phase": "measured", "response": "ja\n"}]
    (info,) = list_runs(tmp_path)
    assert (info.name, info.requests, info.ok, info.errors, info.is_finished) == (run.path.name, 1, 1, 0, True)
