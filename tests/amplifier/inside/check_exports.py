"""What the modules of the extra say they offer is what they offer."""

from __future__ import annotations

import importlib
import pkgutil

import pytest

import pytest_modellens.amplifier
from tests.test_exports import OF_AN_EXTRA, public_names

MODULES = sorted(module.name for module in pkgutil.iter_modules(pytest_modellens.amplifier.__path__, OF_AN_EXTRA))


@pytest.mark.parametrize("name", MODULES)
def test_module_exports_everything_public_and_has_it(name: str) -> None:
    module = importlib.import_module(name)
    exported = {*module.__all__}
    assert {*public_names(module)} <= exported
    assert all(hasattr(module, public) for public in exported)
