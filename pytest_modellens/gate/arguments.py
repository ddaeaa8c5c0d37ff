"""Values of the gate's commands, checked: what is wrong is a usage error that names the option."""

from __future__ import annotations

import argparse
import re
import shlex

__all__ = ["count", "duration", "facts", "limits", "words"]

_DURATION = re.compile(r"(\d+(?:\.\d+)?)(s|m|h)?", re.ASCII)
_SECONDS = {None: 1, "s": 1, "m": 60, "h": 3600}


def limits(text: str) -> str:
    """Return `text`, if it is limits and bounds, such as `tokens_per_second:-5%`."""
    from pytest_modellens.gate.specs import parse_limits

    try:
        parse_limits(text)
        return text
    except ValueError as exc:
        raise argparse.ArgumentTypeError(f"{exc} (got {text!r})") from None


def facts(text: str) -> tuple[str, ...]:
    """Return names of what may differ."""
    from pytest_modellens.gate.specs import parse_facts

    try:
        return parse_facts(text)
    except ValueError as exc:
        raise argparse.ArgumentTypeError(f"{exc} (got {text!r})") from None


def count(text: str) -> int:
    """Return a whole number from 1 on."""
    if not text.isascii() or not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number from 1 on (got {text!r})")
    return int(text)


def duration(text: str) -> float:
    """Return seconds, of `90s`, `10m` or `1.5h`."""
    match = _DURATION.fullmatch(text)
    if match is None:
        raise argparse.ArgumentTypeError(f"must be a duration such as 90s, 10m or 1.5h (got {text!r})")
    return float(match[1]) * _SECONDS[match[2]]


def words(text: str) -> list[str]:
    """Return arguments as a shell would split them."""
    try:
        return shlex.split(text)
    except ValueError as exc:
        raise argparse.ArgumentTypeError(f"must be words as in a shell: {exc} (got {text!r})") from None
