"""A server that a command starts: ready when it has given a token, and gone afterwards with all that it started."""

from __future__ import annotations

import atexit
import contextlib
import json
import logging
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import IO, TYPE_CHECKING

from pytest_modellens.errors import ConfigError, ServerError
from pytest_modellens.hardware.process import find_listener
from pytest_modellens.served.command import PORT, joined, words_of
from pytest_modellens.served.log import cleaned, kept, secrets_of, tail
from pytest_modellens.served.readiness import ANY, FirstToken, NotReadyError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from types import TracebackType
    from typing import Self

    from pytest_modellens.providers.base import ProviderAdapter

__all__ = ["START_TIMEOUT_S", "ModelServer"]

log = logging.getLogger(__name__)

START_TIMEOUT_S = 600.0
_GUARDIAN = Path(__file__).with_name("guardian.py")
_ATTEMPTS = 3
"""How many ports are tried: between its choice and the server's start another program may take one."""
_LOOK_S = 0.05
_LONGEST_PAUSE_S = 0.5
_STOP_PATIENCE_S = 12.0
"""More than the guardian takes."""
_TAIL_LINES = 12


class ModelServer:
    """A server of models, started by a command that takes its port from `{port}`.

    Use it as a context manager, or call `start` and `stop`. It never outlives this process, however that ends.

    >>> with ModelServer("llama-server -m q4.gguf --port {port}", FirstToken("llamacpp")) as server:
    ...     server.provider.run_prompt(RunRequest("Name a prime.", "q4"))
    """

    def __init__(
        self,
        command: str | Sequence[str],
        how: FirstToken = ANY,
        *,
        env: Mapping[str, str] | None = None,
        log_path: Path | None = None,
        start_timeout_s: float = START_TIMEOUT_S,
        on_wait: Callable[[str], None] = lambda _: None,
    ) -> None:
        """Prepare a server; nothing runs yet.

        Args:
            command: what to run, without a shell; `{port}` in it is replaced by a free port of 127.0.0.1. It must stay
                in the foreground.
            how: what proves that it works, and what it is called.
            env: environment variables of the command, beside those of this process.
            log_path: file that the end and the beginning of the server's output are written to when it has ended.
            start_timeout_s: longest time to the first token.
            on_wait: called now and then with the server's last line of output while it starts, for progress.

        Raises:
            ConfigError: the command cannot be one.
        """
        self.command = words_of(command)
        self.name = how.name
        self.log_path = log_path
        self.start_timeout_s = start_timeout_s
        self.cold_start_s: float | None = None
        """From `start` to the first token, in seconds; None before it."""
        self.port: int | None = None
        self._how, self._on_wait = how, on_wait
        self._env = {**os.environ, **(env or {})}
        self._secrets = secrets_of(self.command, self._env) | ({how.api_key} if how.api_key else set())
        self._provider: ProviderAdapter | None = None
        self._guardian: subprocess.Popen[bytes] | None = None
        self._pid: int | None = None
        self._log: IO[bytes] | None = None
        if shutil.which(self.command[0], path=self._env.get("PATH")) is None:
            raise ConfigError(
                f"{self._shown}: no such command: {self.command[0]!r} (not on the PATH, or not executable)"
            )

    @property
    def url(self) -> str:
        """Root URL: `http://127.0.0.1:PORT`."""
        if self.port is None:
            raise ServerError(f"{self._shown}: not running (call start())")
        return f"http://127.0.0.1:{self.port}"

    @property
    def provider(self) -> ProviderAdapter:
        """The provider that asks this server, closed by `stop`; only without a function as `ready`."""
        if self._provider is None:
            raise ServerError(f"{self._shown}: has no provider (it does not run, or `ready` is a function)")
        return self._provider

    @property
    def pid(self) -> int | None:
        """The command's process; None when none was started."""
        return self._pid

    @property
    def is_running(self) -> bool:
        """Whether the server was started and its command has not ended."""
        return self._guardian is not None and self._guardian.poll() is None

    @property
    def shown_command(self) -> list[str]:
        """The command without its secrets."""
        return [" ".join(cleaned(word, self._secrets)) for word in self.command]

    def start(self) -> Self:
        """Return this server once it has given a token.

        Raises:
            ConfigError: a provider that nobody knows.
            ServerError: it ended, or gave no token in time; the message holds the end of its log.
        """
        if self._guardian is not None:
            raise ServerError(f"{self._shown}: already started (call stop() first)")
        began = time.perf_counter()
        atexit.register(self.stop)
        try:
            for attempt in range(1, _ATTEMPTS + 1):
                self.port = _free_port()
                self._spawn(self.port)
                try:
                    self._await_token(began + self.start_timeout_s)
                    break
                except _PortTakenError as exc:
                    if attempt == _ATTEMPTS:
                        raise self._failure(str(exc)) from None
                    self._end()
        except BaseException:
            self.stop()
            raise
        self.cold_start_s = time.perf_counter() - began
        if self._provider is not None:
            self._provider.cold_start_s, self._provider.server_pid = self.cold_start_s, self.pid
            self._provider.server_command = self.shown_command
        return self

    def stop(self) -> None:
        """End the server with everything that it started, and keep its log; does nothing when it is not running."""
        atexit.unregister(self.stop)
        provider, self._provider = self._provider, None
        if provider is not None:
            provider.close()
        try:
            self._end()
        finally:
            self.port = None
            if self._log is not None:
                self._keep_log(self._log)
                self._log.close()
                self._log = None

    def last_log_lines(self, count: int = _TAIL_LINES) -> str:
        """Return the end of the server's output, without secrets; empty when it is not running."""
        return "" if self._log is None else "\n".join(tail(self._log.fileno(), self._secrets, count))

    def __enter__(self) -> Self:
        return self if self._guardian is not None else self.start()

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None) -> None:
        self.stop()

    @property
    def _shown(self) -> str:
        return self.name or f"server {Path(self.command[0]).name}"

    def _spawn(self, port: int) -> None:
        if self._log is None:
            # Appended to, so that a second attempt does not write over the first one's last words.
            self._log = tempfile.TemporaryFile("a+b", prefix="modellens-")  # noqa: SIM115  # closed by stop()
        words = [word.replace(PORT, str(port)) for word in self.command]
        self._guardian = subprocess.Popen(
            [sys.executable, "-P", str(_GUARDIAN), str(os.getpid()), *words],
            env=self._env,
            bufsize=0,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            # A terminal's Ctrl-C is for this process, which then stops the server in order.
            start_new_session=True,
        )
        assert self._guardian.stdout is not None
        news = json.loads(self._guardian.stdout.readline() or b"{}")
        if "pid" not in news:
            raise self._failure(f"cannot be started ({news.get('error', 'the process that starts it was killed')})")
        self._pid = news["pid"]

    def _await_token(self, deadline: float) -> None:
        assert self._guardian is not None
        last, pause_s = "nothing listens on the port", _LOOK_S
        while (left_s := deadline - time.perf_counter()) > 0:
            if not self.is_running:
                self._raise_end(self._guardian)
            if self._is_listening():
                try:
                    self._provider = self._how.ask(self.url, timeout_s=left_s)
                    if self.is_running:
                        return
                    continue
                except NotReadyError as exc:
                    last = self._clean(str(exc))
                    if exc.is_final and self.is_running:
                        raise self._failure(last) from None
            self._on_wait(self.last_log_lines(1))
            time.sleep(pause_s)
            pause_s = min(_LONGEST_PAUSE_S, pause_s * 1.2)
        raise self._failure(f"no token within {self.start_timeout_s:g} s; at last: {last}")

    def _is_listening(self) -> bool:
        """Return whether the server listens on its port.

        Raises:
            _PortTakenError: another program does.
        """
        assert self.port is not None
        try:
            socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
        except OSError:
            return False
        pid = find_listener(self.port).pid
        # One that may not be seen, or that forwards the port, may well be what the command started.
        if pid is not None and not self._is_below(pid):
            raise _PortTakenError(f"port {self.port} was taken by another program (process {pid})")
        return True

    def _is_below(self, pid: int) -> bool:
        import psutil

        assert self._guardian is not None
        guardian = self._guardian.pid
        try:
            return any(process.pid == guardian for process in psutil.Process(pid).parents())
        except psutil.Error:
            return True  # gone meanwhile: the next look will tell

    def _raise_end(self, guardian: subprocess.Popen[bytes]) -> None:
        """Raise for a command that has ended."""
        assert self.port is not None
        assert guardian.stdout is not None
        news = json.loads(guardian.stdout.read() or b"{}")
        with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", self.port)):
            raise self._failure(_describe(news.get("status")))
        raise _PortTakenError(f"{_describe(news.get('status'))}; port {self.port} was taken by another program")

    def _end(self) -> None:
        guardian, self._guardian, self._pid = self._guardian, None, None
        if guardian is None:
            return
        assert guardian.stdin is not None
        assert guardian.stdout is not None
        try:
            guardian.stdin.close()
            with contextlib.suppress(subprocess.TimeoutExpired):
                guardian.wait(_STOP_PATIENCE_S)
        finally:
            guardian.kill()
            guardian.wait()
            guardian.stdout.close()

    def _keep_log(self, file: IO[bytes]) -> None:
        if self.log_path is None:
            return
        try:
            self.log_path.parent.mkdir(parents=True, exist_ok=True)
            with self.log_path.open("a", encoding="utf-8") as target:
                target.write(kept(file.fileno(), self._secrets))
        except OSError as exc:  # the measurements are worth more than the log
            log.warning("%s: log %s cannot be written (%s)", self._shown, self.log_path, exc.strerror)

    def _clean(self, text: str) -> str:
        return "\n".join(cleaned(text, self._secrets))

    def _failure(self, what: str) -> ServerError:
        where = "" if self.log_path is None else f"; log: {self.log_path}"
        lines = self.last_log_lines()
        return ServerError(
            f"{self._shown}: {what} ({joined(self.shown_command)}{where})" + (f"\n{lines}" if lines else "")
        )


class _PortTakenError(Exception):
    """Another program was faster."""


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        return int(free.getsockname()[1])


def _describe(status: int | None) -> str:
    if status is None:
        return "ended before the first token"
    if status < 0:
        return f"killed by {_signal(-status)} before the first token"
    return f"ended with exit status {status} before the first token"


def _signal(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:  # most real-time signals have no name
        return f"signal {number}"
