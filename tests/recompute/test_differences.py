"""What differs between two runs, said in a table."""

from __future__ import annotations

from typing import Any

import pytest

from pytest_modellens.recompute.differences import Change, changes, flat, table


def test_equal_records_differ_in_nothing() -> None:
    record = {"ttft_ms": 1.5, "itl_ms": [1.0], "params": {}, "error": None}
    assert changes([(record, dict(record))] * 3) == []


def test_versions_are_no_difference_of_their_own() -> None:
    before, after = ({"metric_definitions": number, "schema_version": number} for number in (1, 2))
    assert changes([(before, after)]) == []


def test_field_is_shown_where_it_changed_most() -> None:
    pairs: list[Any] = [
        ({"a": 10.0, "b": 0}, {"a": 11.0, "b": 0}),
        ({"a": 10.0, "b": 0}, {"a": 5.0, "b": 3}),
        ({"a": 2}, {"a": 2}),
    ]
    assert changes(pairs) == [Change("a", 2, 3, 10.0, 5.0), Change("b", 1, 3, 0, 3)]


def test_change_that_is_no_number_is_shown_where_it_came_first() -> None:
    pairs: list[Any] = [({"a": None}, {"a": 1.0}), ({"a": "x"}, {"a": "y"}), ({"a": True}, {"a": False})]
    assert changes(pairs) == [Change("a", 3, 3, None, 1.0)]


def test_fields_that_came_or_went_differ() -> None:
    came, went = changes([({"old": 1}, {"new": 2})])[::-1]
    assert (came.field, went.field) == ("new", "old")
    lines = table([went, came], what="requests")
    assert [line.split("  ")[-1].strip() for line in lines] == ["after", "no such field", "2"]


def test_nested_values_have_names_with_dots() -> None:
    assert dict(flat({"summary": {"n_ok": 3, "rates": {"timeout": 0.5}}, "stopped": None})) == {
        "summary.n_ok": 3,
        "summary.rates.timeout": 0.5,
        "stopped": None,
    }


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (None, "–"),
        (12.3456789, "12.3457"),
        (7, "7"),
        ([1, 2], "2 values"),
        ({"a": 1}, "1 values"),
        ("short", "short"),
        ("a\x1b[31m", "a\\x1b[31m"),
        ("a longer text than fits", "a longer text…"),
    ],
)
def test_values_are_shown_briefly_and_safely(value: Any, shown: str) -> None:
    _, line = table([Change("field", 1, 2, value, value)], what="requests")
    assert line.endswith(f"  {shown}")
    assert line.count(shown) >= 2


def test_table_fits_a_terminal() -> None:
    change = Change("a" * 60, 100_000, 100_000, "x" * 99, 1.23456789e-7)
    assert max(map(len, table([change], what="requests"))) <= 80
