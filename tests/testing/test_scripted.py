"""The kit's server: what it answers, and to whom."""

from __future__ import annotations

import http.client
import json
from typing import TYPE_CHECKING

import pytest

from pytest_modellens.testing import ScriptedServer
from pytest_modellens.testing.scripted import MODELS
from pytest_modellens.truth.scenario import Scenario

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    with ScriptedServer(pages={"/live": {"ok": True}, "/api/show": {"details": {}}}) as server:
        yield server


def ask(server: ScriptedServer, method: str, path: str, body: str | None = None) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection(server.root.removeprefix("http://"), timeout=60)
    connection.request(method, path, body)
    response = connection.getresponse()
    answer = (response.status, response.read())
    connection.close()
    return answer


def test_pages_are_shown_beside_the_usual_ones(server: ScriptedServer) -> None:
    assert json.loads(ask(server, "GET", "/live")[1]) == {"ok": True}
    assert [entry["id"] for entry in json.loads(ask(server, "GET", "/any/models?all=1")[1])["data"]] == [*MODELS]
    assert json.loads(ask(server, "GET", "/health")[1])["status"] == "ok"
    assert json.loads(ask(server, "POST", "/api/show", "{}")[1]) == {"details": {}}
    assert server.prompts == []


@pytest.mark.parametrize("body", ["", "no json", "[1]", '{"model": "other"}'])
def test_prompt_for_no_model_of_its_own_is_refused(server: ScriptedServer, body: str) -> None:
    assert ask(server, "POST", "/v1/chat/completions", body)[0] == 404
    assert server.prompts[0].fields == (json.loads(body) if body.startswith("{") else {})


def test_answer_is_in_the_dialect(server: ScriptedServer) -> None:
    server.answers = Scenario(ttft_ms=1, gap_ms=0, tokens=2)
    asked = json.dumps({"model": MODELS[0]})
    assert json.loads(ask(server, "POST", "/anywhere/chat", asked)[1])["choices"][0]["message"]["content"] == "t0 t1 "
    with ScriptedServer("ollama") as other:
        other.answers = server.answers
        lines = ask(other, "POST", "/api/generate", asked)[1].splitlines()
    assert "".join(json.loads(line)["response"] for line in lines) == "t0 t1 "


def test_end_of_the_block_ends_what_is_under_way() -> None:
    with ScriptedServer() as server:
        server.answers = Scenario(ttft_ms=1, gap_ms=60_000, tokens=2)
        connection = http.client.HTTPConnection(server.root.removeprefix("http://"), timeout=60)
        connection.request("POST", "/v1/chat/completions", json.dumps({"model": MODELS[0], "stream": True}))
        response = connection.getresponse()
    with pytest.raises(http.client.IncompleteRead):
        response.read()
    connection.close()
