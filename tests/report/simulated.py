"""Runs of servers whose speed is known, with the noise that sessions, starts and requests have, as files."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from tests.gate.servers import Machine
from tests.report import runs

if TYPE_CHECKING:
    from pathlib import Path

CASES = 6


def rows(machine: Machine, *, gain: float = 0.0, session: float = 0.0, rounds: int = 20, **key: Any) -> list[Any]:
    """Return the records of a session of a server that is faster than the machine's usual one by `gain`."""
    speeds = np.exp(machine.arm(session, drop=-gain, blocks=rounds))
    waits = 1000 / np.exp(machine.arm(session, drop=-gain, blocks=rounds))
    return [
        runs.record(
            number,
            case=f"case-{case}",
            tokens_per_second=float(speeds[case, number]),
            tpot_ms=1000 / float(speeds[case, number]),
            ttft_ms=5 * float(waits[case, number]),
            **key,
        )
        for case in range(speeds.shape[0])
        for number in range(rounds)
    ]


def two_runs(path: Path, *, gain: float, seed: int = 1, rounds: int = 20) -> tuple[Path, Path]:
    """Write a run of a server and one of another that is faster by `gain`, each a session of its own."""
    machine = Machine(seed, cases=CASES)
    old = rows(machine, session=machine.session(), rounds=rounds)
    new = rows(machine, session=machine.session(), rounds=rounds, gain=gain)
    return runs.folder(path, old, "old"), runs.folder(path, new, "new")


def one_run(path: Path, *, gain: float, seed: int = 1, rounds: int = 20) -> Path:
    """Write a run of two servers, of which the second, sglang, is faster by `gain`."""
    machine = Machine(seed, cases=CASES)
    session = machine.session()
    old = rows(machine, session=session, rounds=rounds)
    new = rows(machine, session=session, rounds=rounds, gain=gain, provider="sglang")
    return runs.folder(path, [*old, *new], "both")
