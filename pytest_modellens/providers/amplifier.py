"""`amplifier:MODULE`: any provider module of Amplifier, unchanged, measured by the best that can be seen of it."""

from __future__ import annotations

import asyncio
import os
import threading
from contextlib import ExitStack
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, ClassVar

from pytest_modellens.bridge.call import CURRENT, Call
from pytest_modellens.bridge.foreign import as_request_error
from pytest_modellens.bridge.listening import Listener
from pytest_modellens.bridge.loading import PREFIX, find_module
from pytest_modellens.bridge.loop import LoopThread, NotInTimeError
from pytest_modellens.bridge.mounting import CLEANUP_S, MOUNT_S, mount
from pytest_modellens.bridge.pricing import told_of
from pytest_modellens.bridge.proxy import URL_KEYS, RecordingProxy, address_in
from pytest_modellens.bridge.replying import passed_for, reply_of
from pytest_modellens.bridge.surroundings import scrubbed
from pytest_modellens.bridge.tap import tapped
from pytest_modellens.errors import ConfigError, ModelLensError, TimedOutError
from pytest_modellens.measure.clock import now_ns
from pytest_modellens.providers.base import Model, RunRequest
from pytest_modellens.providers.credentials import hide, hide_in
from pytest_modellens.providers.measured import MeasuringProvider, cold_conversation
from pytest_modellens.providers.registry import AMPLIFIER
from pytest_modellens.redaction import is_secret_name, redact, redact_url

if TYPE_CHECKING:
    from collections.abc import Coroutine, Iterable, Mapping

    from pytest_modellens.bridge.mounting import Mounted
    from pytest_modellens.errors import RequestError
    from pytest_modellens.measure.reply import Reply

__all__ = ["AmplifierProvider"]

_LISTING_S = 5.0


class AmplifierProvider(MeasuringProvider):
    """A mounted provider module; each request is one call of its `complete`."""

    name: ClassVar[str] = "amplifier"
    default_port: ClassVar[int] = 0

    def __init__(
        self,
        module: str,
        *,
        config: Mapping[str, Any] | None = None,
        keep_env: Iterable[str] = (),
        base_url: str | None = None,
        api_key: str | None = None,
        timeout_s: float = 120.0,
    ) -> None:
        """Find the module; nothing is mounted yet.

        Args:
            module: an id with or without `provider-`, or the name of an importable package.
            config: what it is mounted with; `max_retries` is 0 unless it says otherwise.
            keep_env: environment variables that it may see although modules use them for keys and addresses.
            base_url: before what `config` says.
            api_key: likewise.
            timeout_s: longest time of a request that does not bring its own.

        Raises:
            MissingExtraError: amplifier_core is not installed.
            ConfigError: there is no such module.
        """
        self.module = find_module(module)
        self.name = f"{AMPLIFIER}{self.module.id.removeprefix(PREFIX)}"  # type: ignore[misc]  # one for each module
        self.timeout_s = timeout_s
        given = {"base_url": base_url, "api_key": api_key}
        self.config = {"max_retries": 0, **(config or {}), **{key: value for key, value in given.items() if value}}
        self._keep_env = tuple(keep_env)
        # A secret that is known by the name of its variable only, whatever the configuration calls it.
        self._secrets = tuple(os.environ.get(variable, "") for variable in self._keep_env if is_secret_name(variable))
        self._resources = ExitStack()
        self._loop: LoopThread | None = None
        self._mounts: list[tuple[Mounted, Listener]] = []
        self._proxy: RecordingProxy | None = None
        self._scrubbed: list[str] = []
        self._clients: list[str] = []
        self._lock = threading.Lock()

    @property
    def base_url(self) -> str:
        """Where the module's server is, as far as its configuration says; empty otherwise."""
        return next((str(self.config[key]) for key in URL_KEYS if self.config.get(key)), "")

    def start(self) -> None:
        """Mount the module; does nothing when it is mounted.

        Raises:
            ConfigError: it cannot be mounted; the message says why.
        """
        if self._mounts:
            return
        self._loop = LoopThread()
        self._resources.callback(self._loop.close)
        self._scrubbed = self._resources.enter_context(scrubbed(self.module.id, keep=self._keep_env))
        self._clients = self._resources.enter_context(tapped())
        self._mount(self.config)

    def health_check(self) -> bool:
        """Return whether the module is mounted; whether its server is well, only a request would show."""
        return bool(self._mounts)

    def list_models(self) -> list[Model]:
        """Return the models that the module lists, or the one that it is configured for. Never raises."""
        models = [self._model(info) for info in self._listed()]
        default = self.config.get("default_model") or (
            getattr(self._mounts[-1][0].provider, "default_model", None) if self._mounts else None
        )
        if not models and isinstance(default, str) and default:
            models = [Model(default, default, self.name)]
        return models

    def measure(self, request: RunRequest, *, stall_timeout_s: float | None = None) -> Reply:
        """Call `complete` and return what was seen of it; see `ProviderAdapter.run_prompt`.

        Silence counts towards `stall_timeout_s` from the first sign of life on: nobody knows which modules give one.
        """
        self.start()
        assert self._loop is not None
        mounted, listener = self._mounts[-1]
        started_at = datetime.now(UTC)
        limit = request.timeout_s if request.timeout_s is not None else self.timeout_s
        call = Call(now_ns())
        response: Any = None
        error: RequestError | None = None
        before = len(self._proxy.passed) if self._proxy else 0
        listener.begin(call)
        try:
            answering = _complete(mounted.provider, request, call)
            if stall_timeout_s is not None:
                answering = _unless_silent(answering, call, stall_timeout_s)
            response = self._loop.run(answering, timeout_s=limit)
        except NotInTimeError as exc:
            error = TimedOutError(f"{self.name}: {str(exc) or f'not complete after {limit:g} s'}")
        except Exception as exc:  # noqa: BLE001  # foreign code: it is this request's failure
            error = as_request_error(exc, self.name, mounted.secrets)
        finally:
            listener.end(call)
        ended_ns = now_ns()
        if error is None and not hasattr(response, "content"):
            text = f"{self.name}: complete() returned {type(response).__name__}, not a ChatResponse"
            error, response = as_request_error(TypeError(text), self.name), None
        if self._proxy is not None:
            call.proxied = passed_for(call, self._proxy.passed[before:], response)
        reply = reply_of(
            call,
            request,
            response,
            error,
            module_id=self.module.id,
            started_at=started_at,
            ended_ns=ended_ns,
            secrets=mounted.secrets,
        )
        if error is None and reply.amplifier and reply.amplifier["rung"] == 5:
            self._put_proxy_in_between()
        return reply

    def facts(self) -> dict[str, Any]:
        """Return what the module says of itself, and what was done to its surroundings."""
        import importlib.metadata

        known: dict[str, Any] = {
            "module": self.module.id,
            "package": self.module.package,
            "version": self.module.version,
            "amplifier_core": importlib.metadata.version("amplifier-core"),
            "base_url": redact_url(self.base_url) or None,
            "config_keys": sorted(self.config),
            "environment_scrubbed": self._scrubbed,
            "http_clients_tapped": self._clients,
            "events_not_attributed": sum(listener.unattributed for _, listener in self._mounts),
        }
        if self._mounts:
            mounted = self._mounts[-1][0]
            known["info"] = _plain(_called(getattr(mounted.provider, "get_info", None)), mounted.secrets)
            known["models"] = [_plain(info, mounted.secrets) for info in self._listed()]
        return {"amplifier": known}

    def close(self) -> None:
        """Clean the module up, within 10 seconds, and take the tap away."""
        loop, mounts = self._loop, self._mounts
        self._mounts = []
        for mounted, _ in mounts:
            assert loop is not None
            try:
                loop.run(mounted.close(), timeout_s=CLEANUP_S + 1)
            except NotInTimeError:
                pass  # its cleanup blocks the loop, which is left alone and ends with this process
        self._resources.close()

    def _mount(self, config: Mapping[str, Any]) -> None:
        assert self._loop is not None
        try:
            mounted = self._loop.run(mount(self.module, config, secrets=self._secrets), timeout_s=MOUNT_S + 5)
        except NotInTimeError as exc:
            raise ConfigError(f"amplifier:{self.module.id}: mount() did not end (it blocks)") from exc
        self._mounts.append((mounted, Listener(mounted.coordinator.hooks)))

    def _put_proxy_in_between(self) -> None:
        """Mount the module anew with a proxy before its server, for the requests that come after."""
        with self._lock:
            key = address_in(self.config)
            if self._proxy is not None or key is None:
                return
            proxy = RecordingProxy(str(self.config[key]))
            self._proxy = self._resources.enter_context(proxy)
            try:
                self._mount({**self.config, key: proxy.url})
            except ModelLensError:
                self._proxy = None  # it does not take that address: there is nothing to be seen of it

    def _listed(self) -> list[Any]:
        if not self._mounts or self._loop is None:
            return []
        listing = getattr(self._mounts[-1][0].provider, "list_models", None)
        if listing is None:
            return []
        try:
            return list(self._loop.run(listing(), timeout_s=_LISTING_S))
        except Exception:  # noqa: BLE001  # foreign code, and the contract: never raises
            return []

    def _model(self, info: Any) -> Model:
        window = getattr(info, "context_window", None)
        return Model(
            id=str(getattr(info, "id", info)),
            name=hide(
                str(getattr(info, "display_name", None) or getattr(info, "id", info)), self._mounts[-1][0].secrets
            ),
            provider=self.name,
            context_length=window if isinstance(window, int) and window > 0 else None,
            cost_tier=told_of(info).tier,
        )


async def _complete(provider: Any, request: RunRequest, call: Call) -> Any:
    from amplifier_core.message_models import ChatRequest, Message

    CURRENT.set(call)
    chat = ChatRequest(
        messages=[Message(**message) for message in cold_conversation(request)],
        model=request.model,
        temperature=request.temperature,
        top_p=request.top_p,
        max_output_tokens=request.max_tokens,
        stream=request.stream,
        metadata=None if request.stream else {"stream": False},
        **request.extra,
    )
    call.sent_ns = now_ns()
    return await provider.complete(chat, model=request.model)


async def _unless_silent(answering: Coroutine[Any, Any, Any], call: Call, longest_s: float) -> Any:
    """Return what `answering` returns.

    Raises:
        NotInTimeError: the call has given a sign of life, and then none for `longest_s`.
    """
    task = asyncio.ensure_future(answering)
    try:
        while not task.done():
            heard_ns = call.heard_ns
            left_s = longest_s if heard_ns is None else longest_s - (now_ns() - heard_ns) / 1e9
            if left_s <= 0:
                raise NotInTimeError(f"silent for {longest_s:g} s (stall time-out)")
            await asyncio.wait({task}, timeout=left_s)
        return task.result()
    finally:
        task.cancel()


def _called(function: Any) -> Any:
    try:
        return None if function is None else function()
    except Exception as exc:  # noqa: BLE001  # foreign code
        return f"{type(exc).__name__}: {exc}"


def _plain(value: Any, secrets: Iterable[str]) -> Any:
    # Before it is redacted, which hides a part of some secrets and leaves a rest that nobody knows any more.
    said = hide_in(value.model_dump(mode="json") if hasattr(value, "model_dump") else value, secrets)
    return hide_in(redact(said), secrets)
