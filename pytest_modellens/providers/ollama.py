"""`ollama`: Ollama's native API; its OpenAI dialect where the base URL ends in /v1."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar

from pytest_modellens.providers.base import Message, Model, RunRequest, get_root_url, url_join
from pytest_modellens.providers.listing import described
from pytest_modellens.providers.ollama_wire import OllamaAnswer, decode_lines, decode_object
from pytest_modellens.providers.on_demand import OnDemandProvider
from pytest_modellens.providers.probe import Fact

if TYPE_CHECKING:
    from pytest_modellens.measure.exchange import Exchange
    from pytest_modellens.measure.http1 import ResponseParser
    from pytest_modellens.measure.reply import Reply
    from pytest_modellens.measure.wire import WireRequest
    from pytest_modellens.providers.answer import Answer
    from pytest_modellens.providers.probe import Pages

__all__ = ["OllamaProvider"]


class OllamaProvider(OnDemandProvider):
    """Ollama, from its documentation and source of 2026-08.

    The native API brings Ollama's own timings. It is told not to cut conversations that are too long for its context;
    versions that do not know that wish are found out by the number of prompt tokens.
    """

    name: ClassVar[str] = "ollama"
    default_port: ClassVar[int] = 11434
    default_path: ClassVar[str] = ""
    api_key_env: ClassVar[str | None] = "OLLAMA_API_KEY"
    start_command: ClassVar[str] = "ollama serve"
    probe_pages: ClassVar[tuple[str, ...]] = ("/api/version", "/api/tags")

    def __init__(self, base_url: str | None = None, **options: Any) -> None:
        """See `HTTPProvider`."""
        super().__init__(base_url, **options)
        self._contexts: dict[str, int | None] = {}

    @classmethod
    def recognise(cls, pages: Pages) -> Fact | None:
        """Return a fact when both pages answer: llama.cpp has such tags, Open WebUI such a version, imitators both."""
        has_version = isinstance(pages.object("/api/version").get("version"), str)
        is_ollama = has_version and isinstance(pages.object("/api/tags").get("models"), list)
        return Fact("/api/version and /api/tags answer", is_own=False) if is_ollama else None

    @property
    def is_native(self) -> bool:
        """False where the OpenAI dialect is spoken."""
        return self.base_url.rpartition("/")[2] != "v1"

    @property
    def chat_url(self) -> str:
        """Where conversations are sent to."""
        return self._page("chat") if self.is_native else super().chat_url

    def server_version(self) -> str | None:
        """Return what `/api/version` says; None when it does not. Never raises."""
        return self.text_at(self._page("version"), "version")

    def health_check(self) -> bool:
        """Return whether `/api/version` can be had. Never raises; takes 5 seconds at most."""
        return self.answers(self._page("version"))

    def list_models(self) -> list[Model]:
        """Return the models of `/api/tags`; an empty list when they cannot be had. Never raises.

        How long its context is Ollama says only of a loaded model.
        """
        models = self.models_at(self._page("tags"), "models")
        if models is None:
            return [] if self.is_native else super().list_models()
        lengths = {entry.id: entry.context_length for entry in self._loaded()}
        return [replace(model, context_length=lengths.get(model.id)) for model in models]

    def model_from(self, entry: dict[str, Any]) -> Model:
        """Return the model that an entry of `/api/tags` or `/api/ps`, or of `/v1/models`, describes."""
        return described(
            entry if "id" in entry else {**entry, "id": entry.get("name") or entry.get("model")}, self.name
        )

    def is_loaded(self, model: str) -> bool | None:
        """Return whether `/api/ps` lists `model`; None when it does not answer. Never raises."""
        loaded = self.models_at(self._page("ps"), "models")
        return None if loaded is None else _tagged(model) in {_tagged(entry.id) for entry in loaded}

    def body(self, request: RunRequest) -> dict[str, Any]:
        """Return the fields of the request's JSON body."""
        if not self.is_native:
            return super().body(request)
        return {
            "model": request.model,
            "messages": [_native(message) for message in self.messages(request)],
            "stream": request.stream,
            "truncate": False,
        }

    def encode(self, request: RunRequest) -> WireRequest:
        """Return the request as HTTP; `options` of the request's `extra` go before ours."""
        if not self.is_native:
            return super().encode(request)
        options = {"num_predict": request.max_tokens, "temperature": request.temperature, "top_p": request.top_p}
        if request.seed is not None:
            options["seed"] = request.seed
        extra = {**request.extra, "options": {**options, **(request.extra.get("options") or {})}}
        return super().encode(replace(request, extra=extra))

    def decode(self, request: RunRequest, exchange: Exchange) -> Reply:
        """Return what a finished exchange means; a conversation that Ollama has cut is no valid measurement."""
        reply = super().decode(request, exchange)
        prompt = reply.timeline.usage.prompt if reply.timeline and reply.error is None else None
        return reply if prompt is None else replace(reply, invalid=self._cut(request, prompt))

    def decode_body(self, exchange: Exchange) -> Answer:
        """Return what the body of a success means."""
        if not self.is_native:
            return super().decode_body(exchange)
        if self.is_stream(exchange.parser):
            return decode_lines(exchange.body())
        return decode_object(b"".join(data for _, data in exchange.parser.pieces))

    def is_stream(self, parser: ResponseParser) -> bool:
        """Return whether the body comes line by line."""
        if not self.is_native:
            return super().is_stream(parser)
        return parser.headers.get("content-type", "").lower().startswith("application/x-ndjson")

    def empty_answer(self) -> Answer:
        """Return what a stream is fed to."""
        return OllamaAnswer() if self.is_native else super().empty_answer()

    def served_model(self, asked: str, answered: str) -> bool:
        """Return whether the answer is the asked model's; `latest` is the tag of a name without one."""
        return _tagged(asked) == _tagged(answered)

    def _page(self, name: str) -> str:
        root = self.base_url if self.is_native else get_root_url(self.base_url)
        return url_join(root, f"api/{name}")

    def _loaded(self) -> list[Model]:
        return self.models_at(self._page("ps"), "models") or []

    def _cut(self, request: RunRequest, prompt: int) -> str | None:
        """Return that Ollama left out a part of the conversation, where the count of prompt tokens shows it.

        No tokenizer makes fewer tokens than there are words. Fewer than words were evaluated, then, either because the
        rest was in the prompt cache, or because it was cut; a context shorter than the words decides which. A prompt
        that fills the context to the last token was cut to fit: it would leave no room for an answer.
        """
        words = sum(len(_text(message).split()) for message in request.conversation())
        context = self._context(request)
        is_short = prompt < words and (request.cache == "cold" or (context is not None and words > context))
        if not is_short and (context is None or prompt < context):
            return None
        room = f"its context of {context} tokens" if context is not None else "its context"
        return (
            f"Ollama cut the conversation to fit {room}: {words} words were sent and {prompt} prompt tokens used "
            "(raise options.num_ctx, or OLLAMA_CONTEXT_LENGTH of the server)"
        )

    def _context(self, request: RunRequest) -> int | None:
        given = (request.extra.get("options") or {}).get("num_ctx")
        if isinstance(given, int):
            return given
        if request.model not in self._contexts:
            lengths = {_tagged(model.id): model.context_length for model in self._loaded()}
            self._contexts[request.model] = lengths.get(_tagged(request.model))
        return self._contexts[request.model]


def _tagged(model: str) -> str:
    return model if ":" in model.rpartition("/")[2] else f"{model}:latest"


def _text(message: Message) -> str:
    content = message.get("content")
    if isinstance(content, list):
        return "\n".join(
            part["text"] for part in content if isinstance(part, dict) and isinstance(part.get("text"), str)
        )
    return content if isinstance(content, str) else ""


def _native(message: Message) -> Message:
    """Return a message of OpenAI's as Ollama takes it: text as text, and the images of its parts beside it."""
    content = message.get("content")
    if not isinstance(content, list):
        return message
    urls = (part["image_url"]["url"] for part in content if isinstance(part, dict) and part.get("type") == "image_url")
    return {**message, "content": _text(message), "images": [url.rpartition(",")[2] for url in urls]}
