"""Kinds of prompt sources that hold many prompts: `dataset` and `synthetic`."""

from __future__ import annotations

import math
from pathlib import PurePosixPath
from typing import Any

from pytest_modellens.suite.dataset import SUFFIXES, Dataset
from pytest_modellens.suite.files import FileError
from pytest_modellens.suite.keys import Key, mapping_schema, parse_keys, table
from pytest_modellens.suite.kinds import InvalidError, Kind, Scope, boolean, integer, number, shown, text
from pytest_modellens.suite.synthetic import Length, Synthetic
from pytest_modellens.suite.yamltext import YamlMap

__all__ = ["DATASET_KEYS", "LENGTH_KEYS", "SYNTHETIC_KEYS", "dataset", "synthetic"]

_TOKENS = integer(1, 1_000_000)
_SEED = integer(0, 2**63 - 1)

DATASET_KEYS = table(
    Key(
        "file",
        text(),
        "A file below the suite's folder with a prompt in each row: .jsonl, .json (a list), .csv or .txt (a prompt a "
        "line). ${ENV} and ${ENV:default} expand in it.",
    ),
    Key("field", text(), "The field of a row that holds its prompt, as text or as a list of messages."),
    Key("max_tokens_field", text(), "The field of a row that says how many tokens its answer may have at most."),
    Key("sample", integer(1, 10_000_000), "How many rows to take, at random and none twice; without it, all in order."),
    Key("seed", _SEED, "Of the sample: the same seed takes the same rows."),
)

LENGTH_KEYS = table(
    Key("mean", _TOKENS, "Mean of the normal distribution that lengths are drawn from."),
    Key("stdev", number(0, 1_000_000), "Its standard deviation."),
    Key("min", _TOKENS, "Shortest length."),
    Key("max", _TOKENS, "Longest length; without it, the mean and four standard deviations."),
)


def _length() -> Kind:
    def parse(value: Any, scope: Scope) -> Length:
        if not isinstance(value, YamlMap):
            if type(value) is not int or not 1 <= value <= 1_000_000:
                raise InvalidError(
                    f"must be a whole number from 1 to 1000000, or a mapping such as {{mean: 512, stdev: 64}} "
                    f"(got {shown(value)})"
                )
            return Length(value, 0.0, value, value)
        found = parse_keys(value, LENGTH_KEYS, scope)
        if "mean" not in found:
            raise InvalidError("needs 'mean'")
        mean, stdev = found["mean"], found.get("stdev", 0.0)
        shortest = found.get("min", 1)
        longest = found.get("max", max(shortest, math.ceil(mean + 4 * stdev)))
        if not shortest <= mean <= longest:
            raise InvalidError(f"must have its mean, {mean}, from 'min' to 'max' (they are {shortest} and {longest})")
        return Length(mean, stdev, shortest, longest)

    distribution = {**mapping_schema(LENGTH_KEYS), "required": ["mean"]}
    return Kind({"anyOf": [_TOKENS.schema, distribution]}, parse)


SYNTHETIC_KEYS = table(
    Key(
        "input_tokens",
        _length(),
        "About how many tokens a prompt has: so many common English words, each about one token. "
        "What it was exactly is what the server reports.",
    ),
    Key("output_tokens", _length(), "max_tokens of each request, instead of the case's own."),
    Key("shared_prefix", number(0, 1), "Share of its tokens that a prompt begins with and has in common with others."),
    Key(
        "ignore_eos",
        boolean(),
        "Whether to send ignore_eos: true, so that answers are never shorter; not every server takes it.",
    ),
    Key("seed", _SEED, "The same seed gives the same prompts."),
)


def dataset() -> Kind:
    """Return the kind of a file of prompts; a `Dataset` once read, whose file is there and can be read."""

    def parse(value: Any, scope: Scope) -> Dataset | None:
        if not isinstance(value, YamlMap):
            raise InvalidError(f"must be a mapping such as {{file: data/prompts.jsonl}} (got {shown(value)})")
        inner, made = scope.inside("dataset"), None
        found = parse_keys(value, DATASET_KEYS, inner)
        if "file" not in value and "file" not in inner.meant:
            inner.wrong(value.line, f"{inner.place} needs 'file'")
        elif not inner.failed:
            name = found.pop("file")
            try:
                made = _dataset(name, found, value, inner)
            except FileError as exc:
                inner.wrong(value.lines["file"], f"'file' of {inner.place} {name!r:.80} {exc}")
        scope.failed |= inner.failed
        return made

    return Kind({**mapping_schema(DATASET_KEYS, Dataset), "required": ["file"]}, parse)


def _dataset(name: str, found: dict[str, Any], written: YamlMap, scope: Scope) -> Dataset:
    path = scope.source.file_at(scope.source.expand(name))
    suffix = PurePosixPath(path.name).suffix.lower()
    if suffix not in SUFFIXES:
        raise FileError(f"has no suffix that says its format (known are {', '.join(SUFFIXES)})")
    for key in ("field", "max_tokens_field"):
        if suffix == ".txt" and key in found:
            scope.wrong(written.lines[key], f"{key!r} of {scope.place}: a text file has no fields, but a prompt a line")
    return Dataset(path, name, **found)


def synthetic() -> Kind:
    """Return the kind of made-up prompts; a `Synthetic` once read."""

    def parse(value: Any, scope: Scope) -> Synthetic | None:
        if not isinstance(value, YamlMap):
            raise InvalidError(f"must be a mapping such as {{input_tokens: 512}} (got {shown(value)})")
        inner = scope.inside("synthetic")
        found = parse_keys(value, SYNTHETIC_KEYS, inner)
        if "input_tokens" not in value and "input_tokens" not in inner.meant:
            inner.wrong(value.line, f"{inner.place} needs 'input_tokens'")
        scope.failed |= inner.failed
        return None if inner.failed else Synthetic(**found)

    return Kind({**mapping_schema(SYNTHETIC_KEYS, Synthetic), "required": ["input_tokens"]}, parse)
