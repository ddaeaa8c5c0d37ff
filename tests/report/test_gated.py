"""What the gate said of a run reaches every report of it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from pytest_modellens.cli import main
from pytest_modellens.gate import MetricVerdict, Verdict, judge
from pytest_modellens.gate.run import RunVerdict, run_verdict_of
from pytest_modellens.report.gated import gate_verdict, gated_cases
from pytest_modellens.report.outline import markdown, summary_json
from pytest_modellens.report.page import page
from tests.gate.servers import Machine
from tests.report import runs

if TYPE_CHECKING:
    from pathlib import Path

ONE = {"tokens_per_second": -0.05}
TPS = {"tokens_per_second": -0.05, "ttft_ms.p95": 0.2}


def verdict(drop: float = 0.0, *, sessions: int = 8) -> Verdict:
    return judge(*Machine(1).stored(drop=drop, sessions=sessions), limits=TPS, design="stored")


def gate(found: Verdict | None, *, n: int = 8, **more: Any) -> dict[str, Any]:
    rest: dict[str, Any] = {"differing": {}, "missing": (), "not_run": (), **more}
    return json.loads(json.dumps(RunVerdict("main", n, found, **rest).to_json()))  # type: ignore[no-any-return]


GATES = {
    "pass": (gate(judge(*Machine(1).side_by_side(), limits=ONE)), "good",
             "No regression against baseline main"),
    "improvement": (gate(judge(*Machine(1).side_by_side(drop=-0.3), limits=ONE)), "good",
                    "Better than baseline main"),
    "regression": (gate(verdict(0.4)), "bad", "Regression against baseline main"),
    "inconclusive": (gate(judge(*Machine(1).stored(sessions=1), limits=ONE, design="stored"), n=1), "unsure",
                     "It is not decided whether this is worse than baseline main"),
    "incomparable": (gate(None, differing={"": ['cpu: "Z80" in the baseline, "Z81" now']}), "bad",
                     "Not comparable with baseline main"),
    "no baseline": (gate(None, n=0, missing=("a.yaml::capital (vllm)",)), "unsure",
                    "Nothing was judged: there is nothing yet in baseline main"),
}  # fmt: skip


@pytest.mark.parametrize("name", GATES)
def test_verdict_of_the_gate_is_in_every_report(name: str) -> None:
    found, level, title = GATES[name]
    run = runs.run(gate=found)
    shown = gate_verdict(run)
    assert shown is not None
    assert (shown.level, shown.topic, shown.title) == (level, "gate", title)
    html = page([run])
    assert title in html
    assert html.index(title) < html.index("All good: 8 requests")
    assert title in markdown([run])
    out = summary_json([run])
    assert out["verdicts"][0] == {
        "topic": "gate", "level": level, "title": title, "sentences": [*shown.sentences]}  # fmt: skip
    assert out["verdict"]["topic"] == "measurement"
    assert out["gate"] == found


@pytest.mark.parametrize(
    ("restarts", "starts"),
    [
        (0, "One start of each server: a difference below 1.4 % between two processes cannot be told from one "),
        (19, "Both servers were started anew for each block: what starts differ by was seen, and not assumed."),
    ],
)
def test_servers_measured_side_by_side_have_blocks_and_no_sessions(restarts: int, starts: str) -> None:
    found = judge(*Machine(1).side_by_side(), limits=ONE)
    run = runs.run(gate=gate(found, n=0, n_blocks=20, n_restarts=restarts))
    shown = gate_verdict(run)
    assert shown is not None
    assert shown.title == "No regression against main, side by side"
    assert shown.sentences[-2] == "Both servers were measured side by side, in 20 blocks of the same session."
    assert shown.sentences[-1].startswith(starts)
    assert ("(uncalibrated)" in shown.sentences[-1]) == (restarts == 0)


def test_regression_is_told_with_its_numbers_case_by_case() -> None:
    run = runs.run(gate=gate(verdict(0.4)))
    shown = gate_verdict(run)
    assert shown is not None
    assert shown.sentences[0].startswith("tokens/s changed by −39.1 %")
    assert "(90 % interval −" in shown.sentences[0]
    assert "limit −5.0 %): worse than the limit, and a slowdown is proved." in shown.sentences[0]
    assert any(sentence.startswith("TTFT p95 (limit +20.0 %): ") for sentence in shown.sentences)
    assert "2 % is assumed" in shown.sentences[-1]
    rows = gated_cases(run)
    assert len(rows) == 10
    assert {(row.metric, row.limit) for row in rows} == {("tokens/s", "−5.0 %")}
    html = page([run])
    assert all(row.case in html and row.change in html and row.interval in html for row in rows)
    assert [row.level for row in rows] == sorted((row.level for row in rows), key=["bad", "unsure", "good"].index)


def test_case_that_is_slow_alone_is_named() -> None:
    drop = 0.4 * (np_range() == 3)[:, None]
    frames = Machine(1).side_by_side(drop=drop)
    run = runs.run(gate=gate(judge(*frames, limits=ONE)))
    shown = gate_verdict(run)
    assert shown is not None
    (alone,) = [sentence for sentence in shown.sentences if sentence.startswith("Alone worse")]
    assert alone.startswith("Alone worse than twice the limit: case3 −")
    assert [row.case for row in gated_cases(run) if row.level == "bad"] == ["case3"]


def np_range() -> Any:
    import numpy as np

    return np.arange(10)


def test_what_could_not_be_judged_is_listed() -> None:
    more: dict[str, Any] = {
        "missing": ("a::new",),
        "not_run": ("a::old",),
        "differing": {"a::b": ["model: 1 in the baseline, 2 now"]},
    }
    run = runs.run(gate=gate(None, **more))
    shown = gate_verdict(run)
    assert shown is not None
    assert "a::b: model: 1 in the baseline, 2 now." in shown.sentences
    assert "Not in the baseline, so not judged: a::new." in shown.sentences
    assert "In the baseline, but not run: a::old." in shown.sentences
    assert [(row.case, row.verdict) for row in gated_cases(run)] == [
        ("a::b", "incomparable"), ("a::new", "not in the baseline"), ("a::old", "not run")]  # fmt: skip


def test_worst_verdict_of_several_runs_comes_first(tmp_path: Path) -> None:
    good = runs.folder(tmp_path, None, "good", gate=GATES["pass"][0])
    tired = runs.folder(tmp_path, None, "tired", gate=GATES["inconclusive"][0])
    bad = runs.folder(tmp_path, None, "bad", gate=GATES["regression"][0])
    assert main(["report", str(good), str(tired), str(bad)]) == 0
    html = (good / "comparison.html").read_text(encoding="utf-8")
    titles = [
        "bad: Regression against baseline main",
        "tired: It is not decided whether this is worse than baseline main",
        "good: No regression against baseline main",
    ]
    assert [html.index(title) for title in titles] == sorted(html.index(title) for title in titles)
    assert html.index(titles[1]) < html.index("No clear difference between")
    assert all(f">Gate, {name}</h2>" in html for name in ("good", "tired", "bad"))


def test_passing_gate_does_not_come_before_failures() -> None:
    html = page([runs.run([*runs.records(8), runs.failure(9)], gate=GATES["pass"][0])])
    assert html.index("1 of 1 cells need a look") < html.index("No regression against baseline main")


def test_run_without_a_gate_says_nothing_of_one() -> None:
    run = runs.run()
    assert gate_verdict(run) is None
    assert gated_cases(run) == []
    assert 'id="gate-' not in page([run])


@pytest.mark.parametrize("damaged", [7, {}, {"name": "pass"}, None, gate(None) | {"differing": 3}])
def test_damaged_verdict_is_said_to_be_unreadable(damaged: Any) -> None:
    run = runs.run(gate=damaged)
    shown = gate_verdict(run)
    assert shown is not None
    assert (shown.level, shown.title) == ("unsure", "What the gate said cannot be read")
    assert gated_cases(run) == []


def test_verdict_of_a_later_version_is_said_to_be_unreadable() -> None:
    metric = MetricVerdict("ttft_ms", 0.1, "splendid", "")
    run = runs.run(gate=gate(Verdict("splendid", "", (metric,), "stored", 0.01, 0, 1, False)))
    shown = gate_verdict(run)
    assert shown is not None
    assert shown.title == "What the gate said cannot be read"


def test_hostile_names_in_a_verdict_are_inert() -> None:
    plain = gate(None, missing=runs.HOSTILE, differing={text: [text] for text in runs.HOSTILE})
    html = page([runs.run(gate=plain)])
    assert "<script>attacked" not in html
    assert "<img" not in html
    assert not runs.unseen(html)


def test_verdict_survives_its_file() -> None:
    found = RunVerdict("main", 8, verdict(0.1), {}, ("a",), ())
    assert run_verdict_of(json.loads(json.dumps(found.to_json()))) == found
