"""Kinds of values that judge a case: expect and limits."""

from __future__ import annotations

import re
import warnings
from typing import Any

from pytest_modellens.suite import nested
from pytest_modellens.suite.expect import Expect, UnusableSchemaError, compile_schema
from pytest_modellens.suite.keys import Key, mapping_schema, parse_keys, table
from pytest_modellens.suite.kinds import InvalidError, Kind, Scope, boolean, integer, shown, text
from pytest_modellens.suite.limits import METRICS, STATISTICS, Limit, LimitError, parse_limit
from pytest_modellens.suite.yamltext import YamlMap, plain

__all__ = ["EXPECT_KEYS", "expect", "limits"]

_FUNCTION = r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*(\.[A-Za-z_]\w*)*"


def _regex() -> Kind:
    some = text()

    def parse(value: Any, scope: Scope) -> str:
        pattern: str = some.parse(value, scope)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                re.compile(pattern)
        except (re.error, RecursionError, OverflowError) as exc:
            raise InvalidError(f"is not a regular expression: {exc} (got {shown(pattern)})") from exc
        return pattern

    return Kind({**some.schema, "format": "regex"}, parse)


def _json_schema() -> Kind:
    def parse(value: Any, scope: Scope) -> Any:
        if not isinstance(value, (YamlMap, bool)):
            raise InvalidError(f"must be a JSON Schema (got {shown(value)})")
        nested.check_json(value, scope, getattr(value, "line", 0))
        schema = plain(value)
        try:
            compile_schema(schema)
        except UnusableSchemaError as exc:
            raise InvalidError(f"is not a usable JSON Schema: {exc}") from exc
        return schema

    return Kind({"type": ["object", "boolean"]}, parse)


def _function() -> Kind:
    def parse(value: Any, _: Scope) -> str:
        if not isinstance(value, str) or not re.fullmatch(_FUNCTION, value, re.ASCII):
            raise InvalidError(f"must be package.module:function (got {shown(value)})")
        return value

    return Kind({"type": "string", "pattern": f"^{_FUNCTION}$"}, parse)


_TOKENS = integer(1, 1_000_000)

EXPECT_KEYS = table(
    Key("contains", nested.texts(), "Text, or a list of texts, that the response must hold; case matters."),
    Key("not_contains", nested.texts(), "Text, or a list of texts, that the response must not hold; case matters."),
    Key("equals", text(), "The whole response; white space around it does not count."),
    Key("regex", _regex(), "Regular expression of Python that must match somewhere in the response."),
    Key("json", boolean(), "Whether the response must be JSON, with nothing before or after it."),
    Key("json_schema", _json_schema(), "JSON Schema that the response, which must be JSON, has to match."),
    Key("min_tokens", _TOKENS, "Least number of completion tokens; an unknown number fails."),
    Key("max_tokens", _TOKENS, "Greatest number of completion tokens; an unknown number fails."),
    Key("finish_reason", text(), 'How the answer must have ended, usually "stop" or "length".'),
    Key(
        "python",
        _function(),
        "package.module:function, called with the response; it returns True or None to accept it, False or a reason "
        "as text to refuse it.",
    ),
)


def expect() -> Kind:
    """Return the kind of what a response is checked for; an `Expect` once read."""

    def parse(value: Any, scope: Scope) -> Expect:
        if value is None:
            return Expect()
        if not isinstance(value, YamlMap):
            raise InvalidError(f"must be a mapping such as {{contains: Paris}} (got {shown(value)})")
        inner = scope.inside("expect")
        found = parse_keys(value, EXPECT_KEYS, inner)
        if found.get("min_tokens", 0) > found.get("max_tokens", found.get("min_tokens", 0)):
            inner.wrong(value.lines["min_tokens"], f"'min_tokens' of {inner.place} is greater than 'max_tokens'")
        scope.failed |= inner.failed
        schema = found.get("json_schema")
        return Expect(**found, validator=None if schema is None else compile_schema(schema))

    return Kind({**mapping_schema(EXPECT_KEYS), "type": ["object", "null"]}, parse)


def limits() -> Kind:
    """Return the kind of limits by metric and statistic; a tuple of `Limit` once read."""

    def parse(value: Any, scope: Scope) -> tuple[Limit, ...]:
        if value is None:
            return ()
        if not isinstance(value, YamlMap):
            raise InvalidError(f'must be a mapping such as {{ttft_ms.p95: "< 500"}} (got {shown(value)})')
        found = []
        for name, bound in value.items():
            try:
                found.append(parse_limit(name, bound))
            except LimitError as exc:
                scope.wrong(value.lines[name], f"limit {name[:60]!r} of {scope.place} {exc}")
        return tuple(found)

    properties = {
        f"{name}.{statistic}": {
            "type": "string",
            "pattern": rf"^\s*({'|'.join(metric.operators)})\s*[0-9]+(\.[0-9]+)?([eE][+-]?[0-9]+)?\s*$",
            "description": f'{statistic} of {name} ({metric.description}), such as "{metric.operators[0]} 100".',
        }
        for name, metric in METRICS.items()
        for statistic in STATISTICS
    }
    return Kind({"type": ["object", "null"], "additionalProperties": False, "properties": properties}, parse)
