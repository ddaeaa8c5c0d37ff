"""Our times and the server's: which are compared, and what is still agreement."""

from __future__ import annotations

import pytest

from pytest_modellens.measure.server_times import disagreements


@pytest.mark.parametrize(
    ("ttft", "total", "timings", "alone", "found"),
    [
        (50, 370, {"server_ttft_ms": 45, "server_decode_ms": 315, "server_total_ms": 365}, False, {}),
        (50, 370, {"server_ttft_ms": 44.9}, False, {"ttft_ms": [50, 44.9]}),
        (50, 370, {"server_ttft_ms": 55.1}, True, {"ttft_ms": [50, 55.1]}),
        (1000, 2000, {"server_ttft_ms": 950.1}, True, {}),
        (1000, 2000, {"server_ttft_ms": 949.9}, True, {"ttft_ms": [1000, 949.9]}),
        (50, 370, {"server_prefill_ms": 10}, True, {"ttft_ms": [50, 10]}),
        (50, 370, {"server_prefill_ms": 10}, False, {}),
        (50, 370, {"server_prefill_ms": 10, "server_load_ms": 38}, True, {}),
        (50, 370, {"server_load_ms": 38}, True, {}),
        (50, 370, {"server_decode_ms": 200}, False, {"decode_ms": [320, 200]}),
        (None, 370, {"server_decode_ms": 200, "server_ttft_ms": 1}, True, {}),
        (50, None, {"server_decode_ms": 200, "server_total_ms": 9}, True, {}),
        (None, 370, {"server_total_ms": 300}, False, {"total_time_ms": [370, 300]}),
        (50, 370, {}, True, {}),
    ],
)
def test_times_that_can_be_compared_agree_or_are_shown_both(
    ttft: float | None, total: float | None, timings: dict[str, float], alone: bool, found: dict[str, list[float]]
) -> None:
    assert disagreements(ttft_ms=ttft, total_time_ms=total, timings=timings, alone=alone) == found
