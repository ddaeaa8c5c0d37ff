"""Builders of suites for the tests of this folder."""

from __future__ import annotations

from textwrap import dedent
from typing import TYPE_CHECKING, Protocol

import pytest

from pytest_modellens.errors import SuiteError
from pytest_modellens.suite.loader import load_suite

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from pytest_modellens.suite.schema import Suite


class Load(Protocol):
    def __call__(self, text: str, *, env: Mapping[str, str] = ...) -> Suite: ...


class Problems(Protocol):
    def __call__(self, text: str | bytes, *, env: Mapping[str, str] = ...) -> list[str]: ...


@pytest.fixture
def load(tmp_path: Path) -> Load:
    """Loads a suite from its text."""

    def loaded(text: str, *, env: Mapping[str, str] | None = None) -> Suite:
        path = tmp_path / "s.yaml"
        path.write_text(dedent(text), encoding="utf-8")
        return load_suite(path, env=env or {})

    return loaded


@pytest.fixture
def problems(tmp_path: Path) -> Problems:
    """Returns all that is wrong with a suite, from its text."""

    def found(text: str | bytes, *, env: Mapping[str, str] | None = None) -> list[str]:
        path = tmp_path / "s.yaml"
        path.write_bytes(dedent(text).encode() if isinstance(text, str) else text)
        with pytest.raises(SuiteError) as caught:
            load_suite(path, shown_as="s.yaml", env=env or {})
        return str(caught.value).splitlines()

    return found
