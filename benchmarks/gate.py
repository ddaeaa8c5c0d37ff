"""False alarms, power, and requests spent of the regression gate, beside the rules that other tools apply.

    python benchmarks/gate.py [--runs 2000] [--stall 3] [--memory arm|case] [--seed 1]

Servers are simulated, so that what is true is known: ten cases whose prompts differ by 40 %, twenty requests of each,
a session that moves everything by 2 %, a server start that moves its arm by 0.5 %, noise of 5 % per request correlated
by 0.3 with the request before it (of the same arm, or with `--memory case` of the same case), and 1 % of requests that
stall, which take `--stall` times as long. In the rows "as pytest asks" requests have the order of a run (every case up
to a look, then every case up to the next) and are correlated along it, and the machine's speed wanders by 5 % from the
first request to the last. Verdicts are those of `pytest_modellens.gate.judge` itself.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from scipy import stats

from pytest_modellens.gate import judge

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    Array = NDArray[np.float64]

CASES, REPEATS, SESSIONS = 10, 20, 5
SESSION_SD, START_SD, REQUEST_SD, RHO, STALLS, PROMPT_SD = 0.02, 0.005, 0.05, 0.3, 0.01, 0.4
LOOKS = (6, 12, 20, 40)
DRIFT_SD = 0.05


@dataclass(frozen=True)
class World:
    """Servers to measure. Everything is a logarithm of a time; arrays are [case, repeat]."""

    seed: int
    stall: float = 3.0
    memory: str = "arm"

    def runs(self, count: int) -> Iterator[Run]:
        for number in range(count):
            yield Run(self, np.random.default_rng((self.seed, number)))


@dataclass(frozen=True)
class Starts:
    """How often both servers are started, and by how much that moves them."""

    sd: float
    every: int
    """Blocks after which both are started anew."""

    def of(self, blocks: int) -> NDArray[np.int64]:
        """Return which start each block is on."""
        return np.arange(blocks) // self.every

    def moved(self, rng: np.random.Generator, blocks: int) -> Array:
        of = self.of(blocks)
        return np.asarray(self.sd * rng.normal(size=of[-1] + 1)[of])


class Run:
    """One job: a server, another one beside it, and sessions of the same server before."""

    def __init__(self, world: World, rng: np.random.Generator) -> None:
        self._world, self._rng = world, rng
        self.prompts = PROMPT_SD * rng.normal(size=(CASES, 1))

    def arm(
        self,
        session: float,
        slower: float = 0.0,
        repeats: int = REPEATS,
        looks: tuple[int, ...] | None = None,
        starts: Starts | None = None,
    ) -> Array:
        """Return an arm whose tokens per second are lower by the share `slower`; `looks` say the order of requests."""
        start = START_SD * self._rng.normal() if starts is None else starts.moved(self._rng, repeats)
        noise = REQUEST_SD * (self._correlated(repeats) if looks is None else self._along(asked(looks)))
        stalled = np.log(self._world.stall) * (self._rng.random((CASES, repeats)) < STALLS)
        return np.asarray(self.prompts + session + start - np.log1p(-slower) + noise + stalled)

    def session(self) -> float:
        return SESSION_SD * float(self._rng.normal())

    def drift(self, looks: tuple[int, ...]) -> tuple[Array, Array]:
        """Return how the machine wanders while both arms are asked in turn, A B B A: the same walk, seen by each."""
        order = asked(looks)
        steps = self._rng.normal(size=2 * order.size) * DRIFT_SD / np.sqrt(2 * order.size)
        walk = np.cumsum(steps).reshape(-1, 2)[order]
        is_swapped = np.arange(order.shape[1]) % 2 == 1
        first, second = walk[..., 0], walk[..., 1]
        return np.where(is_swapped, second, first), np.where(is_swapped, first, second)

    def _correlated(self, repeats: int) -> Array:
        if self._world.memory == "arm":
            return self._chain((1, CASES * repeats)).reshape(repeats, CASES).T
        return self._chain((CASES, repeats))

    def _along(self, order: NDArray[np.int64]) -> Array:
        return np.asarray(self._chain((1, order.size))[0][order])

    def _chain(self, shape: tuple[int, int]) -> Array:
        """Return rows of normal values, each correlated with the one before it."""
        from scipy.signal import lfilter

        fresh = self._rng.normal(size=shape)
        fresh[:, 1:] *= np.sqrt(1 - RHO**2)
        return np.asarray(lfilter([1.0], [1.0, -RHO], fresh, axis=1))


def asked(looks: tuple[int, ...]) -> NDArray[np.int64]:
    """Return when each request of an arm is sent, [case, block]: every case up to a look, then up to the next."""
    order = np.zeros((CASES, looks[-1]), dtype=np.int64)
    begun = 0
    for before, blocks in zip((0, *looks), looks, strict=False):
        step = blocks - before
        order[:, before:blocks] = begun + np.arange(CASES * step).reshape(CASES, step)
        begun += CASES * step
    return order


def frame(
    times: Array, *, job: int = 0, metric: str = "tokens_per_second", slo: float | None = None, start: Any = 0
) -> pd.DataFrame:
    """Return requests as `judge` takes them; goodput where `slo`, a log time relative to the case, says what is met."""
    cases, repeats = times.shape
    block = np.tile(np.arange(repeats), cases)
    case = np.repeat(np.arange(cases), repeats)
    if slo is not None:
        value: Any = times <= slo
    else:
        value = 60 * np.exp(-times) if metric == "tokens_per_second" else 200 * np.exp(times)
    return pd.DataFrame(
        {
            "job": job,
            "start": np.tile(np.broadcast_to(start, repeats), cases),
            "block": block,
            "case": np.char.add("case", case.astype(str)),
            "t": block * float(cases) + case,
            "completion_tokens": 64,
            metric: value.ravel(),
        }
    )


@dataclass
class Outcome:
    verdict: str
    requests: int
    """Per arm, in the job that is judged."""


def ours_side_by_side(run: Run, slower: float, limit: float, name: str = "tokens_per_second") -> Outcome:
    session = run.session()
    arms = [run.arm(session), run.arm(session, slower)]
    return Outcome(judged(arms, limit, name), arms[0].size)


def judged(arms: list[Array], limit: float, name: str, *, start: Any = 0, **more: Any) -> str:
    metric = name.partition(".")[0]
    frames = [frame(arm, metric=metric, start=start) for arm in arms]
    signed = -limit if metric == "tokens_per_second" else limit / (1 - limit)
    return judge(*frames, limits={name: signed}, **more).verdict


def ours_by_looks(run: Run, slower: float, limit: float) -> Outcome:
    """Stop at the first of the looks that is conclusive."""
    session = run.session()
    return by_looks([run.arm(session, repeats=LOOKS[-1]), run.arm(session, slower, repeats=LOOKS[-1])], limit, LOOKS)


def by_looks(arms: list[Array], limit: float, looks: tuple[int, ...], starts: Starts | None = None) -> Outcome:
    for look, blocks in enumerate(looks):
        seen = [arm[:, :blocks] for arm in arms]
        start = 0 if starts is None else starts.of(blocks)
        verdict = judged(seen, limit, "tokens_per_second", start=start, look=look, n_looks=len(looks))
        if verdict != "inconclusive":
            break
    return Outcome(verdict, CASES * blocks)


def as_asked(looks: tuple[int, ...]) -> Any:
    """Return the gate of `--modellens-blocks` over requests in the order of a run."""

    def gate(run: Run, slower: float, limit: float) -> Outcome:
        session, drifts = run.session(), run.drift(looks)
        arms = [run.arm(session, drop, looks[-1], looks) for drop in (0.0, slower)]
        return by_looks([arm + drift for arm, drift in zip(arms, drifts, strict=True)], limit, looks)

    return gate


def restarted(sd: float, *, every: int) -> Any:
    """Return the gate, look by look, over servers whose starts differ by `sd`, started anew after so many blocks."""
    starts = Starts(sd, every)

    def gate(run: Run, slower: float, limit: float) -> Outcome:
        session = run.session()
        arms = [run.arm(session, drop, LOOKS[-1], starts=starts) for drop in (0.0, slower)]
        return by_looks(arms, limit, LOOKS, starts)

    return gate


def ours_stored(run: Run, slower: float, limit: float) -> Outcome:
    before = [run.arm(run.session()) for _ in range(SESSIONS)]
    baseline = pd.concat([frame(arm, job=job) for job, arm in enumerate(before)], ignore_index=True)
    now = run.arm(run.session(), slower)
    verdict = judge(
        baseline, frame(now, job=SESSIONS), limits={"tokens_per_second": -limit}, design="stored"
    ).verdict  # fmt: skip
    return Outcome(verdict, now.size)


def goodput(run: Run, slower: float, limit: float) -> Outcome:
    """Gate the share of requests within an objective that 90 % meet, at `limit` percentage points."""
    session = run.session()
    arms = [run.arm(session, repeats=5 * REPEATS), run.arm(session, slower, repeats=5 * REPEATS)]
    bounds = run.prompts + session + 1.2816 * REQUEST_SD
    frames = [frame(arm - bounds, metric="goodput", slo=0.0) for arm in arms]
    return Outcome(judge(*frames, limits={"goodput": -limit}).verdict, arms[0].size)


def mean_rule(base: Array, new: Array, limit: float) -> bool:
    """pytest-benchmark, --benchmark-compare-fail=mean:5%."""
    return bool((np.exp(new).mean(axis=1) > (1 + limit) * np.exp(base).mean(axis=1)).any())


def welch(base: Array, new: Array, _limit: float) -> bool:
    """A t-test of every case at 5 %."""
    found = stats.ttest_ind(np.exp(new), np.exp(base), axis=1, equal_var=False, alternative="greater")
    return bool((found.pvalue <= 0.05).any())


def mann_whitney(base: Array, new: Array, limit: float) -> bool:
    """A Mann-Whitney test of every case at 5 %, and a median beyond the limit."""
    p = stats.mannwhitneyu(new, base, axis=1, alternative="greater").pvalue
    beyond = np.median(new, axis=1) - np.median(base, axis=1) > np.log1p(limit)
    return bool(((p <= 0.05) & beyond).any())


def bootstrap(base: Array, new: Array, _limit: float) -> bool:
    """Criterion's: the 95 % bootstrap interval of a case's mean lies beyond a noise threshold of 1 %."""
    rng = np.random.default_rng(0)
    means = [np.exp(arm)[:, rng.integers(0, arm.shape[1], (500, arm.shape[1]))].mean(axis=2) for arm in (base, new)]
    return bool((np.quantile(means[1] / means[0], 0.025, axis=1) > 1.01).any())


def asv(base: Array, new: Array, _limit: float) -> bool:
    """asv compare: medians apart by a factor of 1.1, and a Mann-Whitney test at 0.2 %."""
    p = stats.mannwhitneyu(new, base, axis=1, alternative="two-sided").pvalue
    return bool(((p < 0.002) & (np.median(new, axis=1) - np.median(base, axis=1) > np.log(1.1))).any())


def by_rule(rule: Any, *, stored: bool) -> Any:
    def judged(run: Run, slower: float, limit: float) -> Outcome:
        session = run.session()
        base = run.arm(session)
        new = run.arm(run.session() if stored else session, slower)
        return Outcome("regression" if rule(base, new, limit) else "pass", base.size)

    return judged


def share(hits: int, runs: int) -> str:
    low, high = stats.binomtest(hits, runs).proportion_ci(method="wilson")
    return f"{100 * hits / runs:5.1f} ({100 * low:4.1f}–{100 * high:5.1f})"


def row(name: str, gate: Any, world: World, runs: int, limit: float, drops: tuple[float, ...]) -> str:
    """Return a line: for each true drop, what is said how often."""
    texts = []
    for drop in drops:
        found = [gate(run, drop, limit) for run in world.runs(runs)]
        wanted = "pass" if drop == limit else "regression"
        hits = sum(one.verdict == wanted or (wanted == "pass" and one.verdict == "improvement") for one in found)
        texts.append(share(hits, runs))
        if drop == 0:
            settled = share(sum(one.verdict != "inconclusive" for one in found), runs)
            spent = np.mean([one.requests for one in found])
    return f"{name:34} {' '.join(f'{text:19}' for text in texts)} {settled:19} {spent:6.0f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=2000, help="simulated jobs per number (default: 2000)")
    parser.add_argument("--stall", type=float, default=3.0, help="how many times as long a stalled request takes")
    parser.add_argument("--memory", choices=("arm", "case"), default="arm", help="what requests are correlated along")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--quick", action="store_true", help="leave out the rules of other tools")
    options = parser.parse_args()
    world, began = World(options.seed, options.stall, options.memory), time.perf_counter()
    print(f"{options.runs} jobs per number; % with the 95 % interval; requests are per arm, on no change")

    def section(title: str, limit: float, drops: tuple[float, ...], gates: dict[str, Any]) -> None:
        heads = ["false alarms", *(f"{'passes' if d == limit else 'found'} at −{100 * d:g} %" for d in drops[1:])]
        print(f"\n{title:34} {' '.join(f'{head:19}' for head in heads)} {'conclusive at 0':19} requests")
        for name, gate in gates.items():
            print(row(name, gate, world, options.runs, limit, drops), flush=True)

    rules = {
        "pytest-benchmark, mean:5%": mean_rule,
        "Welch, each case": welch,
        "Mann-Whitney, and median": mann_whitney,
        "bootstrap beyond 1 %": bootstrap,
        "asv": asv,
    }
    others = {} if options.quick else rules
    drops = (0.0, 0.05, 0.075, 0.10)
    ours: dict[str, Any] = {
        "modellens, 20 blocks": ours_side_by_side,
        "modellens, 6,12,20,40 blocks": ours_by_looks,
        "as pytest asks, 20 blocks": as_asked((REPEATS,)),
        "as pytest asks, 6,12,20,40": as_asked(LOOKS),
    }
    section("side by side, limit 5 %", 0.05, drops, ours | {n: by_rule(r, stored=False) for n, r in others.items()})
    section("side by side, limit 3 %", 0.03, (0.0, 0.03, 0.05), ours)
    for sd in (START_SD, 0.02, 0.05):
        gates = {"one start of each server": restarted(sd, every=10**6), "anew for each block": restarted(sd, every=1)}
        section(f"server starts of {100 * sd:g} %, limit 5 %", 0.05, drops, gates)
    ttft = {
        f"modellens, {name}": lambda run, slower, limit, name=name: ours_side_by_side(run, slower, limit, name)
        for name in ("ttft_ms", "ttft_ms.p95")
    }
    section("ttft, side by side, limit 5 %", 0.05, drops, ttft)
    stored = {"modellens, five sessions": ours_stored}
    section("stored baseline, limit 5 %", 0.05, drops, stored | {n: by_rule(r, stored=True) for n, r in others.items()})
    section("stored baseline, limit 10 %", 0.10, (0.0, 0.10, 0.20), stored)
    section("goodput of 90 %, limit 5 points", 0.05, (0.0, 0.10), {"modellens, 100 blocks": goodput})
    print(f"took {time.perf_counter() - began:.0f} s")


if __name__ == "__main__":
    main()
