"""Finding provider modules the way amplifier_core does: by entry point, or by the name of their package."""

from __future__ import annotations

import difflib
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, NamedTuple

from pytest_modellens.errors import ConfigError, MissingExtraError

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["GROUP", "PREFIX", "Module", "find_module", "module_names", "require_amplifier"]

GROUP = "amplifier.modules"
"""Entry-point group of all kinds of modules; those of providers begin with `PREFIX`."""
PREFIX = "provider-"


class Module(NamedTuple):
    """A provider module that can be mounted."""

    id: str
    """As a mount plan names it."""
    mount: Callable[..., Any]
    package: str
    version: str | None
    """Of the distribution that it comes from; None when that is not known."""

    @property
    def mount_name(self) -> str:
        """Name that its provider has to be mounted under."""
        return self.id.removeprefix(PREFIX)


def require_amplifier() -> None:
    """Return when amplifier_core can be imported.

    Raises:
        MissingExtraError: it is not installed.
    """
    if find_spec("amplifier_core") is None:
        raise MissingExtraError("amplifier-core is not installed (pip install 'pytest-modellens[amplifier]')")


def module_names() -> list[str]:
    """Return the ids of the provider modules that are installed with an entry point, sorted; imports none."""
    return sorted(point.name for point in entry_points(group=GROUP) if point.name.startswith(PREFIX))


def find_module(name: str) -> Module:
    """Return the module that `name` means: an id with or without `provider-`, or an importable package.

    Raises:
        MissingExtraError: amplifier_core is not installed.
        ConfigError: there is no such module, or it cannot be imported, or it has no `mount`.
    """
    require_amplifier()
    points = {point.name: point for point in entry_points(group=GROUP)}
    for module_id in (name, f"{PREFIX}{name}"):
        if module_id in points:
            return _from_entry_point(module_id, points[module_id])
    for module_id in (f"{PREFIX}{name}" if not name.startswith(PREFIX) else name, name):
        package = f"amplifier_module_{module_id.replace('-', '_')}"
        if _exists(package):
            return _from_package(module_id, package)
    if _exists(name):
        return _from_package(name.removeprefix("amplifier_module_").replace("_", "-"), name)
    known = module_names()
    near = difflib.get_close_matches(f"{PREFIX}{name.removeprefix(PREFIX)}", known, n=1)
    hint = f"did you mean {near[0]!r}? " if near else ""
    raise ConfigError(
        f"amplifier:{name}: no such module ({hint}installed: {', '.join(known) or 'none'}; "
        f"pip install the module's package, or put the folder of its package on PYTHONPATH)"
    )


def _exists(package: str) -> bool:
    try:
        return find_spec(package) is not None
    except (ImportError, ValueError):  # a dotted name whose parent is none, or no name at all
        return False


def _from_entry_point(module_id: str, point: EntryPoint) -> Module:
    try:
        loaded: Any = point.load()
    except Exception as exc:  # importing runs the package's code, which may raise anything; the user gets a line
        raise _unusable(module_id, point.value, exc) from exc
    version = point.dist.version if point.dist is not None else None
    return _checked(module_id, getattr(loaded, "mount", loaded), point.module, version)


def _from_package(module_id: str, package: str) -> Module:
    try:
        loaded = import_module(package)
    except Exception as exc:  # importing runs the package's code, which may raise anything; the user gets a line
        raise _unusable(module_id, package, exc) from exc
    return _checked(module_id, getattr(loaded, "mount", None), package, None)


def _checked(module_id: str, mount: Any, package: str, version: str | None) -> Module:
    if not callable(mount):
        raise ConfigError(f"amplifier:{module_id}: {package} has no mount() function (it is no module of Amplifier)")
    return Module(module_id, mount, package, version)


def _unusable(module_id: str, where: str, exc: Exception) -> ConfigError:
    return ConfigError(f"amplifier:{module_id}: {where} cannot be loaded ({type(exc).__name__}: {exc})")
