"""The suite format: what a suite means as data, and every key with its kind and description.

The checks of the loader and the JSON Schema for editors both come from the tables below.
"""

from __future__ import annotations

import re
from typing import Any

from pytest_modellens.suite import judging, nested, sources
from pytest_modellens.suite.case import Case, Cell, Suite, case_hash, suite_hash
from pytest_modellens.suite.expect import Expect
from pytest_modellens.suite.keys import Key, mapping_schema, table
from pytest_modellens.suite.kinds import (
    InvalidError,
    Kind,
    Scope,
    boolean,
    choice,
    duration,
    integer,
    nullable,
    number,
    shown,
    text,
)
from pytest_modellens.suite.limits import Limit
from pytest_modellens.suite.loading import load
from pytest_modellens.suite.matrix import matrix
from pytest_modellens.suite.slo import slo

__all__ = [
    "CASE_KEYS",
    "DEFAULTS_KEYS",
    "PROMPT_SOURCES",
    "Case",
    "Cell",
    "Expect",
    "Limit",
    "Suite",
    "case_hash",
    "json_schema",
    "suite_hash",
]

PROMPT_SOURCES = ("prompt", "prompt_file", "messages", "dataset", "synthetic")
"""Keys of which a case has exactly one."""

_NAME = re.compile(r"[a-z0-9]+([.-][a-z0-9]+)*")


def _name() -> Kind:
    some = text()

    def parse(value: Any, scope: Scope) -> str:
        name: str = some.parse(value, scope)
        if not _NAME.fullmatch(name):
            raise InvalidError(
                f"must be kebab-case such as short-answer-2: a-z, 0-9, with single - or . between (got {shown(name)})"
            )
        if name == "pytestmark":
            raise InvalidError("must not be 'pytestmark', which pytest keeps for itself")
        return name

    return Kind({"type": "string", "pattern": f"^{_NAME.pattern}$", "not": {"const": "pytestmark"}}, parse)


_COUNT = integer(1, 100_000)

_ALONE = table(
    Key("prompt", text(), "The text to send. Sent exactly as written: nothing expands in it.", swept=True),
    Key(
        "prompt_file",
        nested.prompt_file(),
        "A UTF-8 text file with the prompt, relative to the suite and never outside of its folder.",
        field="prompt",
        swept=True,
    ),
    Key("messages", nested.messages(), "A whole conversation instead of a prompt."),
    Key("dataset", sources.dataset(), "A file of prompts, which requests take in turn."),
    Key("synthetic", sources.synthetic(), "Made-up prompts of a length, each different, the same for the same seed."),
    Key("system_prompt", nullable(text()), "A system message before the prompt; null sends none.", swept=True),
    Key(
        "model",
        nullable(text()),
        "The model to ask; null takes the one of the command line, else the provider's own.",
        swept=True,
    ),
    Key("stream", boolean(), "Whether the answer is streamed; only then does a time to first token exist.", swept=True),
    Key("max_tokens", integer(1, 1_000_000), "Most tokens of an answer.", swept=True),
    Key("temperature", number(0, 100), "Sampling temperature.", swept=True),
    Key("top_p", number(0, 1, above=True), "Nucleus sampling: share of probability to sample from.", swept=True),
    Key("seed", nullable(integer(0, 2**63 - 1)), "Sampling seed; null sends none.", swept=True),
    Key("extra_body", nested.extra_body(), "More fields of the request body, sent as they are."),
    Key("headers", nested.headers(), "More HTTP headers; ${ENV} and ${ENV:default} expand in their values."),
    Key(
        "base_url",
        nullable(nested.base_url()),
        "Where to send the case instead of the provider's URL; ${ENV} and ${ENV:default} expand in it.",
    ),
    Key(
        "amplifier",
        nested.amplifier(),
        "What a module of --provider amplifier:MODULE is mounted with: its config, or a mount plan's entry or "
        "providers. ${ENV} and ${ENV:default} expand when it is mounted.",
    ),
    Key("rounds", _COUNT, "How many measured requests.", swept=True),
    Key("warmup", integer(0, 100_000), "How many unmeasured requests before the measured ones.", swept=True),
    Key("concurrency", integer(1, 10_000), "How many of the rounds are in flight at once.", swept=True),
    Key(
        "cache",
        choice("any", "cold", "warm"),
        "What the server's prompt cache may do: any, cold (must not be used) or warm (primed before).",
        swept=True,
    ),
    Key("timeout", duration(), "Longest total time of a request, with its unit.", field="timeout_s", swept=True),
    Key(
        "stall_timeout",
        nullable(duration()),
        "Longest silence of the server within a request, with its unit; null sets no bound but the timeout.",
        field="stall_timeout_s",
        swept=True,
    ),
    Key("marks", nested.marks(), "Marks of pytest to select cases by (-m); they must be registered."),
    Key("expect", judging.expect(), "What every response must look like; the case fails when one does not."),
    Key("limits", judging.limits(), 'What the numbers must keep to, as {ttft_ms.p95: "< 500"}.'),
    Key("load", load(), "Load on the server instead of rounds: many requests at once, or so many per second."),
    Key("slo", slo(), "What each single request must keep to, as {ttft_ms: 500}: the share that does is the goodput."),
)

DEFAULTS_KEYS = {
    **_ALONE,
    **table(
        Key("matrix", matrix(_ALONE), "Lists of values by key; every combination is measured as a cell of its own.")
    ),
}
"""Keys that a case inherits from `defaults`."""

CASE_KEYS = {
    **table(
        Key("name", _name(), "The case's name, unique in the suite: pytest selects by it."),
        Key("description", text(empty=True), "What the case is for."),
    ),
    **DEFAULTS_KEYS,
}


def json_schema() -> dict[str, Any]:
    """Return the JSON Schema (Draft 2020-12) of a suite file, made from the tables that the loader checks by."""
    keys = mapping_schema(CASE_KEYS, Case)
    for name, value in (("timeout", "60s"), ("stall_timeout", None)):
        keys["properties"][name]["default"] = value
    inherited = {name: {"$ref": f"#/$defs/case/properties/{name}"} for name in DEFAULTS_KEYS}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "pytest-modellens suite",
        "description": "Prompts to send to an LLM server, and what to expect of the answers and their speed.",
        "type": "object",
        "additionalProperties": False,
        "required": ["cases"],
        "properties": {
            "description": {"type": "string", "description": "What the suite is for."},
            "defaults": {
                "description": "Values that every case inherits; a case overrides them key by key.",
                "type": ["object", "null"],
                "additionalProperties": False,
                "properties": inherited,
            },
            "cases": {
                "description": "The cases, each an item of pytest.",
                "type": "array",
                "minItems": 1,
                "items": {"$ref": "#/$defs/case"},
            },
        },
        "$defs": {"case": {**keys, "required": ["name"]}},
    }
