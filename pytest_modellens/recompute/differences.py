"""What a recomputed run says otherwise than the run before: a line for each field that changed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from pytest_modellens.report.lines import aligned, clipped, widths_of
from pytest_modellens.text import printable

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

__all__ = ["Change", "Changes", "changes", "flat", "table"]

_VERSIONS = frozenset({"metric_definitions", "schema_version"})
"""Fields that name the definitions themselves."""
_MISSING = object()


class Change(NamedTuple):
    """One field that differs, with the values where it differs most."""

    field: str
    differing: int
    """In how many records it differs."""
    of: int
    """How many records there are."""
    before: Any
    after: Any


class Changes:
    """Fields that differ between records before and after, of which one pair at a time is known."""

    def __init__(self) -> None:
        self._found: dict[str, Change] = {}
        self._total = 0

    def add(self, before: Mapping[str, Any], after: Mapping[str, Any]) -> None:
        """Take note of a pair."""
        self._total += 1
        for name in (*before, *(key for key in after if key not in before)):
            old, new = before.get(name, _MISSING), after.get(name, _MISSING)
            if name in _VERSIONS or old == new:
                continue
            known = self._found.get(name) or Change(name, 0, 0, old, new)
            if _distance(old, new) > _distance(known.before, known.after):
                known = known._replace(before=old, after=new)
            self._found[name] = known._replace(differing=known.differing + 1)

    def found(self) -> list[Change]:
        """Return the fields, in the order in which they were met."""
        return [change._replace(of=self._total) for change in self._found.values()]


def changes(pairs: Iterable[tuple[Mapping[str, Any], Mapping[str, Any]]]) -> list[Change]:
    """Return the fields that differ between records before and after, in the order in which they are met."""
    found = Changes()
    for before, after in pairs:
        found.add(before, after)
    return found.found()


def flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the values of nested mappings under names with dots.

    >>> dict(flat({"summary": {"n_ok": 3}, "stopped": None}))
    {'summary.n_ok': 3, 'stopped': None}
    """
    for key, value in values.items():
        if isinstance(value, dict):
            yield from flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def table(found: list[Change], *, what: str) -> list[str]:
    """Return the lines of a table of what differs in `what`, "requests" for one, within 80 columns."""
    header = (f"field of {what}", "differs in", "before", "after")
    rows = [
        (_cut(change.field, 30), f"{change.differing} of {change.of}", _shown(change.before), _shown(change.after))
        for change in found
    ]
    widths = widths_of([header, *rows])
    return [aligned(row, widths, left=range(4), gap="  ") for row in (header, *rows)]


def _distance(old: Any, new: Any) -> float:
    """Return how far two values are apart, relative to the old one; 0 where that cannot be said."""
    if _is_number(old) and _is_number(new):
        return abs(new - old) / abs(old) if old else float(abs(new))
    return 0.0


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _shown(value: Any) -> str:
    if value is _MISSING:
        return "no such field"
    if value is None:
        return "–"
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, (list, dict)):
        return f"{len(value)} values"
    return _cut(str(value), 14)


def _cut(text: str, width: int) -> str:
    return clipped(printable(text), width)
