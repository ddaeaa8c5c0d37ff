from __future__ import annotations

import sys
from fnmatch import fnmatchcase
from types import ModuleType
from typing import TYPE_CHECKING, Any

import pytest

from pytest_modellens.suite.expect import Expect, UnusableSchemaError, compile_schema, failures

if TYPE_CHECKING:
    from collections.abc import Callable

HOSTILE = "no \x1b[31m\u202e\ud800"
SHOWN = "'no \\x1b[31m\\u202e\\ud800'"


def check(expect: Expect, response: str, *, tokens: int | None = 7, finish_reason: str | None = "stop") -> list[str]:
    return failures(expect, response, completion_tokens=tokens, finish_reason=finish_reason)


def test_failures_without_expectations_are_none() -> None:
    assert check(Expect(), HOSTILE, tokens=None, finish_reason=None) == []


@pytest.mark.parametrize(
    ("expect", "good", "failure"),
    [
        (Expect(contains=("Paris",)), "It is Paris.", f"expected the response to contain 'Paris', got {SHOWN}"),
        (Expect(not_contains=("no",)), "yes", f"expected the response not to contain 'no', got {SHOWN}"),
        (Expect(equals="yes\n"), " yes ", f"expected the response to equal 'yes\\n', got {SHOWN}"),
        (Expect(regex=r"4\d"), "it is 42", f"expected the response to match '4\\d', got {SHOWN}"),
        (
            Expect(json=True),
            ' {"a": [1]} ',
            f"expected the response to be JSON, got {SHOWN} (Expecting value: line 1 column 1 (char 0))",
        ),
    ],
)
def test_failures_tell_expected_and_response_without_control_characters(
    expect: Expect, good: str, failure: str
) -> None:
    assert check(expect, good) == []
    assert check(expect, HOSTILE) == [failure]


def test_failures_name_every_text_that_is_missing() -> None:
    assert check(Expect(contains=("a", "b", "c")), "b") == [
        "expected the response to contain 'a', got 'b'",
        "expected the response to contain 'c', got 'b'",
    ]


def test_failures_cut_long_responses() -> None:
    assert check(Expect(contains=("b",)), "a" * 5000) == [
        f"expected the response to contain 'b', got '{'a' * 200}… (5,000 characters)'"
    ]


@pytest.mark.parametrize(
    "response", ["```json\n{}\n```", "NaN", '{"a": Infinity}', "", "{} {}", "[" * 200_000, "{'a': 1}"]
)
def test_json_tolerates_nothing_else(response: str) -> None:
    (failure,) = check(Expect(json=True), response)
    assert failure.startswith("expected the response to be JSON, got '")


def test_json_says_what_is_not_json() -> None:
    assert check(Expect(json=True), "NaN") == ["expected the response to be JSON, got 'NaN' (NaN is not JSON)"]


def test_json_schema_failure_says_where() -> None:
    schema = {"type": "object", "properties": {"ok": {"type": "boolean"}}}
    for expect in (Expect(json_schema=schema), Expect(json_schema=schema, validator=compile_schema(schema))):
        assert check(expect, '{"ok": true}') == []
        assert check(expect, '{"ok": 1}') == [
            "expected the response to match the JSON Schema: 1 is not of type 'boolean' at $.ok, got '{\"ok\": 1}'"
        ]


def test_json_schema_fails_a_response_that_is_not_json() -> None:
    (failure,) = check(Expect(json_schema={}), "no")
    assert failure == "expected the response to be JSON, got 'no' (Expecting value: line 1 column 1 (char 0))"


def test_json_schema_without_end_is_a_failure() -> None:
    schema = {"anyOf": [{"type": "null"}, {"$ref": "#"}]}
    assert check(Expect(json_schema=schema), "1") == [
        "expected the response to match the JSON Schema, which has no end for '1'"
    ]


@pytest.mark.parametrize(
    ("schema", "message"),
    [
        ({"type": "objekt"}, "'objekt' is not valid under any of the given schemas at $.type"),
        ({"$ref": "https://example.com/x.json"}, "'https://example.com/x.json' is not in this schema"),
        ({"items": [], "allOf": [{"$ref": "#/$defs/none"}]}, "[] is not of type 'object', 'boolean' at $.items"),
        ({"allOf": [{"$ref": "#/$defs/none"}]}, "'#/$defs/none' is not in this schema"),
        ({"$dynamicRef": "#none"}, "'#none' is not in this schema"),
        ({"items": {"$dynamicRef": "#none"}}, "'#none' is not in this schema"),
        ({"$ref": "#/more", "more": {"$ref": "#/none"}}, "it refers to what is not in it: *'/none' does not exist*"),
        ({"$ref": "#"}, "it refers to itself without end"),
        ({"$schema": 5}, "its $schema is not text"),
    ],
)
def test_compile_schema_refuses_what_cannot_be_used(schema: Any, message: str) -> None:
    with pytest.raises(UnusableSchemaError) as caught:
        compile_schema(schema)
    assert fnmatchcase(str(caught.value), message.replace("[", "[[]"))


def test_reference_that_is_met_only_in_an_answer_is_a_failure() -> None:
    schema = {"$ref": "#/more", "more": {"properties": {"a": {"$ref": "#/none"}}}}
    assert check(Expect(json_schema=schema), "{}") == []
    (told,) = check(Expect(json_schema=schema), '{"a": 1}')
    assert told.startswith("expected the response to match the JSON Schema, which refers to what is not there: ")


def test_compile_schema_takes_booleans_older_drafts_and_inner_references() -> None:
    assert compile_schema(True).is_valid(5)
    draft_7 = {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "definitions": {"n": {"type": "number"}},
        "items": {"$ref": "#/definitions/n"},
    }
    assert compile_schema(draft_7).is_valid([1])
    assert not compile_schema(draft_7).is_valid(["a"])
    named = {"$defs": {"b": {"$id": "http://example.com/b", "$defs": {"c": {"const": 1}}, "$ref": "#/$defs/c"}}}
    assert compile_schema({**named, "items": {"$ref": "http://example.com/b"}}).is_valid([1])
    assert not compile_schema({**named, "items": {"$ref": "http://example.com/b"}}).is_valid([2])
    assert compile_schema({"const": {"$ref": "a value, and no reference"}}).is_valid(
        {"$ref": "a value, and no reference"}
    )


def test_compile_schema_compiles_equal_schemas_once() -> None:
    assert compile_schema({"type": "null"}) is compile_schema({"type": "null"})


@pytest.mark.parametrize(
    ("expect", "tokens", "found"),
    [
        (Expect(min_tokens=7, max_tokens=7), 7, []),
        (Expect(min_tokens=8), 7, ["expected at least 8 completion tokens, got 7"]),
        (Expect(max_tokens=6), 7, ["expected at most 6 completion tokens, got 7"]),
        (
            Expect(min_tokens=1, max_tokens=2),
            None,
            [
                "expected at least 1 completion tokens, got an unknown number (the server reports no token counts)",
                "expected at most 2 completion tokens, got an unknown number (the server reports no token counts)",
            ],
        ),
    ],
)
def test_token_bounds_fail_beyond_and_when_unknown(expect: Expect, tokens: int | None, found: list[str]) -> None:
    assert check(expect, "", tokens=tokens) == found


def test_finish_reason_must_be_the_one() -> None:
    expect = Expect(finish_reason="stop")
    assert check(expect, "") == []
    assert check(expect, "", finish_reason="\x1b") == ["expected finish reason 'stop', got '\\x1b'"]
    assert check(expect, "", finish_reason=None) == ["expected finish reason 'stop', got none"]


def _raises(_: str) -> None:
    raise KeyError("x\x1b")


@pytest.mark.parametrize(
    ("function", "reason"),
    [
        (lambda _: None, None),
        (lambda _: True, None),
        (lambda _: False, "did not accept the response"),
        (lambda text: f"{len(text)} \x1b", "did not accept the response: 2 \\x1b"),
        (lambda _: 5, "returned 5, which is none of True, None, False and a reason"),
        (_raises, "raised KeyError: 'x\\x1b'"),
        ("text", "is not a function"),
    ],
)
def test_python_function_judges_the_response(
    monkeypatch: pytest.MonkeyPatch, function: Callable[[str], Any], reason: str | None
) -> None:
    module = ModuleType("my_checks")
    vars(module)["inner"] = type("Inner", (), {"check": staticmethod(function) if callable(function) else function})
    monkeypatch.setitem(sys.modules, "my_checks", module)
    expected = [] if reason is None else [f"my_checks:inner.check {reason}; the response: 'ab'"]
    assert check(Expect(python="my_checks:inner.check"), "ab") == expected


def test_python_function_that_cannot_be_imported_is_a_failure() -> None:
    assert check(Expect(python="no_such_x:f"), "a") == [
        "no_such_x:f could not be imported (ModuleNotFoundError: No module named 'no_such_x'); the response: 'a'"
    ]
    assert check(Expect(python="json:none"), "a") == [
        "json:none could not be imported (AttributeError: module 'json' has no attribute 'none'); the response: 'a'"
    ]
