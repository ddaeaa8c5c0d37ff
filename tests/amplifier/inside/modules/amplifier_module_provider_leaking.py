"""A double that says its secrets wherever it can."""

import json
import sys
from typing import Any
from urllib.parse import quote

from amplifier_core.message_models import ThinkingBlock
from amplifier_core.models import ModelInfo, ProviderInfo

from tests.amplifier.inside.modules.doubles import Double, answer


def _said(config: dict[str, Any]) -> str:
    """Return everything in the configuration, in the forms that libraries quote it in."""
    texts = [value if isinstance(value, str) else json.dumps(value, ensure_ascii=False) for value in config.values()]
    return " ".join([*texts, *map(quote, texts), *map(repr, texts)])


async def _complete(self: Double, request: Any) -> Any:
    said = _said(self.config)
    if request.model == "fails":
        raise RuntimeError(f"refused: {said}")
    response = answer(f"You asked me for {said}")
    response.content.insert(0, ThinkingBlock(thinking=said))
    return response


class Leaking(Double):
    def get_info(self) -> ProviderInfo:
        return ProviderInfo(id="leaking", display_name=_said(self.config), defaults=dict(self.config))

    async def list_models(self) -> list[ModelInfo]:
        said = _said(self.config)
        return [ModelInfo(id="m", display_name=said, context_window=9, max_output_tokens=1, defaults={"said": said})]


async def mount(coordinator: Any, config: dict[str, Any] | None = None) -> Any:
    settings = config or {}
    if settings.get("refuse"):
        raise ValueError(f"refused: {_said(settings)}")
    await coordinator.mount("providers", Leaking("leaking", coordinator, settings, _complete), name="leaking")

    async def cleanup() -> None:
        sys.stderr.flush()
        raise RuntimeError(_said(settings))

    return cleanup
