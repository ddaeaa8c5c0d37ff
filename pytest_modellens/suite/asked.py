"""What a cell asks and expects, as plain JSON types, so that a run can be read without its suite."""

from __future__ import annotations

import json
from dataclasses import fields
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pytest_modellens.suite.case import Case

__all__ = ["LONGEST", "asked"]

LONGEST = 4000
"""Characters of a prompt that are kept; the case's hash is over all of it."""
_SETTINGS = ("stream", "max_tokens", "temperature", "top_p", "seed", "rounds", "warmup", "concurrency", "cache")
_OF_ROUNDS = ("rounds", "warmup", "concurrency")


def asked(case: Case) -> dict[str, Any]:
    """Return what is sent and expected. Headers, addresses and further body fields are left out: they may be secret."""
    expect = {f.name: getattr(case.expect, f.name) for f in fields(case.expect) if f.name != "validator"}
    defaults = {f.name: f.default for f in fields(case.expect)}
    return {
        "description": case.description,
        "prompt": case.prompt[:LONGEST],
        "prompt_characters": len(case.prompt),
        "system_prompt": case.system_prompt and case.system_prompt[:LONGEST],
        "messages": [_message(message) for message in case.messages or ()],
        "source": _source(case),
        "settings": {
            name: getattr(case, name) for name in _SETTINGS if case.load is None or name not in _OF_ROUNDS
        },
        "expect": {name: value for name, value in expect.items() if value != defaults[name]},
        "limits": [str(limit) for limit in case.limits],
        "slo": [str(objective) for objective in case.slo],
    }  # fmt: skip


def _message(message: dict[str, Any]) -> dict[str, str]:
    content = message.get("content")
    text = content if isinstance(content, str) else json.dumps(content, ensure_ascii=False)
    return {"role": str(message.get("role")), "content": text[:LONGEST]}


def _source(case: Case) -> str | None:
    """Return where prompts come from when they are many; None for one prompt."""
    if case.dataset is not None:
        sample = f"{case.dataset.sample:,} rows of " if case.dataset.sample else "rows of "
        return f"{sample}{case.dataset.file}"
    if case.synthetic is not None:
        length = case.synthetic.input_tokens
        spread = f" ± {length.stdev:g}" if length.stdev else ""
        return f"made-up prompts of {length.mean:,}{spread} tokens"
    return None
