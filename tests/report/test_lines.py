"""Columns align by what a terminal shows, not by how many characters there are."""

from __future__ import annotations

from typing import Any

import pytest
from wcwidth import width

from pytest_modellens.recompute.differences import Change
from pytest_modellens.recompute.differences import table as differences_table
from pytest_modellens.report.lines import aligned, clipped, folded, squeezed, widths_of
from pytest_modellens.report.load_table import load_table
from pytest_modellens.report.providers_table import ProviderRow, providers_table
from pytest_modellens.report.server_table import server_table
from pytest_modellens.report.summary import summarise
from pytest_modellens.report.table import tables
from tests.report import runs

NAMES = (
    "capital",
    "日本語のモデルの名前",
    "한국어 사례",
    "e\u0301te\u0301",  # combining marks
    "\U0001f469\u200d\U0001f4bb emoji",
    "\u2764\ufe0f heart",
    "ﾊﾝｶｸ half width",
    "नमस्ते",
)


def ends(lines: list[str], texts: list[str]) -> set[int]:
    """Return the columns at which `texts` end in `lines`, one in each."""
    return {width(line[: line.index(text) + len(text)]) for line, text in zip(lines, texts, strict=True)}


@pytest.mark.parametrize("columns", [80, 100, 120])
def test_columns_align_whatever_script_names_are_in(columns: int) -> None:
    rows = [
        runs.record(n, case=name, provider=name[:6], ttft_ms=100.0, tpot_ms=7.25) for name in NAMES for n in range(2)
    ]
    lines = [line.text for line in tables(summarise(rows), width=columns)]
    shown = lines[2 : 2 + len(NAMES)]
    assert ends([lines[1], *shown], ["TTFT p50/p95", *["100/100"] * len(NAMES)]) == {
        width(lines[1][: lines[1].index("TPOT") - 1])
    }
    assert len(ends(shown, ["7.25"] * len(NAMES))) == 1
    assert all(width(line) < columns for line in lines)


@pytest.mark.parametrize("columns", [80, 120])
def test_long_wide_names_are_cut_by_columns(columns: int) -> None:
    rows = [runs.record(n, case="日本語" * 40, model="模型" * 60) for n in range(8)]
    lines = [line.text for line in tables(summarise(rows), width=columns)]
    assert all(width(line) < columns for line in lines)
    assert lines[0].endswith("…")
    assert "…" in lines[2]


def test_name_that_is_too_long_keeps_both_ends() -> None:
    name = "a-case-with-a-rather-long-name[temperature=0.7]"
    assert squeezed(name, 30) == "a-case-with-a-…emperature=0.7]"
    assert squeezed(name, 60) == name
    assert width(squeezed("日本語" * 9, 12)) <= 12


def test_number_and_its_per_cent_stay_on_one_line() -> None:
    assert folded("it is 100 % of 20 % here", 9) == ["it is", "100 % of", "20 % here"]


def test_every_other_table_aligns_too() -> None:
    loads = [{**runs.load(4), "case": name, "provider": "vllm", "params": {}} for name in NAMES]
    rows = [line.text for line in load_table(loads, width=100)]
    assert len(ends(rows[: 1 + len(NAMES)], ["asked", *["c 4"] * len(NAMES)])) == 1
    told: list[dict[str, Any]] = [
        {**load, "server": {"scrapes": 2, "requests_running_mean": 3.25, "generation_tokens": 7}} for load in loads
    ]
    rows = [line.text for line in server_table(told, width=100)]
    assert len(ends(rows[: 1 + len(NAMES)], ["running", *["3.25"] * len(NAMES)])) == 1
    servers = [ProviderRow("vllm", "yes", "http://127.0.0.1:1", name, (name, "x")) for name in NAMES]
    rows = providers_table(servers, width=100)
    starts = {width(row[: row.rindex(name)]) for row, name in zip(rows[1:], NAMES, strict=True)}
    assert starts == {width(rows[0][: rows[0].index("models")])}
    found = [Change(name, 1, 2, name, "after") for name in NAMES]
    rows = differences_table(found, what="requests")
    assert len(ends(rows[1:], ["after"] * len(NAMES))) == 1


def test_width_is_that_of_a_terminal() -> None:
    assert widths_of([["日本", "e\u0301"], ["abc", "x"]]) == [4, 1]
    assert aligned(["日本", "1"], [6, 3], left={0}) == "日本     1"
    assert aligned(["a", "", "b"], [1, 0, 1], left={0, 1, 2}) == "a b"


@pytest.mark.parametrize(
    ("text", "shown"), [("日本語", "日本…"), ("日本", "日本"), ("abcdef", "abcd…"), ("a日本語", "a日…")]
)
def test_text_is_cut_to_whole_characters(text: str, shown: str) -> None:
    assert clipped(text, 5) == shown


def test_folded_lines_are_as_wide_as_they_may_be() -> None:
    lines = folded("日本語 " * 30, 40, indent="  ", then="    ")
    assert max(map(width, lines)) <= 40
    assert [line[:4].strip() for line in lines[1:]] == [""] * (len(lines) - 1)
