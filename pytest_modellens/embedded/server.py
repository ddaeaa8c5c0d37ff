"""llama.cpp's HTTP server in a child process, started, watched and stopped from here."""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import selectors
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from pytest_modellens.errors import ConfigError, MissingExtraError, ServerError
from pytest_modellens.urls import url_join

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

    from pytest_modellens.embedded.weights import Weights

__all__ = ["DEFAULT_CONTEXT_TOKENS", "EmbeddedServer", "default_threads"]

DEFAULT_CONTEXT_TOKENS = 4096
_CHILD = Path(__file__).with_name("child.py")
_CGROUP_QUOTA = Path("/sys/fs/cgroup/cpu.max")
_STOP_PATIENCE_S = 2.0
_RETRY_S = 0.05
_TAIL_BYTES = 8192
_TAIL_LINES = 12

# Not a chat: whatever a chat leaves in the prompt cache, its template's first words at least, would be found there by
# the first measured request.
_FIRST_REQUEST = {"prompt": "ready", "max_tokens": 1, "temperature": 0, "cache_prompt": False}


class EmbeddedServer:
    """A server of one model on a free port of 127.0.0.1, ready for its first measurement once started.

    Use it as a context manager, or call `start` and `stop`. It never outlives this process, however that ends.
    """

    def __init__(
        self,
        weights: Weights,
        *,
        log_path: Path | None = None,
        parallel: int = 1,
        context: int | None = None,
        threads: int | None = None,
        start_timeout_s: float = 120.0,
    ) -> None:
        """Prepare a server; nothing runs yet.

        Args:
            weights: what to serve.
            log_path: file that the server's output is appended to; None keeps it only for error messages.
            parallel: requests served at once; more than that wait.
            context: tokens that each of them may hold, prompt and answer; None for 4096. The model's own limit holds.
            threads: threads that compute; None for `default_threads()`.
            start_timeout_s: longest time to the first token.
        """
        self.weights = weights
        self.parallel = parallel
        self.context = DEFAULT_CONTEXT_TOKENS if context is None else context
        self.threads = default_threads() if threads is None else threads
        for name in ("parallel", "context", "threads"):
            if getattr(self, name) < 1:
                raise ConfigError(f"embedded server: {name} must be at least 1 (got {getattr(self, name)})")
        self.log_path = log_path
        self.start_timeout_s = start_timeout_s
        self.start_seconds: float | None = None
        """From `start` to the first token; None before it."""
        self._url: str | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._log: IO[bytes] | None = None

    @property
    def model_name(self) -> str:
        """Name that the server gives the model and takes for it."""
        return self.weights.name

    @property
    def url(self) -> str:
        """Base URL of the OpenAI-compatible API: `http://127.0.0.1:PORT/v1`."""
        if self._url is None:
            raise ServerError(f"embedded server: not running ({self.weights.path}; call start())")
        return self._url

    @property
    def pid(self) -> int | None:
        """Process that serves; None when none was started."""
        return None if self._process is None else self._process.pid

    @property
    def is_running(self) -> bool:
        """Whether the server was started and its process is alive."""
        return self._process is not None and self._process.poll() is None

    def start(self) -> Self:
        """Return this server once it has answered with a real token.

        Raises:
            MissingExtraError: xllamacpp is not installed.
            ServerError: it ended, or gave no token in time; the message holds the end of its log.
        """
        if self._process is not None:
            raise ServerError(f"embedded server: already started ({self.weights.path}; call stop() first)")
        _require_xllamacpp()
        started = time.perf_counter()
        deadline = started + self.start_timeout_s
        atexit.register(self.stop)
        try:
            self._log = self._open_log()
            self._process = self._spawn(self._log)
            root = self._await_announcement(self._process, deadline=deadline)
            self._await_token(self._process, url_join(root, "v1/completions"), deadline=deadline)
        except BaseException:
            self.stop()
            raise
        self._url = url_join(root, "v1")
        self.start_seconds = time.perf_counter() - started
        return self

    def stop(self) -> None:
        """End the server and wait until it is gone; does nothing when it is not running."""
        process, self._process = self._process, None
        is_ready, self._url = self._url is not None, None
        log, self._log = self._log, None
        atexit.unregister(self.stop)
        with contextlib.ExitStack() as stack:
            if log is not None:
                stack.callback(log.close)
            if process is not None:
                # While it loads it does not notice that its input ended.
                _end(process, patience_s=_STOP_PATIENCE_S if is_ready else 0.0)

    def last_log_lines(self, count: int = _TAIL_LINES) -> str:
        """Return the end of the server's output; empty when it is not running."""
        if self._log is None:
            return ""
        # pread: the child writes through the same file description, whose position must not move.
        size = os.fstat(self._log.fileno()).st_size
        end = os.pread(self._log.fileno(), _TAIL_BYTES, max(0, size - _TAIL_BYTES))
        return "\n".join(end.decode(errors="replace").splitlines()[-count:])

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None) -> None:
        self.stop()

    def _open_log(self) -> IO[bytes]:
        if self.log_path is None:
            return tempfile.TemporaryFile(prefix="modellens-")
        try:
            self.log_path.parent.mkdir(parents=True, exist_ok=True)
            return self.log_path.open("a+b")
        except OSError as exc:
            raise ServerError(f"embedded server: log {self.log_path} cannot be written ({exc.strerror})") from exc

    def _spawn(self, log: IO[bytes]) -> subprocess.Popen[bytes]:
        options = {
            "weights": self.weights.path,
            "name": self.weights.name,
            "threads": self.threads,
            "parallel": self.parallel,
            "context": self.context,
            "parent": os.getpid(),
        }
        return subprocess.Popen(
            # "=": a model's name may begin with a dash.
            [sys.executable, "-P", str(_CHILD), *(f"--{name}={value}" for name, value in options.items())],
            bufsize=0,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            # A terminal's Ctrl-C is for this process, which then stops the server in order.
            start_new_session=True,
        )

    def _await_announcement(self, process: subprocess.Popen[bytes], *, deadline: float) -> str:
        """Return the server's root URL, which it prints when the model is loaded."""
        assert process.stdout is not None
        line = b""
        with process.stdout as pipe, selectors.DefaultSelector() as selector:
            selector.register(pipe, selectors.EVENT_READ)
            while not line.endswith(b"\n"):
                if not selector.select(max(0.0, deadline - time.perf_counter())):
                    raise self._failure(f"not ready within {self.start_timeout_s:g} s")
                if not (data := pipe.read(4096)):
                    raise self._failure(_describe_end(process))
                line += data
        announcement: dict[str, str] = json.loads(line)
        return announcement["url"]

    def _await_token(self, process: subprocess.Popen[bytes], url: str, *, deadline: float) -> None:
        import requests

        with requests.Session() as session:
            session.trust_env = False  # no proxy stands between this process and 127.0.0.1
            while (left_s := deadline - time.perf_counter()) > 0:
                try:
                    answer = session.post(url, json=_FIRST_REQUEST, timeout=left_s)
                except requests.Timeout:
                    break
                except requests.ConnectionError as exc:
                    raise self._failure(_describe_end(process)) from exc
                if answer.status_code == requests.codes.ok:
                    return
                if answer.status_code != requests.codes.service_unavailable:
                    raise self._failure(f"answered the first request with {answer.status_code}: {answer.text[:200]}")
                time.sleep(_RETRY_S)
        raise self._failure(f"no token within {self.start_timeout_s:g} s")

    def _failure(self, what: str) -> ServerError:
        where = "" if self.log_path is None else f"; log: {self.log_path}"
        log = self.last_log_lines()
        return ServerError(f"embedded server: {what} ({self.weights.path}{where})" + (f"\n{log}" if log else ""))


def default_threads() -> int:
    """Return how many threads compute by default: all cores this process may use but one, which is the client's."""
    if sys.platform == "linux":
        cores = min(len(os.sched_getaffinity(0)), _quota_cores(_CGROUP_QUOTA))
    else:
        cores = os.cpu_count() or 1
    return max(1, cores - 1)


def _quota_cores(path: Path) -> int:
    """Return the cores that a container's CPU quota is worth, at least 1; a large number without a quota."""
    try:
        quota_us, period_us = path.read_text(encoding="ascii").split()
        return max(1, int(quota_us) // int(period_us))
    except (OSError, ValueError):
        return sys.maxsize


def _require_xllamacpp() -> None:
    from importlib.util import find_spec

    if find_spec("xllamacpp") is None:
        raise MissingExtraError(
            "embedded server: needs xllamacpp (not installed; pip install 'pytest-modellens[local]')"
        )


def _end(process: subprocess.Popen[bytes], *, patience_s: float) -> None:
    try:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.close()
        process.stdout.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(patience_s)
    finally:
        process.kill()
        process.wait()


def _describe_end(process: subprocess.Popen[Any]) -> str:
    try:
        status = process.wait(_STOP_PATIENCE_S)
    except subprocess.TimeoutExpired:
        return "closed its connection before the first token"
    if status < 0:
        return f"killed by {signal.Signals(-status).name} before the first token"
    return f"ended with exit status {status} before the first token"
