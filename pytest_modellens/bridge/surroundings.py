"""The environment of a module under measurement: without the keys and addresses that it would pick up by itself."""

from __future__ import annotations

import os
import re
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

__all__ = ["scrubbed"]

_MAKERS = (
    *("ANTHROPIC", "AZURE_OPENAI", "CHAT_COMPLETIONS", "COHERE", "DEEPSEEK", "GEMINI", "GOOGLE", "GROQ", "LITELLM"),
    *("LLAMA", "MISTRAL", "OLLAMA", "OPENAI", "OPENROUTER", "PERPLEXITY", "TOGETHER", "VLLM", "XAI"),
)
_ENDINGS = r"(API_KEY|AUTH_TOKEN|BASE_URL|API_BASE|API_URL|ENDPOINT|HOST|ORGANIZATION|PROJECT)"


@contextmanager
def scrubbed(module_id: str, *, keep: Iterable[str] = ()) -> Iterator[list[str]]:
    """Take the variables that provider modules read out of the environment; lends their names, and puts them back.

    Args:
        module_id: whose own variables go as well: FOO_BAR_HOST for `provider-foo-bar`.
        keep: variables that the user has named.
    """
    own = module_id.removeprefix("provider-").replace("-", "_").upper()
    pattern = re.compile(rf"({'|'.join((*_MAKERS, re.escape(own)))})_{_ENDINGS}")
    kept = {*keep}
    taken = {name: os.environ.pop(name) for name in sorted(os.environ) if pattern.fullmatch(name) and name not in kept}
    try:
        yield [*taken]
    finally:
        for name, value in taken.items():
            os.environ.setdefault(name, value)
