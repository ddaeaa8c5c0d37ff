"""How many connections this process may open at once."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from pytest_modellens.errors import ConfigError

if TYPE_CHECKING:
    from pytest_modellens.load.plan import LoadPlan

__all__ = ["room_in_flight"]

_SPARE = 32
"""Descriptors left for everything else that this process opens meanwhile."""
_MOST = 10_000


def room_in_flight(plan: LoadPlan) -> int:
    """Return how many requests of `plan` may be in flight in this process.

    That is what the plan says. An open loop without a bound of its own gets all that the descriptors allow: beyond it
    requests wait, which shows as schedule delay, instead of failing.

    Raises:
        ConfigError: the plan needs more descriptors than this process may open.
    """
    wanted = plan.max_in_flight if plan.is_open else plan.concurrency
    limit = _limit()
    if limit is None:
        return wanted or _MOST
    free = limit - _in_use() - _SPARE
    if wanted is None:
        wanted = max(1, min(free, _MOST))
    if wanted > free:
        needed = wanted + limit - free
        raise ConfigError(
            f"load: {wanted:,} requests in flight need {needed:,} file descriptors, and this process may open "
            f"{limit:,} (raise the limit with: ulimit -n {needed})"
        )
    return wanted


def _limit() -> int | None:
    """Return the soft limit of open files; None where there is none."""
    try:
        import resource
    except ImportError:  # Windows
        return None
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return None if soft == resource.RLIM_INFINITY else soft


def _in_use() -> int:
    for folder in ("/proc/self/fd", "/dev/fd"):
        try:
            return sum(1 for _ in Path(folder).iterdir())
        except OSError:
            continue
    return _SPARE
