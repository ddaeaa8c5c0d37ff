"""The pytest plugin. It is loaded in every pytest run of the environment, so it imports pytest and the standard library
only; what measures and reports is imported when a suite is really run.
"""

from __future__ import annotations

import gc
import os
import sys
import time
from importlib.util import find_spec
from typing import TYPE_CHECKING

import pytest

from pytest_modellens.plugin.collect import SuiteModule, parametrize, suite_module
from pytest_modellens.plugin.fixtures import cell, hardware, model, model_server, modellens, provider, truth_server
from pytest_modellens.plugin.gate_asked import gate_is_asked_for
from pytest_modellens.plugin.options import SETTINGS, Settings, add_options
from pytest_modellens.plugin.stash import (
    CASSETTE_FOLDER,
    EVIDENCE,
    FOUND,
    RECORDER,
    RUN_FOLDER,
    Evidence,
    new_evidence,
)

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path

__all__ = ["cell", "hardware", "model", "model_server", "modellens", "provider", "truth_server"]


def pytest_addoption(parser: pytest.Parser, pluginmanager: pytest.PytestPluginManager) -> None:
    _check_amplifier(pluginmanager)
    add_options(parser)


def _check_amplifier(pluginmanager: pytest.PytestPluginManager) -> None:
    """Say what is missing before amplifier-core's plugin, loaded after this one, ends the run with a traceback."""
    if find_spec("amplifier_core") is None or find_spec("pytest_asyncio") is not None:
        return
    named = getattr(pluginmanager.get_plugin("pytestconfig"), "known_args_namespace", None)
    if os.environ.get("PYTEST_DISABLE_PLUGIN_AUTOLOAD") or getattr(named, "disable_plugin_autoload", False):
        return
    if pluginmanager.is_blocked("amplifier_module"):
        return
    raise pytest.UsageError(
        "amplifier-core's pytest plugin needs pytest-asyncio, which is not installed "
        "(pip install 'pytest-modellens[amplifier]', or run pytest with -p no:amplifier_module)"
    )


def pytest_addhooks(pluginmanager: pytest.PytestPluginManager) -> None:
    from pytest_modellens.plugin import hookspec

    pluginmanager.add_hookspecs(hookspec)


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "modellens: a case of a prompt suite (every suite item has it)")
    config.addinivalue_line(
        "markers", "modellens_suite(path): run the test for every cell of the suite, as its `cell` argument"
    )
    settings = config.stash[SETTINGS] = Settings.from_config(config)
    if hasattr(config, "workerinput"):
        config.stash[RUN_FOLDER] = config.workerinput.get("modellens_run_folder")
        config.stash[FOUND] = config.workerinput.get("modellens_found", {})
        config.stash[CASSETTE_FOLDER] = config.workerinput.get("modellens_cassette")
        return
    if settings.selfcheck:
        from pytest_modellens.plugin.progress import keep_terminal
        from pytest_modellens.plugin.selfcheck import SelfCheckSession

        keep_terminal(config)
        config.pluginmanager.register(SelfCheckSession(config), "modellens-selfcheck")
    elif settings.providers and not config.option.collectonly:
        from pytest_modellens.plugin.progress import keep_terminal
        from pytest_modellens.plugin.recorder import Recorder

        keep_terminal(config)
        config.stash[RECORDER] = Recorder(config, settings)
        config.pluginmanager.register(config.stash[RECORDER], "modellens-recorder")
    else:
        config.pluginmanager.register(_LateRecorder(config), "modellens-late-recorder")
    if settings.selfcheck or config.option.collectonly:
        return
    if settings.beside is not None:
        from pytest_modellens.plugin.side_by_side import SideBySide

        config.pluginmanager.register(SideBySide(config, settings), "modellens-gate")
    elif gate_is_asked_for(config, settings):
        from pytest_modellens.plugin.gating import Gate

        config.pluginmanager.register(Gate(config, settings), "modellens-gate")
    if settings.bounds:
        from pytest_modellens.plugin.bounding import AbsoluteGate

        config.pluginmanager.register(AbsoluteGate(config, settings), "modellens-absolute-gate")


def pytest_report_header(config: pytest.Config) -> list[str] | None:
    settings = config.stash[SETTINGS]
    if not settings.providers:
        return None
    from pytest_modellens.redaction import redact_url

    shown = [
        f"{spec.shown}={redact_url(spec.base_url)}"
        if spec.base_url
        else spec.shown + " (to be started)" * bool(spec.serve)
        for spec in settings.servers
    ]
    found = config.stash.get(FOUND, {})
    return [f"modellens: {', '.join(shown)}", *(f"{label}: {server['why']}" for label, server in found.items())]


@pytest.hookimpl(wrapper=True)
def pytest_collection(session: pytest.Session) -> Generator[None, object, object]:
    # Collection makes objects by the million and drops none of them: the garbage collector's passes over them find
    # nothing, and are a fifth of the time that a large suite takes.
    if not session.config.stash[SETTINGS].providers or not gc.isenabled():
        return (yield)
    gc.disable()
    try:
        return (yield)
    finally:
        gc.enable()


def pytest_collect_file(file_path: Path, parent: pytest.Collector) -> SuiteModule | None:
    return suite_module(file_path, parent)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    parametrize(metafunc)


class _LateRecorder:
    """Begins to record when a test has measured although the command line names no provider: its fixtures made one."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if getattr(report, "modellens", None) is not None and RECORDER not in self._config.stash:
            from pytest_modellens.plugin.recorder import begin_recording

            begin_recording(self._config).pytest_runtest_logreport(report)


@pytest.hookimpl(tryfirst=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    # VS Code's discovery splits a parametrized id at ".py" and dies on a YAML one; it takes an item without callspec.
    if session.config.option.collectonly and session.config.pluginmanager.has_plugin("vscode_pytest"):
        for item in session.items:
            if isinstance(item.parent, SuiteModule):
                vars(item).pop("callspec", None)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if "skipped" in terminalreporter.stats:
        from pytest_modellens.plugin.opted_out import show_opted_out

        show_opted_out(terminalreporter)


@pytest.hookimpl(trylast=True)
def pytest_unconfigure() -> None:
    # The Rust engine of Amplifier's kernel can crash when Python ends while its threads let go of what they hold.
    if "amplifier_core._engine" in sys.modules:
        time.sleep(0.05)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None]:
    try:
        return (yield)
    except (KeyboardInterrupt, pytest.exit.Exception):
        # No report is made of an interrupted item; what it had measured is kept all the same.
        evidence = _take(item)
        if evidence is not None:
            _keep_unreported(item.config, evidence)
        raise


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    evidence = _take(item)
    if evidence is not None:
        # Plain JSON types: xdist carries the report's attributes from the worker to the controller.
        vars(report)["modellens"] = evidence
    return report


def _keep_unreported(config: pytest.Config, evidence: Evidence) -> None:
    recorder, folder = config.stash.get(RECORDER, None), config.stash.get(RUN_FOLDER, None)
    if recorder is not None:
        recorder.keep_unreported(evidence)
    elif folder is not None:
        from pytest_modellens.plugin.leftovers import leave

        leave(config, folder, vars(config)["workerinput"]["workerid"], evidence)


def _take(item: pytest.Item) -> Evidence | None:
    """Return what `item` has measured since the last call; None without any."""
    evidence = item.stash.get(EVIDENCE, None)
    if evidence is None or not (evidence["records"] or evidence["spools"]):
        return None
    item.stash[EVIDENCE] = new_evidence()
    from pytest_modellens.plugin.evidence import plain

    return plain(evidence, is_sent=hasattr(item.config, "workerinput"))
