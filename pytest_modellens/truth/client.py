"""The truth server in a child process, started, asked and stopped from here."""

from __future__ import annotations

import atexit
import contextlib
import http.client
import json
import os
import selectors
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import IO, TYPE_CHECKING, ClassVar
from urllib.parse import quote, urlsplit

import msgspec

from pytest_modellens.errors import ServerError
from pytest_modellens.truth.records import LogPage, Punctuality, SentRequest
from pytest_modellens.urls import url_join

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

__all__ = ["TruthServer"]

_ROOT = Path(__file__).resolve().parents[2]
_START = (
    "import sys; from importlib import import_module; root, module = sys.argv.pop(1), sys.argv.pop(1); "
    "root in sys.path or sys.path.insert(0, root); import_module(module).main()"
)
"""Works in a checkout that is not installed, too; `-P` keeps the user's working directory out of it."""
_STOP_PATIENCE_S = 2.0
_ANSWER_TIMEOUT_S = 30.0


class TruthServer:
    """A scripted server on a free port of 127.0.0.1, whose log says when each event was sent.

    It never outlives this process, however that ends.

    >>> with TruthServer() as truth:
    ...     provider = create_provider("openai", base_url=truth.url)
    ...     reply = provider.measure(RunRequest("Hi", model="truth:steady", stream=True, extra={"truth_id": "a"}))
    ...     truth.sent("a").ttft_ms
    """

    module: ClassVar[str] = "pytest_modellens.truth.__main__"
    """Whose `main` the child process calls."""

    def __init__(self, *, port: int = 0, start_timeout_s: float = 30.0) -> None:
        """Prepare a server; nothing runs yet.

        Args:
            port: where it listens; 0 takes a free port.
            start_timeout_s: longest time until it listens.
        """
        self.port = port
        self.start_timeout_s = start_timeout_s
        self._root: str | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._errors: IO[bytes] | None = None

    @property
    def root(self) -> str:
        """Scheme, host and port: `http://127.0.0.1:PORT`; the base URL of the `ollama` dialect."""
        if self._root is None:
            raise ServerError("truth server: not running (call start())")
        return self._root

    @property
    def url(self) -> str:
        """Base URL of the `openai` dialect: `http://127.0.0.1:PORT/v1`."""
        return url_join(self.root, "v1")

    @property
    def pid(self) -> int | None:
        """Process that serves; None when none was started."""
        return None if self._process is None else self._process.pid

    def start(self) -> Self:
        """Return this server once it listens.

        Raises:
            ServerError: it ended, or did not listen in time.
        """
        if self._process is not None:
            return self
        atexit.register(self.stop)
        try:
            self._errors = tempfile.TemporaryFile(prefix="modellens-truth-")  # noqa: SIM115  # closed by stop()
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-c", _START, str(_ROOT), self.module, *self.arguments()],
                bufsize=0,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._errors,
                # A terminal's Ctrl-C is for this process, which then stops the server in order.
                start_new_session=True,
            )
            self._root = self._announced(self._process)
        except BaseException:
            self.stop()
            raise
        return self

    def arguments(self) -> list[str]:
        """Return the child's command line."""
        return [f"--port={self.port}", f"--parent={os.getpid()}"]

    def stop(self) -> None:
        """End the server; harmless when it is not running."""
        process, self._process, self._root = self._process, None, None
        errors, self._errors = self._errors, None
        atexit.unregister(self.stop)
        if process is not None:
            _end(process)
        if errors is not None:
            errors.close()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None) -> None:
        self.stop()

    def log(self, since: int = 0) -> list[SentRequest]:
        """Return the requests with a number above `since`, oldest first.

        Ask when no answers are under way: while the server writes out its log it sends nothing else.
        """
        found: list[SentRequest] = []
        while True:
            page = self._page(f"since={since}")
            found += page.requests
            if not page.more:
                return found
            since = found[-1].number

    def dropped(self) -> int:
        """Return how many requests were too many for the log since it was cleared."""
        return self._page(f"since={sys.maxsize}").dropped

    def sent(self, truth_id: str) -> SentRequest:
        """Return the last request that carried this id, as body field `truth_id` or header `X-Truth-Id`.

        Raises:
            ServerError: there is none.
        """
        found = self._page(f"id={quote(truth_id, safe='')}").requests
        if not found:
            raise ServerError(f"truth server: no request with truth_id {truth_id!r} in its log")
        return found[-1]

    def clear(self) -> None:
        """Empty the log and the lateness, and begin to count the requests of each scenario anew."""
        self._ask("DELETE", "/truth/log")

    def punctuality(self) -> Punctuality:
        """Return how late sends were against the plan since the last `clear`."""
        return msgspec.json.decode(self._ask("GET", "/truth/punctuality"), type=Punctuality)

    def _page(self, query: str) -> LogPage:
        return msgspec.json.decode(self._ask("GET", f"/truth/log?{query}"), type=LogPage)

    def _ask(self, method: str, path: str) -> bytes:
        # http.client knows no proxies, and none stands between this process and 127.0.0.1.
        connection = http.client.HTTPConnection(urlsplit(self.root).netloc, timeout=_ANSWER_TIMEOUT_S)
        try:
            connection.request(method, path)
            response = connection.getresponse()
            body = response.read()
        except (OSError, http.client.HTTPException) as exc:
            raise ServerError(f"truth server: {method} {path} was not answered ({exc}){self._last_words()}") from exc
        finally:
            connection.close()
        if response.status != http.client.OK:
            raise ServerError(f"truth server: {method} {path}: HTTP {response.status}: {body[:200].decode()}")
        return body

    def _announced(self, process: subprocess.Popen[bytes]) -> str:
        """Return the root URL that the child prints once it listens."""
        assert process.stdout is not None
        deadline = time.perf_counter() + self.start_timeout_s
        line = b""
        with selectors.DefaultSelector() as selector:
            selector.register(process.stdout, selectors.EVENT_READ)
            while not line.endswith(b"\n"):
                if not selector.select(max(0.0, deadline - time.perf_counter())):
                    raise ServerError(f"truth server: not ready within {self.start_timeout_s:g} s{self._last_words()}")
                if not (data := process.stdout.read(4096)):
                    raise ServerError(f"truth server: {_describe_end(process)}{self._last_words()}")
                line += data
        announcement: dict[str, str] = json.loads(line)
        return announcement["root"]

    def _last_words(self) -> str:
        """Return the end of what the child wrote about its troubles, on lines of its own."""
        if self._errors is None:
            return ""
        # pread: the child writes through the same file description, whose position must not move.
        size = os.fstat(self._errors.fileno()).st_size
        said = os.pread(self._errors.fileno(), 2000, max(0, size - 2000)).decode(errors="replace").strip()
        return f"\n{said}" if said else ""


def _end(process: subprocess.Popen[bytes]) -> None:
    try:
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                pipe.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(_STOP_PATIENCE_S)
    finally:
        process.kill()
        process.wait()


def _describe_end(process: subprocess.Popen[bytes]) -> str:
    try:
        status = process.wait(_STOP_PATIENCE_S)
    except subprocess.TimeoutExpired:
        return "closed its output before it listened"
    if status < 0:
        return f"killed by {signal.Signals(-status).name} before it listened"
    return f"ended with exit status {status} before it listened"
