"""What the package and its modules say they offer is what they offer."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from typing import TYPE_CHECKING

import pytest

import pytest_modellens
from pytest_modellens import __all__ as exported

if TYPE_CHECKING:
    from types import ModuleType

OF_AN_EXTRA = "pytest_modellens.amplifier."
"""Looked at where the extra is installed, by tests/amplifier/inside/check_exports.py."""
MODULES = sorted(
    module.name
    for module in pkgutil.walk_packages(pytest_modellens.__path__, "pytest_modellens.")
    if not module.ispkg and not module.name.endswith(".__main__") and not module.name.startswith(OF_AN_EXTRA)
)
NOT_FOR_IMPORT = ("pytest_modellens.plugin.", "pytest_modellens.embedded.child", "pytest_modellens.cli")
"""Hooks are found by name, and scripts are run."""


def test_package_exports_what_can_be_imported() -> None:
    assert sorted(exported) == sorted(["__version__", *pytest_modellens._HOMES])
    for name in exported:
        assert getattr(pytest_modellens, name) is not None
        assert name in dir(pytest_modellens)


def test_package_exports_the_objects_of_their_homes() -> None:
    from pytest_modellens.models import RunRequest
    from pytest_modellens.providers.base import ProviderAdapter

    assert pytest_modellens.RunRequest is RunRequest
    assert pytest_modellens.ProviderAdapter is ProviderAdapter


def test_package_refuses_unknown_names() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'Nonsense'"):
        _ = pytest_modellens.Nonsense


@pytest.mark.parametrize("name", MODULES)
def test_module_has_everything_that_it_exports(name: str) -> None:
    module = importlib.import_module(name)
    for public in getattr(module, "__all__", ()):
        assert hasattr(module, public), public


@pytest.mark.parametrize("name", [name for name in MODULES if not name.startswith(NOT_FOR_IMPORT)])
def test_module_exports_everything_public(name: str) -> None:
    module = importlib.import_module(name)
    assert set(public_names(module)) - set(getattr(module, "__all__", ())) == set()


def public_names(module: ModuleType) -> list[str]:
    return [
        name
        for name, value in vars(module).items()
        if not name.startswith("_")
        and (inspect.isclass(value) or inspect.isfunction(value))
        and value.__module__ == module.__name__
    ]
