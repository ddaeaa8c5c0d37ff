"""The contract's views of what a request brought."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_modellens.measure import metrics
from pytest_modellens.models import APICallMetrics, RunResult

if TYPE_CHECKING:
    from pytest_modellens.measure.reply import Reply
    from pytest_modellens.models import RunRequest

__all__ = ["in_seconds", "result_of"]


def result_of(request: RunRequest, reply: Reply, provider: str) -> RunResult:
    """Return the numbers of a successful reply, in the contract's milliseconds."""
    timeline = reply.timeline
    assert timeline is not None
    speed = metrics.tokens_per_second(timeline)
    usage = timeline.usage
    return RunResult(
        response=reply.content,
        model=reply.answered_model or request.model,
        provider=provider,
        ttft_ms=metrics.ttft_ms(timeline),
        total_time_ms=metrics.total_time_ms(timeline),
        tokens_per_second=speed[0] if speed else None,
        prompt_tokens=usage.prompt,
        completion_tokens=usage.completion,
        total_tokens=usage.total,
        tokens_source=usage.source,
        ttfo_ms=metrics.ttfo_ms(timeline),
        tpot_ms=metrics.tpot_ms(timeline),
        e2e_tokens_per_second=metrics.e2e_tokens_per_second(timeline),
        reasoning_tokens=usage.reasoning,
        cached_tokens=usage.cached,
        finish_reason=reply.finish_reason,
        reasoning=reply.reasoning,
        clock=reply.transport.clock if reply.transport else "perf_counter",
    )


def in_seconds(result: RunResult) -> APICallMetrics:
    """Return the same in the units of `APICallMetrics`."""
    return APICallMetrics(
        ttft=None if result.ttft_ms is None else result.ttft_ms / 1000,
        total_time=None if result.total_time_ms is None else result.total_time_ms / 1000,
        tokens_per_second=result.tokens_per_second,
        total_tokens=result.total_tokens,
        prompt_tokens=result.prompt_tokens,
        completion_tokens=result.completion_tokens,
    )
