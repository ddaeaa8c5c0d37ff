"""A budget: set aside, settled, never passed, shared."""

from __future__ import annotations

import errno
import json
import os
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from pytest_modellens.budget import Budget, Spending, dollars, most_tokens
from pytest_modellens.cost import Price
from pytest_modellens.errors import BudgetError, ConfigError
from pytest_modellens.models import RunRequest
from pytest_modellens.record import Record

if TYPE_CHECKING:
    from pathlib import Path

DEAR = Price(Decimal(0), Decimal(1_000_000))
"""A dollar for each token of the answer."""


def record(**fields: Any) -> Record:
    given = {"suite": "s", "case": "c", "params": {}, "provider": "p", "model": "m", "round": 0, "ok": True, **fields}
    return Record(started_at="", **given)


def asks(max_tokens: int = 3) -> RunRequest:
    return RunRequest("hi", "m", max_tokens=max_tokens)


@pytest.mark.parametrize(
    ("text", "amount"), [("5USD", "5"), ("5", "5"), ("$0.50", "0.50"), ("0.5 usd", "0.5"), ("USD 7", "7")]
)
def test_amounts(text: str, amount: str) -> None:
    assert dollars(text) == Decimal(amount)


@pytest.mark.parametrize("text", ["", "0", "0.00USD", "-1", "5EUR", "five", "5 USD a day", "nan"])
def test_what_is_no_amount(text: str) -> None:
    with pytest.raises(ConfigError, match="must be an amount of US dollars"):
        dollars(text)


def test_prompt_has_fewer_tokens_than_are_set_aside() -> None:
    request = RunRequest("ü" * 50, "m", system_prompt="s", extra={"tools": ["x" * 30], "temperature": msgspec.UNSET})
    assert most_tokens(request) > len(json.dumps(request.conversation(), ensure_ascii=False).encode()) + 30


def test_what_a_request_can_cost_is_set_aside_until_it_has() -> None:
    budget = Budget(Decimal(10))
    spending = Spending(budget, DEAR, "m")
    for _ in range(3):
        spending.set_aside(asks())
    with pytest.raises(BudgetError) as caught:
        spending.set_aside(asks())
    assert str(caught.value) == (
        "--modellens-budget: the next request could cost 3 USD, and 0 of 10 USD are spent, "
        "9 set aside for requests under way; nothing more is sent"
    )
    spending.settle(asks(), record(prompt_tokens=5, completion_tokens=1))
    assert budget.spent == 1
    spending.set_aside(asks())
    spending.close()
    assert budget.spent == 1
    assert budget.set_aside(Decimal(9))


@pytest.mark.parametrize(
    ("fields", "cost"),
    [
        ({"prompt_tokens": 5, "completion_tokens": 2}, 2),
        ({}, 3),
        ({"ok": False, "error_class": "truncated"}, 3),
        ({"ok": False, "error_class": "http_429"}, 0),
        ({"ok": False, "error_class": "connect"}, 0),
    ],
)
def test_unknown_cost_counts_with_the_most(fields: dict[str, Any], cost: int) -> None:
    budget = Budget(Decimal(10))
    spending = Spending(budget, DEAR, "m")
    spending.set_aside(asks())
    spending.settle(asks(), record(**fields))
    spending.settle(asks(), record(**fields))  # nothing was set aside for this one
    assert budget.spent == cost


def test_without_a_price_there_is_no_spending() -> None:
    with pytest.raises(BudgetError) as caught:
        Spending(Budget(Decimal(1)), None, "gpt")
    assert "the price of model 'gpt' is not known (give it in pyproject.toml: [tool.modellens.prices]" in str(
        caught.value
    )


def test_budget_is_shared_through_a_file(tmp_path: Path) -> None:
    one, two = Budget(Decimal(5), tmp_path / "budget"), Budget(Decimal(5), tmp_path / "budget")
    assert one.set_aside(Decimal(3))
    assert not two.set_aside(Decimal(3))
    one.settle(Decimal(3), Decimal("0.1"))
    assert two.spent == Decimal("0.1")
    assert two.set_aside(Decimal(3))
    assert not one.set_aside(Decimal(3))


def fill_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no file be written, as far as pathlib does it; an opened one is emptied all the same."""

    def full(path: Path, *_: object, **__: object) -> int:
        path.open("w").close()
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("pathlib.Path.write_text", full)


def test_full_disk_lets_nothing_be_sent_and_loses_nothing_that_was_spent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two = Budget(Decimal(5), tmp_path / "budget"), Budget(Decimal(5), tmp_path / "budget")
    spending = Spending(one, DEAR, "m")
    spending.set_aside(asks())
    with monkeypatch.context() as patch:
        fill_disk(patch)
        with pytest.raises(BudgetError) as caught:
            spending.set_aside(asks(max_tokens=1))
        spending.settle(asks(), record(prompt_tokens=5, completion_tokens=1))
        assert two.spent == 0
        assert str(two) == "0 of 5 USD are spent, 3 set aside for requests under way"
        assert str(one) == "1 of 5 USD are spent"
    assert str(caught.value) == (
        f"--modellens-budget: {tmp_path / 'budget'}: cannot be written (No space left on device; make room, or run "
        "without -n), and no process knows what the others spend; nothing more is sent"
    )
    assert one.set_aside(Decimal(1))
    assert str(two) == "1 of 5 USD are spent, 1 set aside for requests under way"
    assert not two.set_aside(Decimal("3.1"))
    assert two.set_aside(Decimal(3))


def test_disk_that_is_full_from_the_beginning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    budget = Budget(Decimal(5), tmp_path / "budget")
    with monkeypatch.context() as patch:
        fill_disk(patch)
        for _ in range(2):
            with pytest.raises(BudgetError, match="No space left on device"):
                budget.set_aside(Decimal(5))
        assert str(budget) == "0 of 5 USD are spent"
    assert budget.set_aside(Decimal(5))


def test_folder_that_is_gone_is_said_in_words(tmp_path: Path) -> None:
    budget = Budget(Decimal(5), tmp_path / "file" / "budget")
    (tmp_path / "file").write_text("no folder", encoding="ascii")
    with pytest.raises(BudgetError, match=r"budget: cannot be written \(.+; make room, or run without -n\)"):
        budget.set_aside(Decimal(1))
    budget.settle(Decimal(1), Decimal(1))
    with pytest.raises(BudgetError, match="nothing more is sent"):
        budget.set_aside(Decimal(1))
