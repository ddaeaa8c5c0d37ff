"""What our decoders make of a transcript, in plain types."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pytest_modellens.providers.llamacpp import LlamaCppProvider
from pytest_modellens.providers.openai import OpenAIProvider
from pytest_modellens.providers.openwebui import OpenWebUIProvider
from pytest_modellens.providers.transformers import TransformersProvider
from pytest_modellens.providers.vllm import VLLMProvider
from pytest_modellens.recording import Origin, record_of
from tests.transcripts.loader import Transcript

if TYPE_CHECKING:
    from pytest_modellens.models import Model
    from pytest_modellens.providers.openai_compatible import OpenAICompatibleProvider

__all__ = ["outcome", "provider_of"]


_KINDS = {"vllm": VLLMProvider, "transformers": TransformersProvider, "openwebui": OpenWebUIProvider}


class _RecordedLlamaCpp(LlamaCppProvider):
    """Its model list is the recorded one."""

    def list_models(self) -> list[Model]:
        folder = "xllamacpp" if self.event_source == "xllamacpp" else "llamacpp"
        return [self.model_from(entry) for entry in Transcript(folder, "models").json()["data"]]


def provider_of(server: str) -> OpenAICompatibleProvider:
    """Return the provider that a user would choose for the server of a folder."""
    if server in {"llamacpp", "llamacpp_router", "xllamacpp"}:
        return _RecordedLlamaCpp("http://127.0.0.1:1/v1", api_key="", event_source=server)
    return _KINDS.get(server, OpenAIProvider)("http://127.0.0.1:1/v1", api_key="")


def outcome(transcript: Transcript) -> dict[str, Any]:
    """Return everything that a record says about the answer."""
    provider = provider_of(transcript.server)
    reply = provider.decode(transcript.request, transcript.exchange())
    origin = Origin("suite", "case", provider.name, transcript.request.model)
    record = record_of(reply, transcript.request, origin=origin)
    names = (
        "ok status error_class error streamed response finish_reason answered_model prompt_tokens completion_tokens "
        "total_tokens reasoning_tokens cached_tokens tokens_source first_event_tokens ttft_ms ttfo_ms total_time_ms "
        "tpot_ms tokens_per_second tokens_per_second_mode e2e_tokens_per_second headers_ms inter_chunk_ms itl_ms "
        "server_timings reads coalesced_reads"
    )
    return {name: getattr(record, name) for name in names.split()} | {
        "event_tokens": [event.tokens for event in reply.timeline.events] if reply.timeline else None
    }
