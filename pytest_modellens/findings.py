"""What is wrong with a measured cell: failed requests, unexpected answers, untrustworthy numbers."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from pytest_modellens.text import printable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_modellens.record import Record

__all__ = ["findings"]


def findings(records: Sequence[Record], *, planned: int | None = None, stopped: str | None = None) -> list[str]:
    """Return a sentence for everything that keeps a cell from passing, apart from its limits; empty for a good one.

    Args:
        records: all of the cell, warm-up too.
        planned: how many requests were to be sent; None: nobody could know.
        stopped: why nothing more was sent.
    """
    found = [*_failed(records, planned, stopped), *_unexpected(records), *_invalid(records)]
    if not found and not any(record.phase == "measured" for record in records):
        found.append(f"nothing was measured ({len(records)} requests of warm-up)")
    return found


def _failed(records: Sequence[Record], planned: int | None, stopped: str | None) -> list[str]:
    failed = [record for record in records if not record.ok]
    unsent = None
    if planned is None and stopped:
        unsent = f"stopped early: {stopped}"
    elif planned is not None and len(records) < planned:
        unsent = f"{planned - len(records)} requests were not sent: {stopped or 'the run was cut off'}"
    if not failed:
        return [unsent] if unsent else []
    classes = Counter(record.error_class for record in failed)
    counts = ", ".join(f"{count} × {name}" for name, count in classes.most_common())
    lines = [f"{len(failed)} of {len(records)} requests failed ({counts})"]
    reasons = dict.fromkeys(record.error for record in failed)
    lines += [f"  {printable(reason or '', limit=1000)}" for reason in list(reasons)[:3]]
    if len(reasons) > 3:
        lines.append(f"  and {len(reasons) - 3} other reasons, all in requests.jsonl")
    if unsent:
        lines.append(f"  {unsent}")
    return ["\n".join(lines)]


def _unexpected(records: Sequence[Record]) -> list[str]:
    judged = [record for record in records if record.phase == "measured" and record.ok]
    wrong = [record for record in judged if record.expect_failures]
    if not wrong:
        return []
    sentences = dict.fromkeys(sentence for record in wrong for sentence in record.expect_failures)
    lines = [f"{len(wrong)} of {len(judged)} answers are not as expected"]
    lines += [f"  {sentence}" for sentence in list(sentences)[:3]]
    return ["\n".join(lines)]


def _invalid(records: Sequence[Record]) -> list[str]:
    reasons = dict.fromkeys(record.invalid for record in records if record.phase == "measured" and record.invalid)
    return [f"not a valid measurement: {reason}" for reason in reasons]
