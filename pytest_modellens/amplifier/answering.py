"""What our client brought, as the kernel's response."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from amplifier_core.content_models import TextContent, ThinkingContent, ToolCallContent
from amplifier_core.llm_errors import InvalidToolCallError
from amplifier_core.message_models import ChatResponse, TextBlock, ThinkingBlock, ToolCall, ToolCallBlock, Usage

from pytest_modellens.amplifier.messages import SIGNED_FIELD
from pytest_modellens.measure import metrics

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_modellens.cost import Price
    from pytest_modellens.measure.reply import Reply
    from pytest_modellens.measure.timeline import TokenUsage

__all__ = ["Answer", "answer_of", "measured", "usage_fields"]


class Answer(ChatResponse):
    """The kernel's response with the two fields that user interfaces of Amplifier look for."""

    content_blocks: list[Any] | None = None
    text: str | None = None


def answer_of(replies: Sequence[Reply], *, provider: str, model: str, price: Price | None) -> Answer:
    """Return the response that the `replies` of one call make: the last one, and those that it continues.

    Raises:
        InvalidToolCallError: the model wrote a tool call whose arguments are no JSON object.
    """
    last = replies[-1]
    text = "".join(reply.content for reply in replies)
    reasoning = "".join(reply.reasoning for reply in replies)
    blocks: list[Any] = []
    shown: list[Any] = []
    if reasoning:
        signed = next((reply.signature for reply in replies if reply.signature), None)
        more = {"signature": signed.value, SIGNED_FIELD: signed.field} if signed else {}
        blocks.append(ThinkingBlock(thinking=reasoning, **more))
        shown.append(ThinkingContent(text=reasoning))
    if text:
        blocks.append(TextBlock(text=text))
        shown.append(TextContent(text=text))
    calls = [
        ToolCall(
            id=call.id or f"call_{uuid4().hex[:12]}",
            name=call.name,
            arguments=_arguments(call.name, call.arguments, provider=provider, model=model),
        )
        for call in last.tool_calls
    ]
    blocks += [ToolCallBlock(id=call.id, name=call.name, input=call.arguments) for call in calls]
    shown += [ToolCallContent(id=call.id, name=call.name, arguments=call.arguments) for call in calls]
    return Answer(
        content=blocks,
        tool_calls=calls or None,
        usage=_usage([reply.timeline.usage for reply in replies if reply.timeline is not None], price),
        finish_reason=last.finish_reason,
        metadata={"model": last.answered_model or model, "modellens": measured(replies)},
        content_blocks=shown,
        text=text or None,
    )


def measured(replies: Sequence[Reply]) -> dict[str, Any]:
    """Return what our client measured, in ms by docs/metrics.md; of the first reply where several make the answer."""
    timeline, transport = replies[0].timeline, replies[0].transport
    if timeline is None:
        return {}
    speed = metrics.tokens_per_second(timeline)
    return {
        "ttft_ms": metrics.ttft_ms(timeline),
        "total_time_ms": metrics.total_time_ms(timeline),
        "tpot_ms": metrics.tpot_ms(timeline),
        "tokens_per_second": speed[0] if speed else None,
        "tokens_source": timeline.usage.source,
        "clock": transport.clock if transport else None,
        "continuations": len(replies) - 1,
    }


def usage_fields(answer: Answer) -> dict[str, Any] | None:
    """Return the counts for `llm:response`; None where the server sent none."""
    if answer.usage is None:
        return None
    fields: dict[str, Any] = answer.usage.model_dump(exclude_none=True)
    return fields


def _usage(counts: Sequence[TokenUsage], price: Price | None) -> Usage | None:
    """Return the sum over all replies; None when a count is missing from any, because half a sum is wrong."""
    prompt, completion = _sum(counts, "prompt"), _sum(counts, "completion")
    if prompt is None or completion is None:
        return None
    costs = [
        price.cost(prompt=count.prompt, completion=count.completion, cached=count.cached) for count in counts if price
    ]
    known = [cost for cost in costs if cost is not None]
    return Usage(
        input_tokens=prompt,
        output_tokens=completion,
        total_tokens=prompt + completion,
        reasoning_tokens=_sum(counts, "reasoning"),
        cache_read_tokens=_sum(counts, "cached"),
        cost_usd=sum(known, Decimal(0)) if known else None,
    )


def _sum(counts: Sequence[TokenUsage], name: str) -> int | None:
    values = [getattr(count, name) for count in counts]
    return None if not values or None in values else sum(values)


def _arguments(name: str, text: str, *, provider: str, model: str) -> dict[str, Any]:
    native: Exception
    try:
        arguments = json.loads(text or "{}")
    except ValueError as exc:
        native, what = exc, f"are not JSON ({exc})"
    else:
        if isinstance(arguments, dict):
            return arguments
        native, what = TypeError(f"{type(arguments).__name__} instead of an object"), "are no JSON object"
    raise InvalidToolCallError(
        f"{provider}: the arguments of the call of tool {name!r} {what}",
        tool_name=name,
        raw_arguments=text,
        provider=provider,
        model=model,
    ) from native
