"""What a provider module must show, and should: looked for in a module that answers real requests."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from pytest_modellens.bridge.loading import PREFIX
from pytest_modellens.bridge.mounting import MEMBERS, mount
from pytest_modellens.bridge.seen import Seen
from pytest_modellens.bridge.wiretext import sent_values
from pytest_modellens.cost import TIERS
from pytest_modellens.errors import ModelLensError
from pytest_modellens.providers.credentials import hide
from pytest_modellens.redaction import redact_text

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from pytest_modellens.bridge.loading import Module
    from pytest_modellens.bridge.mounting import Mounted
    from pytest_modellens.bridge.proxy import RecordingProxy

__all__ = ["Check", "check_module"]

Level = Literal["must", "should"]
_PROMPT = "Count from one to ten."
_NO_MODEL = "modellens-has-no-such-model"
_TOKENS, _TEMPERATURE = 17, 0.25
_CLASSES = {401: "AuthenticationError", 403: "AccessDeniedError", 404: "NotFoundError", 429: "RateLimitError"}
"""What a status has to become; of others a module knows more than the status says."""


class Check(NamedTuple):
    """One line of the list."""

    level: Level
    name: str
    passed: bool
    message: str
    """What was seen, when it did not pass."""


class _List:
    def __init__(self) -> None:
        self.checks: list[Check] = []

    def must(self, name: str, passed: object, message: str = "") -> None:
        self.checks.append(Check("must", name, bool(passed), "" if passed else message))

    def should(self, name: str, passed: object, message: str = "") -> None:
        self.checks.append(Check("should", name, bool(passed), "" if passed else message))


async def check_module(
    module: Module, config: Mapping[str, Any], *, model: str | None, proxy: RecordingProxy | None = None
) -> list[Check]:
    """Return the whole list for `module`, which is mounted with an empty configuration, then with `config`.

    Args:
        module: what is checked.
        config: has to lead to a server that answers.
        model: what to ask for; None: the module's own choice.
        proxy: what `config` leads through, so that the requests can be looked at; None: they are not.
    """
    found = _List()
    found.must("mount is async (coordinator, config)", _is_async_mount(module.mount), "it is not")
    await _check_empty_config(found, module)
    try:
        mounted = await mount(module, config)
    except ModelLensError as exc:
        found.must("mounts with its configuration", passed=False, message=str(exc))
        return found.checks
    try:
        await _check_mounted(found, mounted, model, proxy)
    finally:
        await mounted.close()
    return [check._replace(message=redact_text(hide(check.message, mounted.secrets))) for check in found.checks]


async def _check_empty_config(found: _List, module: Module) -> None:
    try:
        mounted = await mount(module, {})
    except ModelLensError as exc:
        found.must("mounts with an empty configuration", passed=False, message=str(exc))
        return
    names = [*(mounted.coordinator.get("providers") or {})]
    found.must("mounts with an empty configuration", passed=True)
    found.must(f"mounts under its id without {PREFIX!r}", module.mount_name in names, f"mounted as {names}")
    found.should("mount returns a cleanup", callable(mounted.cleanup), f"returned {mounted.cleanup!r}")
    await mounted.close()


async def _check_mounted(found: _List, mounted: Mounted, model: str | None, proxy: RecordingProxy | None) -> None:
    from amplifier_core.models import ProviderInfo

    provider = mounted.provider
    lacking = [member for member in MEMBERS if not hasattr(provider, member)]
    found.must("has the five members of a Provider", not lacking, f"lacks {', '.join(lacking)}")
    info = _called(getattr(provider, "get_info", None))
    found.must("get_info returns a ProviderInfo", isinstance(info, ProviderInfo), f"returned {info!r}")
    await _check_models(found, provider)
    contributed = await mounted.coordinator.collect_contributions("observability.events")
    found.should("contributes observability.events", contributed, "contributes none")
    await _check_answers(found, mounted, model, proxy)
    await _check_failure(found, mounted, proxy)


async def _check_models(found: _List, provider: Any) -> None:
    from amplifier_core.capabilities import ALL_WELL_KNOWN_CAPABILITIES
    from amplifier_core.models import ModelInfo

    listing = getattr(provider, "list_models", None)
    if not inspect.iscoroutinefunction(listing):
        found.must("list_models is async and returns a list of ModelInfo", passed=False, message="it is not async")
        return
    try:
        models = await listing()
    except Exception as exc:  # noqa: BLE001  # foreign code: whatever it raises is the finding
        models = exc
    good = isinstance(models, list) and all(isinstance(model, ModelInfo) for model in models)
    found.must("list_models is async and returns a list of ModelInfo", good, f"gave {models!r:.200}")
    if not good or not models:
        return
    unknown = sorted({name for model in models for name in model.capabilities} - {*ALL_WELL_KNOWN_CAPABILITIES})
    found.should("capabilities are well-known ones", not unknown, f"has {', '.join(unknown)}")
    first = models[0]
    priced = first.pricing is not None or getattr(first, "cost_per_input_token", None) is not None
    found.should("models have pricing or cost_per_input_token", priced, "the first has neither")
    tier = (getattr(first, "metadata", None) or {}).get("cost_tier")
    found.should("models have a cost tier", tier in TIERS, f"the first has {tier!r}")


async def _check_answers(found: _List, mounted: Mounted, model: str | None, proxy: RecordingProxy | None) -> None:
    before = len(proxy.passed) if proxy else 0
    streamed = await Seen.of(mounted, _request(model, stream=True), model=model)
    found.must("complete returns a ChatResponse with Usage, streamed", not streamed.lacks(), streamed.lacks())
    found.must("emits one llm:request, then one llm:response", not streamed.pair_flaw(), streamed.pair_flaw())
    found.must("streams by default, as the contract says", not streamed.stream_flaw(), streamed.stream_flaw())
    found.must("text of the deltas equals the response's", not streamed.text_flaw(), streamed.text_flaw())
    found.should("stream and llm:request share a request id", streamed.shares_id(), "they differ")
    if proxy is not None:
        flaw = _wire_flaw([passed.body for passed in proxy.passed[before:] if passed.method == "POST"], model)
        found.should("limit, temperature and model arrive on the wire", not flaw, flaw)
    whole = await Seen.of(mounted, _request(model, stream=False), model=model)
    found.must("complete returns a ChatResponse with Usage, not streamed", not whole.lacks(), whole.lacks())
    found.must("metadata.stream = False emits no stream event", not whole.stream, f"emitted {len(whole.stream)}")
    calls = None
    if streamed.response is not None:
        calls = _called(getattr(mounted.provider, "parse_tool_calls", None), streamed.response)
    found.must("parse_tool_calls returns a list", isinstance(calls, list), f"returned {calls!r}")
    broken = await Seen.of(mounted, _broken_sequence(model), model=model)
    found.should(
        "missing tool results are repaired, with an event",
        broken.response is not None and broken.named("provider:tool_sequence_repaired"),
        broken.lacks() or "no event",
    )


async def _check_failure(found: _List, mounted: Mounted, proxy: RecordingProxy | None) -> None:
    from amplifier_core import llm_errors

    before = len(proxy.passed) if proxy else 0
    seen = await Seen.of(mounted, _request(_NO_MODEL, stream=True), model=_NO_MODEL)
    error = seen.error
    name = "a failure is an LLMError of its class, with provider and cause"
    if error is None:
        found.must(name, passed=False, message=f"asked for model {_NO_MODEL!r}, it answered")
        return
    status = (
        next((passed.status for passed in reversed(proxy.passed[before:]) if passed.status), None) if proxy else None
    )
    wanted = _CLASSES.get(status or 0, "LLMError")
    is_good = isinstance(error, getattr(llm_errors, wanted)) and error.provider and error.__cause__ is not None
    cause = "no cause" if error.__cause__ is None else "a cause"
    about = f"raised {type(error).__name__} with provider {getattr(error, 'provider', None)!r} and {cause}"
    found.must(name, is_good, about if wanted == "LLMError" else f"{about} for status {status}, which is {wanted}")


def _request(model: str | None, *, stream: bool) -> Any:
    from amplifier_core.message_models import ChatRequest, Message

    return ChatRequest(
        messages=[Message(role="user", content=_PROMPT)],
        model=model,
        max_output_tokens=_TOKENS,
        temperature=_TEMPERATURE,
        stream=stream,
        metadata=None if stream else {"stream": False},
    )


def _broken_sequence(model: str | None) -> Any:
    from amplifier_core.message_models import Message, ToolCallBlock, ToolSpec

    request = _request(model, stream=True)
    call = ToolCallBlock(id="call_1", name="look", input={"at": "clock"})
    request.messages += [Message(role="assistant", content=[call]), Message(role="user", content="And now?")]
    request.tools = [ToolSpec(name="look", description="Looks.", parameters={"type": "object", "properties": {}})]
    return request


def _wire_flaw(bodies: list[bytes], model: str | None) -> str:
    """Return what of the request did not arrive at the server; empty when all did."""
    values = sent_values(bodies)
    if not values:
        return "no request was seen"
    wanted = {"limit": _TOKENS, "temperature": _TEMPERATURE, **({"model": model} if model else {})}
    missing = [name for name, value in wanted.items() if value not in values]
    return f"not sent: {', '.join(missing)}" if missing else ""


def _is_async_mount(function: Any) -> bool:
    return inspect.iscoroutinefunction(function) and len(inspect.signature(function).parameters) >= 2


def _called(function: Callable[..., Any] | None, *arguments: Any) -> Any:
    if function is None:
        return None
    try:
        return function(*arguments)
    except Exception as exc:  # noqa: BLE001  # foreign code: whatever it raises is the finding
        return exc
