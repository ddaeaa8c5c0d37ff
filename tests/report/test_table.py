"""The tables of the terminal: what each number means, and that they fit."""

from __future__ import annotations

from typing import Any

import pytest

from pytest_modellens.gate.run import RunVerdict
from pytest_modellens.gate.verdict import CaseVerdict, MetricVerdict, Verdict
from pytest_modellens.report.cell_key import cell_key
from pytest_modellens.report.gated import changes_of
from pytest_modellens.report.lines import Line
from pytest_modellens.report.summary import summarise
from pytest_modellens.report.table import short, tables, worst


def record(**more: Any) -> dict[str, Any]:
    return {
        "suite": "suites/chat.yaml",
        "case": "capital",
        "params": {},
        "provider": "vllm",
        "model": "tiny",
        "round": 0,
        "started_at": "2026-11-21T20:30:00.000+00:00",
        "phase": "measured",
        "ok": True,
        "ttft_ms": 12.5,
        "total_time_ms": 100.0,
        "tpot_ms": 5.0,
        "tokens_per_second": 200.0,
        "tokens_per_second_mode": "generation",
        "completion_tokens": 8,
        "tokens_source": "usage",
        **more,
    }


def texts(records: list[dict[str, Any]], **more: Any) -> list[str]:
    return [line.text for line in tables(summarise(records), **more)]


def test_table_shows_medians_of_a_cell() -> None:
    records = [record(ttft_ms=10.0), record(ttft_ms=20.0), record(ttft_ms=30.0)]
    assert texts(records) == [
        "suites/chat.yaml · tiny",
        "case         provider n TTFT p50/p95 TPOT tok/s 95 % err",
        "capital      vllm     3    20.0/29.0 5.00   200        – ✓",
        "  medians; TTFT and TPOT in ms",
        "  no 95 % interval of a median from fewer than 6 requests",
        "",
    ]


def test_table_shows_the_interval_from_six_requests_on() -> None:
    lines = texts([record(tokens_per_second=float(speed)) for speed in range(101, 107)])
    assert lines[2].split() == ["capital", "vllm", "6", "12.5/12.5", "5.00", "104", "101–106", "–", "✓"]
    assert "no 95 %" not in "".join(lines)


def test_failed_cell_is_marked_and_red() -> None:
    rows = [record(), record(ok=False, error_class="timeout", ttft_ms=None, tokens_per_second=None, tpot_ms=None)]
    lines = tables(summarise(rows), failed={cell_key(rows[0])})
    assert lines[0] == Line("suites/chat.yaml · tiny", "bold")
    assert lines[2].style == "red"
    assert lines[2].text.split()[-2:] == ["1", "✗"]
    assert "  ✗ did not pass" in [line.text for line in lines]


def test_cell_without_a_single_number_shows_dashes() -> None:
    lines = texts([record(ok=False, error_class="connect", ttft_ms=None, tokens_per_second=None, tpot_ms=None)])
    assert lines[2].split() == ["capital", "vllm", "0", "–", "–", "–", "1", "✓"]


@pytest.mark.parametrize(
    ("more", "mark", "note"),
    [
        ({"invalid": "cached"}, "!", "! some requests are not valid measurements and are left out"),
        ({"tokens_source": "events"}, "~", "~ tokens estimated: *"),
        ({"tokens_per_second_mode": "end_to_end"}, "e", "e not streamed: tokens per second end to end, *"),
    ],
)
def test_doubt_about_numbers_is_marked_and_explained(more: dict[str, Any], mark: str, note: str) -> None:
    lines = texts([record(), record(**more)] if mark == "!" else [record(**more)])
    assert lines[2].endswith(f"✓{mark}")
    assert any(line.strip().startswith(note.rstrip("*")) for line in lines)


def test_suites_and_models_have_tables_of_their_own() -> None:
    lines = texts([record(), record(model="other"), record(suite="suites/b.yaml"), record(model=None)])
    assert [line for line in lines if " · " in line] == [
        "suites/chat.yaml · tiny",
        "suites/chat.yaml · other",
        "suites/b.yaml · tiny",
        "suites/chat.yaml · no model",
    ]


def test_warmup_is_in_no_table() -> None:
    assert texts([record(phase="warmup")]) == []


@pytest.mark.parametrize("width", [20, 80, 100, 120, 500])
def test_table_fits_whatever_is_in_it(width: int) -> None:
    wide = [
        record(
            case="a" * 90,
            params={"temperature": 0.7, "prompt": "x" * 500},
            provider="a-provider-of-somebody-else-2",
            model="m" * 300,
            ttft_ms=98_765.4,
            tpot_ms=12_345.6,
            tokens_per_second=54_321.0 + number,
            tokens_source="events",
            tokens_per_second_mode="end_to_end",
        )
        for number in range(1000)
    ]
    failed = [{**row, "ok": False} for row in wide[:200]] + [{**wide[0], "invalid": "cached"}]
    lines = texts([*wide, *failed], failed={cell_key(wide[0])}, width=width)
    assert max(len(line) for line in lines if not line.startswith("  ")) < max(80, min(120, width))
    assert lines[2].startswith("aaaa")
    assert "…" in lines[2]


def test_table_shows_no_control_characters() -> None:
    hostile = "\x1b[2J\u202e"
    names = dict.fromkeys(("suite", "case", "provider", "model"), hostile)
    lines = texts([record(**names, params={hostile: hostile})], width=120)
    assert not any(character in "".join(lines) for character in hostile[:1] + hostile[-1:])
    assert "\\x1b[2J\\u202e" in lines[0]


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, "–"),
        (0.0, "0.00"),
        (1.234, "1.23"),
        (9.994, "9.99"),
        (9.996, "10.0"),
        (99.94, "99.9"),
        (99.96, "100"),
        (99_949.0, "99949"),
        (99_950.0, "100k"),
        (123_456.0, "123k"),
    ],
)
def test_short_number_has_three_digits(value: float | None, expected: str) -> None:
    assert short(value) == expected


def test_table_marks_times_with_cached_prompts() -> None:
    lines = texts([record(cached_tokens=12)])
    assert lines[2].endswith("✓c")
    assert "  c prompts came from the server's cache: TTFT leaves out work (use cache: cold)" in lines


def test_table_counts_a_failed_warmup_where_nothing_was_measured() -> None:
    lines = texts([record(phase="warmup", ok=False)])
    assert lines[2].split() == ["capital", "vllm", "0", "–", "–", "–", "1", "✓"]


def test_times_that_the_server_says_differently_are_shown_both() -> None:
    rows = [record(), record(server_disagreements={"ttft_ms": [12.5, 30.0], "decode_ms": [80.0, 60.0]})]
    rows += [record(server_disagreements={"ttft_ms": [14.5, 32.0]}), record(ok=False, server_disagreements={})]
    lines = texts(rows)
    assert lines[2].endswith("✓≠")
    assert lines[-5:] == [
        "  no 95 % interval of a median from fewer than 6 requests",
        "  ≠ the server's own times differ from ours by more than 5 ms and 5 %",
        "    ≠ capital, vllm: TTFT 13.5 ms, by the server 31.0 ms (2 of 3)",
        "    ≠ capital, vllm: decoding 80.0 ms, by the server 60.0 ms (1 of 3)",
        "",
    ]


def test_notes_of_the_warm_up_are_shown_without_counting_it() -> None:
    warm = record(phase="warmup", notes=["the model was not loaded: the server loaded it during the warm-up"])
    (cell,) = summarise([warm, record()])
    assert (cell.n, cell.n_warmup_failed) == (1, 0)
    assert texts([warm, record()])[-3:] == [
        "    capital, vllm: the model was not loaded: the server loaded it during the",
        "    warm-up",
        "",
    ]


def test_invalid_requests_do_not_disagree() -> None:
    assert "≠" not in "".join(texts([record(invalid="x", server_disagreements={"ttft_ms": [1.0, 30.0]})]))


def test_distribution_of_total_times_is_a_line_of_bars_where_there_is_room() -> None:
    times = [100.0] * 8 + [110.0] * 4 + [150.0] * 2 + [200.0]
    records = [record(total_time_ms=time) for time in times]
    (wide,) = [text for text in texts(records, width=100) if text.startswith("capital")]
    assert " █▄   ▂   ▁ " in wide
    assert "total time" in texts(records, width=100)[1]
    assert "█" not in "".join(texts(records, width=99))


@pytest.mark.parametrize("times", [[100.0, 200.0], [100.0] * 20])
def test_few_requests_and_equal_ones_have_no_distribution(times: list[float]) -> None:
    assert not {*"▁▂▃▄▅▆▇█"} & {*"".join(texts([record(total_time_ms=time) for time in times], width=120))}


def test_slowest_of_many_cells_are_named() -> None:
    cells = [record(case=f"c{n}", ttft_ms=10.0 * n, tokens_per_second=100.0 - n) for n in range(1, 9)]
    assert worst(summarise(cells)) == [Line("slowest: first token c8 80.0 ms · generation c8 92.0 tok/s")]
    assert worst(summarise(cells[:7])) == []


def test_slowest_of_cells_without_times_are_not_named() -> None:
    assert worst(summarise([record(case=f"c{n}", ok=False, error_class="timeout") for n in range(9)])) == []
    whole = [record(case=f"c{n}", ttft_ms=None, tokens_per_second_mode="end_to_end") for n in range(9)]
    assert worst(summarise(whole)) == []


def gated(metric: str = "tokens_per_second", **more: Any) -> dict[str, Any]:
    """Return what run.json holds of a gate that judged the cases of `record`."""
    cases = (
        CaseVerdict("suites/chat.yaml::capital (vllm)", "pass", -0.013, -0.045, 0.021, -0.12),
        CaseVerdict('suites/chat.yaml::capital{"n": 2} (vllm)', "regression", -0.253, -0.301, -0.2, -0.12),
    )
    found = MetricVerdict(metric, -0.05, "regression", "", -0.13, -0.2, -0.1, -0.1, 1, None, cases)
    verdict = Verdict("regression", "", (found,), "stored", 0.01, 0, 1, False)
    return {"gate": RunVerdict("main", 5, verdict, {}, (), ()).to_json(), **more}


@pytest.mark.parametrize(
    ("width", "shown"),
    [(80, ["−1.3 %", "−25.3 %"]), (120, ["−1.3 % −4.5…+2.1", "−25.3 % −30.1…−20.0"])],
)
def test_table_shows_the_change_against_the_baseline(width: int, shown: list[str]) -> None:
    records = [record(), record(params={"n": 2}), record(case="new")]
    lines = texts(records, changes=changes_of(gated()), width=width)
    assert "vs main" in lines[1]
    for line, change in zip(lines[2:4], shown, strict=True):
        assert f" {change} " in line
    assert "%" not in lines[4]
    assert all(len(line) < width for line in lines)
    interval = ", with its 90 % interval" if width == 120 else ""
    assert f"  vs main: change of tokens/s against that baseline{interval}" in lines


@pytest.mark.parametrize("meta", [{}, {"gate": 7}, {"gate": None}])
def test_table_without_a_baseline_has_no_column_for_it(meta: dict[str, Any]) -> None:
    assert changes_of(meta) is None
    assert texts([record()], changes=changes_of(meta)) == texts([record()])


def test_cases_that_were_not_judged_leave_the_column_out() -> None:
    assert texts([record(case="new")], changes=changes_of(gated())) == texts([record(case="new")])
