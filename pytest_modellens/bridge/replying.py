"""What was seen of a foreign module's call, as a reply like any other."""

from __future__ import annotations

from decimal import Decimal
from itertools import islice
from typing import TYPE_CHECKING, Any

from pytest_modellens.bridge.call import RUNGS, Call, stand, usage_of
from pytest_modellens.bridge.wiretext import read_wire, sent_values
from pytest_modellens.measure.reply import Reply
from pytest_modellens.measure.timeline import Timeline, Transport
from pytest_modellens.providers.credentials import hide

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from pytest_modellens.bridge.proxy import Passed
    from pytest_modellens.errors import RequestError
    from pytest_modellens.models import RunRequest

__all__ = ["passed_for", "reply_of"]

_NOTES = {
    1: "stamped in the kernel's hook, some 0.2 ms after the module had it",
    2: "stamped in the kernel's hook, some 0.2 ms after the module had it",
    3: "stamped where the module's HTTP client reads",
    4: "stamped in a proxy between the module and its server",
    5: "nothing was seen of the stream",
}
_RETRIED = "the module sent requests again by itself: their times hold its waits (max_retries: 0 turns that off)"


def reply_of(
    call: Call,
    request: RunRequest,
    response: Any,
    error: RequestError | None,
    *,
    module_id: str,
    started_at: datetime,
    ended_ns: int,
    secrets: Sequence[str] = (),
) -> Reply:
    """Return the reply that a call brought, without `secrets`; `response` is None where it failed."""
    standing = stand(call)
    counts = [("response", getattr(response, "usage", None)), ("llm:response", call.usage), ("wire", standing.usage)]
    usage, usage_source = usage_of(counts, events=len(standing.events))
    blocks = [] if response is None else _blocks(response.content)
    exchanges = (*call.exchanges, *call.proxied)
    metadata = getattr(response, "metadata", None) or {}
    lost = _not_honoured(request, [passed.body for passed in exchanges])
    cost, flaw = _cost(getattr(response, "usage", None))
    return Reply(
        started_at=started_at,
        error=error,
        timeline=Timeline(
            scheduled_ns=call.sent_ns,
            sent_ns=call.sent_ns,
            ended_ns=None if error else ended_ns,
            events=standing.events,
            usage=usage,
            # Without an event nobody can tell whether it was streamed: it has no time to first token.
            streamed=bool(standing.events),
        ),
        transport=_transport(standing.rung),
        status=next((passed.status for passed in exchanges if passed.status), None),
        content=hide(_text(blocks), secrets),
        reasoning=hide("".join(block["thinking"] for block in blocks if block.get("type") == "thinking"), secrets),
        finish_reason=getattr(response, "finish_reason", None),
        answered_model=metadata.get("model") if isinstance(metadata.get("model"), str) else None,
        cost_usd=cost,
        notes=tuple(filter(None, (flaw, _note(lost), _RETRIED if call.retries else ""))),
        amplifier={
            "module": module_id,
            "rung": standing.rung,
            "rung_name": RUNGS[standing.rung],
            "usage_source": usage_source,
            "params_not_honoured": lost,
            "http_calls": len(call.exchanges) or len(call.proxied) or None,
            "retries": call.retries,
            "continuations": call.continuations,
        },
    )


def passed_for(call: Call, passed: list[Passed], response: Any) -> list[Passed]:
    """Return what passed the proxy for `call`; among others it is known by what it said."""
    later = [one for one in passed if one.sent_ns >= call.sent_ns and one.method == "POST"]
    if call.is_alone:
        return later
    text = "" if response is None else _text(_blocks(response.content))
    said = ((one, read_wire(one.pieces, encoding=one.encoding).spoken) for one in later)
    same = (one for one, spoken in said if text and "".join(s.text for s in spoken if s.kind == "content") == text)
    return [*islice(same, 1)]


def _transport(rung: int) -> Transport:
    return Transport(
        clock="perf_counter",
        clock_note=_NOTES[rung],
        reads=0,
        coalesced_reads=0,
        read_delay_ms=None,
        bytes_received=0,
        reused=False,
        connect_ms=None,
        tls_ms=None,
        proxy=None,
        live_decoding=True,
    )


def _not_honoured(request: RunRequest, bodies: list[bytes]) -> list[str] | None:
    """Return the parameters that did not arrive on the wire; None when it was not seen."""
    values = sent_values(bodies)
    if not values:
        return None
    asked = {"model": request.model, "max_tokens": request.max_tokens, "temperature": request.temperature}
    return [name for name, value in asked.items() if value not in values]


def _note(lost: list[str] | None) -> str:
    return f"the module did not send: {', '.join(lost)}" if lost else ""


def _cost(usage: Any) -> tuple[Decimal | None, str]:
    """Return what the module says it cost, and what is wrong with that: the contract knows exact amounts only."""
    cost = usage.get("cost_usd") if isinstance(usage, dict) else getattr(usage, "cost_usd", None)
    if cost is None or (isinstance(cost, Decimal) and cost.is_finite() and cost >= 0):
        return cost, ""
    seen = str(cost) if isinstance(cost, Decimal) else f"a {type(cost).__name__}"
    return None, (
        f"the module's cost_usd is {seen}, and must be a Decimal from 0 on: the cost is unknown "
        "(give the price in [tool.modellens.prices])"
    )


def _blocks(content: Any) -> list[dict[str, Any]]:
    return [block if isinstance(block, dict) else block.model_dump() for block in content]


def _text(blocks: list[dict[str, Any]]) -> str:
    return "".join(block["text"] for block in blocks if block.get("type") == "text")
