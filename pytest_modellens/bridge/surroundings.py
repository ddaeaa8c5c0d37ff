"""The environment of a module under measurement: without the keys and addresses that it would pick up by itself."""

from __future__ import annotations

import os
import re
from collections import Counter
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

__all__ = ["as_it_was", "scrubbed"]

_MAKERS = (
    *("ANTHROPIC", "AZURE_OPENAI", "CHAT_COMPLETIONS", "COHERE", "DEEPSEEK", "GEMINI", "GOOGLE", "GROQ", "LITELLM"),
    *("LLAMA", "MISTRAL", "OLLAMA", "OPENAI", "OPENROUTER", "PERPLEXITY", "TOGETHER", "VLLM", "XAI"),
)
_ENDINGS = r"(API_KEY|AUTH_TOKEN|BASE_URL|API_BASE|API_URL|ENDPOINT|HOST|ORGANIZATION|PROJECT)"


_hidden: dict[str, str] = {}
_hiders: Counter[str] = Counter()
"""How many modules a variable is hidden from: two servers side by side can both be asked through modules."""


@contextmanager
def scrubbed(module_id: str, *, keep: Iterable[str] = ()) -> Iterator[list[str]]:
    """Take the variables that provider modules read out of the environment; lends their names, and puts them back.

    Args:
        module_id: whose own variables go as well: FOO_BAR_HOST for `provider-foo-bar`.
        keep: variables that the user has named.
    """
    own = module_id.removeprefix("provider-").replace("-", "_").upper()
    pattern = re.compile(rf"({'|'.join((*_MAKERS, re.escape(own)))})_{_ENDINGS}")
    names = [name for name in sorted({*os.environ, *_hidden} - {*keep}) if pattern.fullmatch(name)]
    _hidden.update({name: os.environ.pop(name) for name in names if name in os.environ})
    _hiders.update(names)
    try:
        yield names
    finally:
        _hiders.subtract(names)
        for name in names:
            if not _hiders[name]:
                os.environ.setdefault(name, _hidden.pop(name))


@contextmanager
def as_it_was() -> Iterator[None]:
    """Show everything that is hidden, for as long as a provider is made: its key is not the mounted module's affair."""
    shown = {name: value for name, value in _hidden.items() if name not in os.environ}
    os.environ.update(shown)
    try:
        yield
    finally:
        for name in shown:
            os.environ.pop(name, None)
