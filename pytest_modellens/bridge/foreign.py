"""Failures of foreign modules as ours, by the kernel's classes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_modellens.errors import (
    CancelledError,
    ConnectError,
    ProtocolError,
    StatusError,
    TimedOutError,
    TruncatedError,
)
from pytest_modellens.providers.credentials import hide
from pytest_modellens.redaction import redact_text

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pytest_modellens.errors import RequestError

__all__ = ["as_request_error"]

_STATUS = {
    "RateLimitError": 429,
    "QuotaExceededError": 429,
    "AuthenticationError": 401,
    "AccessDeniedError": 403,
    "ContextLengthError": 413,
    "ContentFilterError": 400,
    "InvalidRequestError": 400,
    "NotFoundError": 404,
    "ProviderUnavailableError": 503,
}
"""HTTP status that a class stands for, where the error itself names none."""
_OTHERS = {
    "NetworkError": ConnectError,
    "LLMTimeoutError": TimedOutError,
    "StreamError": TruncatedError,
    "AbortError": CancelledError,
    # Those of Python and of httpx, which leak.
    "TimeoutError": TimedOutError,
    "TimeoutException": TimedOutError,
    "ConnectError": ConnectError,
    "ConnectionError": ConnectError,
}


def as_request_error(error: Exception, where: str, secrets: Iterable[str] = ()) -> RequestError:
    """Return what `error` is for a record. An error that is none of the kernel's leaked, and is said to have."""
    from amplifier_core.llm_errors import LLMError

    names = [cls.__name__ for cls in type(error).__mro__]
    said = redact_text(hide(str(error), secrets))
    text = f"{where}: {names[0]}: {said}"
    if not isinstance(error, LLMError):
        text = f"{where}: let a {names[0]} through, which is none of the kernel's errors: {said}"
    for name in names:
        if name in _OTHERS:
            return _OTHERS[name](text)
        if name in _STATUS:
            break
    known = next((_STATUS[name] for name in names if name in _STATUS), None)
    status = getattr(error, "status_code", None)
    status = status if isinstance(status, int) and 400 <= status <= 599 else known
    if status is None:
        return ProtocolError(text)
    wait = getattr(error, "retry_after", None)
    return StatusError(text, status=status, retry_after=None if wait is None else f"{wait:g}")
