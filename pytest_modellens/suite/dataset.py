"""Prompts from a file: JSON Lines, a JSON list, CSV, or plain text with a prompt a line."""

from __future__ import annotations

import csv
import hashlib
import io
import json
from dataclasses import dataclass, field
from functools import lru_cache
from random import Random
from typing import TYPE_CHECKING, Any, NamedTuple

from pytest_modellens.errors import Problem, SuiteError
from pytest_modellens.suite.files import FileError, read_text
from pytest_modellens.text import printable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

    from pytest_modellens.models import Message

__all__ = ["SUFFIXES", "Dataset", "Row"]

MAX_BYTES = 256 * 1024 * 1024
_MAX_PROBLEMS = 20
_ROLES = ("system", "developer", "user", "assistant", "tool")


class Row(NamedTuple):
    """One prompt of a data set: its text or its conversation, and what its answer may be at most."""

    prompt: str
    messages: tuple[Message, ...] | None = None
    max_tokens: int | None = None


class _RowError(ValueError):
    """A row cannot be used; the message says why."""


@dataclass(frozen=True, slots=True)
class Dataset:
    """A file of prompts, which is read when it is needed."""

    path: Path = field(repr=False)
    """The file. May come from the environment: never recorded."""
    file: str
    """The file as the suite names it."""
    field: str = "prompt"
    max_tokens_field: str | None = None
    sample: int | None = None
    """How many rows to take at random, none twice; None: all, in order."""
    seed: int = 0

    def digest(self) -> str:
        """Return the SHA-256 of the file's bytes, in hexadecimal; of nothing when it cannot be read any more."""
        try:
            status = self.path.stat()
            return _digest(self.path, status.st_size, status.st_mtime_ns)
        except OSError:
            return ""

    def rows(self) -> list[Row]:
        """Return the rows to send, in their order.

        Raises:
            SuiteError: the file or rows of it cannot be used; each with its line.
        """
        problems: list[Problem] = []
        found = []
        try:
            text = read_text(self.path, max_bytes=MAX_BYTES)
            for line, value in SUFFIXES[self.path.suffix.lower()](text):
                try:
                    found.append(self._row(value))
                except _RowError as exc:
                    problems.append(Problem(self.file, line, str(exc)))
        except FileError as exc:
            problems.append(Problem(self.file, exc.line, str(exc)))
        if not problems and len(found) < (self.sample or 1):
            wanted = f", fewer than the {self.sample:,} of 'sample'" if self.sample else ""
            problems.append(Problem(self.file, 1, f"has {len(found):,} prompts{wanted}"))
        if problems:
            raise SuiteError(problems[:_MAX_PROBLEMS])
        if self.sample is None:
            return found
        return Random(self.seed).sample(found, self.sample)  # noqa: S311 - a choice of prompts, not a secret

    def _row(self, value: Any) -> Row:
        if isinstance(value, str):
            return Row(_prompt(value, "the row"))
        if not isinstance(value, dict):
            raise _RowError(f"must be an object with a field {self.field!r}, or text (got {_kind(value)})")
        name = f"field {self.field!r}"
        if self.field not in value:
            raise _RowError(f"has no {name} (there is {printable(', '.join(map(repr, value)) or 'none', 120)})")
        content = value[self.field]
        most = self._max_tokens(value)
        if isinstance(content, list):
            return Row("", _conversation(content, name), most)
        return Row(_prompt(content, name), None, most)

    def _max_tokens(self, value: dict[str, Any]) -> int | None:
        if self.max_tokens_field is None:
            return None
        written = value.get(self.max_tokens_field)
        number = int(written) if isinstance(written, str) and written.isdecimal() and len(written) < 20 else written
        if type(number) is not int or not 1 <= number <= 1_000_000:
            seen = "none" if self.max_tokens_field not in value else printable(repr(written), 60)
            raise _RowError(f"field {self.max_tokens_field!r} must be a whole number from 1 to 1000000 (got {seen})")
        return number


def _prompt(value: Any, name: str) -> str:
    if not isinstance(value, str):
        raise _RowError(f"{name} must be text or a list of messages (got {_kind(value)})")
    if not value.strip():
        raise _RowError(f"{name} is empty")
    return value


def _conversation(content: list[Any], name: str) -> tuple[Message, ...]:
    if not content:
        raise _RowError(f"{name} is an empty list of messages")
    for message in content:
        if not isinstance(message, dict):
            raise _RowError(f"{name} must hold messages {{role, content}} (got {_kind(message)})")
        if message.get("role") not in _ROLES:
            seen = printable(repr(message.get("role")), 60)
            raise _RowError(f"{name} has a message without a 'role' out of {', '.join(_ROLES)} (got {seen})")
        if message.get("content") is None and "tool_calls" not in message:
            raise _RowError(f"{name} has a message without 'content'")
    return tuple(content)


def _kind(value: Any) -> str:
    kinds = {dict: "an object", list: "a list", type(None): "null", bool: "a boolean", str: "text"}
    return kinds.get(type(value), "a number")


@lru_cache(maxsize=64)
def _digest(path: Path, size: int, mtime_ns: int) -> str:  # noqa: ARG001 - size and time make a changed file another
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _lines(text: str) -> Iterator[tuple[int, str]]:
    # Not splitlines(), which also breaks at characters that may stand in a prompt.
    return ((at, line) for at, line in enumerate(text.split("\n"), 1) if line.strip())


def _parsed(line: int, text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as exc:
        raise _no_json(exc, line) from exc


def _no_json(exc: Exception, line: int) -> FileError:
    reason = exc.msg if isinstance(exc, json.JSONDecodeError) else str(exc)
    return FileError(f"is not JSON ({printable(reason, 120)})", line)


def _json_lines(text: str) -> Iterator[tuple[int, Any]]:
    return ((at, _parsed(at, line)) for at, line in _lines(text))


def _json_list(text: str) -> Iterable[tuple[int, Any]]:
    """Return the items of a JSON list with the lines on which they begin."""
    decode = json.JSONDecoder().raw_decode
    found: list[tuple[int, Any]] = []
    at = _after_space(text, 0)
    line, counted = 1, 0
    if text[at : at + 1] != "[":
        raise FileError("must be a JSON list of prompts", 1)
    at = _after_space(text, at + 1)
    try:
        while text[at : at + 1] != "]":
            line, counted = line + text.count("\n", counted, at), at
            value, at = decode(text, at)
            found.append((line, value))
            at = _after_space(text, at)
            if text[at : at + 1] == ",":
                at = _after_space(text, at + 1)
            elif text[at : at + 1] != "]":
                raise FileError(
                    "is not JSON (a ',' or the list's ']' is missing)", line + text.count("\n", counted, at)
                )
    except FileError:
        raise
    except (ValueError, RecursionError) as exc:
        raise _no_json(exc, line) from exc
    return found


def _after_space(text: str, at: int) -> int:
    while text[at : at + 1] in (" ", "\t", "\n", "\r"):
        at += 1
    return at


def _csv(text: str) -> Iterator[tuple[int, Any]]:
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    line = 1
    # The module's own limit, of the whole process, is shorter than a long prompt.
    limit = csv.field_size_limit(MAX_BYTES)
    try:
        header = next(reader, None)
        line = reader.line_num + 1
        for row in reader:
            if row and header is not None:
                if len(row) != len(header):
                    raise FileError(f"has {len(row)} columns, its first line {len(header)}", line)
                yield line, dict(zip(header, row, strict=True))
            line = reader.line_num + 1
    except csv.Error as exc:
        raise FileError(f"is not CSV ({exc})", line) from exc
    finally:
        csv.field_size_limit(limit)


SUFFIXES: dict[str, Callable[[str], Iterable[tuple[int, Any]]]] = {
    ".jsonl": _json_lines,
    ".ndjson": _json_lines,
    ".json": _json_list,
    ".csv": _csv,
    ".txt": _lines,
}
"""What reads a file, by suffix: its rows with the lines on which they begin."""
