"""A double in a child process: the truth server with the pages, answers and refusals of another server.

A double is written from documentation or source. What a test shows with one is that the provider reads what is there
said, and nothing about the real server.
"""

from __future__ import annotations

import json
import sys
import time
from functools import partial
from typing import TYPE_CHECKING, ClassVar

import msgspec

from pytest_modellens.truth.__main__ import main as serve_truth
from pytest_modellens.truth.client import TruthServer
from pytest_modellens.truth.dialects import ENCODERS
from pytest_modellens.truth.script import fixed_response
from pytest_modellens.truth.server import Server
from tests.doubles.kinds import KINDS

if TYPE_CHECKING:
    from typing import Any

    from pytest_modellens.truth.asked import HttpRequest
    from pytest_modellens.truth.connection import Connection

__all__ = ["Double"]


class Double(TruthServer):
    """One double, from here."""

    module: ClassVar[str] = "tests.doubles.server"

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind

    @property
    def label(self) -> str:
        """What it is, as it is shown."""
        return f"{self.kind} (double, from {KINDS[self.kind].documented})"

    def arguments(self) -> list[str]:
        return [self.kind, *super().arguments()]

    def asked(self) -> list[str]:
        """Return the requests that it had, as `GET /path`, and the bodies of those that have one."""
        found: list[str] = msgspec.json.decode(self._ask("GET", "/truth/asked"))
        return found

    def bodies(self) -> list[dict[str, Any]]:
        """Return the bodies of the requests for an answer."""
        return [json.loads(text.partition("\n")[2]) for text in self.asked() if "\n" in text]


class _DoubleServer(Server):
    def __init__(self, name: str, port: int) -> None:
        super().__init__(port)
        self._kind = KINDS[name]
        self._heard: list[str] = []
        self._loaded: set[str] = set()
        ENCODERS.clear()
        ENCODERS.update(self._kind.chats)

    def _take(self, connection: Connection, request: HttpRequest) -> None:
        if not request.path.startswith("/truth/"):
            body = f"\n{request.body.decode()}" if request.body else ""
            self._heard.append(f"{request.method} {request.path}{body}")
            if self._kind.key is not None and request.headers.get("authorization") != f"Bearer {self._kind.key}":
                refusal = b"Invalid or missing authorization token"
                connection.send_whole(fixed_response(401, refusal, "text/plain"))
                return
            if request.method == "POST" and request.path in ENCODERS:
                self._loaded.add(str(msgspec.json.decode(request.body).get("model")))
        super()._take(connection, request)

    def _control(self, request: HttpRequest) -> bytes | None:
        if request.path == "/truth/asked":
            return msgspec.json.encode(self._heard)
        if request.method == "DELETE":
            self._heard.clear()
            self._loaded.clear()
        return super()._control(request)

    def page(self, request: HttpRequest) -> bytes:
        time.sleep(self._kind.slow.get(request.path, 0))
        if request.path not in self._kind.pages or request.method != "GET":
            status, said = self._kind.elsewhere
            return fixed_response(status, msgspec.json.encode(said))
        shown = self._kind.pages[request.path]
        if request.path == "/api/v0/models":  # the only page that changes
            states = [
                {**entry, **({"state": "loaded"} if entry["id"] in self._loaded else {})} for entry in shown["data"]
            ]
            shown = {**shown, "data": states}
        return fixed_response(200, msgspec.json.encode(shown))


def main() -> None:
    """Serve, as the child of a `Double`."""
    serve_truth(serve=partial(_DoubleServer, sys.argv.pop(1)))
