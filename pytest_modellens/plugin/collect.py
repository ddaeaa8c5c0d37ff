"""YAML suites as pytest modules: a function per case, a parameter set per provider and cell."""

from __future__ import annotations

import inspect
import re
import types
import warnings
from functools import cache, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pytest_modellens.plugin.options import SETTINGS, ProviderSpec

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_modellens.plugin.lens import Lens
    from pytest_modellens.providers.base import ProviderAdapter
    from pytest_modellens.suite.case import Case, Cell, Suite

__all__ = ["SuiteModule", "parametrize", "suite_module"]

_LOOKS_LIKE_A_SUITE = (re.compile(rb"^cases\s*:", re.MULTILINE), re.compile(rb"\b(prompt|prompt_file|messages)\s*:"))


def suite_module(file_path: Path, parent: pytest.Collector) -> SuiteModule | None:
    """Return the collector of a suite file; None for any other file."""
    if file_path.suffix not in {".yaml", ".yml"}:
        return None
    settings = parent.config.stash[SETTINGS]
    asked_for = parent.session.isinitpath(file_path)
    if not asked_for and not any(file_path.match(glob) for glob in settings.suite_globs):
        return None
    if not asked_for and not settings.providers and not _looks_like_a_suite(file_path):
        return None  # a run that measures nothing must not trip over somebody else's YAML
    module: SuiteModule = SuiteModule.from_parent(parent, path=file_path)
    return module


def _looks_like_a_suite(path: Path) -> bool:
    try:
        text = path.read_bytes()
    except OSError:
        return False
    return all(pattern.search(text) for pattern in _LOOKS_LIKE_A_SUITE)


class SuiteModule(pytest.Module):
    """A YAML suite, seen by pytest as a module with one test function per case."""

    suite: Suite

    def _getobj(self) -> types.ModuleType:
        # Called once, inside collection; pytest says of it that subclasses may override it.
        from pytest_modellens.errors import SuiteError
        from pytest_modellens.suite.loader import load_suite

        shown = self.shown_path
        try:
            self.suite = load_suite(self.path, shown_as=shown)
        except SuiteError as exc:
            raise self.CollectError(str(exc)) from exc
        module = types.ModuleType(self.path.stem)
        module.__file__ = str(self.path)
        vars(module)["pytestmark"] = [pytest.mark.modellens]
        body: Any = measure_with_benchmark if self.config.pluginmanager.has_plugin("benchmark") else measure
        for case in self.suite.cases:
            setattr(module, case.name, self._test(case, module, body))
        return module

    @property
    def shown_path(self) -> str:
        """The file as errors name it: relative to where pytest was called, if it is below."""
        try:
            return self.path.relative_to(self.config.invocation_params.dir).as_posix()
        except ValueError:
            return str(self.path)

    def _test(self, case: Case, module: types.ModuleType, body: Any) -> types.FunctionType:
        """Return the test of `case`: the common body, placed at the case's own line of the file."""
        code = body.__code__.replace(co_filename=str(self.path), co_firstlineno=case.line, co_name=case.name)
        test = types.FunctionType(code, body.__globals__, case.name)
        test.__module__, test.__doc__ = module.__name__, case.description or case.prompt[:200]
        vars(test)["__test__"] = True
        # pytest asks for it several times a test, and working it out anew is a seventh of a large suite's collection.
        vars(test)["__signature__"] = _signature(body)
        for mark in case.marks:
            try:
                self._decorator(mark)(test)
            # Under --strict-markers, and for a name that begins with "_".
            except (pytest.fail.Exception, AttributeError) as exc:
                raise self.CollectError(f"{self.shown_path}:{case.line}: marks: {exc}") from None
        return test

    def _decorator(self, mark: str) -> Any:
        """Return a mark by its name; the suite's line registers one that the project does not know."""
        with warnings.catch_warnings():
            warnings.simplefilter("error", pytest.PytestUnknownMarkWarning)
            try:
                return getattr(pytest.mark, mark)
            except pytest.PytestUnknownMarkWarning:
                self.config.addinivalue_line("markers", f"{mark}: given in {self.shown_path}")
                return getattr(pytest.mark, mark)


# The bodies of all cases. pytest reads the names of their arguments: `provider` is there to be parametrized.
@cache
def _signature(body: Any) -> inspect.Signature:
    return inspect.signature(body)


# pytest reads the fixtures that a test needs from its parameters, `provider` among them.
def measure_with_benchmark(benchmark: Any, provider: ProviderAdapter, cell: Cell, modellens: Lens) -> None:  # noqa: ARG001
    modellens.run_cell(cell, benchmark=benchmark)  # pragma: no cover - runs under the suite's name


def measure(provider: ProviderAdapter, cell: Cell, modellens: Lens) -> None:  # noqa: ARG001
    modellens.run_cell(cell)  # pragma: no cover - runs under the suite's name


def parametrize(metafunc: pytest.Metafunc) -> None:
    """Give a test its providers and its cells."""
    settings = metafunc.config.stash[SETTINGS]
    cells = _cells(metafunc)
    # No scope is given: a project's own `provider` fixture, whatever its scope, may stand in for ours.
    if "provider" in metafunc.fixturenames and settings.providers and not _is_parametrized(metafunc, "provider"):
        specs = _configured(settings.providers, metafunc, cells or ())
        metafunc.parametrize("provider", specs, ids=[spec.label for spec in specs], indirect=True)
    elif isinstance(metafunc.definition.parent, SuiteModule):
        metafunc.parametrize("provider", [NO_PROVIDER], ids=["no-provider"], indirect=True)
    if cells is not None:
        metafunc.parametrize("cell", cells, ids=[cell.id for cell in cells])


NO_PROVIDER = ProviderSpec("no-provider", "", None)


def _configured(
    specs: Sequence[ProviderSpec], metafunc: pytest.Metafunc, cells: Sequence[Cell]
) -> Sequence[ProviderSpec]:
    """Return `specs`, those of Amplifier's modules with what the suite says of their configuration."""
    from pytest_modellens.providers.registry import is_amplifier

    definition, where = metafunc.definition, metafunc.definition.nodeid
    module, cases = definition.parent, [cell.case for cell in cells]
    if isinstance(module, SuiteModule):
        cases, where = [module.suite.by_name[definition.name]], module.shown_path
    said = cases[0].amplifier if cases else None
    if any(case.amplifier != said for case in cases):
        text = "its cases differ in 'amplifier', and it has one provider for all (write it in the suite's defaults)"
        pytest.fail(f"{definition.nodeid}: {text}", pytrace=False)
    if said is None:
        return specs
    known = metafunc.config.stash.setdefault(_CONFIGURED, [])
    found = []
    for spec in specs:
        own = spec._replace(mounted=said, mounted_by=f"{where}: 'amplifier'") if is_amplifier(spec.name) else spec
        if own not in known:
            known.append(own)
        # The same object for the same configuration: pytest keeps a fixture open as long as its parameter stays.
        found.append(known[known.index(own)])
    return found


_CONFIGURED: pytest.StashKey[list[ProviderSpec]] = pytest.StashKey()


def _is_parametrized(metafunc: pytest.Metafunc, name: str) -> bool:
    """Return whether the test itself gives values of the argument `name`."""
    for mark in metafunc.definition.iter_markers("parametrize"):
        names = mark.args[0] if mark.args else mark.kwargs.get("argnames", ())
        if name in (re.split(r"[,\s]+", names) if isinstance(names, str) else names):
            return True
    return False


def _cells(metafunc: pytest.Metafunc) -> list[Cell] | None:
    """Return the cells that a test is to be run for; None when it takes its one cell from the `cell` fixture."""
    definition = metafunc.definition
    module = definition.parent
    if isinstance(module, SuiteModule):
        case = module.suite.by_name[definition.name]
        return list(case.cells()) if case.matrix else None
    marker = definition.get_closest_marker("modellens_suite")
    if marker is None or "cell" not in metafunc.fixturenames:
        return None
    if len(marker.args) != 1 or marker.kwargs or not isinstance(marker.args[0], (str, Path)):
        pytest.fail(f"{definition.nodeid}: modellens_suite takes one argument, the suite's path", pytrace=False)
    suite = _marked_suite(Path(marker.args[0]), definition)
    return [_named(cell) for cell in suite.cells()]


def _marked_suite(path: Path, definition: pytest.Item) -> Suite:
    """Return the suite of a marker; its path is relative to the test file, or else to the root folder."""
    from pytest_modellens.errors import SuiteError

    candidates = [definition.path.parent / path, definition.config.rootpath / path]
    found = next((candidate for candidate in candidates if candidate.is_file()), None)
    if found is None:
        places = " or ".join(str(candidate) for candidate in candidates)
        pytest.fail(f"{definition.nodeid}: modellens_suite: no such suite (looked for {places})", pytrace=False)
    try:
        return _loaded(found, found.stat().st_mtime_ns)
    except SuiteError as exc:
        pytest.fail(str(exc), pytrace=False)


@lru_cache(maxsize=32)
def _loaded(path: Path, _changed: int) -> Suite:
    from pytest_modellens.suite.loader import load_suite

    return load_suite(path, shown_as=str(path))


def _named(cell: Cell) -> Cell:
    """Return a cell whose id names its case too: a marked function runs over several cases."""
    from dataclasses import replace

    return replace(cell, id="-".join(filter(None, (cell.case.name, cell.id))))
