"""`judge`: its arithmetic against numbers worked out apart, and everything that cannot be compared."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from pytest_modellens.errors import ConfigError
from pytest_modellens.gate import Calibration, MetricVerdict, Verdict, judge
from pytest_modellens.gate.verdict import EXIT_STATUS
from tests.gate.servers import Machine, frame

TPS = {"tokens_per_second": -0.05}
QUIET = Calibration(session_sd=0.0, start_sd=0.0, rho=0.0)


def arms(**more: Any) -> list[pd.DataFrame]:
    return [*Machine(1).side_by_side(**more)]


def only(verdict: Verdict) -> MetricVerdict:
    (metric,) = verdict.metrics
    return metric


def test_side_by_side_is_yuens_t_over_blocks() -> None:
    rng = np.random.default_rng(4)
    base, change = np.zeros((1, 20)), rng.normal(-0.02, 0.03, 20)
    metric = only(judge(frame(base), frame(base + change), limits=TPS, calibration=QUIET))
    middle = np.sort(change)[2:-2]
    winsorised = np.clip(change, middle[0], middle[-1])
    se = math.sqrt(((winsorised - winsorised.mean()) ** 2).sum() / (16 * 15))
    low, high = middle.mean() + se * stats.t(15).ppf([0.05, 0.95])
    assert metric.estimate == pytest.approx(math.expm1(middle.mean()))
    assert (metric.low, metric.high) == pytest.approx((math.expm1(low), math.expm1(high)))
    assert metric.resolution == pytest.approx(-(1 - math.exp(-(-math.log(0.95) + stats.norm.ppf(0.95) * se))))
    assert metric.n == 20


def test_server_starts_and_memory_widen_the_interval_as_calibrated() -> None:
    rng = np.random.default_rng(4)
    base, change = np.zeros((1, 5)), rng.normal(0.0, 0.03, 5)
    metric = only(
        judge(
            frame(base), frame(base + change), limits=TPS, calibration={"start_sd": 0.01, "rho": 0.5, "session_sd": 0}
        )
    )
    within = 3 * change.var(ddof=1) / 5
    variance = within + 2 * 0.01**2
    half = stats.t(4 * (variance / within) ** 2).ppf(0.95) * math.sqrt(variance)
    assert metric.high is not None
    assert math.log1p(metric.high) == pytest.approx(change.mean() + half)


def test_stored_is_t_over_sessions_with_a_prior() -> None:
    rng = np.random.default_rng(4)
    values = rng.normal(0.0, 0.02, 7)
    spread = 0.03 * np.array([[-1.0, 0.0, 0.0, 1.0]])
    frames = [frame(value + spread, job=number) for number, value in enumerate(values)]
    known = Calibration(session_sd=0.015, start_sd=0.002, rho=0.0)
    metric = only(judge(pd.concat(frames[:5]), pd.concat(frames[5:]), limits=TPS, design="stored", calibration=known))
    old, new = values[:5], values[5:]
    prior = 0.015**2 + 0.002**2 + 0.03**2 * (2 / 3) / 4
    squares = ((old - old.mean()) ** 2).sum() + ((new - new.mean()) ** 2).sum()
    variance = (2 * prior + squares) / (2 + 5)
    half = stats.t(7).ppf(0.95) * math.sqrt(variance * (1 / 5 + 1 / 2))
    assert metric.estimate == pytest.approx(math.expm1(new.mean() - old.mean()))
    assert metric.high == pytest.approx(math.expm1(new.mean() - old.mean() + half))
    assert metric.n == 2


def test_goodput_is_newcombes_interval() -> None:
    met = [np.array([[1.0] * 180 + [0.0] * 20]), np.array([[1.0] * 170 + [0.0] * 30])]
    order = np.random.default_rng(0).permutation(200)
    frames = [frame(part[:, order], metric="x").assign(goodput=part[0, order].astype(bool)) for part in met]
    metric = only(judge(*frames, limits={"goodput": -0.02}, calibration=QUIET))
    old, new = (stats.binomtest(hits, 200).proportion_ci(0.92, method="wilson") for hits in (180, 170))
    below = math.hypot(0.85 - new.low, old.high - 0.9)
    assert metric.estimate == pytest.approx(-0.05)
    assert metric.low == pytest.approx(-0.05 - below * stats.norm.isf(0.05) / stats.norm.isf(0.04), rel=0.02)
    assert metric.verdict == "inconclusive"


def test_percentile_is_that_of_all_requests_relative_to_their_case() -> None:
    rng = np.random.default_rng(0)
    base = rng.normal(size=(2, 100)) * 0.05 + np.array([[0.0], [1.0]])
    # The slow fifth of the candidate's requests is slower by half; the others are not.
    new = base + 0.4 * (base - np.median(base, axis=1, keepdims=True) > np.quantile(base[0], 0.8))
    frames = [frame(5 + logs, metric="ttft_ms") for logs in (base, new)]
    found = judge(*frames, limits={"ttft_ms.p95": 0.1, "ttft_ms.p50": 0.1, "ttft_ms": 0.1})
    tail, middle, typical = found.metrics
    assert tail.verdict == "regression"
    assert tail.estimate == pytest.approx(math.expm1(0.4), rel=0.02)
    assert middle.verdict == typical.verdict == "pass"
    assert len(tail.cases) == 2
    assert found.verdict == "regression"


def test_percentile_in_stored_sessions_is_judged_by_session() -> None:
    rng = np.random.default_rng(0)
    frames = [frame(rng.normal(size=(2, 60)) * 0.05, job=job, metric="ttft_ms") for job in range(9)]
    slow = [one.assign(ttft_ms=one["ttft_ms"] * 1.5) for one in frames[6:]]
    for new, verdict in ((frames[6:], "pass"), (slow, "regression")):
        found = judge(pd.concat(frames[:6]), pd.concat(new), limits={"ttft_ms.p95": 0.2}, design="stored")
        assert found.verdict == verdict
        assert len(only(found).cases) == 2


def test_cases_too_small_for_a_percentile_are_judged_together_only() -> None:
    frames = [one.assign(ttft_ms=1 / one["tokens_per_second"]) for one in arms()]
    assert only(judge(*frames, limits={"ttft_ms.p95": 0.3})).cases == ()
    stored = [one.assign(ttft_ms=1 / one["tokens_per_second"]) for one in Machine(1).stored()]
    assert only(judge(*stored, limits={"ttft_ms.p95": 0.3}, design="stored")).cases == ()


def test_goodput_of_stored_sessions_is_judged_by_session() -> None:
    rng = np.random.default_rng(0)

    def session(job: int, share: float) -> pd.DataFrame:
        return frame(np.zeros((4, 100)), job=job).assign(goodput=rng.random(400) < share)

    baseline = pd.concat([session(job, 0.95) for job in range(5)])
    for share, verdict in ((0.95, "pass"), (0.5, "regression")):
        new = pd.concat([session(job, share) for job in range(4)])
        assert judge(baseline, new, limits={"goodput": -0.15}, design="stored").verdict == verdict


def test_goodput_that_whole_blocks_lose_is_less_certain() -> None:
    met = np.ones((4, 40))
    scattered, together = met.copy(), met.copy()
    scattered.ravel()[::11] = 0
    together[:, :4] = 0
    width = []
    for lost in (scattered, together):
        frames = [frame(met).assign(goodput=part.ravel() > 0) for part in (met, lost)]
        metric = only(judge(*frames, limits={"goodput": -0.05}))
        assert metric.low is not None
        assert metric.high is not None
        width.append(metric.high - metric.low)
    assert width[1] > 1.3 * width[0]


@pytest.mark.parametrize("design", ["ab", "stored"])
def test_cases_without_objectives_have_no_part_in_goodput(design: str) -> None:
    rng = np.random.default_rng(0)

    def arm(job: int, share: float) -> pd.DataFrame:
        whole = frame(np.zeros((4, 100)), job=job).assign(goodput=(rng.random(400) < share).astype(object))
        whole.loc[whole["case"].isin(["case1", "case3"]), "goodput"] = None
        return whole

    old, new = (arm(0, 0.95), arm(0, 0.5))
    if design == "stored":
        old, new = pd.concat([arm(job, 0.95) for job in range(5)]), pd.concat([arm(9, 0.5), arm(10, 0.5)])
    metric = only(judge(old, new, limits={"goodput": -0.15}, design=design))
    assert metric.verdict == "regression"
    assert metric.estimate == pytest.approx(-0.45, abs=0.08)
    assert [case.case for case in metric.cases] == ["case0", "case2"]


def test_goodput_of_a_case_that_one_arm_lacks_is_not_compared() -> None:
    first, second = (one.assign(goodput=1.0) for one in arms())
    second.loc[second["case"] == "case3", "goodput"] = np.nan
    metric = only(judge(first, second, limits={"goodput": -0.05}))
    assert metric.verdict == "incomparable"
    assert metric.reason == "goodput: only one of baseline and candidate has values of case3"
    nothing = only(judge(*arms(), limits={"goodput": -0.05}))
    assert nothing.reason == "goodput: no values in the baseline and the candidate (only cases with slo have them)"


def test_improvement_beyond_the_limit_is_told() -> None:
    found = judge(*arms(drop=-0.15), limits=TPS)
    assert found.verdict == "improvement"
    assert found.exit_status == 0
    assert judge(*arms(drop=-0.02), limits=TPS).verdict == "pass"


def test_undecided_run_says_how_many_blocks_would_decide() -> None:
    few = [arm[arm["block"] < 4] for arm in arms(drop=0.02)]
    metric = only(judge(*few, limits=TPS))
    assert metric.verdict == "inconclusive"
    assert metric.more is not None
    assert metric.reason == (
        f"undecided after 4 blocks; {metric.more} more would decide it if the change stays what it looks like"
    )
    # So many more blocks like these do decide it.
    enough = -(-metric.more // 4) + 1
    logs = [np.log(arm["tokens_per_second"].to_numpy()).reshape(10, 4) for arm in few]
    many = [frame(np.tile(arm, enough)) for arm in logs]
    assert only(judge(*many, limits=TPS)).verdict != "inconclusive"


def test_change_at_the_limit_itself_has_no_number_that_decides() -> None:
    base = np.random.default_rng(0).normal(size=(1, 8)) * 0.05
    noise = np.array([[0.05, -0.05] * 4])
    metric = only(judge(frame(base), frame(base + noise + math.log(0.9501)), limits=TPS))
    assert metric.more is None
    assert metric.reason == "undecided after 8 blocks: the change is too near to the limit"


def test_server_starts_may_be_what_is_missing() -> None:
    base = np.random.default_rng(0).normal(size=(1, 8)) * 0.05
    metric = only(
        judge(
            frame(base),
            frame(base + np.array([[0.01, -0.01] * 4]) - 0.03),
            limits=TPS,
            calibration={"start_sd": 0.05},
        )
    )
    assert metric.more is None
    assert metric.reason.endswith("more of them alone would not decide it: start both servers more often")


@pytest.mark.parametrize(
    ("sessions", "reason"),
    [
        (1, "the baseline is a single session, and nothing is decided with fewer than 5: 4 missing"),
        (4, "the baseline has 4 sessions, and nothing is decided with fewer than 5: 1 missing"),
    ],
)
@pytest.mark.parametrize("drop", [0.0, 0.9, -3.0])
def test_nothing_is_decided_against_a_few_sessions_whatever_happened(sessions: int, reason: str, drop: float) -> None:
    found = judge(*Machine(2).stored(sessions=sessions, drop=drop), limits={"tokens_per_second": -0.3}, design="stored")
    metric = only(found)
    assert (found.verdict, found.exit_status) == ("inconclusive", 3)
    assert metric.reason == reason
    assert {case.verdict for case in metric.cases} == {"inconclusive"}
    assert metric.estimate == pytest.approx(-drop, abs=0.2, rel=0.1)
    assert (
        judge(*Machine(2).stored(drop=drop), limits={"tokens_per_second": -0.3}, design="stored").verdict
        == ({0.0: "pass", 0.9: "regression", -3.0: "improvement"}[drop])
    )


def test_verdict_of_all_metrics_is_the_worst_of_theirs() -> None:
    good = arms()
    slow = [one.assign(ttft_ms=200.0 * (1 + 0.3 * number)) for number, one in enumerate(good)]
    found = judge(*slow, limits={**TPS, "ttft_ms": 0.1})
    assert [metric.verdict for metric in found.metrics] == ["pass", "regression"]
    assert (found.verdict, found.exit_status) == ("regression", 1)
    assert found.reason == "ttft_ms: worse than the limit, and a slowdown is proved"
    partly = judge(*good, limits={**TPS, "ttft_ms": 0.1})
    assert [metric.verdict for metric in partly.metrics] == ["pass", "incomparable"]
    assert (partly.verdict, partly.exit_status) == ("incomparable", 4)
    assert partly.reason == "ttft_ms: no values in the baseline and the candidate"


def test_verdict_is_plain_json_with_all_its_numbers() -> None:
    found = judge(*arms(), limits=TPS, calibration={"session_sd": 0.01})
    plain = json.loads(json.dumps(found.to_json(), allow_nan=False))
    assert plain["calibrated"] is True
    assert plain["metrics"][0]["cases"][0].keys() == {"case", "verdict", "estimate", "low", "high", "resolution"}
    assert {*EXIT_STATUS} == {"pass", "improvement", "regression", "inconclusive", "incomparable"}


def test_identical_arms_without_any_noise_pass() -> None:
    same = frame(np.full((2, 5), 4.0))
    assert judge(same, same, limits=TPS).verdict == "pass"
    assert judge(same, same, limits=TPS, calibration=QUIET).verdict == "pass"
    slower = frame(np.full((2, 5), 4.0 - 0.2))
    assert judge(same, slower, limits=TPS, calibration=QUIET).verdict == "regression"
    stored = pd.concat([same.assign(job=job) for job in range(5)])
    assert judge(stored, slower.assign(job=5), limits=TPS, calibration=QUIET, design="stored").verdict == "regression"


def test_case_names_and_keys_of_any_type_are_matched() -> None:
    first, second = arms()
    second = second.assign(case=second["case"].astype("category"), block=second["block"].astype(str))
    assert judge(first, second, limits=TPS).verdict == "pass"


@pytest.mark.parametrize("lost", [math.nan, None, math.inf, -math.inf, 0.0, -3.0, "timeout"])
def test_value_that_is_none_is_left_out_and_never_averaged(lost: Any) -> None:
    first, second = arms()
    values: Any = second["tokens_per_second"].astype(object)
    values.iloc[[3, 77]] = lost
    found = judge(first, second.assign(tokens_per_second=values), limits=TPS)
    whole = only(judge(first, second, limits=TPS))
    assert found.verdict == "pass"
    assert only(found).estimate == pytest.approx(whole.estimate, abs=0.003)


def test_arm_that_lost_many_more_requests_is_not_what_it_was() -> None:
    first, second = arms()
    second.loc[second.index % 7 == 0, "tokens_per_second"] = np.nan
    found = judge(first, second, limits=TPS)
    assert found.verdict == "incomparable"
    assert only(found).reason == (
        "tokens_per_second: 0 of 200 of the baseline and 29 of 200 of the candidate brought no value; what is left are "
        "not the same requests"
    )


def test_failed_requests_count_against_goodput() -> None:
    first, second = (one.assign(goodput=True) for one in arms())
    values: Any = second["goodput"].astype(object)
    values.iloc[::3] = None
    metric = only(judge(first, second.assign(goodput=values), limits={"goodput": -0.05}))
    assert metric.estimate == pytest.approx(-0.335)
    assert metric.verdict == "regression"


INCOMPARABLE = [
    (lambda a, b: (a.iloc[:0], b), "the baseline is empty"),
    (lambda a, b: (pd.DataFrame(), pd.DataFrame()), "the baseline is empty; the candidate is empty"),
    (lambda a, b: (a, b.drop(columns="block")), "the candidate has no column 'block'"),
    (lambda a, b: (a, pd.concat([b, b["t"]], axis=1)), "the candidate has two columns 't'"),
    (lambda a, b: (a.assign(case=[None, *a["case"][1:]]), b), "the baseline has rows without 'case'"),
    (lambda a, b: (a, b[b["case"] != "case3"]), "1 case only in the baseline (case3)"),
    (
        lambda a, b: (a[a["case"] == "case3"], b),
        "9 cases only in the candidate (case0, case1, case2, case4, case5 and 4 more)",
    ),
    (lambda a, b: (a.drop(columns="tokens_per_second"), b), "tokens_per_second: no values in the baseline"),
    (lambda a, b: (a, b.assign(tokens_per_second=np.nan)), "tokens_per_second: no values in the candidate"),
    (
        lambda a, b: (a, b.assign(tokens_per_second=0.0)),
        "tokens_per_second: none of the 200 requests of the candidate brought a value",
    ),
    (lambda a, b: (a, b.assign(job=1)), "no case of any block has a value in both the baseline and the candidate"),
    (
        lambda a, b: (a[a["block"] < 2], b[b["block"] < 2]),
        "2 blocks have values of both arms for half of the cases (3 are needed)",
    ),
    (
        lambda a, b: (a, b[(b["case"] != "case3") | (b["block"] < 2)]),
        "fewer than 3 blocks have values of both arms for case3",
    ),
]


@pytest.mark.parametrize(("change", "reason"), INCOMPARABLE)
def test_arms_that_cannot_be_compared_are_told(change: Any, reason: str) -> None:
    found = judge(*change(*arms()), limits=TPS)
    assert found.verdict == "incomparable"
    assert found.exit_status == 4
    assert reason in found.reason
    assert only(found).reason in found.reason
    assert only(found).estimate is None


@pytest.mark.parametrize(
    ("limits", "change", "reason"),
    [
        ({"goodput": -0.02}, {"goodput": 2}, "goodput: must be whether a request met its objectives (got 2)"),
        ({"goodput": -0.02}, {"goodput": None}, "goodput: no values in the baseline and the candidate"),
        (
            {"ttft_ms.p99": 0.2},
            {"ttft_ms": 9.0},
            "ttft_ms.p99: needs 299 requests (99 are missing in the baseline, 99 ",
        ),
        (
            {"total_time_ms": 0.1},
            {"total_time_ms": 9.0, "completion_tokens": None},
            "total_time_ms: the lengths of the answers are not known (no completion_tokens)",
        ),
    ],
)
def test_metric_that_cannot_be_compared_is_told(limits: Any, change: Any, reason: str) -> None:
    assert reason in judge(*(one.assign(**change) for one in arms()), limits=limits).reason


def test_percentile_of_short_sessions_says_what_is_missing() -> None:
    few = [one[one["block"] < 5].assign(ttft_ms=9.0) for one in Machine(1).stored()]
    found = judge(*few, limits={"ttft_ms.p95": 0.2}, design="stored")
    assert "ttft_ms.p95: needs 59 requests (9 are missing in a session of the baseline, " in found.reason


def test_stored_session_without_a_case_cannot_be_compared() -> None:
    baseline, candidate = Machine(1).stored()
    baseline = baseline[(baseline["job"] != 2) | (baseline["case"] != "case7")]
    found = judge(baseline, candidate, limits=TPS, design="stored")
    assert found.reason == (
        "tokens_per_second: a session of the baseline has fewer than 3 usable requests of case7"
    )  # fmt: skip


@pytest.mark.parametrize(
    ("tokens", "verdict"), [(64, "pass"), (66, "pass"), (60, "incomparable"), (70, "incomparable")]
)
def test_answers_of_another_length_make_their_times_incomparable(tokens: int, verdict: str) -> None:
    first, second = (one.assign(total_time_ms=1000.0) for one in arms())
    found = judge(first, second.assign(completion_tokens=tokens), limits={"total_time_ms": 0.1})
    assert found.verdict == verdict
    if verdict == "incomparable":
        assert ("longer" if tokens > 64 else "shorter") in found.reason
    assert judge(first, second.assign(completion_tokens=tokens), limits=TPS).verdict == "pass"


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"alpha": 0}, "alpha: must be above 0, and 0.2 at most (got 0)"),
        ({"alpha": 0.5}, "alpha: must be above 0, and 0.2 at most (got 0.5)"),
        ({"design": "paired"}, 'design: must be "ab" or "stored" (got \'paired\')'),
        ({"look": 4, "n_looks": 4}, "look: must be from 0 to below n_looks (got 4 of 4)"),
        ({"n_looks": 0}, "look: must be from 0 to below n_looks (got 0 of 0)"),
        ({"calibration": {"sd": 1}}, "calibration: unknown value 'sd' (session_sd, start_sd, rho exist)"),
        ({"calibration": {"rho": 1.0}}, "calibration: rho must be from 0 to below 1 (got 1.0)"),
        ({"calibration": {"start_sd": -1}}, "calibration: start_sd must be a number from 0 on (got -1)"),
        ({"calibration": {"session_sd": math.nan}}, "calibration: session_sd must be a number from 0 on (got nan)"),
        ({"calibration": {"session_sd": "2%"}}, "calibration: session_sd must be a number from 0 on (got '2%')"),
    ],
)
def test_argument_that_cannot_be_is_told(wrong: Any, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        judge(*arms(), limits=TPS, **wrong)
    assert str(caught.value) == message


def test_six_blocks_bear_one_stall() -> None:
    rng = np.random.default_rng(2)
    base, new = 0.02 * rng.normal(size=(2, 4, 6))
    new[1, 2] -= math.log(8)
    assert judge(frame(base), frame(new), limits=TPS).verdict == "pass"


def test_case_that_is_quiet_by_chance_is_not_surer_than_the_others() -> None:
    rng = np.random.default_rng(2)
    base, new = 0.05 * rng.normal(size=(2, 10, 6))
    new[3] = base[3] - 0.11
    (metric,) = judge(frame(base), frame(new), limits=TPS).metrics
    quiet, other = metric.cases[3], metric.cases[4]
    assert quiet.verdict == "inconclusive"
    assert quiet.high - quiet.low > 0.5 * (other.high - other.low)
