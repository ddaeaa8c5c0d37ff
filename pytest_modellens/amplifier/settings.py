"""The configuration that a mount plan gives one of our modules."""

from __future__ import annotations

import difflib
import logging
from typing import Annotated, Any

import msgspec

from pytest_modellens.cost import PriceTable
from pytest_modellens.errors import ConfigError
from pytest_modellens.redaction import redact

__all__ = ["ModuleSettings", "read_settings"]

log = logging.getLogger(__name__)

Count = Annotated[int, msgspec.Meta(ge=0)]
Positive = Annotated[int, msgspec.Meta(ge=1)]
Seconds = Annotated[float, msgspec.Meta(gt=0, le=1e6)]

_OTHER_NAMES = {"host": "base_url", "model": "default_model"}
"""What Amplifier's modules for other servers call the same."""


class ModuleSettings(msgspec.Struct, frozen=True, kw_only=True):
    """What can be configured; every key has a default, so that an empty configuration mounts."""

    base_url: str | None = None
    api_key: str | None = None
    default_model: str | None = None
    """None: the first that the server lists. With the embedded model: its name, or the path of a GGUF file."""
    max_tokens: Positive = 4096
    temperature: float | None = None
    """None: not sent, the server's own."""
    top_p: float | None = None
    reasoning_effort: str | None = None
    timeout: Seconds = 600.0
    use_streaming: bool = True
    max_retries: Count = 5
    min_retry_delay: Seconds = 1.0
    max_retry_delay: Seconds = 60.0
    retry_jitter: bool | float = True
    max_continuations: Count = 5
    """How often an answer that `max_tokens` of this configuration cut is gone on with."""
    context_window: Positive | None = None
    priority: int = 100
    raw: bool = False
    """Whether `llm:request` and `llm:response` carry what was sent and received."""
    debug: bool = False
    raw_debug: bool = False
    prices: dict[str, dict[str, Any]] = {}
    """US dollars per million tokens by model or glob; see `PriceTable.parse`."""
    extra_body: dict[str, Any] = {}
    parallel: Positive = 4
    """Embedded model only, as are the next two: requests at once."""
    context: Positive | None = None
    threads: Positive | None = None

    def __repr__(self) -> str:
        # It holds the key.
        return f"<ModuleSettings for {self.base_url or 'the usual address'}>"

    @property
    def price_table(self) -> PriceTable:
        """The prices."""
        return PriceTable.parse(self.prices, "config: 'prices'")


def read_settings(config: dict[str, Any], where: str) -> ModuleSettings:
    """Return the settings of `config`; empty texts count as not given, and unknown keys are logged.

    Raises:
        ConfigError: a value cannot be used.
    """
    known = ModuleSettings.__struct_fields__
    given: dict[str, Any] = {}
    for name, value in config.items():
        key = _OTHER_NAMES.get(name, name)
        if key not in known:
            near = difflib.get_close_matches(key, known, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            log.warning("%s: config: unknown key %r is not used%s", where, name, hint)
        elif value not in (None, ""):
            given[key] = value
    try:
        # Not strict: what came out of an environment variable is text.
        settings = msgspec.convert(given, ModuleSettings, strict=False)
    except msgspec.ValidationError as exc:
        what, _, path = str(exc).partition(" - at `$.")
        key = path.rstrip("`").partition(".")[0].partition("[")[0]
        shown = "" if key == "api_key" else f"; got {redact(given.get(key))!r}"
        raise ConfigError(f"{where}: config: {key!r}: {what[:1].lower()}{what[1:]}{shown}") from exc
    _ = settings.price_table
    return settings
