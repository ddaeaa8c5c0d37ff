"""A load over several processes, for more tokens per second than one Python process can read in time.

Streams, requests and turns of the schedule are split evenly. Every worker has its own client; what they return is on
one clock, because `perf_counter` is CLOCK_MONOTONIC, or mach_absolute_time on macOS: the same for all processes of a
machine.
"""

from __future__ import annotations

import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import deque
from contextlib import ExitStack, suppress
from datetime import UTC, datetime
from importlib import import_module
from typing import TYPE_CHECKING, Any, Self

from pytest_modellens.errors import CancelledError, ConfigError, ModelLensError
from pytest_modellens.load.descriptors import room_in_flight
from pytest_modellens.load.frames import plan_to, progress_from, read_frame, reply_from, request_to, write_frame
from pytest_modellens.load.interrupt import deferred_interrupt
from pytest_modellens.load.plan import Share
from pytest_modellens.load.reply import LoadProgress, LoadReply
from pytest_modellens.measure.clock import now_ns
from pytest_modellens.measure.reply import Reply
from pytest_modellens.providers.http import HTTPProvider
from pytest_modellens.text import printable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from pytest_modellens.load.interrupt import Interrupt
    from pytest_modellens.load.plan import LoadPlan
    from pytest_modellens.models import RunRequest
    from pytest_modellens.providers.base import ProviderAdapter

__all__ = ["execute_in_workers"]

_START_S = 30.0
"""Longest time for a worker to start Python and import what it needs."""
_LEAD_NS = 50_000_000
"""How far ahead the common beginning is set, so that every worker is there."""
_END_S = 1.0
"""Longest time for a worker to end once it has said that it does."""
_GIVE_UP_S = 5.0
"""Longest time for workers to hand over what is under way, after Ctrl-C."""
_LOOK_S = 0.05
_AHEAD = 8
"""Requests beyond its streams that a worker is given before it can send them, where that costs something: as many as it
needs for never to wait."""
_MAX_FRAMES = 10_000
"""Messages of the workers that wait to be read; beyond that the workers wait."""


def execute_in_workers(
    provider: ProviderAdapter,
    plan: LoadPlan,
    requests: Iterator[RunRequest],
    *,
    workers: int,
    stall_timeout_s: float | None = None,
    on_progress: Callable[[LoadProgress], None] | None = None,
    keeping: Mapping[str, Any] | None = None,
    is_budgeted: bool = False,
) -> Iterator[LoadReply]:
    """Like `execute`, over `workers` processes.

    A worker that dies loses its own unfinished requests, which are yielded as cancelled; the others go on. With
    `keeping`, what `Cassette.for_workers` returned, each worker keeps the raw bytes of its own requests. With
    `is_budgeted` taking a request costs something, and few are taken before they can be sent.

    Raises:
        ConfigError: the provider cannot be rebuilt in another process, or a worker may not open enough connections.
        ModelLensError: a worker did not start.
    """
    workers = min(workers, plan.most_workers or workers)
    setup = {
        "provider": _description(provider),
        "plan": plan_to(plan),
        "stall_timeout_s": stall_timeout_s,
        "keeping": keeping,
    }
    room_in_flight(plan.part(Share(0, workers)))
    with ExitStack() as stack:
        crew = [stack.enter_context(_Worker(Share(number, workers), setup)) for number in range(workers)]
        for worker in crew:
            worker.wait_until_ready()
        streams = plan.part(Share(0, workers)).concurrency or 0
        feed = _Feed(requests, workers, ahead=streams + _AHEAD if is_budgeted else None)
        run = _Run(crew, feed, on_progress)
        with deferred_interrupt() as interrupt:
            yield from run.replies(interrupt)


def _description(provider: ProviderAdapter) -> dict[str, Any]:
    """Return what another process needs to make the same provider."""
    if not isinstance(provider, HTTPProvider):
        raise ConfigError(f"provider {provider.name!r}: workers need a provider reached over HTTP (use one worker)")
    provider.start()
    cls = type(provider)
    if cls.__module__.startswith("pytest_modellens."):
        # Of our own classes, one with a constructor of its own starts a server; workers only connect to it.
        cls = next(base for base in cls.__mro__ if _has_common_constructor(base))
    if not _has_common_constructor(cls) or not _is_importable(cls):
        raise ConfigError(
            f"provider {provider.name!r}: {cls.__qualname__} cannot be made again in another process (use one worker)"
        )
    return {
        "module": cls.__module__,
        "class": cls.__qualname__,
        "base_url": provider.base_url,
        "api_key": vars(provider)["_api_key"],
        "event_source": provider.event_source,
        "timeout_s": provider.timeout_s,
        "uses_proxies": provider.uses_proxies,
        "headers": dict(provider.headers),
    }


def _has_common_constructor(cls: type) -> bool:
    return next(base for base in cls.__mro__ if "__init__" in vars(base)) is HTTPProvider


def _is_importable(cls: type) -> bool:
    found: Any = None if cls.__module__ == "__main__" else import_module(cls.__module__)
    for part in cls.__qualname__.split("."):
        found = getattr(found, part, None)
    return found is cls


class _Worker:
    """One child process and the threads that talk to it."""

    def __init__(self, share: Share, setup: dict[str, Any]) -> None:
        self.share = share
        self.begun: dict[int, tuple[str, int]] = {}
        """Requests under way: phase, and when they were begun."""
        self.progress: LoadProgress | None = None
        self.is_over = False
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the worker
        # Standard input carries the key: neither arguments nor the environment are private.
        self.process = subprocess.Popen(
            [sys.executable, "-m", "pytest_modellens.load.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
            start_new_session=True,
        )
        message = {**setup, "worker": share.worker, "workers": share.workers, "parent": os.getpid()}
        with suppress(BrokenPipeError):
            assert self.process.stdin is not None
            write_frame(self.process.stdin, message)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.is_over:
            with suppress(subprocess.TimeoutExpired):
                self.process.wait(_END_S)
        self.process.kill()
        self.process.wait()
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        with suppress(BrokenPipeError, ValueError):
            self.process.stdin.close()
        self.process.stdout.close()
        self._log.close()

    def wait_until_ready(self) -> None:
        """Return once it can begin.

        Raises:
            ModelLensError: it did not start.
        """
        guard = threading.Timer(_START_S, self.process.kill)
        guard.start()
        assert self.process.stdout is not None
        message = read_frame(self.process.stdout)
        guard.cancel()
        if message is None:
            raise ModelLensError(f"load worker {self.share.worker}: did not start ({self.last_words()})")

    def last_words(self) -> str:
        """Return how the process ended, and the end of what it said."""
        code = self.process.wait()
        how = f"killed by signal {-code}" if code < 0 else f"exit status {code}"
        self._log.seek(0)
        said = self._log.read()[-2000:].decode("utf-8", "replace").strip().splitlines()
        return f"{how}: {printable(said[-1])}" if said else how

    def give_up(self) -> None:
        """Order it to cancel what is under way and to hand everything over."""
        with suppress(ProcessLookupError):
            self.process.send_signal(signal.SIGINT)


class _Feed:
    """Deals requests out to the workers in turn, each worker at its own speed."""

    def __init__(self, requests: Iterator[RunRequest], workers: int, *, ahead: int | None = None) -> None:
        self.sent: dict[int, RunRequest] = {}
        """Requests handed over and not yet returned, by their index."""
        self._requests = requests
        self._dealt: list[deque[RunRequest]] = [deque() for _ in range(workers)]
        self._next = 0
        self._lock = threading.Lock()
        self._room = None if ahead is None else [threading.Semaphore(ahead) for _ in range(workers)]
        """How many more requests each worker may be given before it has begun one; None: as many as it reads."""

    def make_room(self, share: Share) -> None:
        """Take note that a worker has begun a request, or has ended."""
        if self._room is not None:
            self._room[share.worker].release()

    def take(self, share: Share) -> RunRequest | None:
        """Return the next request of one worker, once there is room for it; None when there are no more."""
        if self._room is not None:
            self._room[share.worker].acquire()
        with self._lock:
            mine = self._dealt[share.worker]
            while not mine:
                request = next(self._requests, None)
                if request is None:
                    return None
                self._dealt[self._next % share.workers].append(request)
                self._next += 1
            return mine.popleft()

    def serve(self, worker: _Worker) -> None:
        """Write requests to `worker` for as long as it reads them; runs in a thread of its own."""
        stdin = worker.process.stdin
        assert stdin is not None
        index, last = worker.share.worker, None
        try:
            while (request := self.take(worker.share)) is not None:
                # Most loads repeat one request: it travels once, and then only in name.
                message: dict[str, Any] = {} if request is last else {"request": request_to(request)}
                self.sent[index] = last = request
                index += worker.share.workers
                write_frame(stdin, message)
            stdin.close()
        except (BrokenPipeError, ValueError):
            pass  # the worker has had enough, or is gone


class _Run:
    """The workers at work, and their messages on the way to one consumer."""

    def __init__(
        self, crew: Sequence[_Worker], feed: _Feed, on_progress: Callable[[LoadProgress], None] | None
    ) -> None:
        self._crew = crew
        self._feed = feed
        self._on_progress = on_progress
        self._messages: queue.Queue[tuple[_Worker, dict[str, Any] | None]] = queue.Queue(_MAX_FRAMES)
        self._is_closed = False
        self._deadline_s: float | None = None
        """When workers that were told to give up are killed; None before that."""

    def replies(self, interrupt: Interrupt) -> Iterator[LoadReply]:
        """Yield replies until every worker has ended; raises KeyboardInterrupt after them when there was one."""
        self._begin()
        try:
            yield from self._until_over(interrupt)
        except KeyboardInterrupt:  # a signal that was not ours to defer
            interrupt.pending = True
            yield from self._until_over(interrupt)
        finally:
            self._is_closed = True
        if self._on_progress is not None:
            self._on_progress(self._progress())
        interrupt.check()

    def _until_over(self, interrupt: Interrupt) -> Iterator[LoadReply]:
        while any(not worker.is_over for worker in self._crew):
            if interrupt.pending:
                self._give_up()
            try:
                worker, message = self._messages.get(timeout=_LOOK_S)
            except queue.Empty:
                continue
            yield from self._heard(worker, message)

    def _begin(self) -> None:
        begin_ns = now_ns() + _LEAD_NS
        for worker in self._crew:
            assert worker.process.stdin is not None
            with suppress(BrokenPipeError):
                write_frame(worker.process.stdin, {"begin_ns": begin_ns})
            for target in (self._feed.serve, self._listen):
                threading.Thread(target=target, args=(worker,), name="modellens-worker-pipe", daemon=True).start()

    def _listen(self, worker: _Worker) -> None:
        assert worker.process.stdout is not None
        message: dict[str, Any] | None = {}
        while message is not None:
            try:
                message = read_frame(worker.process.stdout)
            except ValueError:  # closed from our side
                message = None
            if message is None or message["kind"] == "begun":
                self._feed.make_room(worker.share)
            self._hand_over(worker, message)

    def _hand_over(self, worker: _Worker, message: dict[str, Any] | None) -> None:
        while not self._is_closed:
            with suppress(queue.Full):
                self._messages.put((worker, message), timeout=_START_S)
                return

    def _give_up(self) -> None:
        if self._deadline_s is None:
            self._deadline_s = time.monotonic() + _GIVE_UP_S
            for worker in self._crew:
                worker.give_up()
        elif time.monotonic() > self._deadline_s:
            for worker in self._crew:
                worker.process.kill()

    def _heard(self, worker: _Worker, message: dict[str, Any] | None) -> Iterator[LoadReply]:
        if message is None:
            if not worker.is_over:
                worker.is_over = True
                yield from self._lost(worker)
            return
        kind = message["kind"]
        if kind == "begun":
            worker.begun[message["index"]] = (message["phase"], message["at"])
        elif kind == "refused":
            worker.is_over = True
            raise ConfigError(message["text"])
        else:
            worker.progress = progress_from(message["progress"])
            worker.is_over = kind == "end"
            if kind == "reply":
                index = message["reply"]["index"]
                del worker.begun[index]
                if self._on_progress is not None:
                    self._on_progress(self._progress())
                yield reply_from(message["reply"], self._feed.sent.pop(index))

    def _lost(self, worker: _Worker) -> Iterator[LoadReply]:
        """Yield the requests that a worker had under way when it ended."""
        reason = f"load worker {worker.share.worker} ended early ({worker.last_words()})"
        now = now_ns()
        for index, (phase, begun) in worker.begun.items():
            yield LoadReply(
                reply=Reply(started_at=datetime.now(UTC), error=CancelledError(reason)),
                request=self._feed.sent.pop(index),
                index=index,
                phase="warmup" if phase == "warmup" else "measured",
                scheduled_ns=begun,
                begun_ns=begun,
                sent_ns=begun,
                ended_ns=now,
                worker=worker.share.worker,
            )
        worker.begun.clear()

    def _progress(self) -> LoadProgress:
        known = [worker.progress for worker in self._crew if worker.progress is not None]
        return LoadProgress(
            begun=sum(progress.begun for progress in known),
            ended=sum(progress.ended for progress in known),
            failed=sum(progress.failed for progress in known),
            in_flight=sum(progress.in_flight for progress in known),
            elapsed_s=max((progress.elapsed_s for progress in known), default=0.0),
            client_cpu_share=max((progress.client_cpu_share for progress in known), default=0.0),
            stopped=next((progress.stopped for progress in known if progress.stopped), None),
        )
