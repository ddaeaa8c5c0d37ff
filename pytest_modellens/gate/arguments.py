"""Values of the gate's commands, checked: what is wrong is a usage error that names the option."""

from __future__ import annotations

import argparse
import re
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["alpha", "facts", "limits", "run_or_time"]

T = TypeVar("T")
_RUN = re.compile(r"\d{8}(T\d{6}Z.*)?", re.ASCII)


def limits(text: str) -> str:
    """Return `text`, if it is limits and bounds, such as `tokens_per_second:-5%`."""
    from pytest_modellens.gate.specs import parse_limits

    _parsed(parse_limits, text)
    return text


def facts(text: str) -> tuple[str, ...]:
    """Return names of what may differ."""
    from pytest_modellens.gate.specs import parse_facts

    return _parsed(parse_facts, text)


def alpha(text: str) -> float:
    """Return an error rate."""
    from pytest_modellens.gate.specs import parse_alpha

    return _parsed(parse_alpha, text)


def run_or_time(text: str) -> str:
    """Return `text`, if it is where names of runs can be divided in older and newer ones."""
    if not _RUN.fullmatch(text):
        raise argparse.ArgumentTypeError(
            f"must be the name of a run, such as 20261122T203000Z-smoke, or a day, such as 20261122 (got {text!r})"
        )
    return text


def _parsed(parse: Callable[[str], T], text: str) -> T:
    try:
        return parse(text)
    except ValueError as exc:
        raise argparse.ArgumentTypeError(f"{exc} (got {text!r})") from None
