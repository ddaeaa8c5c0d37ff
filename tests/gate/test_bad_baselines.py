"""`modellens gate` against baselines that cannot be judged against: each its exit status and its reason."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from pytest_modellens.cli import main
from pytest_modellens.gate.baseline import add_session, baseline_folder
from pytest_modellens.gate.session import session_of
from tests.gate.test_baseline import META, record, records, run_folder

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from pytest_modellens.gate.session import Session

GATE = ("--gate", "tokens_per_second:-5%")


def sessions(count: int = 5, rows: Callable[[], list[dict[str, Any]]] = records) -> list[Session]:
    return [session_of(f"2026010{number}T000000Z-run", META, rows()) for number in range(1, count + 1)]


def judged(results: Path, baseline: list[Session], *arguments: str, rows: Any = None, **meta: Any) -> int:
    for session in baseline:
        add_session(baseline_folder(results, "main"), session)
    run_folder(results, "20260201T000000Z-now", rows=rows, **meta)
    return main(["gate", *(arguments or GATE), f"--results={results}"])


def with_facts(**facts: Any) -> list[Session]:
    """Return sessions whose machine, or whose cases, differ in some facts."""
    found = []
    for session in sessions():
        machine = {name: facts.get(name, value) for name, value in session.machine.items()}
        cases = {key: {name: facts.get(name, value) for name, value in of.items()} for key, of in session.cases.items()}
        found.append(msgspec.structs.replace(session, machine=machine, cases=cases))
    return found


@pytest.mark.parametrize(
    ("facts", "sentence"),
    [
        ({"cpu": "6502"}, 'machine: cpu: "6502" in the baseline, "Z80" now'),
        ({"cores": 64}, "machine: cores: 64 in the baseline, 2 now"),
        ({"gpus": []}, 'machine: gpus: [] in the baseline, [{"name": "H100"}] now'),
        ({"metric_definitions": 0}, "machine: metric_definitions: 0 in the baseline, 1 now"),
        ({"model": "old"}, 's.yaml::a (vllm): model: "old" in the baseline, "m" now'),
        ({"quantization": "Q8"}, 's.yaml::b (vllm): quantization: "Q8" in the baseline, "Q4" now'),
        ({"case_hash": "b" * 64}, "s.yaml::a (vllm): case_hash: bbbbbbbb… in the baseline, aaaaaaaa… now"),
        ({"tokens_source": "estimate"}, 's.yaml::a (vllm): tokens_source: "estimate" in the baseline, "usage" now'),
        ({"streamed": False}, "s.yaml::a (vllm): streamed: false in the baseline, true now"),
        ({"concurrency": 8}, "s.yaml::a (vllm): concurrency: 8 in the baseline, 1 now"),
    ],
)
def test_baseline_of_something_else_is_incomparable(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], facts: dict[str, Any], sentence: str
) -> None:
    assert judged(tmp_path, with_facts(**facts)) == 4
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "gate: incomparable, against baseline main (5 sessions)"
    assert sentence in lines
    # Meant to differ: judged after all.
    assert main(["gate", *GATE, f"--may-differ={next(iter(facts))}", f"--results={tmp_path}"]) == 0


def test_run_says_by_which_definitions_its_numbers_were_made(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert judged(tmp_path, sessions(), rows=[record(number=at, metric_definitions=2) for at in range(6)]) == 4
    assert "machine: metric_definitions: 1 in the baseline, 2 now" in capsys.readouterr().out


@pytest.mark.parametrize("count", [0, 1, 4])
def test_baseline_of_few_sessions_decides_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], count: int
) -> None:
    baseline_folder(tmp_path, "main").mkdir(parents=True)
    assert judged(tmp_path, sessions(count)) == (3 if count else 4)
    out = " ".join(capsys.readouterr().out.split())
    assert ("gate: inconclusive" if count else "gate: no baseline") in out
    assert {0: "nothing was judged (accept a run", 1: "is a single session,", 4: "has 4 sessions,"}[count] in out


def test_sessions_without_requests_are_no_baseline(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    empty = [msgspec.structs.replace(session, rows=[], cases={}) for session in sessions()]
    assert judged(tmp_path, empty) == 4
    assert capsys.readouterr().out.startswith("gate: no baseline, against baseline main (0 sessions)\n")


def test_session_that_lost_its_rows_is_incomparable(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert judged(tmp_path, [msgspec.structs.replace(session, rows=[]) for session in sessions()]) == 4
    assert "the baseline is empty" in capsys.readouterr().out


@pytest.mark.parametrize("text", ["", "{", '{"rows": NaN}', "\x00", "[" * 100_000])
def test_corrupt_file_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str) -> None:
    folder = baseline_folder(tmp_path, "main")
    folder.mkdir(parents=True)
    (folder / "a.json").write_text(text)
    assert judged(tmp_path, []) == 1
    assert f"modellens: {folder / 'a.json'}: is no session of a baseline (" in capsys.readouterr().err


def test_value_that_is_no_number_cannot_get_into_a_file_unseen(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = add_session(baseline_folder(tmp_path, "main"), sessions(1)[0])
    path.write_text(path.read_text().replace("50.0", "NaN", 1))
    assert judged(tmp_path, []) == 1
    assert "is no session of a baseline (JSON is malformed" in capsys.readouterr().err
    path.write_text(path.read_text().replace("NaN", "null", 1))
    assert main(["gate", *GATE, f"--results={tmp_path}"]) == 1
    assert "was changed after it was written" in capsys.readouterr().err


def test_case_that_one_session_lacks_leaves_that_session_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    more = sessions(6)
    more[2] = session_of(more[2].name, META, [record(number=at) for at in range(6)])
    assert judged(tmp_path, more) == 0
    assert "against baseline main (5 sessions)" in capsys.readouterr().out


def test_case_that_was_not_run_or_is_new_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert judged(tmp_path, sessions(), rows=[record(case, at) for case in ("a", "new") for at in range(6)]) == 0
    out = capsys.readouterr().out
    assert "not in the baseline: s.yaml::new (vllm)\n" in out
    assert "in the baseline, not run: s.yaml::b (vllm)\n" in out


def failed(**more: Any) -> list[dict[str, Any]]:
    return [{**row, "ok": False, "error_class": "timeout", "tokens_per_second": None, **more} for row in records()]


def test_all_requests_failed_is_incomparable_in_either_arm(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert judged(tmp_path / "now", sessions(), rows=failed()) == 4
    assert "\n  no values in the candidate" in capsys.readouterr().out
    assert judged(tmp_path / "before", sessions(rows=failed)) == 4
    assert "\n  no values in the baseline" in capsys.readouterr().out


@pytest.mark.parametrize("value", [None, 0.0, -1.0, "fast"])
def test_value_that_is_none_counts_as_a_failed_request(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], value: Any
) -> None:
    rows = records()
    rows[0]["tokens_per_second"] = value
    assert judged(tmp_path, sessions(), rows=rows) == 0
    assert "gate: pass" in capsys.readouterr().out


def test_percentile_without_enough_requests_says_how_many_are_missing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert judged(tmp_path, sessions(), "--gate", "ttft_ms.p95:+20%") == 4
    shown = " ".join(capsys.readouterr().out.split())
    assert "incomparable needs 59 requests (47 are missing in a session of the baseline, " in shown


@pytest.mark.parametrize(
    ("limit", "message"),
    [
        ("tokens_per_second:+5%", "a higher value is better, so its limit must be negative"),
        ("ttft_ms:-5%", "a lower value is better, so its limit must be positive"),
        ("tokens_per_sec:-5%", "unknown metric (did you mean 'tokens_per_second'?)"),
        ("itl_ms:+5%", "itl_ms: cannot be gated"),
        ("ttft_ms.p75:+5%", "unknown statistic 'p75'"),
        ("tokens_per_second:-0%", "its limit must be a number other than 0"),
        ("tokens_per_second:-nan%", "must be a metric and its allowed change"),
        ("tokens_per_second:-100%", "nothing can fall by 100%"),
    ],
)
def test_limit_that_cannot_be_is_a_usage_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], limit: str, message: str
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["gate", "--gate", limit, f"--results={tmp_path}"])
    assert ended.value.code == 2
    assert message in capsys.readouterr().err
