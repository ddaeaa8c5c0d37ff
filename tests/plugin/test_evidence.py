"""What a test has measured, on its way to the run's folder or to another process."""

from __future__ import annotations

from typing import Any

from pytest_modellens.plugin.evidence import plain
from pytest_modellens.plugin.stash import new_evidence


def evidence(record: dict[str, Any]) -> dict[str, Any]:
    return {**new_evidence(), "records": [record], "cells": [{"case": "a", "bounds": (1, 2), "model": "half \ud83d"}]}


def test_records_go_to_their_file_as_they_are_and_all_else_as_plain_types() -> None:
    record = {"case": "a", "itl_ms": [10.0, 0.1 + 0.2], "response": "half \ud83d"}
    found = plain(evidence(record))
    assert found["records"][0] is record
    assert found["cells"] == [{"case": "a", "bounds": [1, 2], "model": "half ?"}]


def test_records_for_another_process_are_what_its_channel_can_carry() -> None:
    record = {"case": "a", "itl_ms": [10.0, 0.1 + 0.2, float("nan")], "response": "half \ud83d"}
    found = plain(evidence(record), is_sent=True)
    assert found["records"] == [{"case": "a", "itl_ms": [10.0, 0.1 + 0.2, None], "response": "half ?"}]
