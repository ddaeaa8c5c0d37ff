"""What an installed module says of itself, for people."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pytest_modellens.bridge.loading import find_module
from pytest_modellens.bridge.plans import Entry, read_entry
from pytest_modellens.bridge.pricing import told_of
from pytest_modellens.providers.amplifier import AmplifierProvider
from pytest_modellens.text import printable
from pytest_modellens.urls import normalize_base_url

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["portrait"]

_WIDTH = 80


def portrait(name: str, *, plan: Path | None = None) -> list[str]:
    """Return the lines that describe a module.

    Args:
        name: of the module, with `=URL` behind it where its server is to be asked.
        plan: what it is mounted with; None: an empty configuration, and no key of the environment.

    Raises:
        ModelLensError: there is no such module, the plan cannot be used, or it cannot be mounted.
    """
    module, _, url = name.partition("=")
    entry = Entry({}, ()) if plan is None else read_entry(plan, find_module(module))
    base_url = normalize_base_url(url) if url else None
    provider = AmplifierProvider(module, config=entry.config, keep_env=entry.named, base_url=base_url)
    try:
        provider.start()
        facts = provider.facts()["amplifier"]
    finally:
        provider.close()
    info = facts["info"] if isinstance(facts["info"], dict) else {}
    version = facts["version"] or "of an unknown version"
    rows = [
        ("package", f"{facts['package']} {version}, amplifier-core {facts['amplifier_core']}"),
        ("capabilities", _joined(info.get("capabilities"))),
        *(("model", _model(model)) for model in facts["models"]),
    ]
    if not facts["models"]:
        rows.append(("models", "none without a server or a key (give MODULE=URL, or a mount plan: --plan FILE)"))
    lines = (line for label, text in rows for line in _folded(label, text))
    return [f"{provider.name}  {printable(str(info.get('display_name') or facts['module']))}", *lines]


def _folded(label: str, text: str) -> list[str]:
    import wcwidth

    return wcwidth.wrap(text, _WIDTH, initial_indent=f"  {label:14}", subsequent_indent=" " * 16)


def _model(model: dict[str, Any]) -> str:
    told = told_of(model)
    price = "price unknown"
    if told.price is not None:
        price = f"{told.price.input:f} in, {told.price.output:f} out {told.currency} per 1M tokens"
    tier = told.tier or "unknown"
    if told.tier and not told.is_own_tier:
        tier += " (by its price)"
    context = f"{model.get('context_window')} tokens of context"
    return printable(
        f"{model.get('id')}: {context}; {price}; tier {tier}; {_joined(model.get('capabilities'))}", limit=200
    )


def _joined(names: Any) -> str:
    return printable(", ".join(map(str, names or ())) or "none")
