"""The page about providers says what is in the code, and how each was checked."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from pytest_modellens.providers.http import HTTPProvider
from pytest_modellens.providers.registry import provider_class, provider_names
from tests.doubles.kinds import KINDS
from tests.providers.test_registry import OURS
from tests.transcripts.loader import FOLDER

PAGE = Path(__file__).parents[2] / "docs" / "providers.md"
ROWS = {
    cells[0].strip("` "): [cell.strip() for cell in cells]
    for line in PAGE.read_text(encoding="utf-8").splitlines()
    if re.match(r"\| `\w+` \|", line)
    for cells in [line.strip("|").split("|")]
}


def test_matrix_has_a_row_for_every_provider() -> None:
    assert sorted(ROWS) == OURS
    assert set(OURS) <= set(provider_names())
    assert {len(row) for row in ROWS.values()} == {6}


@pytest.mark.parametrize("name", [name for name in OURS if name != "local"])
def test_default_address_is_the_providers(name: str) -> None:
    cls = provider_class(name)
    assert issubclass(cls, HTTPProvider)
    assert ROWS[name][2] == f"`http://127.0.0.1:{cls.default_port}{cls.default_path}`"


@pytest.mark.parametrize("name", OURS)
def test_double_is_called_one_with_what_it_was_written_from(name: str) -> None:
    checked = ROWS[name][3]
    if name in KINDS:
        assert checked == f"**double**, from {KINDS[name].documented}"
    else:
        assert "double" not in checked
        assert "**real**" in checked or (FOLDER / name).is_dir()


@pytest.mark.parametrize("name", OURS)
def test_variables_of_keys_are_named(name: str) -> None:
    variable = getattr(provider_class(name), "api_key_env", None)
    assert variable is None or f"`{variable}`" in PAGE.read_text(encoding="utf-8")
