"""What keys of one case have to do with each other: sources of prompts, load, lengths of answers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pytest_modellens.suite.schema import PROMPT_SOURCES
from pytest_modellens.suite.yamltext import YamlMap

if TYPE_CHECKING:
    from pytest_modellens.suite.kinds import Scope
    from pytest_modellens.suite.loading import Load

__all__ = ["Written", "check_load", "check_sources", "values_of"]

_OF_ROUNDS = {"rounds": "requests", "warmup": "warmup", "concurrency": "concurrency"}
"""Keys that mean nothing under load, and what stands in `load` for them."""


class Written:
    """A case as it is written, with the defaults that it inherits key by key."""

    def __init__(self, own: YamlMap, defaults: YamlMap, line: int) -> None:
        self.own = own
        self.defaults = defaults
        self.line = line
        """Where the case begins."""
        axes = self.holder("matrix").get("matrix")
        self.axes: YamlMap = axes if isinstance(axes, YamlMap) else YamlMap(line)
        """The matrix of the case."""

    def holder(self, key: str) -> YamlMap:
        """Return what gives the case its `key`: itself, else the defaults."""
        return self.own if key in self.own else self.defaults


def check_sources(written: Written, scope: Scope) -> None:
    """Tell `scope` unless the case has exactly one source of its prompt."""
    own, axes = written.own, written.axes
    owner = own if any(key in own for key in PROMPT_SOURCES) else written.defaults
    lines = {key: owner.lines[key] for key in PROMPT_SOURCES if key in owner}
    lines.update({key: axes.lines[key] for key in PROMPT_SOURCES if key in axes})
    if len(lines) > 1:
        first, second = sorted(lines, key=lambda key: lines[key])[:2]
        scope.wrong(lines[second], f"{scope.place} has two prompts, {first!r} and {second!r} (keep one)")
    elif not lines and not scope.meant & {*PROMPT_SOURCES}:
        scope.wrong(
            written.line,
            f"{scope.place} has no prompt (give 'prompt', 'prompt_file', 'messages', 'dataset' or 'synthetic')",
        )
    if "messages" in lines and ("system_prompt" in own or "system_prompt" in axes):
        at = own.lines.get("system_prompt", lines["messages"])
        scope.wrong(at, f"'system_prompt' of {scope.place} is not sent with 'messages' (make it the first message)")
    made_up = owner.get("synthetic")
    if isinstance(made_up, YamlMap) and "output_tokens" in made_up:
        for holder in (own, axes):
            if "max_tokens" in holder:
                scope.wrong(
                    holder.lines["max_tokens"],
                    f"'max_tokens' of {scope.place} is not sent with 'output_tokens' of synthetic (keep one)",
                )


def check_load(written: Written, scope: Scope) -> None:
    """Tell `scope` of keys of the case that mean nothing under its load."""
    if written.holder("load").get("load") is None:
        return
    inherited = "" if "load" in written.own else "; 'load: null' takes the load of the defaults off the case"
    for holder in (written.own, written.axes):
        for key, instead in _OF_ROUNDS.items():
            if key in holder:
                scope.wrong(
                    holder.lines[key],
                    f"{key!r} of {scope.place} does not go with 'load' (write {instead!r} in 'load'{inherited})",
                )


def values_of(own: dict[str, Any], inherited: dict[str, Any]) -> dict[str, Any]:
    """Return the fields of a case out of the values that it and the defaults hold."""
    if any(key in own for key in _SOURCE_FIELDS):
        inherited = {key: value for key, value in inherited.items() if key not in _SOURCE_FIELDS}
    values = {**inherited, **own}
    axes = values.pop("matrix", None)
    if axes is not None:
        values["matrix"], values["overrides"] = axes
    if values.get("messages") is not None and "system_prompt" not in own:
        values["system_prompt"] = None
    made_up = values.get("synthetic")
    if made_up is not None and made_up.output_tokens is not None:
        values["max_tokens"] = made_up.output_tokens.max
    load: Load | None = values.pop("load", None)
    if load is not None:
        values["load"] = load.plans[0]
        if load.swept is not None:
            values["matrix"] = {**values.get("matrix", {}), load.swept: load.written}
            values["overrides"] = {**values.get("overrides", {}), "load": load.plans}
    return values


_SOURCE_FIELDS = ("prompt", "messages", "dataset", "synthetic")
