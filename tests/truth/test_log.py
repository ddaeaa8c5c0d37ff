"""The log, the requests that get no answer, and the ways in which a client can be difficult."""

from __future__ import annotations

import gc
import json
import os
import socket
import struct
import threading
import time
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest
import requests

from pytest_modellens.errors import ServerError
from pytest_modellens.models import RunRequest
from pytest_modellens.truth import connection
from pytest_modellens.truth.asked import Asked
from pytest_modellens.truth.catalogue import SCENARIOS
from pytest_modellens.truth.ledger import Answer, Ledger
from pytest_modellens.truth.script import Cue, write_script
from pytest_modellens.truth.server import Server

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_modellens.providers.openai import OpenAIProvider
    from pytest_modellens.truth.client import TruthServer

CHAT = "/v1/chat/completions"
QUICK = {"ttft_ms": 2, "gap_ms": 1, "tokens": 4}


def dial(truth: TruthServer) -> socket.socket:
    parts = urlsplit(truth.root)
    return socket.create_connection((parts.hostname or "", parts.port or 0), timeout=60)


def flooded(truth: TruthServer) -> socket.socket:
    """Return a connection on which more is under way than can be until it is read."""
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
    sock.settimeout(60)
    sock.connect((urlsplit(truth.root).hostname, urlsplit(truth.root).port))
    scenario = {"ttft_ms": 1, "gap_ms": 0, "tokens": 60_000, "framing": "close"}
    sock.sendall(raw({"model": "any", "stream": True, "truth": scenario}))
    return sock


def raw(body: Any, path: str = CHAT) -> bytes:
    data = json.dumps(body).encode()
    return b"POST %s HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s" % (path.encode(), len(data), data)


def until(condition: Callable[[], Any]) -> Any:
    deadline = time.perf_counter() + 60
    while time.perf_counter() < deadline:
        if value := condition():
            return value
        time.sleep(0.01)
    raise AssertionError("waited in vain")


def read_to_end(sock: socket.socket) -> bytes:
    data = b""
    while piece := sock.recv(65536):
        data += piece
    return data


def post(server: TruthServer, **fields: Any) -> requests.Response:
    return requests.post(server.root + CHAT, json={"model": "any", **fields}, timeout=60)


def test_instants_follow_one_another(truth: TruthServer, provider: OpenAIProvider) -> None:
    before = time.perf_counter_ns()
    provider.measure(RunRequest("Hi", model="truth:steady", stream=True, extra={"truth_id": "x"}))

    sent = truth.sent("x")
    after = time.perf_counter_ns()
    assert [event.kind for event in sent.events][:2] == ["headers", "role"]
    assert [event.kind for event in sent.events][-4:] == ["finish", "usage", "done", "end"]
    assert sent.ended_ns is not None
    times = [sent.accepted_ns, sent.read_ns, *(event.sent_ns for event in sent.events), sent.ended_ns]
    assert times == sorted(times)
    assert before < times[0]
    assert times[-1] < after
    assert all(event.planned_ns <= event.sent_ns <= event.returned_ns for event in sent.events)
    assert sent.headers_ns == sent.events[0].sent_ns
    assert sent.requested_ns <= sent.read_ns
    assert sent.tokens == 32
    assert len(sent.gaps_ms) == 31


def test_id_is_taken_from_body_or_header(truth: TruthServer, provider: OpenAIProvider) -> None:
    model = "truth:single-token"
    provider.measure(RunRequest("Hi", model=model, stream=True, extra={"truth_id": "in body/?&"}))
    provider.measure(RunRequest("Hi", model=model, stream=True, headers={"X-Truth-Id": "in header"}))

    assert truth.sent("in body/?&").number < truth.sent("in header").number
    with pytest.raises(ServerError, match="no request with truth_id 'neither'"):
        truth.sent("neither")


def test_log_begins_after_the_number_given(truth: TruthServer) -> None:
    for _ in range(3):
        post(truth, truth=QUICK)

    assert truth.dropped() == 0
    numbers = [request.number for request in truth.log()]
    assert len(numbers) == 3
    assert [request.number for request in truth.log(since=numbers[0])] == numbers[1:]
    assert requests.get(f"{truth.root}/truth/log?since=x", timeout=60).status_code == 400


def test_log_is_handed_out_in_pages(truth: TruthServer) -> None:
    # Each is more than half a page.
    for _ in range(3):
        post(truth, truth={"ttft_ms": 0, "gap_ms": 0, "tokens": 12_000}, stream=True)

    page = requests.get(f"{truth.root}/truth/log", timeout=60).json()
    assert (len(page["requests"]), page["more"]) == (1, True)
    assert [request.tokens for request in truth.log()] == [12_000] * 3


def test_clear_empties_log_and_punctuality(truth: TruthServer) -> None:
    post(truth, truth=QUICK, stream=True)
    assert truth.punctuality().scenarios["inline"].n == 8
    assert truth.punctuality().overall.n == 8

    truth.clear()

    assert truth.log() == []
    assert truth.punctuality().overall.n == 0
    assert truth.punctuality().overall.p99_ms is None


def test_full_log_drops_the_oldest_and_counts_them() -> None:
    ledger = Ledger(max_requests=2)
    script = write_script(SCENARIOS["steady"], Cue(CHAT, "m", stream=True))
    for name in "abc":
        asked = Asked(SCENARIOS["steady"], "m", stream=True, id=name)
        ledger.open(Answer(asked, script, connection=1, accepted_ns=0, arrived_ns=None, read_ns=5))

    page = ledger.page()
    assert [request.id for request in page.requests] == ["b", "c"]
    assert page.dropped == 1
    assert page.requests[0].requested_ns == 5
    assert page.requests[0].ttft_ms is None


def test_log_is_bounded_by_sends_too() -> None:
    script = write_script(SCENARIOS["steady"], Cue(CHAT, "m", stream=True))
    ledger = Ledger(max_sends=len(script.packets))
    for name in "ab":
        asked = Asked(SCENARIOS["steady"], "m", stream=True, id=name)
        ledger.open(Answer(asked, script, connection=1, accepted_ns=0, arrived_ns=None, read_ns=0))

    assert [request.id for request in ledger.page().requests] == ["b"]


def test_lateness_is_ranked() -> None:
    ledger = Ledger()
    ledger.lateness("a").update({1000: 98, 2000: 1, 9000: 1})
    ledger.lateness("b").update({5000: 1})

    punctuality = ledger.punctuality()
    late = punctuality.scenarios["a"]
    assert (late.n, late.p50_ms, late.p99_ms, late.max_ms) == (100, 1.0, 2.0, 9.0)
    assert (punctuality.overall.n, punctuality.overall.max_ms) == (101, 9.0)


def test_slow_reader_is_noted(truth: TruthServer) -> None:
    with flooded(truth) as sock:
        blocked = until(lambda: next((request for request in truth.log() if request.blocked_sends), None))
        received = read_to_end(sock)

    sent = truth.log()[0]
    assert blocked.end == "open"
    assert received.endswith(b"data: [DONE]\n\n")
    assert sent.end == "closed"
    assert sent.tokens == 60_000
    assert sent.blocked_ns > 0
    assert truth.punctuality().overall.n < 60_000


def test_log_waits_for_a_slow_reader(truth: TruthServer) -> None:
    for _ in range(3):
        post(truth, truth={"ttft_ms": 0, "gap_ms": 0, "tokens": 19_000}, stream=True)
    page = b"GET /truth/log HTTP/1.1\r\n\r\n"
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        sock.settimeout(60)
        sock.connect((urlsplit(truth.root).hostname, urlsplit(truth.root).port))
        sock.sendall(page * 5 + b"bye\r\n\r\n")
        assert len(truth.log()) == 3
        received = read_to_end(sock)

    assert received.count(b"HTTP/1.1 200 OK") == 5
    assert received.count(b"HTTP/1.1 400 Bad Request") == 1


def test_client_that_resets_while_it_is_sent_to_is_noted(truth: TruthServer) -> None:
    with flooded(truth) as sock:
        until(lambda: truth.log() and truth.log()[0].blocked_sends)
        assert sock.recv(100)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    assert until(lambda: truth.log()[0].end == "client_gone")


def test_times_count_from_the_read_without_kernel_stamps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "enable_kernel_stamps", lambda _: False)
    server = Server()
    wake_read, wake_write = os.pipe()
    server.watch(wake_read, lambda _: server.stop())
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        body = {"model": "truth:single-token", "stream": True}
        requests.post(server.root + CHAT, json=body, timeout=60, proxies={"http": ""})
    finally:
        os.close(wake_write)
        thread.join(60)
        server.close()
        os.close(wake_read)
        gc.unfreeze()
        gc.enable()

    sent = server.ledger.page().requests[0]
    assert sent.arrived_ns is None
    assert sent.requested_ns == sent.read_ns
    assert sent.end == "complete"


def test_client_that_goes_away_is_noted(truth: TruthServer) -> None:
    with dial(truth) as sock:
        sock.sendall(raw({"model": "any", "stream": True, "truth": {"ttft_ms": 0, "gap_ms": 500, "tokens": 30_000}}))
        assert sock.recv(100)

    assert until(lambda: truth.log()[0].end != "open")
    assert truth.log()[0].end == "client_gone"


def test_requests_that_come_together_are_answered_in_turn(truth: TruthServer) -> None:
    first = raw({"model": "any", "stream": True, "truth": QUICK, "truth_id": "first"})
    last = raw({"model": "any", "truth": {**QUICK, "framing": "close"}, "truth_id": "last"})
    with dial(truth) as sock:
        sock.sendall(first + last)
        received = read_to_end(sock)

    assert received.index(b"[DONE]") < received.index(b'"chat.completion"')
    assert truth.sent("first").connection == truth.sent("last").connection


def test_request_in_pieces_counts_from_its_last_byte(truth: TruthServer) -> None:
    request = raw({"model": "any", "stream": True, "truth": {**QUICK, "framing": "close"}, "truth_id": "pieces"})
    with dial(truth) as sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for start in range(0, len(request), 40):
            last_ns = time.perf_counter_ns()
            sock.sendall(request[start : start + 40])
            time.sleep(0.01)
        read_to_end(sock)

    assert truth.sent("pieces").requested_ns > last_ns - 5_000_000


@pytest.mark.parametrize(
    ("body", "status", "param", "message"),
    [
        ({"model": "gpt-4"}, 404, "model", "model 'gpt-4': unknown"),
        ({"model": "truth:steddy"}, 404, "model", "did you mean 'steady'?"),
        ({"model": "truth:ollama"}, 400, "model", "scenario 'ollama': not for /v1/chat/completions (it is ollama's)"),
        ({"model": 1}, 400, "model", "'model' must be a string"),
        ({"model": "x", "stream": 1}, 400, "stream", "'stream' must be true or false"),
        ({"model": "x", "truth": {"tokens": "x"}}, 400, "truth", "truth: scenario: 'tokens': expected `int`"),
        ({"model": "x", "truth": {"tokenz": 1}}, 400, "truth", "unknown key 'tokenz' (did you mean 'tokens'?)"),
        ([], 400, None, "the body must be a JSON object"),
    ],
)
def test_useless_request_is_refused_with_the_reason(
    truth: TruthServer, body: Any, status: int, param: str | None, message: str
) -> None:
    response = requests.post(truth.root + CHAT, json=body, timeout=60)

    assert response.status_code == status
    assert response.json()["error"]["param"] == param
    assert message in response.json()["error"]["message"]
    assert truth.log() == []


@pytest.mark.parametrize(
    ("sent", "status", "message"),
    [
        (b"hello\r\n\r\n", 400, "not an HTTP/1.1 request (it begins with 'hello')"),
        (b"GET /health HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n", 411, "needs a Content-Length"),
        (b"GET /health HTTP/1.1\r\nContent-Length: x\r\n\r\n", 413, "must be a number"),
        (b"GET /health HTTP/1.1\r\nContent-Length: 99999999999\r\n\r\n", 413, "must be a number up to 16777216"),
        (b"GET /nowhere HTTP/1.1\r\n\r\n", 404, "no page GET /nowhere"),
        (b"PUT /truth/log HTTP/1.1\r\n\r\n", 404, "no page PUT /truth/log"),
        (b"POST /api/chat HTTP/1.1\r\nContent-Length: 2\r\n\r\n{x", 400, "the body is not JSON"),
        (b"GET /" + b"x" * 70_000, 431, "longer than 65536 bytes"),
    ],
)
def test_what_is_no_request_is_answered_and_hung_up_on(
    truth: TruthServer, sent: bytes, status: int, message: str
) -> None:
    with dial(truth) as sock:
        sock.sendall(sent)
        received = read_to_end(sock)

    head, _, body = received.partition(b"\r\n\r\n")
    assert int(head.split(b" ")[1]) == status
    assert message in json.loads(body)["error"]["message"]
