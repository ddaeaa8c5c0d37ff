"""The garbage collector, kept out of the way of arrivals."""

from __future__ import annotations

import gc
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["short_collections"]

_NEVER = 2**31 - 1


@contextmanager
def short_collections() -> Iterator[None]:
    """Keep the garbage collector to what was made lately: a look at all objects takes longer than a token.

    Records have no cycles, so nothing of a load waits for the passes that are left out.
    """
    thresholds = gc.get_threshold()
    gc.freeze()
    gc.set_threshold(*thresholds[:2], _NEVER)
    try:
        yield
    finally:
        gc.set_threshold(*thresholds)
        gc.unfreeze()
