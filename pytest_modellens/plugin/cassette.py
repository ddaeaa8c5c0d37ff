"""The run's cassette in a pytest session: a folder that the controller makes, and each process's part of it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pytest_modellens.plugin.options import SETTINGS
from pytest_modellens.plugin.stash import CASSETTE_FOLDER

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pytest_modellens.cassette.writer import Cassette

__all__ = ["cassette_of", "count", "make_cassette", "sentences"]

DEFAULT_LIMIT = 2**30
_PART: pytest.StashKey[Cassette] = pytest.StashKey()


def make_cassette(config: pytest.Config, run: str) -> dict[str, Any]:
    """Make the folder of the cassette of `run`, and return what run.json says of it; empty where none was asked for.

    Raises:
        pytest.UsageError: it cannot be made.
    """
    from pytest_modellens.cassette.writer import make_folder

    asked = config.stash[SETTINGS].cassette
    if asked is None:
        return {}
    try:
        folder = str(make_folder(config.rootpath / asked, run))
    except OSError as exc:
        raise pytest.UsageError(
            f"{config.rootpath / asked}: cannot hold cassettes ({exc.strerror}; "
            "choose another folder with --modellens-cassette)"
        ) from None
    config.stash[CASSETTE_FOLDER] = folder
    return {"cassette": {"folder": folder, "kept": 0, "not_kept": {}}}


def cassette_of(config: pytest.Config) -> Cassette | None:
    """Return this process's part of the run's cassette; None without one."""
    folder = config.stash.get(CASSETTE_FOLDER, None)
    if folder is None:
        return None
    if _PART not in config.stash:
        from pytest_modellens.cassette.writer import Cassette

        worker: dict[str, Any] = getattr(config, "workerinput", {})
        limit = config.stash[SETTINGS].cassette_limit or DEFAULT_LIMIT
        part = Cassette(Path(folder), worker.get("workerid", "main"), limit_bytes=limit)
        config.stash[_PART] = part
        config.add_cleanup(part.close)
    return config.stash[_PART]


def count(accounted: dict[str, Any], record: Mapping[str, Any]) -> None:
    """Add `record` to what run.json says of a cassette: how many requests are in it, and why others are not."""
    accounted["kept"] += record.get("cassette") is not None
    if (reason := record.get("cassette_note")) is not None:
        accounted["not_kept"][reason] = accounted["not_kept"].get(reason, 0) + 1


def sentences(accounted: Mapping[str, Any], *, shown: str, run: str) -> list[tuple[str, bool]]:
    """Return what the terminal says of a cassette, and of each line whether it is bad news."""
    from pytest_modellens.cassette.writer import shown_size
    from pytest_modellens.text import printable

    try:
        size = sum(path.stat().st_size for path in Path(accounted["folder"]).iterdir())
    except OSError as exc:
        return [(f"cassette: {shown} cannot be read ({exc.strerror})", True)]
    lines = [(f"cassette: {shown} ({accounted['kept']} requests, {shown_size(size)})", False)]
    for reason, number in accounted["not_kept"].items():
        lines.append((f"not in the cassette: {number} requests, {printable(reason, 200)}", True))
    lines.append((f"derive the records again: modellens recompute {run}", False))
    return lines
