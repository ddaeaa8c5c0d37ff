"""YAML text to plain values that know their lines, within bounds."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    import yaml

__all__ = ["YamlList", "YamlMap", "YamlTextError", "parse_yaml", "plain"]

MAX_DEPTH = 60
MAX_NUMBER_LENGTH = 60
MAX_NODES = 1_000_000
"""Values after the expansion of aliases; a suite of 10,000 cases has about 150,000."""
MAX_CHARACTERS = 64 * 1024 * 1024
"""Text after the expansion of aliases."""

_UNPRINTABLE = re.compile("[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_TAG = "tag:yaml.org,2002:"
# Dates stay text: no key takes one, and a prompt may well be one.
_RESOLVED_TAGS = frozenset(_TAG + name for name in ("null", "bool", "int", "float"))


class YamlMap(dict[str, Any]):
    """A YAML mapping with the lines of its keys, from 1."""

    __slots__ = ("line", "lines")

    def __init__(self, line: int) -> None:
        self.line = line
        self.lines: dict[str, int] = {}


class YamlList(list[Any]):
    """A YAML sequence with the lines of its items, from 1."""

    __slots__ = ("line", "lines")

    def __init__(self, line: int) -> None:
        self.line = line
        self.lines: list[int] = []


def plain(value: Any) -> Any:
    """Return `value` with ordinary dicts and lists throughout."""
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    return [plain(item) for item in value] if isinstance(value, list) else value


class YamlTextError(Exception):
    """The text cannot be read further; says where and why."""

    def __init__(self, line: int, text: str) -> None:
        super().__init__(text)
        self.line = line


def parse_yaml(text: str, report: Callable[[int, str], None]) -> Any:
    """Return what the YAML `text` holds (None when it holds nothing), telling `report` what is wrong but readable.

    Raises:
        YamlTextError: not YAML, or more than the bounds allow.
    """
    import yaml

    bad = _UNPRINTABLE.search(text)
    if bad is not None:
        line = text.count("\n", 0, bad.start()) + 1
        raise YamlTextError(
            line, f"holds the control character U+{ord(bad.group()):04X} (in double quotes, write it escaped)"
        )
    # Events of libyaml and a composer of our own: four times as fast as yaml.load, with lines and bounds.
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)(text)
    try:
        return _Composer(loader, report).document()
    except yaml.MarkedYAMLError as exc:
        line, column = (exc.problem_mark.line, exc.problem_mark.column) if exc.problem_mark else (0, 0)
        raise YamlTextError(line + 1, _syntax(exc, text, line, column)) from exc
    finally:
        loader.dispose()


def _syntax(exc: yaml.MarkedYAMLError, text: str, line: int, column: int) -> str:
    lines = text.split("\n")
    if line < len(lines) and "\t" in lines[line][: column + 1]:
        return "a tab stands where YAML allows only spaces"
    context = f" ({exc.context})" if exc.context else ""
    return f"not YAML: {exc.problem}{context}"


@lru_cache(maxsize=4096)
def _scalar(text: str) -> Any:
    """Return what an unquoted scalar means in YAML 1.1."""
    import yaml

    resolvers = yaml.SafeLoader.yaml_implicit_resolvers.get(text[:1], ())
    for tag, pattern in resolvers:
        if tag in _RESOLVED_TAGS and pattern.match(text):
            if len(text) > MAX_NUMBER_LENGTH:
                raise ValueError("too long to be meant as a number")
            return yaml.constructor.SafeConstructor().construct_object(yaml.ScalarNode(tag, text))
    return text


class _Composer:
    """Builds the values of one document; lives as long as its reading."""

    def __init__(self, loader: Any, report: Callable[[int, str], None]) -> None:
        import yaml

        self._next = loader.get_event
        self._report = report
        self._events = yaml.events
        self._anchors: dict[str, tuple[Any, int, int]] = {}
        self._open: set[str] = set()
        self._nodes = 0
        self._characters = 0
        self._depth = 0

    def document(self) -> Any:
        events = self._events
        self._next()  # the stream's start
        if isinstance(self._next(), events.StreamEndEvent):
            return None
        value = self._value(self._next())
        self._next()  # the document's end
        rest = self._next()
        if not isinstance(rest, events.StreamEndEvent):
            raise YamlTextError(rest.start_mark.line + 1, "a second document begins (a suite is one; remove the '---')")
        return value

    def _value(self, event: Any) -> Any:
        events = self._events
        kind = type(event)
        before = (self._nodes, self._characters)
        self._grow(event, 1, len(event.value) if kind is events.ScalarEvent else 0)
        if kind is events.AliasEvent:
            return self._alias(event)
        if event.anchor is None:
            return self._fresh(event)
        self._open.add(event.anchor)
        value = self._fresh(event)
        self._open.discard(event.anchor)
        self._anchors[event.anchor] = (value, self._nodes - before[0], self._characters - before[1])
        return value

    def _grow(self, event: Any, nodes: int, characters: int) -> None:
        self._nodes += nodes
        self._characters += characters
        if self._nodes > MAX_NODES or self._characters > MAX_CHARACTERS:
            bounds = f"{MAX_NODES:,} values or {MAX_CHARACTERS:,} characters"
            raise YamlTextError(
                event.start_mark.line + 1, f"too large: with its aliases expanded, the suite has more than {bounds}"
            )

    def _alias(self, event: Any) -> Any:
        line = event.start_mark.line + 1
        if event.anchor in self._open:
            raise YamlTextError(line, f"alias '*{event.anchor}' stands inside of its own anchor")
        if event.anchor not in self._anchors:
            raise YamlTextError(line, f"alias '*{event.anchor}' has no anchor '&{event.anchor}' above it")
        value, nodes, characters = self._anchors[event.anchor]
        self._grow(event, nodes, characters)
        return value

    def _fresh(self, event: Any) -> Any:
        events = self._events
        kind = type(event)
        if kind is events.ScalarEvent:
            return self._scalar(event)
        if event.tag is not None:
            self._wrong_tag(event)
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise YamlTextError(event.start_mark.line + 1, f"nested more than {MAX_DEPTH} deep")
        value = self._mapping(event) if kind is events.MappingStartEvent else self._sequence(event)
        self._depth -= 1
        return value

    def _scalar(self, event: Any) -> Any:
        if event.tag is not None and event.tag != _TAG + "str":
            self._wrong_tag(event)
        if not event.implicit[0]:
            return event.value
        try:
            return _scalar(event.value)
        except (ValueError, OverflowError):
            self._report(
                event.start_mark.line + 1, f"{event.value!r:.60} is no number (put it in quotes if it is text)"
            )
            return event.value

    def _wrong_tag(self, event: Any) -> None:
        self._report(event.start_mark.line + 1, f"tag {event.tag!r:.80} is not allowed in a suite")

    def _sequence(self, start: Any) -> YamlList:
        items = YamlList(start.start_mark.line + 1)
        end = self._events.SequenceEndEvent
        while type(event := self._next()) is not end:
            items.lines.append(event.start_mark.line + 1)
            items.append(self._value(event))
        return items

    def _mapping(self, start: Any) -> YamlMap:
        found = YamlMap(start.start_mark.line + 1)
        merged: list[tuple[int, Any]] = []
        end = self._events.MappingEndEvent
        while type(event := self._next()) is not end:
            line = event.start_mark.line + 1
            key = self._key(event, line)
            value = self._value(self._next())
            if key == "<<" and event.implicit[0]:
                merged.append((line, value))
            elif key in found:
                self._report(line, f"key {key!r:.80} is written twice (first on line {found.lines[key]})")
            else:
                found[key] = value
                found.lines[key] = line
        for line, value in merged:
            self._merge(found, line, value)
        return found

    def _key(self, event: Any, line: int) -> str:
        # Keys are text as written: YAML would make a boolean of `on:` and a number of `1:`.
        if type(event) is not self._events.ScalarEvent:
            raise YamlTextError(line, "a key must be plain text")
        self._grow(event, 1, len(event.value))
        key: str = event.value
        return key

    def _merge(self, into: YamlMap, line: int, value: Any) -> None:
        sources = value if isinstance(value, YamlList) else [value]
        for source in sources:
            if not isinstance(source, YamlMap):
                self._report(
                    line, "'<<' must be a mapping or a list of mappings, such as '*name' of an anchored mapping"
                )
                return
            for key, item in source.items():
                if key not in into:
                    into[key] = item
                    into.lines[key] = source.lines[key]
