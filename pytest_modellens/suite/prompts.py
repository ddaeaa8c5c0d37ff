"""What a case sends, request after request: its one prompt, the rows of its data set, or made-up ones."""

from __future__ import annotations

from dataclasses import replace
from itertools import count, cycle, repeat
from typing import TYPE_CHECKING

from pytest_modellens.suite.dataset import Row

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pytest_modellens.models import RunRequest
    from pytest_modellens.suite.case import Case

__all__ = ["prompts", "requests"]


def prompts(case: Case) -> Iterator[Row]:
    """Return the prompts of `case`, endlessly, in an order that is the same every time.

    Raises:
        SuiteError: its data set cannot be used; every bad row is named by its line.
    """
    if case.dataset is not None:
        return cycle(case.dataset.rows())
    if case.synthetic is not None:
        made_up = case.synthetic.prompt
        return (Row(text, None, most) for text, most in map(made_up, count()))
    return repeat(Row(case.prompt, case.messages))


def requests(case: Case, model: str, request_of: Callable[[Case, str], RunRequest]) -> Iterator[RunRequest]:
    """Return the requests that `case` sends to `model`, endlessly: `request_of(case, model)` with each prompt in turn.

    A conversation of a data set gets the case's system prompt as its first message, unless it begins with one.

    Raises:
        SuiteError: the case's data set cannot be used.
    """
    base = request_of(case, model)
    if case.synthetic is not None and case.synthetic.ignore_eos:
        base = replace(base, extra={"ignore_eos": True, **base.extra})
    if case.dataset is None and case.synthetic is None:
        return repeat(base)
    return (_with_prompt(base, row) for row in prompts(case))


def _with_prompt(base: RunRequest, row: Row) -> RunRequest:
    messages = row.messages
    if messages is not None and base.system_prompt is not None and messages[0]["role"] not in ("system", "developer"):
        messages = ({"role": "system", "content": base.system_prompt}, *messages)
    most = base.max_tokens if row.max_tokens is None else row.max_tokens
    return replace(base, prompt=row.prompt, messages=messages, max_tokens=most)
