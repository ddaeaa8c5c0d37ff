"""Kinds of values that hold others: messages, headers, body fields, marks, texts."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, Any

from pytest_modellens.errors import ConfigError
from pytest_modellens.models import SEVERAL_ANSWERS, several_answers
from pytest_modellens.suite.files import FileError
from pytest_modellens.suite.kinds import InvalidError, Kind, Scope, shown, text
from pytest_modellens.suite.yamltext import YamlList, YamlMap, plain
from pytest_modellens.urls import normalize_base_url

if TYPE_CHECKING:
    from pytest_modellens.models import Message

__all__ = ["amplifier", "base_url", "check_json", "extra_body", "headers", "marks", "messages", "prompt_file", "texts"]

_TEXT = text()
_ROLES = ("system", "developer", "user", "assistant", "tool")
_OWN_FIELDS = ("model", "messages", "max_tokens", "temperature", "top_p", "seed", "stream")
_MARK = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_MARKS_WITH_ARGUMENTS = ("filterwarnings", "parametrize", "skipif", "usefixtures")
_HEADER_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_HEADER_VALUE = re.compile(r"[\t\x20-\x7e\xa0-\xff]*")
_FRAMING = ("connection", "content-length", "transfer-encoding")


def _mapping(value: Any) -> YamlMap:
    if not isinstance(value, YamlMap):
        raise InvalidError(f"must be a mapping (got {shown(value)})")
    return value


def texts() -> Kind:
    """Return the kind of one text or a list of them; a tuple once read."""

    def parse(value: Any, scope: Scope) -> tuple[str, ...]:
        items = value if isinstance(value, YamlList) else [value]
        if not items:
            raise InvalidError("must be text or a list of texts (got an empty list)")
        return tuple(_TEXT.parse(item, scope) for item in items)

    return Kind({"anyOf": [_TEXT.schema, {"type": "array", "items": _TEXT.schema, "minItems": 1}]}, parse)


def marks() -> Kind:
    """Return the kind of a list of pytest marks."""

    def parse(value: Any, scope: Scope) -> tuple[str, ...]:
        if not isinstance(value, YamlList):
            raise InvalidError(f"must be a list of marks such as [smoke] (got {shown(value)})")
        for line, mark in zip(value.lines, value, strict=True):
            if not isinstance(mark, str) or not _MARK.fullmatch(mark):
                scope.wrong(line, f"'marks' of {scope.place} must hold names of marks (got {shown(mark)})")
            elif mark in _MARKS_WITH_ARGUMENTS:
                scope.wrong(line, f"'marks' of {scope.place} cannot hold {mark!r}, which needs arguments")
        return tuple(value)

    return Kind({"type": "array", "items": {"type": "string", "pattern": f"^{_MARK.pattern}$"}}, parse)


def messages() -> Kind:
    """Return the kind of a conversation; a tuple of dicts once read."""

    def parse(value: Any, scope: Scope) -> tuple[Message, ...]:
        if not isinstance(value, YamlList) or not value:
            seen = "an empty list" if value == [] else shown(value)
            raise InvalidError(f"must be a list of messages {{role: user, content: …}} (got {seen})")
        for line, message in zip(value.lines, value, strict=True):
            problem = _message_problem(message)
            if problem:
                scope.wrong(line, f"a message of {scope.place} {problem}")
        check_json(value, scope, value.line)
        return tuple(plain(value))

    message = {
        "type": "object",
        "description": "One message; further keys are sent as they are.",
        "properties": {
            "role": {"enum": list(_ROLES), "description": "Who speaks."},
            "content": {"type": ["string", "array", "null"], "description": "What is said, or a list of parts."},
        },
        "required": ["role"],
        "anyOf": [{"required": ["content"]}, {"required": ["tool_calls"]}],
    }
    return Kind({"type": "array", "items": message, "minItems": 1}, parse)


def _message_problem(message: Any) -> str | None:
    if not isinstance(message, YamlMap):
        return f"must be a mapping {{role: user, content: …}} (got {shown(message)})"
    role, content = message.get("role"), message.get("content")
    if role not in _ROLES:
        return f"must have a 'role' out of {', '.join(_ROLES)} (got {shown(role) if 'role' in message else 'none'})"
    if content is None and "tool_calls" not in message:
        return "has no 'content'"
    if not (content is None or isinstance(content, (str, list))):
        return f"must have text or a list of parts as 'content' (got {shown(content)}; put text in quotes)"
    return None


def extra_body() -> Kind:
    """Return the kind of further fields of the request body."""

    def parse(value: Any, scope: Scope) -> dict[str, Any]:
        fields = _mapping(value)
        for key in _OWN_FIELDS:
            if key in fields:
                scope.wrong(
                    fields.lines[key],
                    f"'extra_body' of {scope.place} must not hold {key!r} (write it as a key of the case)",
                )
        if several := several_answers(fields):
            scope.wrong(
                fields.lines[several],
                f"{several!r} of extra_body of {scope.place} asks for several answers, of which none could be measured "
                f"by itself (got {fields[several]}; ask for more 'rounds')",
            )
        check_json(fields, scope, fields.line)
        found: dict[str, Any] = plain(fields)
        return found

    schema = {
        "type": "object",
        "propertyNames": {"not": {"enum": list(_OWN_FIELDS)}},
        "properties": {
            name: {"maximum": 1, "description": "Several answers to one request cannot be measured."}
            for name in SEVERAL_ANSWERS
        },
    }
    return Kind(schema, parse)


def check_json(value: Any, scope: Scope, line: int) -> None:
    if isinstance(value, YamlMap):
        for key, item in value.items():
            check_json(item, scope, value.lines[key])
    elif isinstance(value, YamlList):
        for at, item in zip(value.lines, value, strict=True):
            check_json(item, scope, at)
    elif isinstance(value, float) and not math.isfinite(value):
        scope.wrong(line, f"JSON has no {value}, in {scope.place}")
    elif isinstance(value, int) and not -(2**63) <= value < 2**63:
        scope.wrong(line, f"a number of more than 64 bits, in {scope.place}, is more than servers read")


def amplifier() -> Kind:
    """Return the kind of a module's configuration; references to the environment stay as they are written."""

    def parse(value: Any, scope: Scope) -> dict[str, Any] | None:
        if value is None:
            return None
        if not isinstance(value, YamlMap):
            raise InvalidError(f"must be a mapping such as {{default_model: gpt-4o-mini}} (got {shown(value)})")
        check_json(value, scope, value.line)
        found: dict[str, Any] = plain(value)
        return found

    return Kind({"type": ["object", "null"]}, parse)


def headers() -> Kind:
    """Return the kind of HTTP headers; `${ENV}` expands in the values, which no error shows."""

    def parse(value: Any, scope: Scope) -> dict[str, str]:
        found: dict[str, str] = {}
        written = _mapping(value)
        for name, content in written.items():
            try:
                found[name] = _header(name, content, scope)
                if name.lower() in {other.lower() for other in found if other != name}:
                    raise InvalidError("is written twice (case does not matter)")
            except (InvalidError, FileError) as exc:
                scope.wrong(written.lines[name], f"header {name!r:.80} of {scope.place} {exc}")
        return found

    return Kind(
        {"type": "object", "additionalProperties": {"type": "string", "description": "The header's value."}}, parse
    )


def _header(name: str, content: Any, scope: Scope) -> str:
    if not _HEADER_NAME.fullmatch(name):
        raise InvalidError("is not a header name")
    if name.lower() in _FRAMING:
        raise InvalidError("is set by the client")
    if not isinstance(content, str):
        raise InvalidError("must be text (put it in quotes)")
    expanded = scope.source.expand(content)
    if not _HEADER_VALUE.fullmatch(expanded):
        raise InvalidError("holds characters that a header cannot carry")
    return expanded


def base_url() -> Kind:
    """Return the kind of an absolute URL; `${ENV}` expands in it, and no error shows it."""

    def parse(value: Any, scope: Scope) -> str:
        written = _TEXT.parse(value, scope)
        try:
            return normalize_base_url(scope.source.expand(written))
        except FileError as exc:
            raise InvalidError(str(exc)) from exc
        except (ConfigError, ValueError):
            # Without its cause, whose text holds the URL.
            raise InvalidError("must be an http:// or https:// URL with a host and without query or fragment") from None

    return Kind(_TEXT.schema, parse)


def prompt_file() -> Kind:
    """Return the kind of a text file below the suite's folder; its text once read."""

    def parse(value: Any, scope: Scope) -> str:
        name = _TEXT.parse(value, scope)
        try:
            content = scope.source.text_of(name)
        except FileError as exc:
            raise InvalidError(f"{name!r:.80} {exc}") from exc
        if not content.strip():
            raise InvalidError(f"{name!r:.80} is empty")
        return content

    return Kind(_TEXT.schema, parse)
