"""What the plugin keeps on `config` and on items, under typed keys."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from pytest_modellens.budget import Budget
    from pytest_modellens.plugin.options import ProviderSpec
    from pytest_modellens.plugin.recorder import Recorder

__all__ = [
    "BUDGET",
    "CASSETTE_FOLDER",
    "EVIDENCE",
    "FOUND",
    "OF_CELLS",
    "OPENED",
    "RECORDER",
    "RUN_FOLDER",
    "Evidence",
    "new_evidence",
]

Evidence = dict[str, Any]
"""What one item measured, as plain JSON types: `records` (in their own process with text as it came, and with parts in
common), `spools` (records of loads, in files), `hardware`, `server`, `cells`, `asked`, `limits`, `degraded`, `suites`
and `servers`; `is_updated` where the project's hooks have seen the records. Once it is recorded, the records are gone
and `keys` has the fields that name each of their cells."""
OF_CELLS = ("hardware", "server", "cells", "asked", "limits", "degraded")
"""What of it has rows about cells."""


def new_evidence() -> Evidence:
    """Return the evidence of an item that has measured nothing yet."""
    lists: Evidence = {name: [] for name in ("records", "spools", *OF_CELLS)}
    return {**lists, "suites": {}, "servers": {}}


EVIDENCE: pytest.StashKey[Evidence] = pytest.StashKey()
"""On an item: what it has measured and not yet reported."""
BUDGET: pytest.StashKey[Budget] = pytest.StashKey()
"""On a config that has sent something under a budget."""
RECORDER: pytest.StashKey[Recorder] = pytest.StashKey()
"""On the controller's config, in a run that measures."""
FOUND: pytest.StashKey[dict[str, dict[str, str]]] = pytest.StashKey()
"""On every config, by label of an `auto`: `name` and `base_url` of the server that was found, and `why`; without a name
there is none. Plain types: xdist carries it to the workers, so that all of them measure the same server."""
OPENED: pytest.StashKey[dict[int, ProviderSpec]] = pytest.StashKey()
"""On every config: what was asked for, by the `id` of the provider that is open for it."""
CASSETTE_FOLDER: pytest.StashKey[str | None] = pytest.StashKey()
"""On every config: where this run's raw bytes are kept; None where they are not."""
RUN_FOLDER: pytest.StashKey[str | None] = pytest.StashKey()
"""On every config: where this run is written; None where it is not."""
