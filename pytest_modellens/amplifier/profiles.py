"""What makes one provider module different from the next; everything else they share."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["PROFILES", "Profile"]


@dataclass(frozen=True, slots=True)
class Profile:
    """One kind of server, as its module treats it."""

    provider: str
    """Our provider's name, as `--provider` takes it."""
    display_name: str
    base_url: str | None = None
    """Where the API is when nobody says; None: the provider's own default."""
    url_env: str | None = None
    """Environment variable that holds the URL when the configuration does not."""
    key_env: str | None = None
    """Environment variable that holds the API key when the configuration does not."""
    needs_key: bool = False
    """Whether the default address answers nobody without a key."""
    is_free: bool = True
    """Whether nobody bills by the token, so that a model without a price is in the tier "free"."""
    is_local: bool = False
    """Whether it always runs on this machine."""
    has_developer_role: bool = False
    reasoning_fields: tuple[str, ...] = ()
    """Fields of an assistant's message that take its earlier reasoning."""
    effort: Literal["field", "template", "no"] = "no"
    """How reasoning effort is asked for: a field of the body, an argument of the chat template, not at all."""
    goes_on: Literal["prefix", "prompt"] = "prefix"
    """How a cut answer is continued: it is the beginning of the next one, or the model is told to."""
    prefix_fields: Mapping[str, Any] = field(default_factory=dict)
    """Fields of the body that make it a beginning."""
    is_native: bool = False
    """Whether it is asked through Ollama's API instead of OpenAI's."""
    context_window: int = 8192
    """Tokens that a session may plan with when the server does not say."""

    @property
    def name(self) -> str:
        """Name that it is mounted under."""
        return f"modellens-{self.provider}"


_ALL = (
    Profile(
        "openai",
        "OpenAI API (modellens)",
        base_url="https://api.openai.com/v1",
        url_env="OPENAI_BASE_URL",
        key_env="OPENAI_API_KEY",
        needs_key=True,
        is_free=False,
        has_developer_role=True,
        effort="field",
        goes_on="prompt",
        context_window=128_000,
    ),
    Profile(
        "vllm",
        "vLLM (modellens)",
        url_env="VLLM_BASE_URL",
        key_env="VLLM_API_KEY",
        # `reasoning` since 0.11, `reasoning_content` before; each version leaves the other alone.
        reasoning_fields=("reasoning", "reasoning_content"),
        effort="field",
        prefix_fields={"continue_final_message": True, "add_generation_prompt": False},
    ),
    Profile(
        "llamacpp",
        "llama.cpp server (modellens)",
        key_env="LLAMA_API_KEY",
        reasoning_fields=("reasoning_content",),
        effort="template",
    ),
    Profile(
        "ollama",
        "Ollama (modellens)",
        url_env="OLLAMA_HOST",
        key_env="OLLAMA_API_KEY",
        reasoning_fields=("thinking",),
        effort="field",
        is_native=True,
        context_window=4096,
    ),
    Profile("local", "Embedded small model (modellens)", is_local=True, effort="template"),
)

PROFILES = {profile.provider: profile for profile in _ALL}
"""By the provider's name."""
