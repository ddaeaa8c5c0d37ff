"""Lines of text for a terminal: columns that align whatever script their texts are in."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

__all__ = ["MAX_WIDTH", "MIN_WIDTH", "Line", "aligned", "clipped", "folded", "room_in", "squeezed", "widths_of"]

# wcwidth is imported where it is needed: a run that shows no table does without its tables of Unicode.

MIN_WIDTH = 80
MAX_WIDTH = 120


class Line(NamedTuple):
    """One line of text, and how to show it: "bold", "red", "yellow", "green" or nothing."""

    text: str
    style: str = ""


def room_in(width: int) -> int:
    """Return the columns that a table uses of a terminal of `width`: from 80 to 120, and one free at the end."""
    return min(max(width, MIN_WIDTH), MAX_WIDTH) - 1


def widths_of(rows: Sequence[Sequence[str]]) -> list[int]:
    """Return how wide each column of `rows` is shown: an ideograph takes two columns, a combining mark none."""
    from wcwidth import width

    return [max(map(width, column)) for column in zip(*rows, strict=True)]


def aligned(row: Sequence[str], widths: Sequence[int], *, left: Collection[int], gap: str = " ") -> str:
    """Return the texts of `row` in columns of `widths`, those of the columns `left` to the left, the others right.

    A column of width 0 is left out.
    """
    from wcwidth import ljust, rjust

    columns = enumerate(zip(row, widths, strict=True))
    return gap.join((ljust if at in left else rjust)(text, wide) for at, (text, wide) in columns if wide).rstrip()


def clipped(text: str, width: int) -> str:
    """Return `text`, cut to `width` columns."""
    import wcwidth

    return text if wcwidth.width(text) <= width else f"{wcwidth.clip(text, 0, width - 1).rstrip()}…"


def squeezed(text: str, width: int) -> str:
    """Return `text`, cut to `width` columns in its middle: what tells the cells of a case apart is at the end."""
    import wcwidth

    whole = wcwidth.width(text)
    if whole <= width:
        return text
    head = (width - 1) // 2
    return f"{wcwidth.clip(text, 0, head).rstrip()}…{wcwidth.clip(text, whole - (width - 1 - head), whole).lstrip()}"


def folded(text: str, width: int, *, indent: str = "", then: str | None = None) -> list[str]:
    """Return `text` in lines of `width` columns at most, the first after `indent`, the others after `then`."""
    import wcwidth

    # A number and its "%" stay together.
    whole = text.replace(" %", "\N{NO-BREAK SPACE}%")
    lines = wcwidth.wrap(whole, width, initial_indent=indent, subsequent_indent=indent if then is None else then)
    return [line.replace("\N{NO-BREAK SPACE}%", " %") for line in lines]
