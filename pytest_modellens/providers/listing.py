"""One entry of a model list as a `Model`, from whatever the servers of this kind add to the id.

llama.cpp has `meta`, Ollama `details` and `size`, vLLM and SGLang `max_model_len` and `root`; servers that stand before
others (Open WebUI) pass these on, Ollama's under the key `ollama`. What an entry does not have is None.
"""

from __future__ import annotations

from typing import Any

from pytest_modellens.models import Model

__all__ = ["described"]


def described(entry: dict[str, Any], provider: str) -> Model:
    """Return the model that an entry of `/models` describes.

    Its id is empty when the entry has none.

    Raises:
        TypeError, AttributeError: it is not what a list of models holds.
    """
    meta = entry.get("meta") or {}
    ollama = entry.get("ollama") or entry
    details = ollama.get("details") or {}
    count = _number(meta.get("n_params"))
    identity = str(entry.get("id") or "")
    return Model(
        id=identity,
        name=_text(entry.get("name")) or _text(entry.get("root")) or identity,
        provider=provider,
        parameters=_rounded(count) if count is not None else _text(details.get("parameter_size")),
        quantization=_text(meta.get("ftype")) or _text(details.get("quantization_level")),
        size_bytes=_number(meta.get("size")) or _number(ollama.get("size")),
        aliases=tuple(map(str, entry.get("aliases") or ())),
        context_length=next(
            filter(None, map(_number, (meta.get("n_ctx"), entry.get("max_model_len"), ollama.get("context_length")))),
            None,
        ),
    )


def _text(value: object) -> str | None:
    return value or None if isinstance(value, str) else None


def _number(value: object) -> int | None:
    """Return a count above 0: servers write 0 where they do not know."""
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else None


def _rounded(count: int) -> str:
    """Return a parameter count as people write it: 134515008 is "135M"."""
    for unit, size in (("B", 10**9), ("M", 10**6), ("K", 10**3)):
        if count >= size:
            value = count / size
            return f"{value:.0f}{unit}" if value >= 100 or unit != "B" else f"{value:.1f}".removesuffix(".0") + unit
    return str(count)
