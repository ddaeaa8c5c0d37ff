"""What the plugin keeps on `config` and on items, under typed keys."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from pytest_modellens.plugin.recorder import Recorder

__all__ = ["EVIDENCE", "RECORDER", "RUN_FOLDER", "Evidence", "new_evidence"]

Evidence = dict[str, Any]
"""What one item measured, as plain JSON types: `records`, `hardware`, `cells`, `suites` and `servers`."""


def new_evidence() -> Evidence:
    """Return the evidence of an item that has measured nothing yet."""
    return {"records": [], "hardware": [], "cells": [], "suites": {}, "servers": {}}


EVIDENCE: pytest.StashKey[Evidence] = pytest.StashKey()
"""On an item: what it has measured and not yet reported."""
RECORDER: pytest.StashKey[Recorder] = pytest.StashKey()
"""On the controller's config, in a run that measures."""
RUN_FOLDER: pytest.StashKey[str | None] = pytest.StashKey()
"""On every config: where this run is written; None where it is not."""
