"""Our errors as the kernel's: `raise as_llm_error(error, …) from error`."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any

from amplifier_core import llm_errors

from pytest_modellens.errors import (
    CancelledError,
    ConfigError,
    ConnectError,
    MissingExtraError,
    ProtocolError,
    StatusError,
    StreamedError,
    TimedOutError,
    TruncatedError,
    WeightsError,
    WrongModelError,
)

if TYPE_CHECKING:
    from pytest_modellens.errors import ModelLensError

__all__ = ["as_llm_error", "retry_after_s"]

_BY_STATUS: dict[int, type[llm_errors.LLMError]] = {
    401: llm_errors.AuthenticationError,
    403: llm_errors.AccessDeniedError,
    404: llm_errors.NotFoundError,
    408: llm_errors.LLMTimeoutError,
    413: llm_errors.ContextLengthError,
    429: llm_errors.RateLimitError,
}
_BY_ERROR: tuple[tuple[type[ModelLensError], type[llm_errors.LLMError]], ...] = (
    (ConnectError, llm_errors.NetworkError),
    (TruncatedError, llm_errors.NetworkError),
    (TimedOutError, llm_errors.LLMTimeoutError),
    (WrongModelError, llm_errors.NotFoundError),
    (CancelledError, llm_errors.AbortError),
    (ConfigError, llm_errors.ConfigurationError),
    (MissingExtraError, llm_errors.ConfigurationError),
    (WeightsError, llm_errors.ConfigurationError),
)
_TOO_LONG = re.compile(
    r"context (length|size|window)|maximum context|too many tokens|prompt is too long", re.IGNORECASE
)
_FILTERED = re.compile(r"content.?filter|content.?policy|safety system|flagged", re.IGNORECASE)
_NO_MONEY = re.compile(r"insufficient_quota|quota|billing|credit", re.IGNORECASE)


def as_llm_error(
    error: ModelLensError, *, provider: str, model: str | None, had_answer: bool = False, patience_s: float = 60.0
) -> llm_errors.LLMError:
    """Return the kernel's error for `error`.

    Args:
        error: what failed.
        provider: name of the module's provider.
        model: the model that was asked for.
        had_answer: whether the answer had begun, with a good status.
        patience_s: longest wait that a server may ask for; an error with a longer one is not retried.
    """
    more: dict[str, Any] = {"provider": provider, "model": model}
    if not isinstance(error, StatusError):
        return _class_of(error, had_answer=had_answer)(str(error), **more)
    wait = retry_after_s(error.retry_after)
    more |= {"status_code": error.status, "retry_after": wait}
    if wait is not None and wait > patience_s:
        more["retryable"] = False
    return _class_of_status(error.status, str(error))(str(error), **more)


def retry_after_s(value: str | None) -> float | None:
    """Return the seconds that a `Retry-After` header asks to wait; None without one that can be read."""
    if value is None:
        return None
    text = value.strip()
    if text.isascii() and text.replace(".", "", 1).isdigit():
        return float(text)
    try:
        at = parsedate_to_datetime(text)
    except ValueError:
        return None
    at = at if at.tzinfo else at.replace(tzinfo=UTC)
    return max(0.0, (at - datetime.now(UTC)).total_seconds())


def _class_of_status(status: int, message: str) -> type[llm_errors.LLMError]:
    if status == 429 and _NO_MONEY.search(message):
        return llm_errors.QuotaExceededError
    if status in _BY_STATUS:
        return _BY_STATUS[status]
    if status >= 500:
        return llm_errors.ProviderUnavailableError
    return _class_of_message(message, llm_errors.InvalidRequestError)


def _class_of_message(message: str, otherwise: type[llm_errors.LLMError]) -> type[llm_errors.LLMError]:
    if _TOO_LONG.search(message):
        return llm_errors.ContextLengthError
    return llm_errors.ContentFilterError if _FILTERED.search(message) else otherwise


def _class_of(error: ModelLensError, *, had_answer: bool) -> type[llm_errors.LLMError]:
    if isinstance(error, StreamedError):
        return _class_of_message(str(error), llm_errors.StreamError)
    if had_answer and isinstance(error, (TruncatedError, ProtocolError)):
        return llm_errors.StreamError
    found = next((theirs for ours, theirs in _BY_ERROR if isinstance(error, ours)), None)
    return found or llm_errors.ProviderUnavailableError
