"""What an installed module says of itself, for people."""

from __future__ import annotations

from typing import Any

from pytest_modellens.providers.amplifier import AmplifierProvider
from pytest_modellens.text import printable

__all__ = ["portrait"]


def portrait(module: str) -> list[str]:
    """Return the lines that describe a module, mounted with an empty configuration.

    Raises:
        ModelLensError: there is no such module, or it cannot be mounted.
    """
    provider = AmplifierProvider(module)
    try:
        provider.start()
        facts = provider.facts()["amplifier"]
    finally:
        provider.close()
    info = facts["info"] if isinstance(facts["info"], dict) else {}
    version = facts["version"] or "of an unknown version"
    lines = [
        f"{provider.name}  {printable(str(info.get('display_name') or facts['module']))}",
        f"  package       {facts['package']} {version}, amplifier-core {facts['amplifier_core']}",
        f"  capabilities  {_joined(info.get('capabilities'))}",
    ]
    models = facts["models"]
    if not models:
        return [*lines, "  models        none without a server or a key"]
    return [*lines, *(f"  model         {_model(model)}" for model in models)]


def _model(model: dict[str, Any]) -> str:
    pricing = model.get("pricing") or {}
    price = "price unknown"
    if pricing:
        price = f"{pricing['input_per_million']} in, {pricing['output_per_million']} out USD per 1M tokens"
    tier = (model.get("metadata") or {}).get("cost_tier", "unknown")
    context = f"{model.get('context_window')} tokens of context"
    return printable(
        f"{model.get('id')}: {context}; {price}; tier {tier}; {_joined(model.get('capabilities'))}", limit=200
    )


def _joined(names: Any) -> str:
    return printable(", ".join(map(str, names or ())) or "none")
