"""Keys that servers quote in another spelling: in a URL, in JSON, in HTML."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from pytest_modellens.errors import StatusError
from pytest_modellens.models import RunRequest
from pytest_modellens.providers.measuring import measure
from pytest_modellens.providers.openai import OpenAIProvider
from pytest_modellens.redaction import spellings
from tests.fault_server import FaultServer, Read, Step, response
from tests.providers.asking import STOP, USAGE, record, stream

if TYPE_CHECKING:
    from pytest_modellens.measure.reply import Reply
    from pytest_modellens.record import Record

KEY = "k/hunter22+&<~='\"*!(\\"
SPELLINGS = {
    "as it is": KEY,
    "path": "k/hunter22%2B%26%3C~%3D%27%22%2A%21%28%5C",
    "RFC 3986": "k%2Fhunter22%2B%26%3C~%3D%27%22%2A%21%28%5C",
    "RFC 3986, small": "k%2fhunter22%2b%26%3c~%3d%27%22%2a%21%28%5c",
    "encodeURIComponent": "k%2Fhunter22%2B%26%3C~%3D'%22*!(%5C",
    "form": "k%2Fhunter22%2B%26%3C%7E%3D%27%22*%21%28%5C",
    "JSON": "k/hunter22+&<~='\\\"*!(\\\\",
    "JSON of Go": "k/hunter22+\\u0026\\u003c~='\\\"*!(\\\\",
    "JSON of PHP": "k\\/hunter22+&<~='\\\"*!(\\\\",
    "JSON of .NET": "k/hunter22\\u002B\\u0026\\u003C~=\\u0027\\u0022*!(\\\\",
    "HTML": "k/hunter22+&amp;&lt;~=&#x27;&quot;*!(\\",
    "HTML of others": "k/hunter22+&amp;&lt;~=&#39;&quot;*!(\\",
    "repr": "k/hunter22+&<~=\\'\"*!(\\\\",
}


def asked(*steps: Step) -> tuple[Reply, Record]:
    """Return what became of a request whose answer is `steps`."""
    request = RunRequest("hi", "tiny", stream=True)
    with FaultServer([Read(), *steps]) as server:
        provider = OpenAIProvider(f"{server.url}/v1", api_key=KEY)
        reply = measure(provider, request)
        provider.close()
    return reply, record(reply, request)


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_key_is_hidden_in_every_spelling_that_an_error_quotes(spelling: str) -> None:
    quoted = SPELLINGS[spelling]
    plain = f"the key {quoted}, or /v1?key={quoted}&x=1, is not known"
    reply, got = asked(response(plain.encode(), "401 Unauthorized", headers=f"X-Echo: {quoted}\r\n"))
    assert isinstance(reply.error, StatusError)
    assert "the key ***, or /v1?key=***&x=1, is not known" in str(reply.error)
    assert "X-Echo: ***" in str(got.received)
    assert "hunter22" not in f"{reply!r}{got!r}{reply.error!r}"


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_key_is_hidden_in_every_spelling_that_an_answer_quotes(spelling: str) -> None:
    parts = [f"say {SPELLINGS[spelling][:9]}", f"{SPELLINGS[spelling][9:]}."]
    texts = [json.dumps({"model": "tiny", "choices": [{"delta": {"content": part}}]}) for part in parts]
    reply, got = asked(*stream(*texts, STOP, USAGE, "[DONE]"))
    assert reply.error is None
    assert got.response == "say ***."
    assert "hunter22" not in f"{reply!r}{got!r}"


def test_body_in_json_that_escapes_the_key_is_hidden_before_it_is_read() -> None:
    body = f'{{"error": {{"message": "no such key: {SPELLINGS["JSON of PHP"]}"}}}}'
    reply, got = asked(response(body.encode(), "401 Unauthorized"))
    assert "no such key: *** (the API key was refused" in str(reply.error)
    assert "hunter22" not in f"{reply!r}{got!r}{reply.error!r}"


def test_letters_that_only_ascii_json_escapes() -> None:
    assert {"clé-hunter", "cl%C3%A9-hunter", "cl%c3%a9-hunter", "cl\\u00e9-hunter", "cl\\u00E9-hunter"} == spellings(
        "clé-hunter"
    )


@pytest.mark.parametrize("secret", ["sk-hunter22_and.more", "", "0123456789abcdef"])
def test_usual_keys_have_one_spelling_and_cost_nothing_more(secret: str) -> None:
    assert spellings(secret) == {secret}


def test_what_is_no_text_has_spellings_too() -> None:
    assert {"a/\udcff", "a%2F%3F"} <= spellings("a/\udcff")
