"""Performance tests of LLM inference servers, from YAML prompt suites, in pytest.

>>> from pytest_modellens import RunRequest, create_provider
>>> provider = create_provider("vllm", base_url="http://127.0.0.1:8000/v1")
>>> provider.run_prompt(RunRequest("Why is the sky blue?", model="tiny", stream=True)).ttft_ms

Names are resolved on first use, so that importing the package, as every pytest run of the environment does, costs
nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from pytest_modellens.errors import ModelLensError as ModelLensError
    from pytest_modellens.events import CompletionEvent as CompletionEvent
    from pytest_modellens.events import ErrorEvent as ErrorEvent
    from pytest_modellens.events import EventBus as EventBus
    from pytest_modellens.events import TokenGeneratedEvent as TokenGeneratedEvent
    from pytest_modellens.models import APICallMetrics as APICallMetrics
    from pytest_modellens.models import HardwareMetrics as HardwareMetrics
    from pytest_modellens.models import Model as Model
    from pytest_modellens.models import RunRequest as RunRequest
    from pytest_modellens.models import RunResult as RunResult
    from pytest_modellens.providers.base import ProviderAdapter as ProviderAdapter
    from pytest_modellens.providers.openai_compatible import OpenAICompatibleProvider as OpenAICompatibleProvider
    from pytest_modellens.providers.registry import create_provider as create_provider
    from pytest_modellens.providers.registry import provider_names as provider_names

_HOMES = {
    "APICallMetrics": "models",
    "CompletionEvent": "events",
    "ErrorEvent": "events",
    "EventBus": "events",
    "HardwareMetrics": "models",
    "Model": "models",
    "ModelLensError": "errors",
    "OpenAICompatibleProvider": "providers.openai_compatible",
    "ProviderAdapter": "providers.base",
    "RunRequest": "models",
    "RunResult": "models",
    "TokenGeneratedEvent": "events",
    "create_provider": "providers.registry",
    "provider_names": "providers.registry",
}

__all__ = [
    "APICallMetrics",
    "CompletionEvent",
    "ErrorEvent",
    "EventBus",
    "HardwareMetrics",
    "Model",
    "ModelLensError",
    "OpenAICompatibleProvider",
    "ProviderAdapter",
    "RunRequest",
    "RunResult",
    "TokenGeneratedEvent",
    "__version__",
    "create_provider",
    "provider_names",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
