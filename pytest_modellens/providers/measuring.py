"""One way to measure a request, whichever kind of provider serves it."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from pytest_modellens.errors import ConnectError, ProtocolError, RequestError, TimedOutError
from pytest_modellens.measure.reply import Reply
from pytest_modellens.models import RunResult
from pytest_modellens.providers.measured import MeasuringProvider

if TYPE_CHECKING:
    from pytest_modellens.providers.base import ProviderAdapter, RunRequest

__all__ = ["measure"]


def measure(provider: ProviderAdapter, request: RunRequest, *, stall_timeout_s: float | None = None) -> Reply:
    """Send `request`, wait for its end, and return what it brought; failures are in `Reply.error`.

    A provider that implements only the contract's methods is called as it is; the reply then holds the numbers that it
    claims, and no timeline.
    """
    if isinstance(provider, MeasuringProvider):
        return provider.measure(request, stall_timeout_s=stall_timeout_s)
    started_at = datetime.now(UTC)
    try:
        result: object = provider.run_prompt(request)
    except RequestError as error:
        return Reply(started_at=started_at, error=error)
    except Exception as exc:  # noqa: BLE001 - somebody else's adapter: this request's failure, not the run's
        return Reply(started_at=started_at, error=_foreign(exc))
    if not isinstance(result, RunResult):
        text = f"the adapter returned {type(result).__name__}, not a RunResult"
        return Reply(started_at=started_at, error=ProtocolError(text))
    return Reply(
        started_at=started_at,
        content=result.response,
        reasoning=result.reasoning,
        finish_reason=result.finish_reason,
        answered_model=result.model,
        adapter_result=result,
    )


def _foreign(exc: Exception) -> RequestError:
    import requests

    text = f"{type(exc).__name__}: {exc}"
    # ConnectTimeout is both; no connection is the better description.
    if isinstance(exc, (requests.ConnectionError, ConnectionError)):
        return ConnectError(text)
    if isinstance(exc, (requests.Timeout, TimeoutError)):
        return TimedOutError(text)
    return ProtocolError(f"the adapter failed with {text}")
