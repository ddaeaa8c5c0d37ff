"""A budget that a run keeps within: what the next request can cost at most is set aside before it is sent."""

from __future__ import annotations

import re
import threading
from contextlib import contextmanager, suppress
from decimal import Decimal
from typing import TYPE_CHECKING

import msgspec

from pytest_modellens.errors import BudgetError, ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from pytest_modellens.cost import Price
    from pytest_modellens.models import RunRequest
    from pytest_modellens.record import Record

__all__ = ["Budget", "Spending", "dollars", "most_tokens"]

_AMOUNT = re.compile(r"(?:USD|\$)?\s*(\d+(?:\.\d+)?)\s*(?:USD|\$)?", re.IGNORECASE)
_TEMPLATE_TOKENS, _MESSAGE_TOKENS = 128, 16
"""More than chat templates add to a conversation, and to each of its messages."""
_UNBILLED = frozenset({"connect", "http_4xx", "http_429", "http_5xx"})
"""Failures before a token was read or written."""


def dollars(text: str) -> Decimal:
    """Return the amount that `text` names: "5USD", "$0.50" or "5".

    Raises:
        ConfigError: it names none.
    """
    match = _AMOUNT.fullmatch(text.strip())
    if match is None or not Decimal(match[1]):
        raise ConfigError("must be an amount of US dollars such as 5USD or 0.50USD")
    return Decimal(match[1])


def most_tokens(request: RunRequest) -> int:
    """Return more tokens than the prompt of `request` has: a token is a byte at least, and templates add some."""
    conversation = request.conversation()
    fields = [*conversation, {key: value for key, value in request.extra.items() if value is not msgspec.UNSET}]
    size = len(msgspec.json.encode(fields))
    return size + _MESSAGE_TOKENS * len(conversation) + _TEMPLATE_TOKENS


class Budget:
    """Money of a run, shared by its threads, and with `path` by the processes of pytest-xdist."""

    def __init__(self, limit: Decimal, path: Path | None = None) -> None:
        self.limit = limit
        self._path = path
        self._lock = threading.Lock()
        self._spent = self._aside = Decimal(0)
        self._late = (Decimal(0), Decimal(0))
        """What is not in the file yet, because it could not be written: more spent, and more set aside."""

    @property
    def spent(self) -> Decimal:
        """What ended requests have cost; those whose cost is not known count with the most that it can be."""
        self._look()
        return self._spent

    def __str__(self) -> str:
        self._look()
        aside = f", {_shown(self._aside)} set aside for requests under way" if self._aside else ""
        return f"{_shown(self._spent)} of {_shown(self.limit)} USD are spent{aside}"

    def set_aside(self, most: Decimal) -> bool:
        """Return whether there is room for a request of that cost, and keep the room for it.

        Raises:
            BudgetError: the other processes cannot be told.
        """
        try:
            with self._shared():
                if self._spent + self._aside + most > self.limit:
                    return False
                self._aside += most
                return True
        except OSError as exc:
            raise BudgetError(
                f"--modellens-budget: {self._path}: cannot be written ({exc.strerror or exc}; make room, or run "
                "without -n), and no process knows what the others spend; nothing more is sent"
            ) from exc

    def settle(self, most: Decimal, cost: Decimal) -> None:
        """Take note that a request with `most` set aside has cost `cost`.

        Where the other processes cannot be told, the most stays set aside for them: they spend less, not more.
        """
        try:
            with self._shared():
                self._aside -= most
                self._spent += cost
        except OSError:
            with self._lock:
                spent, aside = self._late
                self._late = spent + cost, aside - most

    def _look(self) -> None:
        """Take note of what the other processes have spent, where that can be known."""
        with suppress(OSError), self._shared():
            pass

    @contextmanager
    def _shared(self) -> Iterator[None]:
        """Hold the numbers, and those of the other processes, while this lasts.

        Raises:
            OSError: they cannot be read, or what was changed not be written; then it is changed for nobody.
        """
        with self._lock:
            if self._path is None:
                yield
                return
            from filelock import FileLock

            with FileLock(f"{self._path}.lock"):
                before = spent, aside = self._read(self._path)
                self._spent, self._aside = spent + self._late[0], aside + self._late[1]
                yield
                if (self._spent, self._aside) != before:
                    # As a whole: on a full disk an emptied file would take with it what all have spent.
                    new = self._path.with_suffix(".new")
                    new.write_text(f"{self._spent} {self._aside}", encoding="ascii")
                    new.replace(self._path)
                    self._late = (Decimal(0), Decimal(0))

    @staticmethod
    def _read(path: Path) -> tuple[Decimal, Decimal]:
        if not path.exists():
            return Decimal(0), Decimal(0)
        spent, aside = path.read_text(encoding="ascii").split()
        return Decimal(spent), Decimal(aside)


class Spending:
    """What one model's requests take out of a budget."""

    def __init__(self, budget: Budget, price: Price | None, model: str) -> None:
        """Take note of the price.

        Raises:
            BudgetError: there is none, so that nobody could keep the budget.
        """
        if price is None:
            raise BudgetError(
                f"--modellens-budget: the price of model {model!r} is not known "
                '(give it in pyproject.toml: [tool.modellens.prices], "MODEL" = { input = …, output = … })'
            )
        self._budget = budget
        self._price = price
        self._aside: list[Decimal] = []

    def set_aside(self, request: RunRequest) -> None:
        """Set aside the most that `request` can cost.

        Raises:
            BudgetError: the budget has no room for it, or that cannot be known.
        """
        most = self._most(request)
        if not self._budget.set_aside(most):
            raise BudgetError(
                f"--modellens-budget: the next request could cost {_shown(most)} USD, and "
                f"{self._budget}; nothing more is sent"
            )
        self._aside.append(most)

    def settle(self, request: RunRequest, record: Record) -> None:
        """Take note of what a request has cost; where that is not known, of the most that it can have."""
        most = self._most(request)
        if most in self._aside:
            self._aside.remove(most)
            known = self._price.cost(
                prompt=record.prompt_tokens, completion=record.completion_tokens, cached=record.cached_tokens
            )
            cost = Decimal(0) if record.error_class in _UNBILLED else most if known is None else known
            self._budget.settle(most, cost)

    def close(self) -> None:
        """Give back what was set aside for requests that were never sent."""
        while self._aside:
            self._budget.settle(self._aside.pop(), Decimal(0))

    def _most(self, request: RunRequest) -> Decimal:
        cost = self._price.cost(prompt=most_tokens(request), completion=request.max_tokens)
        assert cost is not None
        return cost


def _shown(amount: Decimal) -> str:
    return f"{amount:.6f}".rstrip("0").rstrip(".")
