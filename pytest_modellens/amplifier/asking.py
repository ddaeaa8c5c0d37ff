"""A session's request as one of ours."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import msgspec

from pytest_modellens.amplifier.messages import wire_messages
from pytest_modellens.amplifier.native import native_fields, native_messages
from pytest_modellens.amplifier.repair import repaired
from pytest_modellens.models import RunRequest

if TYPE_CHECKING:
    from amplifier_core.message_models import ChatRequest

    from pytest_modellens.amplifier.profiles import Profile
    from pytest_modellens.amplifier.settings import ModuleSettings

__all__ = ["Asked", "ask", "going_on"]

GO_ON = "Go on exactly where you stopped. Repeat nothing."


@dataclass(frozen=True, slots=True)
class Asked:
    """What a call of `complete` asks for."""

    request: RunRequest
    repairs: list[dict[str, str]]
    """What had to be done to the sequence of tool calls and results."""
    may_go_on: bool
    """Whether an answer that is cut may be continued: only where the caller set no limit himself."""


def ask(
    request: ChatRequest, options: dict[str, Any], *, settings: ModuleSettings, profile: Profile, model: str
) -> Asked:
    """Return what `request` asks for; `options` override its fields, and these the settings."""

    def pick(*names: str) -> Any:
        for source in (options, vars(request)):
            for name in names:
                if source.get(name) is not None:
                    return source[name]
        return None

    limit = pick("max_output_tokens", "max_tokens")
    temperature, top_p = _first(pick("temperature"), settings.temperature), _first(pick("top_p"), settings.top_p)
    messages, repairs = repaired(wire_messages(request.messages, profile))
    extra: dict[str, Any] = {
        **settings.extra_body,
        **_tools(pick("tools"), pick("tool_choice")),
        **_response_format(pick("response_format")),
        **_effort(pick("reasoning_effort") or settings.reasoning_effort, profile),
    }
    if temperature is None:
        extra["temperature"] = msgspec.UNSET
    if top_p is None:
        extra["top_p"] = msgspec.UNSET
    if stop := pick("stop"):
        extra["stop"] = stop
    if profile.is_native:
        messages, extra = native_messages(messages), native_fields(extra)
    is_streamed = settings.use_streaming and (request.metadata or {}).get("stream") is not False
    found = RunRequest(
        prompt="",
        model=model,
        temperature=_first(temperature, 0.0),
        max_tokens=settings.max_tokens if limit is None else limit,
        top_p=_first(top_p, 1.0),
        stream=is_streamed,
        messages=tuple(messages),
        seed=pick("seed"),
        extra=extra,
        timeout_s=pick("timeout") or settings.timeout,
    )
    return Asked(found, repairs, may_go_on=limit is None and settings.max_continuations > 0)


def going_on(request: RunRequest, said: str, profile: Profile) -> RunRequest:
    """Return the request that continues an answer which was cut after it had `said` something."""
    messages = [*request.conversation(), {"role": "assistant", "content": said}]
    if profile.goes_on == "prompt":
        messages.append({"role": "user", "content": GO_ON})
    return replace(request, messages=tuple(messages), extra={**request.extra, **profile.prefix_fields})


def _first(value: Any, otherwise: Any) -> Any:
    return otherwise if value is None else value


def _tools(tools: Any, choice: Any) -> dict[str, Any]:
    if not tools:
        return {}
    wire = []
    for tool in tools:
        fields = tool if isinstance(tool, dict) else tool.model_dump()
        function = {"name": fields["name"], "parameters": fields.get("parameters") or {"type": "object"}}
        if fields.get("description"):
            function["description"] = fields["description"]
        wire.append({"type": "function", "function": function})
    if choice is None:
        return {"tools": wire}
    if isinstance(choice, str) and choice not in {"auto", "none", "required"}:
        choice = {"type": "function", "function": {"name": choice}}
    return {"tools": wire, "tool_choice": choice}


def _response_format(asked: Any) -> dict[str, Any]:
    if asked is None:
        return {}
    fields = asked if isinstance(asked, dict) else asked.model_dump()
    kind = fields.get("type")
    if kind in {"json", "json_object"}:
        return {"response_format": {"type": "json_object"}}
    if kind != "json_schema":
        return {}
    schema = fields.get("json_schema") or {}
    # Some callers already wrap it the way the wire has it.
    wrapped = dict(schema) if "schema" in schema else {"schema": schema}
    wrapped.setdefault("name", schema.get("title") or "answer")
    if fields.get("strict") is not None:
        wrapped["strict"] = fields["strict"]
    return {"response_format": {"type": "json_schema", "json_schema": wrapped}}


def _effort(effort: str | None, profile: Profile) -> dict[str, Any]:
    if not effort or profile.effort == "no":
        return {}
    if profile.effort == "template":
        return {"chat_template_kwargs": {"reasoning_effort": effort}}
    return {"reasoning_effort": effort}
