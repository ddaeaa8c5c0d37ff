"""Secrets replaced by masks of the same length, so that what is left keeps its lengths and positions."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

__all__ = ["byte_forms", "mask", "masked"]

_MASK = "!SECRET"


def mask(length: int) -> str:
    """Return `length` characters that every place of a request and of JSON can hold.

    >>> mask(10)
    '!SECRET!SE'
    """
    return (_MASK * (length // len(_MASK) + 1))[:length]


def byte_forms(secrets: Iterable[str]) -> tuple[bytes, ...]:
    """Return how `secrets` look on the wire: in both encodings of HTTP, and escaped inside JSON; longest first."""
    forms: set[bytes] = set()
    for secret in secrets:
        escaped = json.dumps(secret)[1:-1]
        forms |= {secret.encode("utf-8", "replace"), secret.encode("latin-1", "replace"), escaped.encode()}
    return tuple(sorted(forms, key=lambda form: (-len(form), form)))


def masked(data: bytes, forms: Sequence[bytes]) -> bytes:
    """Return `data` with each of `forms` masked."""
    for form in forms:
        if form in data:
            data = data.replace(form, mask(len(form)).encode())
    return data
