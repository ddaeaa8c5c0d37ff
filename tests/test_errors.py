"""The tree of errors."""

from __future__ import annotations

import inspect
import re

import pytest

from pytest_modellens import errors
from pytest_modellens.errors import ModelLensError, Problem, RequestError, StatusError, SuiteError


def test_every_error_is_in_the_tree_at_the_top_of_the_module() -> None:
    drawn = set(re.findall(r"\b\w+Error\b", errors.__doc__ or ""))
    found = {name for name, value in vars(errors).items() if inspect.isclass(value) and issubclass(value, Exception)}
    assert drawn == found


def test_every_error_is_a_model_lens_error() -> None:
    for name in errors.__all__:
        value = getattr(errors, name)
        assert value is Problem or issubclass(value, ModelLensError)


def test_request_errors_have_the_classes_that_the_tree_names() -> None:
    drawn = dict(re.findall(r"(\w+Error) +([a-z_]+)$", errors.__doc__ or "", flags=re.MULTILINE))
    assert len(drawn) >= 7
    for name, error_class in drawn.items():
        value = getattr(errors, name)
        assert issubclass(value, RequestError)
        assert value("text").error_class == error_class


@pytest.mark.parametrize(
    ("status", "error_class"),
    [(400, "http_4xx"), (401, "http_4xx"), (429, "http_429"), (499, "http_4xx"), (500, "http_5xx"), (503, "http_5xx")],
)
def test_status_error_is_classed_by_its_status(status: int, error_class: str) -> None:
    error = StatusError("text", status=status, retry_after="7")
    assert (error.error_class, error.status, error.retry_after, str(error)) == (error_class, status, "7", "text")


def test_suite_error_shows_its_problems_in_file_order() -> None:
    error = SuiteError([Problem("a.yaml", 9, "second"), Problem("a.yaml", 2, "first")])
    assert str(error) == "a.yaml:2: first\na.yaml:9: second"
    assert [problem.line for problem in error.problems] == [2, 9]
