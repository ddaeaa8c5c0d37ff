"""Options and URLs without their secrets, for files that people commit, attach and publish."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from functools import lru_cache
from typing import Any
from urllib.parse import quote, quote_plus

__all__ = ["HIDDEN", "is_secret_name", "redact", "redact_text", "redact_url", "spellings"]

HIDDEN = "***"

_DEEPEST = 32
_SECRET_WORDS = frozenset(
    (
        *("key", "keys", "token", "secret", "secrets", "password", "passwords", "passwd", "passphrase", "pwd", "auth"),
        *("authorization", "cookie", "cookies", "credential", "credentials", "bearer", "signature", "sig"),
    )
)
_SECRET_ENDINGS = ("apikey", "token", "secret", "password", "passwd", "passphrase", "accesskey", "secretkey")
_WORDS = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[0-9]+")

_PATTERNS = (
    # user:password@ of a URL, also with the unescaped slash that people paste into passwords
    (re.compile(r"(?<=://)[^\s/?#]*@"), ""),
    (re.compile(r"(?<=://)(?!\[)[^\s/?#@:]*:(?!\d*(?:[/?#\s]|$))[^\s@]*@"), ""),
    (re.compile(r"(?i)\b(bearer|basic|digest)(\s+|%20|\+)[\w.~+/=%-]{3,}"), rf"\1\2{HIDDEN}"),
    # keys with the prefixes that their issuers give them, and JSON web tokens
    (re.compile(r"\b(sk|pk|rk)[-_][\w-]{6,}"), rf"\1-{HIDDEN}"),
    (
        re.compile(r"\b(hf|nvapi|gsk|xai|gh[opsur]|github_pat|glpat|xox[abps]|AIza|AKIA|r8)[-_]?[\w-]{16,}"),
        rf"\1{HIDDEN}",
    ),
    (re.compile(r"\beyJ[\w-]{8,}\.[\w-]+(\.[\w-]*)?"), HIDDEN),
)
# Not from within a word: a name that begins there begins earlier, and long words would be searched from each letter.
_NAME = re.compile(r"""(?<![A-Za-z])([A-Za-z][\w.-]*)["']?\s*[=:]\s*""")
_VALUE = re.compile(r""""[^"]*"|'[^']*'|[^\s&;,"'\])}]+""")
_HEADER_VALUE = re.compile(r"""[^\n"']+""")
_OPTION = re.compile(r"(?<!\S)(--?[A-Za-z][\w-]*)(\s+)(?!-)(\S+)")
_PLAIN = re.compile(r"[\w.-]*", re.ASCII)
_HEX = re.compile("%[0-9A-F]{2}")
_ESCAPE = re.compile(r"\\u[0-9a-f]{4}")
_IN_HTML = re.compile("[<>&'\"`+]")
_NO_SECRET = {"none", "null", "true", "false", HIDDEN}


# The headers of a load are the same in all its requests.
@lru_cache(maxsize=1024)
def is_secret_name(name: str) -> bool:
    """Return whether a value of this name is to be hidden.

    >>> is_secret_name("X-Api-Key"), is_secret_name("api_key_env"), is_secret_name("max_tokens")
    (True, False, False)
    """
    words = [word.lower() for word in _WORDS.findall(name)]
    # A name that ends in "env" holds the name of a variable, which is what one should write down.
    if not words or words[-1] == "env" or words[-2:] in (["env", "var"], ["env", "vars"]):
        return False
    return any(word in _SECRET_WORDS or word.endswith(_SECRET_ENDINGS) for word in words)


def spellings(secret: str) -> frozenset[str]:
    r"""Return `secret` and how else servers write it where they quote it: in a URL, in JSON, in HTML, as code has it.

    Letters, digits, `-`, `.` and `_` have only the one. Other characters are percent-encoded by RFC 3986 (all of them,
    or but for `/`), as JavaScript's `encodeURIComponent` does it, or as a form's field; and escaped in JSON as Python,
    Go (`&`, `<` and `>` too), .NET (`+` and quotes too) and PHP (`/` too) do it. Hex digits come in both cases.

    >>> sorted(spellings("a/b"))
    ['a%2Fb', 'a%2fb', 'a/b', 'a\\/b']
    """
    if _PLAIN.fullmatch(secret):
        return frozenset((secret,))
    # A lone surrogate, which environment variables can hold, is in no URL.
    sent = secret.encode("utf-8", "replace")
    in_url = {quote(sent, safe=safe) for safe in ("", "/", "~!*'()")} | {quote_plus(sent), quote_plus(sent, safe="*")}
    in_url |= {text.replace("~", "%7E") for text in in_url}
    in_url |= {_HEX.sub(lambda found: found[0].lower(), text) for text in in_url}
    in_json = {json.dumps(secret)[1:-1], json.dumps(secret, ensure_ascii=False)[1:-1]}
    in_json |= {_IN_HTML.sub(_escaped, text.replace('\\"', '"')) for text in in_json} | {
        re.sub("[<>&]", _escaped, text) for text in in_json
    }
    in_json |= {text.replace("/", r"\/") for text in in_json}
    in_json |= {_ESCAPE.sub(lambda found: found[0][:2] + found[0][2:].upper(), text) for text in in_json}
    in_html = {html.escape(secret), html.escape(secret, quote=False), html.escape(secret).replace("&#x27;", "&#39;")}
    return frozenset({secret, repr(secret)[1:-1]} | in_url | in_json | in_html)


def redact(value: Any) -> Any:
    """Return `value` as plain JSON types, with everything that looks secret replaced by `***`."""
    return _redact(value, 0)


def redact_url(url: str) -> str:
    """Return `url` without user and password, and with the secrets of its query hidden."""
    return redact_text(url)


def redact_text(text: str) -> str:
    """Return `text` without the user part of URLs; tokens, keys, `secret=value` and `--secret value` are hidden."""
    for pattern, replacement in _PATTERNS:
        text = pattern.sub(replacement, text)
    text = _OPTION.sub(_hidden_option, text)
    shown, at = [], 0
    while (name := _NAME.search(text, at)) is not None:
        shown.append(text[at : name.end()])
        at = name.end()
        # What follows "Cookie:" or "Authorization:" has spaces and semicolons of its own.
        is_header = name[1].lower().endswith(("cookie", "authorization"))
        value = (_HEADER_VALUE if is_header else _VALUE).match(text, at) if is_secret_name(name[1]) else None
        if value is not None and value[0].lower() not in _NO_SECRET:
            shown.append(HIDDEN)
            at = value.end()
    return "".join([*shown, text[at:]])


def _escaped(match: re.Match[str]) -> str:
    return f"\\u{ord(match[0]):04x}"


def _hidden_option(match: re.Match[str]) -> str:
    """Return an option of a command line and its value, which is hidden behind a secret's name."""
    return f"{match[1]}{match[2]}{HIDDEN}" if is_secret_name(match[1]) else match[0]


def _redact(value: Any, depth: int) -> Any:
    if depth > _DEEPEST:
        return "…"
    if value is None or isinstance(value, (bool, int, float)):
        return value
    if isinstance(value, (bytes, bytearray)):
        return redact_text(bytes(value).decode("utf-8", "replace"))
    if isinstance(value, Mapping):
        return {redact_text(str(key)): _named(str(key), item, depth + 1) for key, item in value.items()}
    if isinstance(value, AbstractSet):
        return sorted((_redact(item, depth + 1) for item in value), key=str)
    if isinstance(value, Sequence) and not isinstance(value, str):
        return _sequence(list(value), depth + 1)
    return redact_text(str(value))


def _named(name: str, value: Any, depth: int) -> Any:
    is_plain = value is None or value == "" or isinstance(value, bool)
    # "token" also names things that are counted.
    is_count = isinstance(value, (int, float)) and name.lower().endswith("token")
    if is_plain or is_count or not is_secret_name(name):
        return _redact(value, depth)
    return HIDDEN


def _sequence(items: list[Any], depth: int) -> list[Any]:
    """Hide also what follows its name: `["--api-key", "…"]` and the pair `["Authorization", "…"]`."""
    names = ["", *(item if isinstance(item, str) and "=" not in item else "" for item in items[:-1])]
    kept = [name if name.startswith("-") or len(items) == 2 else "" for name in names]
    return [_named(name, item, depth) for name, item in zip(kept, items, strict=False)]
