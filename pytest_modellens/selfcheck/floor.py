"""The last self-check of this machine, kept for the runs after it: what is measured here cannot be more exact."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from pytest_modellens.errors import StorageError
from pytest_modellens.selfcheck.level import TOLERANCE
from pytest_modellens.storage.whole import write_whole

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from pytest_modellens.selfcheck.check import SelfCheck

__all__ = ["SCHEMA_VERSION", "floor_path", "keep_floor", "read_floor"]

SCHEMA_VERSION = 1


def floor_path() -> Path:
    """Return the file that the outcome is kept in; `MODELLENS_CACHE` moves it."""
    if cache := os.environ.get("MODELLENS_CACHE"):
        folder = Path(cache).expanduser().absolute()
    else:
        from platformdirs import user_cache_path

        folder = user_cache_path("pytest-modellens", appauthor=False)
    return folder / "selfcheck.json"


def keep_floor(check: SelfCheck, *, machine: Mapping[str, Any], now: datetime) -> Path:
    """Write the outcome in place of the last one and return where it is.

    Args:
        check: the outcome.
        machine: what it holds for, as `environment.fingerprint` gives it.
        now: when it was made.

    Raises:
        StorageError: it cannot be written.
    """
    path = floor_path()
    best = check.best
    content = {
        "schema_version": SCHEMA_VERSION,
        "checked_at": now.isoformat(timespec="seconds"),
        "machine": dict(machine),
        "clock": check.clock,
        "scenarios": check.scenarios,
        "wrong": check.wrong,
        "tolerance": TOLERANCE,
        "streams": best.concurrency if best else None,
        "tokens_per_second": best.tokens_per_second if best else None,
        "levels": check.levels,
    }
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, msgspec.json.format(msgspec.json.encode(content), indent=2) + b"\n")
    except OSError as exc:
        raise StorageError(f"{path}: cannot be written ({exc.strerror}; MODELLENS_CACHE moves it)") from exc
    return path


def read_floor(machine: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return what was kept for `machine`; None without it, or when it is of another machine or another format."""
    try:
        content = msgspec.json.decode(floor_path().read_bytes())
    except (OSError, msgspec.DecodeError):
        return None
    if not isinstance(content, dict) or content.get("schema_version") != SCHEMA_VERSION:
        return None
    # JSON knows fewer types: what is compared has been there and back on both sides.
    return content if content.pop("machine", None) == msgspec.to_builtins(dict(machine)) else None
