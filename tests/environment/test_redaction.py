from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from pytest_modellens.environment import redact, redact_url
from pytest_modellens.redaction import is_secret_name, redact_text

SECRET = """
api_key apiKey API-KEY apikey X-Api-Key OPENAI_API_KEY hf_token HF_TOKEN HFToken access_token authtoken password
PASSWORD db.password passwd client_secret clientSecret Authorization Proxy-Authorization Cookie set-cookie credentials
ssl_key_file --modellens-api-key auth
"""
SHOWN = """
api_key_env apiKeyEnv OPENAI_API_KEY_ENV credential_env_vars api_key_env_var max_tokens tokens_per_second tokens_source
tokenizer keyword monkey -k keyboard
author base_url model temperature prompt -- 日本
"""


def test_secret_names_are_known() -> None:
    assert [name for name in SECRET.split() if not is_secret_name(name)] == []


def test_other_names_are_shown() -> None:
    assert [name for name in ["", *SHOWN.split()] if is_secret_name(name)] == []


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("http://host:8000/v1", "http://host:8000/v1"),
        ("http://[::1]:8000/v1@x", "http://[::1]:8000/v1@x"),
        ("http://host/models/@me", "http://host/models/@me"),
        ("https://user:pass@host/v1", "https://host/v1"),
        ("https://token@host/v1", "https://host/v1"),
        ("https://us@er:pa@ss@host:1/", "https://host:1/"),
        ("https://user:pa/ss@host:80/v1", "https://host:80/v1"),
        ("https://user:pa?s#s@host", "https://host"),
        ("https://h/v1?api_key=abc&page=2", "https://h/v1?api_key=***&page=2"),
        ("https://h/v1?a=1#access_token=abc", "https://h/v1?a=1#access_token=***"),
        ("https://h/s3?X-Amz-Signature=abc", "https://h/s3?X-Amz-Signature=***"),
        ("", ""),
    ],
)
def test_url_is_shown_without_its_secrets(url: str, shown: str) -> None:
    assert redact_url(url) == shown


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("with Bearer abc.def-123 sent", "with Bearer *** sent"),
        ("Authorization: Token abc def", "Authorization: ***"),
        ("Authorization: Bearer abc\nAccept: */*", "Authorization: ***\nAccept: */*"),
        ("Cookie: a=b; c=d", "Cookie: ***"),
        ("basic dXNlcjpwYXNz", "basic ***"),
        ("key sk-proj-abcDEF123456 refused", "key sk-*** refused"),
        ("hf_abcdefghijklmnopqrst", "hf***"),
        ("eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2ln", "***"),
        ("--modellens-api-key=abc --other=1", "--modellens-api-key=*** --other=1"),
        ("Options(api_key='a b', n=1)", "Options(api_key=***, n=1)"),
        ('{"password": "a\'b", "n": 1}', '{"password": ***, "n": 1}'),
        ("password: none", "password: none"),
        ("password=", "password="),
        ("risk-assessment of a task-definition", "risk-assessment of a task-definition"),
        ("http://u:p@a,http://u:p@b", "http://a,http://b"),
    ],
)
def test_text_is_shown_without_its_secrets(text: str, shown: str) -> None:
    assert redact_text(text) == shown


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ({"api_key": "abc", "max_tokens": 5}, {"api_key": "***", "max_tokens": 5}),
        ({"a": [{"b": ({"token": "x"},)}]}, {"a": [{"b": [{"token": "***"}]}]}),
        ({"token": ["a", "b"], "secrets": {"x": 1}}, {"token": "***", "secrets": "***"}),
        ({"db": {"user": "u", "password": 1234}}, {"db": {"user": "u", "password": "***"}}),
        ({"api_key": None, "token": "", "key": False}, {"api_key": None, "token": "", "key": False}),
        ({"first_token": 3, "api_key_env": "MY_KEY"}, {"first_token": 3, "api_key_env": "MY_KEY"}),
        ({"api_key_env": "sk-pasted-in-error"}, {"api_key_env": "sk-***"}),
        ({1: "x", "sk-abcdefgh": 2}, {"1": "x", "sk-***": 2}),
        (["--api-key", "abc", "-k", "fast", "--token=x"], ["--api-key", "***", "-k", "fast", "--token=***"]),
        ([["Authorization", "abc"], ("X-Api-Key", "d")], [["Authorization", "***"], ["X-Api-Key", "***"]]),
        (["key", "b", "c"], ["key", "b", "c"]),
        (["--api-key=a", "b"], ["--api-key=***", "b"]),
        ([1, "--password", 7], [1, "--password", "***"]),
        ([], []),
        ({"b", "a"}, ["a", "b"]),
        (b"Bearer abc\xff", "Bearer ***\ufffd"),
        (Path("/suites"), "/suites"),
        (Decimal("1.5"), "1.5"),
        (1.5, 1.5),
        (True, True),
        (None, None),
    ],
)
def test_values_are_plain_and_without_secrets(value: Any, shown: Any) -> None:
    assert redact(value) == shown


def test_value_that_holds_itself_ends() -> None:
    loop: dict[str, Any] = {"password": "x"}
    loop["loop"] = [loop]
    assert "x" not in str(redact(loop)).replace("***", "")
