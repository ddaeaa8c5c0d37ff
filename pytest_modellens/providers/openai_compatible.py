"""Servers that speak OpenAI's chat completions API; the base of most providers."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, ClassVar

import msgspec

from pytest_modellens.errors import ConfigError
from pytest_modellens.measure.wire import WireRequest
from pytest_modellens.models import several_answers
from pytest_modellens.providers.base import Message, Model, RunRequest, url_join
from pytest_modellens.providers.http import HTTPProvider
from pytest_modellens.providers.listing import described
from pytest_modellens.providers.measured import cold_conversation
from pytest_modellens.providers.openai_wire import ChatAnswer, decode_stream, decode_whole, message_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from pytest_modellens.measure.exchange import Exchange
    from pytest_modellens.measure.http1 import ResponseParser
    from pytest_modellens.measure.timeline import TextPart
    from pytest_modellens.providers.answer import Answer

__all__ = ["OpenAICompatibleProvider"]

log = logging.getLogger(__name__)


class OpenAICompatibleProvider(HTTPProvider):
    """A server with `/chat/completions` and `/models` below its base URL.

    A subclass for a new server sets `name` and `default_port`, and overrides `body` where the server takes fields of
    its own, `model_from` where its model list says more than the id, and `health_check` where it has a health page.
    """

    name: ClassVar[str] = "openai-compatible"
    default_port: ClassVar[int] = 8000
    default_path: ClassVar[str] = "/v1"

    @property
    def chat_url(self) -> str:
        """Where conversations are sent to."""
        return url_join(self.base_url, "chat/completions")

    def health_check(self) -> bool:
        """Return whether the model list can be had. Never raises; takes 5 seconds at most."""
        return self.answers(url_join(self.base_url, "models"))

    def list_models(self) -> list[Model]:
        """Return the models of `/models`; an empty list when they cannot be had. Never raises."""
        return self.models_at(url_join(self.base_url, "models"), "data") or []

    def models_at(self, url: str, key: str) -> list[Model] | None:
        """Return what `model_from` makes of the list under `key` at `url`; None when it cannot be had. Never raises."""
        entries = self.object_at(url).get(key)
        return self.models_from(entries) if isinstance(entries, list) else None

    def models_from(self, entries: Iterable[Any]) -> list[Model] | None:
        """Return the models among `entries`, those with an id; None when one of them is no model. Never raises."""
        try:
            models = [self.model_from(entry) for entry in entries]
        except (TypeError, AttributeError, ValueError) as exc:
            log.debug("%s: unusable model list: %s", self.shown_url, exc)
            return None
        return [model for model in models if model.id]

    def model_from(self, entry: dict[str, Any]) -> Model:
        """Return the model that one entry of the list describes."""
        return described(entry, self.name)

    def body(self, request: RunRequest) -> dict[str, Any]:
        """Return the fields of the request's JSON body."""
        fields: dict[str, Any] = {
            "model": request.model,
            "messages": self.messages(request),
            "max_tokens": request.max_tokens,
            "temperature": request.temperature,
            "top_p": request.top_p,
            "stream": request.stream,
        }
        if request.seed is not None:
            fields["seed"] = request.seed
        if request.stream:
            fields["stream_options"] = {"include_usage": True}
        return fields

    def messages(self, request: RunRequest) -> list[Message]:
        """Return the conversation; see `cold_conversation`."""
        return cold_conversation(request)

    def encode(self, request: RunRequest) -> WireRequest:
        """Return the request as HTTP.

        Raises:
            ConfigError: a prompt or a field of the body cannot be written as JSON, or several answers are asked for.
        """
        if several := several_answers(request.extra):
            raise ConfigError(
                f"request body: {several!r} asks for several answers, of which none could be measured by itself (got "
                f"{request.extra[several]}; send several requests)"
            )
        headers = {
            "Content-Type": "application/json",
            "Accept": "text/event-stream" if request.stream else "application/json",
            **self._auth(),
            **request.headers,
        }
        try:
            fields = {**self.body(request), **request.extra}
            body = msgspec.json.encode(_sent(fields))
        except (UnicodeEncodeError, TypeError, OverflowError) as exc:
            raise ConfigError(f"request body: cannot be written as JSON ({exc})") from exc
        return WireRequest(
            url=self.chat_url,
            body=body,
            headers=headers,
            total_timeout_s=request.timeout_s if request.timeout_s is not None else self.timeout_s,
            use_proxies=self.uses_proxies,
        )

    def decode_body(self, exchange: Exchange) -> Answer:
        """Return what the body of a success means: a stream of events, or one JSON document."""
        parser = exchange.parser
        if self.is_stream(parser):
            return decode_stream(exchange.body())
        return decode_whole(b"".join(data for _, data in parser.pieces))

    def is_stream(self, parser: ResponseParser) -> bool:
        """Return whether the body comes event by event."""
        return parser.headers.get("content-type", "").lower().startswith("text/event-stream")

    def empty_answer(self) -> Answer:
        """Return what a stream is fed to."""
        return ChatAnswer()

    def live_decoder(self) -> Callable[[Exchange], list[tuple[int, TextPart]]]:
        """Return a decoder for the events of a response under way."""
        answer = self.empty_answer()
        seen = 0

        def decode(exchange: Exchange) -> list[tuple[int, TextPart]]:
            nonlocal seen
            exchange.catch_up()
            if not self.is_stream(exchange.parser):
                return []
            new = exchange.parser.pieces[seen:]
            seen += len(new)
            deltas = [delta for read, data in new for delta in answer.feed(read, data)]
            return [(delta.read, part) for delta in deltas for part in delta.parts]

        return decode

    def error_message(self, body: bytes) -> str:
        """Return the human part of the body of an error status."""
        return message_of(body)


def _sent(fields: dict[str, Any]) -> dict[str, Any]:
    """Return the fields that are set, of tables within them too."""
    given = {key: value for key, value in fields.items() if value is not msgspec.UNSET}
    return {key: _sent(value) if isinstance(value, dict) else value for key, value in given.items()}
