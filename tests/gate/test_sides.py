"""Records of two servers, measured side by side, as the gate takes them."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import numpy as np
import pytest

from pytest_modellens.gate.calibrations import Known
from pytest_modellens.gate.run import run_verdict_of
from pytest_modellens.gate.show import starts_sentence, verdict_lines
from pytest_modellens.gate.sides import judge_sides
from pytest_modellens.gate.specs import parse_blocks
from pytest_modellens.gate.verdict import ARMS

LIMITS = {"tokens_per_second": -0.05}
META: dict[str, Any] = {"servers": {}}


def record(arm: str | None, block: int, case: str = "a", **more: Any) -> dict[str, Any]:
    slow = 0.8 if arm == "candidate" and more.pop("slow", False) else 1.0
    return {
        "suite": "s.yaml",
        "case": case,
        "params": {},
        "provider": "new" if arm == "candidate" else "old",
        "arm": arm,
        "model": "m",
        "round": block,
        "phase": "measured",
        "ok": True,
        "tokens_per_second": slow * (50 + 0.5 * ((block * 7) % 5)),
        "completion_tokens": 8,
        **more,
    }


def run(blocks: int = 8, cases: str = "ab", **more: Any) -> list[dict[str, Any]]:
    return [
        record(arm, block, case, **more)
        for case in cases
        for block in range(blocks)
        for arm in ("baseline", "candidate")
    ]


def test_cases_are_called_what_they_are_on_the_candidate() -> None:
    found = judge_sides("run", META, run(), limits=LIMITS)
    assert found is not None
    assert (found.name, found.baseline, found.n_blocks) == ("pass", "old", 8)
    assert found.verdict is not None
    assert [case.case for case in found.verdict.metrics[0].cases] == ["s.yaml::a (new)", "s.yaml::b (new)"]
    assert found.verdict.design == "ab"


def test_slower_candidate_is_a_regression_at_any_look() -> None:
    for look in range(4):
        found = judge_sides("run", META, run(slow=True), limits=LIMITS, look=look, n_looks=4)
        assert found is not None
        assert found.name == "regression"
        assert found.verdict is not None
        assert (found.verdict.look, found.verdict.n_looks) == (look, 4)


@pytest.mark.parametrize("arm", ["baseline", "candidate", None])
def test_run_without_both_arms_is_none_of_two_servers(arm: str | None) -> None:
    records = [record(arm, block) for block in range(8)]
    assert judge_sides("run", META, records, limits=LIMITS) is None


def test_requests_of_no_arm_and_of_warm_up_are_left_out() -> None:
    extra = [record(None, 0, tokens_per_second=1.0), record("candidate", 0, phase="warmup", tokens_per_second=1.0)]
    with_them = judge_sides("run", META, iter([*run(), *extra]), limits=LIMITS)  # gone through once
    without = judge_sides("run", META, run(), limits=LIMITS)
    assert with_them is not None
    assert without is not None
    assert with_them.verdict == without.verdict


@pytest.mark.parametrize("arm", ["baseline", "candidate"])
def test_arm_without_a_success_is_incomparable_and_says_why(arm: str) -> None:
    records = run()
    for one in records:
        if one["arm"] == arm and one["case"] == "b":
            one |= {"ok": False, "error_class": "connect", "error": "refused", "tokens_per_second": None}
    found = judge_sides("run", META, records, limits=LIMITS)
    assert found is not None
    assert found.name == "incomparable"
    assert found.verdict is None
    assert found.differing == {"s.yaml::b (new)": [f"no request of the {arm} succeeded (8 × connect: refused)"]}


def test_case_that_one_arm_was_never_asked_is_named() -> None:
    records = [one for one in run() if (one["arm"], one["case"]) != ("candidate", "b")]
    found = judge_sides("run", META, records, limits=LIMITS)
    assert found is not None
    (sentences,) = found.differing.values()
    assert sentences == ["no request of the candidate succeeded (none was sent)"]


def test_what_is_not_a_number_counts_as_lost() -> None:
    records = run()
    records[5]["tokens_per_second"] = float("nan")
    found = judge_sides("run", META, records, limits=LIMITS)
    assert found is not None
    assert found.name == "pass"


def test_different_models_are_incomparable_unless_they_may_differ() -> None:
    records = run()
    for one in records:
        if one["arm"] == "candidate":
            one["model"] = "other"
    found = judge_sides("run", META, records, limits=LIMITS)
    assert found is not None
    assert found.differing["s.yaml::a (new)"] == ['model: "m" in the baseline, "other" now']
    found = judge_sides("run", META, records, limits=LIMITS, may_differ=("model",))
    assert found is not None
    assert found.name == "pass"


@pytest.mark.parametrize(("text", "looks"), [("6,12,20,40", (6, 12, 20, 40)), ("3", (3,)), ("3, 60", (3, 60))])
def test_blocks_are_numbers_that_grow(text: str, looks: tuple[int, ...]) -> None:
    assert parse_blocks(text) == looks


def restarted(blocks: int, **about: Any) -> Any:
    """Return the verdict on a run whose starts of either server differ by 5 %."""
    moved = {arm: np.random.default_rng((3, at)).normal(0, 0.05, blocks) for at, arm in enumerate(ARMS)}
    records = run(blocks)
    for one in records:
        one["tokens_per_second"] *= np.exp(moved[one["arm"]][one["round"]] - 0.04 * (one["arm"] == "candidate"))
    found = judge_sides("run", {**META, **about}, records, limits={"tokens_per_second": -0.03})
    assert found is not None
    return found


def test_servers_started_anew_for_each_block_show_by_how_much_starts_differ() -> None:
    found = restarted(8, side_by_side={"restarts": 7})
    assert (found.name, found.n_restarts) == ("inconclusive", 7)
    assert run_verdict_of(json.loads(json.dumps(found.to_json()))) == found
    lines = verdict_lines(found, width=500)
    assert lines[0] == "gate: inconclusive, side by side with old (8 blocks, 7 restarts)"
    assert lines[-1] == "both servers were started anew for each block: what starts differ by was seen, and not assumed"


def test_few_restarts_make_what_is_assumed_of_a_start_smaller() -> None:
    told = {number: starts_sentence(restarted(4, side_by_side={"restarts": number})) for number in (0, 1, 3)}
    assert [sentence.partition(":")[0] for sentence in told.values()] == [
        "one start of each server",
        "2 starts of each server",
        "4 starts of each server",
    ]
    assert [sentence.split("below ")[1].partition(" b")[0] for sentence in told.values()] == [
        "1.4 %",
        "0.98 %",
        "0.69 %",
    ]


@pytest.mark.parametrize("damaged", [None, 3, {"restarts": "many"}, {"restarts": None}, {}])
def test_run_that_says_nothing_of_restarts_had_none(damaged: Any) -> None:
    assert restarted(8, side_by_side=damaged).n_restarts == 0


def test_calibrated_start_is_what_two_processes_may_differ_by() -> None:
    known = Known(
        session_sd=0.02, start_sd=0.05, rho=0.3, made_at="2026-01-01", n_sessions=5, file="calibrations/a.json"
    )
    found = dataclasses.replace(restarted(8), calibration=known)
    assert starts_sentence(found).startswith("one start of each server: a difference below 14 % between two processes")
    last = verdict_lines(found, width=500)[-1]
    assert last.startswith("one start of each server: a difference below 14 %")
    assert "commits; calibrated on 2026-01-01 with 5 sessions" in last
    again = dataclasses.replace(found, n_restarts=7)
    assert "was seen, and not assumed; calibrated on 2026-01-01" in verdict_lines(again, width=500)[-1]
