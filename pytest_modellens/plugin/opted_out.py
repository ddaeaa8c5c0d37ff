"""What a provider's contract tests opted out of, at the end of the run: a skip that nobody sees is a promise unkept."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_modellens.text import printable

if TYPE_CHECKING:
    import pytest

__all__ = ["show_opted_out"]


def show_opted_out(terminal: pytest.TerminalReporter) -> None:
    """Write one line for each class and reason, with the number of its checks."""
    counts: dict[str, int] = {}
    for report in terminal.stats.get("skipped", ()):
        reason = dict(report.user_properties).get("modellens_opted_out")
        if isinstance(reason, str):
            counts[reason] = counts.get(reason, 0) + 1
    if counts:
        terminal.section("provider contract: checks that do not apply")
    for reason, count in counts.items():
        terminal.line(f"{count} of {printable(reason, 400)}")
