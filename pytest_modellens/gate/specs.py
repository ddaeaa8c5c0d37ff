"""Limits as people write them: `tokens_per_second:-5%`, `ttft_ms.p95:+20%`."""

from __future__ import annotations

import re

from pytest_modellens.errors import ConfigError
from pytest_modellens.gate.bounds import EXAMPLE, AbsoluteLimit, is_absolute, parse_bound
from pytest_modellens.gate.limits import GOODPUT, relative_limits
from pytest_modellens.gate.session import FACTS

__all__ = [
    "parse_alpha",
    "parse_blocks",
    "parse_bounds",
    "parse_facts",
    "parse_inconclusive",
    "parse_limits",
    "parse_restarts",
    "show_change",
]

MIN_BLOCKS = 3
"""Fewer blocks show no spread to judge by."""
_SPEC = re.compile(r"([\w.]+):([+-])(\d+(?:\.\d+)?)(%|pp)", re.ASCII)


def parse_limits(text: str) -> dict[str, float]:
    """Return limits by metric, from one or more of them with white space between; bounds among them are checked only.

    Raises:
        ValueError: with a text that follows an option's name: "must be …".
    """
    if not text.strip():
        raise ValueError("must not be empty")
    limits: dict[str, float] = {}
    parse_bounds(text)
    for part in text.split():
        if is_absolute(part):
            continue
        match = _SPEC.fullmatch(part)
        if match is None:
            raise ValueError(
                "must be a metric and its allowed change, such as tokens_per_second:-5%, or its bound, such as "
                f"{EXAMPLE}"
            )
        name, sign, number, unit = match.groups()
        if (name == GOODPUT) != (unit == "pp"):
            right = "pp, percentage points: goodput:-2pp" if name == GOODPUT else "%, such as tokens_per_second:-5%"
            raise ValueError(f"must give the change of {name} in {right}")
        if name in limits:
            raise ValueError(f"must not name {name} twice")
        limits[name] = float(number) / 100 * (1 if sign == "+" else -1)
    if not limits:
        return {}
    try:
        relative_limits(limits)
    except ConfigError as exc:
        raise ValueError(f"cannot be used: {str(exc).partition(' (got')[0]}") from None
    return limits


def parse_bounds(text: str) -> tuple[AbsoluteLimit, ...]:
    """Return the bounds among what `parse_limits` takes; raises ValueError as it does."""
    found = [parse_bound(part) for part in text.split() if is_absolute(part)]
    for number, bound in enumerate(found):
        if bound.name in {other.name for other in found[:number]}:
            raise ValueError(f"must not bound {bound.name} twice")
    return tuple(found)


def parse_alpha(text: str) -> float:
    """Return an error rate; raises ValueError as `parse_limits` does."""
    try:
        alpha = float(text)
    except ValueError:
        alpha = 0.0
    if not 0 < alpha <= 0.2:
        raise ValueError("must be a probability above 0, and 0.2 at most")
    return alpha


def parse_blocks(text: str) -> tuple[int, ...]:
    """Return numbers of blocks at which to look; raises ValueError as `parse_limits` does."""
    parts = [part.strip() for part in text.split(",")]
    looks = tuple(int(part) for part in parts if part.isascii() and part.isdigit())
    if len(looks) < len(parts) or looks != tuple(sorted({*looks})) or looks[0] < MIN_BLOCKS:
        raise ValueError(f"must be numbers of blocks that grow, from {MIN_BLOCKS} on, such as 6,12,20,40 or 20")
    return looks


def parse_restarts(text: str) -> str:
    """Return when servers are started anew; raises ValueError as `parse_limits` does."""
    if text not in {"auto", "always", "never"}:
        raise ValueError("must be auto, always or never")
    return text


def parse_inconclusive(text: str) -> str:
    """Return what an undecided gate is to do; raises ValueError as `parse_limits` does."""
    if text not in {"warn", "fail"}:
        raise ValueError("must be warn or fail")
    return text


def parse_facts(text: str) -> tuple[str, ...]:
    """Return names of facts, with commas or white space between; raises ValueError as `parse_limits` does."""
    names = tuple(re.split(r"[,\s]+", text.strip()))
    if not {*FACTS} >= {*names}:
        raise ValueError(f"must be among {', '.join(FACTS)}")
    return names


def show_change(metric: str, change: float) -> str:
    """Return a change as text, with its unit."""
    unit = "pp" if metric == GOODPUT else "%"
    return f"{100 * change:+.1f} {unit}".replace("-", "−")
