"""The outcome as a person reads it."""

from __future__ import annotations

import math

import pytest

from pytest_modellens.selfcheck.level import Difference
from pytest_modellens.selfcheck.table import table
from pytest_modellens.truth.records import Lateness
from tests.selfcheck.conftest import check, level

NONE = Difference(math.nan, math.nan, math.nan)
OFF = level(256, worst=0.627, worst_figure="TTFT p99", ttft_ms=Difference(0.01, 60.39, 12345.678))
FAILED = level(
    4,
    tokens_per_second=0.0,
    failed=10,
    miscounted=2,
    worst=math.inf,
    worst_figure="nothing was measured",
    throughput=math.nan,
    ttft_ms=NONE,
    itl_ms=NONE,
    tpot_ms=NONE,
    arrival_ms=NONE,
)


def test_good_outcome() -> None:
    assert table(check(level(1), level(4))) == [
        "scenarios reported rightly: 60 of 60",
        "arrivals stamped by: the kernel",
        "",
        "                                   measured − true, ms",
        "streams  tokens/s                p50       p99       max  worst figure",
        "      1        86  TTFT       +0.025     0.048    +0.048  ✓ 0.12 % ITL p99",
        "                   ITL         0.000     0.040    -0.088  throughput +0.03 %",
        "                   TPOT        0.000     0.001    +0.001  no request failed",
        "                   arrival     0.000     0.000     0.000  token counts right",
        "      4       345  TTFT       +0.025     0.048    +0.048  ✓ 0.12 % ITL p99",
        "                   ITL         0.000     0.040    -0.088  throughput +0.03 %",
        "                   TPOT        0.000     0.001    +0.001  no request failed",
        "                   arrival     0.000     0.000     0.000  token counts right",
        "",
        "measured within 1 %: up to 4 streams, 345 tokens/s in all (the highest load",
        "  tried)",
    ]


def test_low_ceiling_says_what_to_do() -> None:
    lines = table(check(level(1), OFF))
    assert lines[9] == "    256    22,067  TTFT       +0.010    60.390+12345.678  ✗ 63 % TTFT p99"
    assert lines[-5:] == [
        "measured within 1 %: up to 1 stream, 86 tokens/s in all",
        "higher: stop other work on this machine and check again; run the servers to be",
        "  measured elsewhere (the truth server had to share this machine with the",
        "  client, which alone can do more); split a load over processes with",
        "  --modellens-workers 2",
    ]


def test_further_tries_are_said() -> None:
    assert any(line.endswith("no request failed, try 3") for line in table(check(level(1, tries=3))))


def test_lateness_of_the_server_is_said_and_called_no_error() -> None:
    lines = table(
        check(level(1, server_late=Lateness(9, 9.0, 9.0, 9.0)), level(4, server_late=Lateness(9, 0.1, 2.5, 7)))
    )
    at = lines.index("the check's server sent late under the last load: p50 0.10, p99 2.50, max 7.00")
    assert lines[at + 1 : at + 3] == ["  ms (no error: what it did is the truth)", ""]
    assert not any("sent late" in line for line in table(check(level(1, server_late=Lateness(0, None, None, None)))))


def test_nothing_within_the_tolerance() -> None:
    lines = table(check(OFF))
    assert "not measured within 1 %: even 256 streams" in lines
    assert "not measured within 1 %: even 1 stream" in table(check(level(1, worst=0.02)))


def test_failed_requests_leave_dashes() -> None:
    lines = table(check(FAILED))
    assert lines[5:9] == [
        "      4         0  TTFT            –         –         –  ✗ nothing was measured",
        "                   ITL             –         –         –  throughput – %",
        "                   TPOT            –         –         –  10 of 12 failed",
        "                   arrival         –         –         –  2 miscounted",
    ]


def test_wrong_scenarios_are_named() -> None:
    problem = "text: 'a' expected, 'b' reported; " * 4
    lines = table(check(wrong={"three-a-event": "tokens: 12 expected, 11 reported", "stall": problem}))
    assert lines[:3] == [
        "scenarios reported rightly: 58 of 60",
        "  ✗ three-a-event: tokens: 12 expected, 11 reported",
        "  ✗ stall: text: 'a' expected, 'b' reported; text: 'a' expected, 'b' reported;",
    ]


@pytest.mark.parametrize("clock", ["kernel", "perf_counter", "mixed", "none", "odd"])
@pytest.mark.parametrize("of", [OFF, FAILED, level(10_000, tokens_per_second=1234567)])
def test_no_line_is_wider_than_80_columns(clock: str, of: object) -> None:
    wrong = {"a-scenario": "text: expected, found " * 20}
    lines = table(check(of, wrong=wrong, clock=clock, stopped="too many connections " * 9))  # type: ignore[arg-type]
    assert max(map(len, lines)) <= 80
    assert "higher loads were not tried:" in "\n".join(lines)


def test_clock_of_the_process_is_said() -> None:
    assert table(check(clock="perf_counter"))[1].startswith("arrivals stamped by: this process when it got to read")
