"""One call of `complete`: retried, continued, told of, translated."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

from amplifier_core.llm_errors import LLMError
from amplifier_core.utils.retry import RetryConfig, retry_with_backoff

from pytest_modellens.amplifier import telling
from pytest_modellens.amplifier.answering import answer_of, measured, usage_fields
from pytest_modellens.amplifier.asking import ask, going_on
from pytest_modellens.amplifier.failures import as_llm_error
from pytest_modellens.errors import ModelLensError
from pytest_modellens.redaction import redact

if TYPE_CHECKING:
    from amplifier_core.message_models import ChatRequest

    from pytest_modellens.amplifier.answering import Answer
    from pytest_modellens.amplifier.asking import Asked
    from pytest_modellens.amplifier.provider import ModellensProvider
    from pytest_modellens.measure.reply import Reply
    from pytest_modellens.models import RunRequest

__all__ = ["Completion"]

_DEBUG_CHARACTERS = 180


class Completion:
    """Use it once: `await Completion(provider, request, options).run()`."""

    def __init__(self, provider: ModellensProvider, request: ChatRequest, options: dict[str, Any]) -> None:
        self._provider = provider
        self._settings = provider.settings
        self._request = request
        self._options = options
        self._teller = telling.Teller(getattr(provider.coordinator, "hooks", None), provider.name)
        self._model: str | None = options.get("model") or request.model
        self._retries = 0
        self._asked: Asked | None = None
        self._is_told = False

    async def run(self) -> Answer:
        """Return the answer.

        Raises:
            LLMError: by class what failed; its cause is our own error.
        """
        began = time.perf_counter()
        try:
            self._asked = await self._prepare()
            replies = await self._replies(self._asked)
            answer = self._answer(replies)
        except ModelLensError as error:
            failure = as_llm_error(error, provider=self._provider.name, model=self._model)
            await self._tell_failure(failure, began)
            raise failure from error
        except (LLMError, asyncio.CancelledError) as failure:
            await self._tell_failure(failure, began)
            raise
        self._provider.costs.add(answer.usage)
        fields = {"usage": usage_fields(answer), "finish_reason": answer.finish_reason, "modellens": measured(replies)}
        await self._tell_response("ok", began, fields, content=[block.model_dump() for block in answer.content])
        return answer

    async def _prepare(self) -> Asked:
        provider = self._provider
        await provider.adapter()
        self._model = await provider.model_for(self._model)
        return ask(self._request, self._options, settings=self._settings, profile=provider.profile, model=self._model)

    async def _replies(self, asked: Asked) -> list[Reply]:
        """Return the reply, and those that continue it for as long as it is cut by a limit that nobody asked for."""
        request = asked.request
        replies = [await self._with_retries(request)]
        while asked.may_go_on and self._is_cut(replies[-1]) and len(replies) <= self._settings.max_continuations:
            await self._teller.tell(
                telling.CONTINUED,
                model=self._model,
                reason=replies[-1].finish_reason,
                continuation=len(replies),
                max_continuations=self._settings.max_continuations,
            )
            said = "".join(reply.content for reply in replies)
            replies.append(await self._with_retries(going_on(request, said, self._provider.profile)))
        await self._teller.end_block()
        return replies

    @staticmethod
    def _is_cut(reply: Reply) -> bool:
        # Cut within its reasoning, an answer would only begin to reason anew.
        return reply.finish_reason == "length" and bool(reply.content) and not reply.tool_calls

    async def _with_retries(self, request: RunRequest) -> Reply:
        settings = self._settings
        config = RetryConfig(
            max_retries=settings.max_retries,
            initial_delay=settings.min_retry_delay,
            max_delay=max(settings.max_retry_delay, settings.min_retry_delay),
            jitter=bool(settings.retry_jitter),
        )
        return await retry_with_backoff(lambda: self._attempt(request), config, on_retry=self._on_retry)

    async def _attempt(self, request: RunRequest) -> Reply:
        provider = self._provider
        error: ModelLensError | None
        try:
            adapter = await provider.adapter()
            reply = await provider.threads.carry(adapter, request, self._teller.part, meanwhile=self._tell_request)
            error = reply.error
            had_answer = reply.status is not None and reply.status < 300
        except ModelLensError as exc:
            error, had_answer = exc, False
        except asyncio.CancelledError as exc:
            await self._teller.abort(exc)
            raise
        if error is None:
            return reply
        failure = as_llm_error(
            error,
            provider=provider.name,
            model=self._model,
            had_answer=had_answer,
            patience_s=self._settings.max_retry_delay,
        )
        await self._teller.abort(failure)
        raise failure from error

    async def _on_retry(self, attempt: int, delay: float, error: LLMError) -> None:
        self._retries += 1
        await self._teller.tell(
            telling.RETRY,
            model=self._model,
            attempt=attempt,
            max_retries=self._settings.max_retries,
            delay=delay,
            error_type=type(error).__name__,
            error_message=str(error),
        )

    def _answer(self, replies: list[Reply]) -> Answer:
        model = self._model or ""
        provider = self._provider
        return answer_of(replies, provider=provider.name, model=model, price=provider.prices.find(model))

    async def _tell_request(self) -> None:
        """Tell of the request, the first time only: while it goes out, because what listens would delay it."""
        if self._is_told:
            return
        self._is_told = True
        asked = self._asked
        request = asked.request if asked else None
        fields: dict[str, Any] = {"model": self._model, "message_count": len(self._request.messages)}
        if request is not None:
            fields |= {"stream": request.stream, "max_tokens": request.max_tokens}
        sent = {"messages": request.conversation(), **_plain(request)} if request else {}
        await self._tell(telling.REQUEST, fields, sent)
        if asked is not None and asked.repairs:
            await self._teller.tell(
                telling.REPAIRED, model=self._model, repair_count=len(asked.repairs), repairs=asked.repairs
            )

    async def _tell_response(self, status: str, began: float, fields: dict[str, Any], **received: Any) -> None:
        duration_ms = (time.perf_counter() - began) * 1000
        common = {"model": self._model, "status": status, "duration_ms": duration_ms, "retries": self._retries}
        await self._tell(telling.RESPONSE, common | fields, received)

    async def _tell_failure(self, error: BaseException, began: float) -> None:
        await self._tell_request()
        await self._tell_response("error", began, {"error": {"type": type(error).__name__, "msg": str(error)}})

    async def _tell(self, event: str, fields: dict[str, Any], payload: dict[str, Any]) -> None:
        settings = self._settings
        more = {"raw": redact(payload)} if settings.raw else {}
        await self._teller.tell(event, **fields, **more)
        if settings.debug:
            await self._teller.tell(f"{event}:debug", **fields, summary=_cut(redact(payload)))
        if settings.raw_debug:
            await self._teller.tell(f"{event}:raw", **fields, raw=redact(payload))


def _plain(request: RunRequest) -> dict[str, Any]:
    """Return the fields beside the messages that were sent, as far as they are plain."""
    import msgspec

    extra = {key: value for key, value in request.extra.items() if value is not msgspec.UNSET}
    return {"model": request.model, "max_tokens": request.max_tokens, "stream": request.stream, **extra}


def _cut(value: Any) -> Any:
    if isinstance(value, str):
        return value if len(value) <= _DEBUG_CHARACTERS else f"{value[:_DEBUG_CHARACTERS]}…"
    if isinstance(value, dict):
        return {key: _cut(item) for key, item in value.items()}
    return [_cut(item) for item in value] if isinstance(value, list) else value
