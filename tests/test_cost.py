"""Prices and costs: exact, and unknown where anything is not known."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest

from pytest_modellens.cost import Price, PriceTable, cost_tier, read_prices
from pytest_modellens.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path

PRICE = Price(Decimal("2.50"), Decimal(10), Decimal("1.25"))


def test_cost_is_exact() -> None:
    assert PRICE.cost(prompt=1000, completion=100) == Decimal("0.0035")
    assert PRICE.cost(prompt=1000, completion=100, cached=400) == Decimal("0.003")
    assert Price(Decimal("0.1"), Decimal("0.2")).cost(prompt=1, completion=1, cached=1) == Decimal("0.0000003")


@pytest.mark.parametrize(
    ("output", "tier"),
    [("0", "free"), ("0.01", "low"), ("5", "low"), ("15", "medium"), ("75", "high"), ("600", "extreme")],
)
def test_cost_tiers(output: str, tier: str) -> None:
    assert cost_tier(Price(Decimal(0), Decimal(output))) == tier
    assert cost_tier(Price(Decimal(output), Decimal(0))) == tier


def test_cached_tokens_are_at_most_the_prompts() -> None:
    assert PRICE.cost(prompt=10, completion=0, cached=50) == Decimal("0.0000125")


@pytest.mark.parametrize(("prompt", "completion"), [(None, 1), (1, None), (None, None)])
def test_unknown_count_makes_the_cost_unknown(prompt: int | None, completion: int | None) -> None:
    assert PRICE.cost(prompt=prompt, completion=completion) is None


def test_own_name_wins_then_the_first_glob() -> None:
    table = PriceTable.parse(
        {
            "gpt-*": {"input": 1, "output": 1},
            "gpt-4*": {"input": 2, "output": 2},
            "gpt-4[x]": {"input": 3, "output": 3},
        },
        "prices",
    )
    found = [table.find(model) for model in ("gpt-4o", "gpt-4[x]", "llama", None)]
    assert [price and price.input for price in found] == [1, 3, None, None]


def test_numbers_are_taken_as_they_were_written() -> None:
    table = PriceTable.parse({"m": {"input": 0.15, "output": "0.60", "cached_input": Decimal("0.075")}}, "prices")
    assert table.find("m") == Price(Decimal("0.15"), Decimal("0.60"), Decimal("0.075"))


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ([], "prices: must be a table of prices by model (got []"),
        ({"m": 3}, "prices: 'm': must be a table (got 3; write \"gpt-4o*\" = { input = 2.50, output = 10.00 })"),
        ({"m": {"input": 1}}, "prices: 'm': needs 'output' (US dollars per million tokens; write 0 where it is free)"),
        ({"m": {"in": 1}}, "prices: 'm': has no key 'in' (known: input, output, cached_input; per million tokens)"),
        ({"m": {"input": "much", "output": 1}}, "prices: 'm': 'input': must be US dollars per million tokens"),
        ({"m": {"input": 1, "output": -1}}, "from 0 on (got -1)"),
        ({"m": {"input": True, "output": 1}}, "(got True)"),
        ({"m": {"input": "NaN", "output": 1}}, "(got 'NaN')"),
        ({"m": {"input": None, "output": 1}}, "(got None)"),
    ],
)
def test_unusable_prices_are_named(table: Any, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        PriceTable.parse(table, "prices")
    assert message in str(caught.value)


def test_prices_of_a_project(tmp_path: Path) -> None:
    assert read_prices(tmp_path).prices == {}
    file = tmp_path / "pyproject.toml"
    file.write_text('[tool.modellens.prices]\n"a*" = {input = 0.1, output = 1_000.5}\n')
    assert read_prices(tmp_path).find("ab") == Price(Decimal("0.1"), Decimal("1000.5"))
    for text in ("", "tool = 3\n", "[tool]\nmodellens = 3\n", "[tool.other]\n"):
        file.write_text(text)
        assert read_prices(tmp_path).prices == {}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[tool", "pyproject.toml: cannot be read (Expected"),
        ("[tool.modellens]\nprices = 3\n", "pyproject.toml: [tool.modellens.prices]: must be a table"),
        ("[tool.modellens.prices]\nm = {input = inf, output = 1}\n", "must be US dollars per million tokens"),
    ],
)
def test_unusable_file_is_named(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "pyproject.toml").write_text(text)
    with pytest.raises(ConfigError) as caught:
        read_prices(tmp_path)
    assert message in str(caught.value)
