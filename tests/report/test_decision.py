"""Which of two configurations a report says to deploy, and how sure it says that is."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pytest

from pytest_modellens.cli import main
from pytest_modellens.gate.calibrations import MachineCalibration, StoredEstimate, StoredSpread, write_calibration
from pytest_modellens.gate.session import machine_facts
from pytest_modellens.report.comparison import comparisons
from pytest_modellens.report.decision import decisions
from pytest_modellens.report.series import cells_of
from pytest_modellens.report.source import read
from tests.gate.servers import Machine
from tests.report import runs, simulated

if TYPE_CHECKING:
    from pathlib import Path

    from pytest_modellens.report.source import ReportRun
    from pytest_modellens.report.verdict import Verdict


def decided(*found: ReportRun) -> list[Verdict]:
    cells = cells_of(found)
    return decisions(comparisons(cells), cells)


def test_faster_run_is_the_one_to_deploy() -> None:
    (found,) = decided(runs.run(runs.records(12), "base"), runs.run(runs.records(12, speed=1.5), "new"))
    assert (found.level, found.title) == ("good", "new is faster than base")
    deploy, speed, first, sure = found.sentences
    assert deploy == "Of these two, new is the one to deploy."
    assert speed.startswith("new generates 50 % more tokens per second than base (95 % interval: 2")
    assert speed.endswith(" more; 1 case). This is clear.")
    assert first.startswith("The first token of new comes 33 % sooner than that of base (95 % interval: ")
    assert sure.startswith("How sure that is: one of ")


def test_slower_run_is_not_the_one_to_deploy() -> None:
    (found,) = decided(runs.run(runs.records(12), "base"), runs.run(runs.records(12, speed=0.7), "new"))
    assert (found.level, found.title) == ("good", "base is faster than new")


def test_same_run_twice_is_no_difference() -> None:
    (found,) = decided(runs.run(name := runs.records(30), "a"), runs.run(name, "b"))
    assert (found.level, found.title) == ("unsure", "No clear difference between a and b")
    assert all("This may be chance." in sentence for sentence in found.sentences[:2])
    assert found.sentences[2].startswith("Two single runs tell a difference of ")


def test_faster_tokens_and_later_first_ones_are_a_trade_off() -> None:
    base = runs.records(12)
    other = [row | {"tokens_per_second": 2 * row["tokens_per_second"], "ttft_ms": 3 * row["ttft_ms"]} for row in base]
    (found,) = decided(runs.run(base, "base"), runs.run(other, "new"))
    assert (found.level, found.title) == ("unsure", "A trade-off: new generates faster, base answers sooner")


def test_failures_come_before_speed() -> None:
    other = [*runs.records(12, speed=2.0), runs.failure(13), runs.failure(14)]
    (found,) = decided(runs.run(runs.records(12), "base"), runs.run(other, "new"))
    assert found.level == "bad"
    assert "With new, 2 of 14 requests failed." in found.sentences


def test_failures_in_cases_that_only_one_has_do_not_count() -> None:
    other = [*runs.records(12, speed=1.5), runs.failure(case="other")]
    (found,) = decided(runs.run(runs.records(12), "base"), runs.run(other, "new"))
    assert found.title == "new is faster than base"


def test_too_few_requests_are_said() -> None:
    (found,) = decided(runs.run(runs.records(2), "base"), runs.run(runs.records(2, speed=3.0), "new"))
    assert (found.level, found.title) == ("unsure", "Too few requests to tell base from new")


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"case_hash": "other"}, "they were asked different things (the suite changed)"),
        ({"metric_definitions": 2}, "their metrics are defined differently"),
        ({"tokens_source": "events"}, "their tokens were counted differently"),
        ({"tokens_per_second_mode": "end_to_end"}, "one was streamed and the other was not"),
        ({"tokens_per_second": None}, "no request brought tokens/s"),
        ({"case": "other"}, "only one of them has it"),
    ],
)
def test_what_cannot_be_compared_is_left_out_with_the_reason(change: dict[str, Any], why: str) -> None:
    rows = [row | change for row in runs.records(8)]
    found = comparisons(cells_of([runs.run(runs.records(8), "base"), runs.run(rows, "new")]))
    speed = next(one for one in found if one.metric == "tokens_per_second")
    assert speed.ratios == {}
    assert set(speed.left_out.values()) == {why}


def test_runs_of_different_suites_cannot_be_compared() -> None:
    (found,) = decided(runs.run(runs.records(8), "base"), runs.run(runs.records(8, suite="b.yaml"), "new"))
    assert (found.level, found.title) == ("unsure", "base and new cannot be compared")
    assert "capital (chat): only one of them has it." in found.sentences


def test_providers_of_one_run_are_compared_without_what_sessions_differ_by() -> None:
    rows = [*runs.records(12), *runs.records(12, provider="llamacpp")]
    (one,) = [one for one in comparisons(cells_of([runs.run(rows)])) if one.metric == "ttft_ms"]
    (two,) = [
        one
        for one in comparisons(cells_of([runs.run(rows[:12], "a"), runs.run(rows[:12], "b")]))
        if one.metric == "ttft_ms"
    ]
    assert (one.first.label, one.second.label) == ("vllm", "llamacpp")
    assert one.overall is not None
    assert two.overall is not None
    assert one.overall.high < two.overall.high


@pytest.mark.parametrize(
    ("gain", "title"),
    [
        (0.4, "new is faster than old"),
        (-0.4, "old is faster than new"),
        (0.0, "No clear difference between old and new"),
        (0.04, "No clear difference between old and new"),
    ],
    ids=["faster", "slower", "equal", "hardly different"],
)
def test_two_runs_of_servers_whose_speed_is_known(tmp_path: Path, gain: float, title: str) -> None:
    (found,) = decided(*map(read, simulated.two_runs(tmp_path, gain=gain)))
    assert found.title == title


@pytest.mark.parametrize(
    ("gain", "rounds", "title"),
    [
        (0.4, 20, "sglang is faster than vllm"),
        (0.0, 200, "vllm and sglang are equally fast"),
        (0.03, 20, "No clear difference between vllm and sglang"),
    ],
    ids=["faster", "equal", "hardly different"],
)
def test_two_servers_of_one_run_whose_speed_is_known(tmp_path: Path, gain: float, rounds: int, title: str) -> None:
    (found,) = decided(read(simulated.one_run(tmp_path, gain=gain, rounds=rounds)))
    assert found.title == title
    said = "\n".join(found.sentences)
    assert ("is the one to deploy" in said) == ("faster" in title)
    assert ("Either can be deployed" in said) == ("equally" in title)
    assert ("As many requests as these tell a difference of " in said) == ("No clear" in title)


def test_truth_lies_in_the_interval(tmp_path: Path) -> None:
    found = comparisons(cells_of([*map(read, simulated.two_runs(tmp_path, gain=0.4))]))
    speed = found[0].overall
    assert speed is not None
    assert speed.low < 1.4 < speed.high
    assert speed.value == pytest.approx(1.4, rel=0.05)


def test_case_that_says_the_opposite_is_named() -> None:
    slow = [runs.record(n, case="odd", speed=0.5, provider="sglang") for n in range(12)]
    rows = [row for case in "abcdef" for row in runs.records(12, case=case)]
    other = [row for case in "abcdef" for row in runs.records(12, case=case, speed=1.6, provider="sglang")]
    (found,) = decided(runs.run([*rows, *runs.records(12, case="odd"), *other, *slow]))
    assert found.title == "sglang is faster than vllm"
    assert "sglang is slower in odd (tokens/s, TTFT)." in found.sentences


def test_large_ratios_are_told_as_times() -> None:
    rows = [*runs.records(12), *runs.records(12, provider="sglang", speed=3.0)]
    (found,) = decided(runs.run(rows))
    said = r"sglang generates 3\.0 times as many tokens per second as vllm \(95 % interval: 2\.\d to 3\.\d times"
    assert re.match(said, found.sentences[1])
    (found,) = decided(runs.run([*runs.records(12), *runs.records(12, provider="sglang", speed=0.2)]))
    assert "The first token of sglang takes 5.0 times as long as that of vllm" in found.sentences[2]


def test_page_of_two_runs_says_what_to_deploy_and_how_sure_that_is(tmp_path: Path) -> None:
    old, new = simulated.two_runs(tmp_path, gain=0.4)
    assert main(["report", str(old), str(new), "--markdown", "--json", str(tmp_path / "out.json")]) == 0
    html = (old / "comparison.html").read_text(encoding="utf-8")
    for said in ("new is faster than old", "Of these two, new is the one to deploy.", "How sure that is: one of "):
        assert said in html


def calibrated(folder: Path, session_sd: float) -> None:
    """Write a calibration of the machine of `runs.META` beside the runs."""

    def estimate(used: float) -> StoredEstimate:
        return StoredEstimate(used=used, seen=used, low=None, high=None)

    spread = StoredSpread(session_sd=estimate(session_sd), start_sd=estimate(0.001), rho=estimate(0.1))
    found = MachineCalibration(
        made_at="2026-11-01T00:00:00+00:00",
        machine=machine_facts(runs.META),
        sessions=[["a"], ["b"]],
        span_h=None,
        requests=9,
        metrics={"tokens_per_second": spread, "ttft_ms": spread},
    )
    write_calibration(folder, found)


def test_calibration_of_the_machine_decides_how_sure_that_is(tmp_path: Path) -> None:
    folders = simulated.two_runs(tmp_path, gain=0.12)
    (before,) = decided(*map(read, folders))
    calibrated(tmp_path, 0.004)
    (after,) = decided(*map(read, folders))
    assert (before.title, after.title) == ("No clear difference between old and new", "new is faster than old")
    assert (
        "sessions on this machine differ by 0.4 %, as they did when this machine was calibrated" in after.sentences[-1]
    )
    for file in (tmp_path / "calibrations").iterdir():
        file.write_text("{")
    assert decided(*map(read, folders)) == [before]


def test_assumption_is_said_where_nobody_calibrated(tmp_path: Path) -> None:
    (found,) = decided(*map(read, simulated.two_runs(tmp_path, gain=0.4)))
    assert (
        "if sessions on this machine differ by 2 %, which is assumed (modellens calibrate measures it)."
        in found.sentences[-1]
    )


def test_servers_of_one_run_that_were_asked_in_turn_are_told_apart_better() -> None:
    machine = Machine(5, cases=6)
    session = machine.session()
    rows = simulated.rows(machine, session=session)
    other = simulated.rows(machine, session=session, gain=0.04, provider="sglang")
    (apart,) = [one for one in comparisons(cells_of([runs.run([*rows, *other])])) if one.metric == "ttft_ms"]
    turns = [{**row, "arm": "baseline"} for row in rows] + [{**row, "arm": "candidate"} for row in other]
    (paired,) = [one for one in comparisons(cells_of([runs.run(turns)])) if one.metric == "ttft_ms"]
    assert (apart.is_in_turn, paired.is_in_turn) == (False, True)
    assert apart.overall is not None
    assert paired.overall is not None
    assert paired.overall.high - paired.overall.low < apart.overall.high - apart.overall.low
    few = [{**row, "round": row["round"] + 100 * (row["arm"] == "baseline")} for row in turns]
    (none,) = [one for one in comparisons(cells_of([runs.run(few)])) if one.metric == "ttft_ms"]
    assert none.overall is None
    assert {*none.left_out.values()} == {"fewer than 3 blocks have values of both"}
