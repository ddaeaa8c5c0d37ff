"""Every error that the project raises.

    ModelLensError
    ├── ConfigError              an option, a price table, an environment variable is wrong
    │   ├── UnknownProviderError
    │   └── SuiteError           a suite file is wrong; holds every problem of the file
    ├── BudgetError              the next request could pass the budget, or nobody could tell
    ├── MissingExtraError        an optional package is needed and not installed
    ├── WeightsError             no model weights where they were looked for, or damaged ones
    ├── ServerError              a server of ours did not start, or ended
    ├── StorageError             results cannot be written or read
    └── RequestError             one request brought no measurement; `error_class` says which kind
        ├── ConnectError         connect
        ├── TimedOutError        timeout
        ├── StatusError          http_4xx, http_429, http_5xx
        ├── ProtocolError        protocol
        ├── TruncatedError       truncated
        ├── StreamedError        server_error_in_stream
        ├── WrongModelError      wrong_model
        └── CancelledError       cancelled

A message reads ``where: what (value seen; what to do)``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = [
    "BudgetError",
    "CancelledError",
    "ConfigError",
    "ConnectError",
    "MissingExtraError",
    "ModelLensError",
    "Problem",
    "ProtocolError",
    "RequestError",
    "ServerError",
    "StatusError",
    "StorageError",
    "StreamedError",
    "SuiteError",
    "TimedOutError",
    "TruncatedError",
    "UnknownProviderError",
    "WeightsError",
    "WrongModelError",
]


class ModelLensError(Exception):
    """Anything this project refuses or fails to do; `str()` is meant for the user."""


class ConfigError(ModelLensError):
    """An option or setting cannot be used."""


class UnknownProviderError(ConfigError):
    """No provider has the name asked for."""


class Problem(NamedTuple):
    """One thing wrong with a suite file."""

    path: str
    line: int
    text: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.text}"


class SuiteError(ConfigError):
    """A suite file cannot be used; `problems` holds all that is wrong with it, in file order."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(sorted(problems, key=lambda problem: problem.line))
        super().__init__("\n".join(str(problem) for problem in self.problems))


class BudgetError(ModelLensError):
    """A request is not sent, because it could cost more than the run may, or its price is not known."""


class MissingExtraError(ModelLensError):
    """An optional package is needed; the message holds the command that installs it."""


class WeightsError(ModelLensError):
    """Model weights were not found, or are not the file they should be."""


class ServerError(ModelLensError):
    """A server that we start did not become ready, or ended early."""


class StorageError(ModelLensError):
    """Results cannot be written or read."""


class RequestError(ModelLensError):
    """One request brought no measurement."""

    error_class: str = "protocol"
    """The class that error rates are counted by."""


class ConnectError(RequestError):
    """No connection: refused, unreachable, name unknown, TLS not trusted, proxy unusable."""

    error_class = "connect"


class TimedOutError(RequestError):
    """The request's total time, or the longest allowed silence, has passed."""

    error_class = "timeout"


class StatusError(RequestError):
    """The server answered with an HTTP error status."""

    def __init__(self, message: str, *, status: int, retry_after: str | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.retry_after = retry_after
        """The `Retry-After` header as sent; None without one."""
        self.error_class = "http_429" if status == 429 else "http_5xx" if status >= 500 else "http_4xx"


class ProtocolError(RequestError):
    """The answer is not HTTP, not this API, or malformed."""

    error_class = "protocol"


class TruncatedError(RequestError):
    """The connection closed before the answer was complete."""

    error_class = "truncated"


class StreamedError(RequestError):
    """The server reported an error inside a stream that began with status 200."""

    error_class = "server_error_in_stream"


class WrongModelError(RequestError):
    """The server answered with another model than the one asked for."""

    error_class = "wrong_model"


class CancelledError(RequestError):
    """The request was given up from this side, by Ctrl-C for one."""

    error_class = "cancelled"
