"""The outcome, kept for later runs of the same machine only."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest

from pytest_modellens.environment import collect, fingerprint
from pytest_modellens.errors import StorageError
from pytest_modellens.selfcheck.floor import floor_path, keep_floor, read_floor
from tests.selfcheck.conftest import check, level

if TYPE_CHECKING:
    from pathlib import Path

    from pytest_modellens.selfcheck.check import SelfCheck

MACHINE = {"cpu_model": "Fast CPU", "cores_usable": 2, "cpu_limit": None}
NOW = datetime(2026, 11, 21, 10, 0, 0, 123456, tzinfo=UTC)
GOOD = check(level(1), level(4), level(16, worst=0.02), level(64))


def keep(outcome: SelfCheck = GOOD) -> Path:
    return keep_floor(outcome, machine=MACHINE, now=NOW)


def test_kept_outcome_is_read_for_the_same_machine(cache: Path) -> None:
    assert keep() == cache / "selfcheck.json" == floor_path()
    floor = read_floor(MACHINE)
    assert floor is not None
    levels = floor.pop("levels")
    assert floor == {
        "schema_version": 1,
        "checked_at": "2026-11-21T10:00:00+00:00",
        "clock": "kernel",
        "scenarios": 60,
        "wrong": {},
        "tolerance": 0.01,
        "streams": 4,
        "tokens_per_second": 344.8,
    }
    assert [entry["concurrency"] for entry in levels] == [1, 4, 16, 64]
    assert levels[0]["ttft_ms"] == {"p50": 0.025, "p99": 0.048, "max": 0.0484}


def test_nothing_is_read_without_an_outcome() -> None:
    assert read_floor(MACHINE) is None


def test_nothing_is_read_for_another_machine() -> None:
    keep()
    assert read_floor({**MACHINE, "cores_usable": 4}) is None


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"null", b'{"schema_version": 2}', b"\xff"])
def test_damaged_or_newer_file_is_none(cache: Path, content: bytes) -> None:
    keep().write_bytes(content)
    assert read_floor(MACHINE) is None


def test_later_outcome_replaces_the_earlier_and_leaves_nothing_else(cache: Path) -> None:
    keep()
    keep(check(level(1, worst=0.5, worst_figure="TTFT p99")))
    floor = read_floor(MACHINE)
    assert floor is not None
    assert (floor["streams"], floor["tokens_per_second"]) == (None, None)
    assert [path.name for path in cache.iterdir()] == ["selfcheck.json"]


def test_infinite_and_missing_figures_are_kept_as_null() -> None:
    keep(check(level(1, worst=float("inf"), throughput=float("nan"))))
    floor = read_floor(MACHINE)
    assert floor is not None
    assert (floor["levels"][0]["worst"], floor["levels"][0]["throughput"]) == (None, None)


def test_place_that_cannot_be_written_is_said(cache: Path) -> None:
    cache.write_text("a file")
    with pytest.raises(StorageError, match=r"selfcheck\.json: cannot be written \(.+; MODELLENS_CACHE moves it\)"):
        keep()


def test_without_a_variable_it_is_in_the_users_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MODELLENS_CACHE")
    assert (floor_path().parent.name, floor_path().name) == ("pytest-modellens", "selfcheck.json")


def test_environment_holds_the_floor_of_this_machine_only() -> None:
    assert collect({})["measurement_floor"] is None
    keep()
    assert collect({})["measurement_floor"] is None
    keep_floor(GOOD, machine=fingerprint(), now=NOW)
    floor = collect({})["measurement_floor"]
    assert (floor["streams"], floor["clock"]) == (4, "kernel")
    assert "machine" not in floor
    json.dumps(floor, allow_nan=False)
