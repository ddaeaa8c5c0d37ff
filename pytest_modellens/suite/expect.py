"""Expectations: what the response of a timed request must look like."""

from __future__ import annotations

import importlib
import json
import re
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from pytest_modellens.text import printable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from referencing import Resource

__all__ = ["Expect", "UnusableSchemaError", "compile_schema", "failures"]


@dataclass(frozen=True, slots=True)
class Expect:
    """What a response is checked for; a field left at its default checks nothing."""

    contains: tuple[str, ...] = ()
    not_contains: tuple[str, ...] = ()
    equals: str | None = None
    regex: str | None = None
    json: bool = False
    json_schema: Any = None
    min_tokens: int | None = None
    max_tokens: int | None = None
    finish_reason: str | None = None
    python: str | None = None
    validator: Any = field(default=None, repr=False, compare=False)
    """The compiled `json_schema`; None compiles it at the first response."""


class UnusableSchemaError(ValueError):
    """A JSON Schema cannot be used; the message says why."""


def compile_schema(schema: Any) -> Any:
    """Return a validator for `schema` (a mapping or a boolean), the same one for an equal schema.

    Raises:
        UnusableSchemaError: not a JSON Schema, or it refers to something that is not in it.
    """
    return _compiled(json.dumps(schema, sort_keys=True))


@lru_cache(maxsize=1024)
def _compiled(source: str) -> Any:
    from jsonschema import Draft202012Validator, SchemaError, validators
    from referencing import Registry
    from referencing.exceptions import Unresolvable
    from referencing.jsonschema import DRAFT202012, specification_with

    schema = json.loads(source)
    dialect = schema.get("$schema", "") if isinstance(schema, dict) else ""
    if not isinstance(dialect, str):
        raise UnusableSchemaError("its $schema is not text")
    kind = validators.validator_for(schema, default=Draft202012Validator)
    try:
        kind.check_schema(schema)
    except SchemaError as exc:
        raise UnusableSchemaError(f"{printable(exc.message, 120)} at {exc.json_path}") from exc
    # A registry of its own: the default one fetches references over the network.
    registry: Registry[Any] = Registry()
    resource = specification_with(dialect, default=DRAFT202012).create_resource(schema)
    for reference, resolver in _references(resource, registry.resolver_with_root(resource)):
        try:
            resolver.lookup(reference)
        except Unresolvable as exc:
            raise UnusableSchemaError(f"{reference!r:.80} is not in this schema") from exc
    validator = kind(schema, registry=registry)
    try:
        validator.is_valid(None)
    except RecursionError as exc:
        raise UnusableSchemaError("it refers to itself without end") from exc
    except Unresolvable as exc:
        raise UnusableSchemaError(f"it refers to what is not in it: {printable(str(exc), 120)}") from exc
    return validator


def _references(schema: Resource[Any], resolver: Any) -> Iterator[tuple[str, Any]]:
    """Yield every reference in a schema, and what looks it up: a schema within may have an `$id` of its own."""
    if isinstance(schema.contents, dict):
        for keyword in ("$ref", "$dynamicRef"):
            if isinstance(reference := schema.contents.get(keyword), str):
                yield reference, resolver
    for inner in schema.subresources():
        yield from _references(inner, resolver.in_subresource(inner))


def failures(expect: Expect, response: str, *, completion_tokens: int | None, finish_reason: str | None) -> list[str]:
    """Return a sentence for each expectation that `response` does not meet; empty when it meets them all.

    Sentences are safe to print: the response may hold anything.
    """
    found = [*_text_failures(expect, response), *_json_failures(expect, response)]
    found += _token_failures(expect, completion_tokens)
    if expect.finish_reason is not None and finish_reason != expect.finish_reason:
        got = "none" if finish_reason is None else f"'{printable(finish_reason)}'"
        found.append(f"expected finish reason '{printable(expect.finish_reason)}', got {got}")
    if expect.python is not None:
        reason = _python_failure(expect.python, response)
        found += [] if reason is None else [f"{expect.python} {reason}; the response: {_view(response)}"]
    return found


def _view(response: str) -> str:
    return f"'{printable(response)}'"


def _text_failures(expect: Expect, response: str) -> Iterator[str]:
    for text in expect.contains:
        if text not in response:
            yield f"expected the response to contain {_view(text)}, got {_view(response)}"
    for text in expect.not_contains:
        if text in response:
            yield f"expected the response not to contain {_view(text)}, got {_view(response)}"
    if expect.equals is not None and response.strip() != expect.equals.strip():
        yield f"expected the response to equal {_view(expect.equals)}, got {_view(response)}"
    if expect.regex is not None and re.search(expect.regex, response) is None:
        yield f"expected the response to match {_view(expect.regex)}, got {_view(response)}"


def _json_failures(expect: Expect, response: str) -> Iterator[str]:
    if not expect.json and expect.json_schema is None:
        return
    try:
        document = json.loads(response, parse_constant=_no_constant)
    except (ValueError, RecursionError) as exc:
        yield f"expected the response to be JSON, got {_view(response)} ({printable(str(exc), 120)})"
        return
    if expect.json_schema is None:
        return
    from referencing.exceptions import Unresolvable

    validator = compile_schema(expect.json_schema) if expect.validator is None else expect.validator
    try:
        errors = sorted(validator.iter_errors(document), key=lambda error: error.json_path)
    except RecursionError:
        yield f"expected the response to match the JSON Schema, which has no end for {_view(response)}"
        return
    except Unresolvable as exc:
        reason = printable(str(exc), 120)
        yield f"expected the response to match the JSON Schema, which refers to what is not there: {reason}"
        return
    if errors:
        reason = f"{printable(errors[0].message, 120)} at {printable(errors[0].json_path, 80)}"
        yield f"expected the response to match the JSON Schema: {reason}, got {_view(response)}"


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def _token_failures(expect: Expect, count: int | None) -> Iterator[str]:
    wanted = []
    if expect.min_tokens is not None and (count is None or count < expect.min_tokens):
        wanted.append(f"at least {expect.min_tokens}")
    if expect.max_tokens is not None and (count is None or count > expect.max_tokens):
        wanted.append(f"at most {expect.max_tokens}")
    got = "an unknown number (the server reports no token counts)" if count is None else str(count)
    for bound in wanted:
        yield f"expected {bound} completion tokens, got {got}"


def _python_failure(target: str, response: str) -> str | None:
    module_name, _, function_name = target.partition(":")
    try:
        function: Any = importlib.import_module(module_name)
        for part in function_name.split("."):
            function = getattr(function, part)
    except Exception as exc:  # noqa: BLE001 - the module is the user's and may raise anything
        return f"could not be imported ({_described(exc)})"
    if not callable(function):
        return "is not a function"
    try:
        verdict = function(response)
    except Exception as exc:  # noqa: BLE001 - so may the function
        return f"raised {_described(exc)}"
    if verdict is None or verdict is True:
        return None
    if verdict is False:
        return "did not accept the response"
    if isinstance(verdict, str):
        return f"did not accept the response: {printable(verdict)}"
    return f"returned {printable(repr(verdict), 80)}, which is none of True, None, False and a reason"


def _described(exc: Exception) -> str:
    return f"{type(exc).__name__}: {printable(str(exc))}"
