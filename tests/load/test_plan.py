from __future__ import annotations

from itertools import islice, pairwise
from statistics import fmean, pstdev

import pytest

from pytest_modellens.load.plan import LoadPlan, Phases, Share, arrival_offsets_ns, starts, stream_offsets_ns

SECOND = 1_000_000_000


def offsets(plan: LoadPlan, n: int) -> list[int]:
    return list(islice(arrival_offsets_ns(plan), n))


def gaps(plan: LoadPlan, n: int) -> list[float]:
    return [later - earlier for earlier, later in pairwise(offsets(plan, n))]


def test_constant_arrivals_are_exact_and_do_not_drift() -> None:
    plan = LoadPlan(rate=3)
    assert offsets(plan, 4) == [0, 333_333_333, 666_666_667, SECOND]
    assert offsets(plan, 3001)[-1] == 1000 * SECOND


@pytest.mark.parametrize(
    ("arrival", "burstiness", "variation"),
    [("poisson", None, 1.0), ("gamma", 1.0, 1.0), ("gamma", 0.25, 2.0), ("gamma", 4.0, 0.5)],
)
def test_random_arrivals_have_the_rate_and_the_variation_asked_for(
    arrival: str, burstiness: float | None, variation: float
) -> None:
    found = gaps(LoadPlan(rate=50, arrival=arrival, burstiness=burstiness, seed=1), 40_000)  # type: ignore[arg-type]
    assert fmean(found) == pytest.approx(SECOND / 50, rel=0.03)
    assert pstdev(found) / fmean(found) == pytest.approx(variation, rel=0.03)


def test_the_seed_decides_over_the_arrivals() -> None:
    first, again, other = (offsets(LoadPlan(rate=5, arrival="poisson", seed=seed), 50) for seed in (1, 1, 2))
    assert first == again
    assert first != other


def test_ramp_makes_the_rate_rise_linearly() -> None:
    found = offsets(LoadPlan(rate=10, ramp_s=4), 41)
    # 10/s * t^2 / (2 * 4 s): five by 2 s, twenty by 4 s; from then on ten a second.
    assert found[0] == 0
    assert found[5] == 2 * SECOND
    assert found[20] == 4 * SECOND
    assert found[30] == 5 * SECOND
    assert found[40] == 6 * SECOND


def test_ramp_of_poisson_arrivals_has_the_expected_count() -> None:
    counts = [
        sum(at < 4 * SECOND for at in offsets(LoadPlan(rate=10, ramp_s=4, arrival="poisson", seed=seed), 60))
        for seed in range(400)
    ]
    assert fmean(counts) == pytest.approx(20, rel=0.03)


def test_starts_end_with_requests_or_duration_whichever_comes_first() -> None:
    assert [start.offset_ns for start in starts(LoadPlan(rate=10, requests=3))] == [0, SECOND // 10, SECOND // 5]
    assert len(list(starts(LoadPlan(rate=10, duration_s=0.5)))) == 5
    assert len(list(starts(LoadPlan(rate=10, requests=3, duration_s=0.5)))) == 3
    assert len(list(starts(LoadPlan(rate=10, requests=30, duration_s=0.5)))) == 5


def test_warmup_of_a_time_comes_before_the_measured_requests() -> None:
    found = list(starts(LoadPlan(rate=10, warmup_s=0.3, duration_s=0.5)))
    assert [start.phase for start in found] == ["warmup"] * 3 + ["measured"] * 5


def test_warmup_of_a_number_comes_before_the_measured_requests() -> None:
    found = list(starts(LoadPlan(rate=10, warmup_requests=2, requests=4)))
    assert [start.phase for start in found] == ["warmup"] * 2 + ["measured"] * 4
    assert [start.index for start in found] == list(range(6))


def test_duration_counts_from_the_first_measured_request() -> None:
    phases = Phases(LoadPlan(concurrency=1, warmup_requests=1, duration_s=1))
    assert [phases.next(at * SECOND) for at in (0, 5, 5, 6)] == ["warmup", "measured", "measured", None]
    assert phases.measured == 2


def test_what_starts_in_the_ramp_is_warmup_and_the_warmup_follows_it() -> None:
    found = list(starts(LoadPlan(rate=10, ramp_s=2, warmup_requests=2, requests=3)))
    assert [start.phase for start in found] == ["warmup"] * 12 + ["measured"] * 3
    assert found[10].offset_ns == 2 * SECOND


def test_streams_begin_together_staggered_or_over_the_ramp() -> None:
    assert stream_offsets_ns(LoadPlan(concurrency=3), Share()) == [0, 0, 0]
    assert stream_offsets_ns(LoadPlan(concurrency=3, stagger_s=0.05), Share()) == [0, 50_000_000, 100_000_000]
    assert stream_offsets_ns(LoadPlan(concurrency=4, ramp_s=2), Share()) == [0, SECOND // 2, SECOND, 3 * SECOND // 2]


@pytest.mark.parametrize("workers", [1, 2, 3, 7])
def test_shares_add_up(workers: int) -> None:
    shares = [Share(number, workers) for number in range(workers)]
    whole = LoadPlan(concurrency=10, requests=101, warmup_requests=5)
    parts = [whole.part(share) for share in shares]
    assert sum(part.concurrency or 0 for part in parts) == 10
    assert sum(part.requests or 0 for part in parts) == 101
    assert sum(part.warmup_requests for part in parts) == 5
    streams = [stream_offsets_ns(whole, share) for share in shares]
    assert [len(mine) for mine in streams] == [part.concurrency for part in parts]
    assert Share().of(None) is None


def test_share_of_an_open_loop_keeps_the_rate_and_room_for_one() -> None:
    part = LoadPlan(rate=5, max_in_flight=2).part(Share(2, 3))
    assert (part.rate, part.max_in_flight) == (5, 1)
    assert LoadPlan(rate=5).part(Share(2, 3)).max_in_flight is None
    assert part.is_open
    assert not LoadPlan(concurrency=1).is_open
