"""Tests that passed and are found wanting afterwards: their reports are replaced everywhere that counts them."""

from __future__ import annotations

from typing import Any, NamedTuple

import pytest

__all__ = ["Passes", "note_in_junit"]


class _Pass(NamedTuple):
    report: pytest.TestReport
    written: Any
    """What JUnit's file will hold of it; None without one."""


class Passes:
    """The passing calls of a session, which can be taken back until it ends."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._passes: dict[str, _Pass] = {}

    def note(self, report: pytest.TestReport) -> None:
        """Take notice of a report, after everybody else."""
        if report.when == "call" and report.passed and not hasattr(report, "wasxfail"):
            junit = _junit(self._config)
            # Until the test's teardown is reported, this is the element that its call has just been written to.
            self._passes[report.nodeid] = _Pass(report, junit and junit.node_reporter(report))
        elif report.failed:
            self._passes.pop(report.nodeid, None)

    def __contains__(self, nodeid: str) -> bool:
        return nodeid in self._passes

    def take_back(self, nodeid: str, *, when: str, text: str) -> None:
        """Have a test fail after all, in the terminal, JUnit, --lf and the exit status alike; no-op unless it passed.

        Args:
            nodeid: of the test.
            when: "call" for a failure, "teardown" for an error.
            text: why.
        """
        passed = self._passes.pop(nodeid, None)
        if passed is None:
            return
        self._forget(passed)
        for phase in ("call", "teardown") if when == "call" else ("teardown",):
            fails = phase == when
            report = pytest.TestReport(
                nodeid=nodeid,
                location=passed.report.location,
                keywords=passed.report.keywords,
                outcome="failed" if fails else "passed",
                longrepr=text if fails else None,
                when=phase,
            )
            self._config.hook.pytest_runtest_logreport(report=report)

    def _forget(self, passed: _Pass) -> None:
        """Take the pass out of the terminal's counts and JUnit's file, where it would stand beside the failure."""
        terminal: Any = self._config.pluginmanager.get_plugin("terminalreporter")
        counted = terminal.stats.get("passed", []) if terminal is not None else []
        if passed.report in counted:
            counted.remove(passed.report)
        junit = _junit(self._config)
        if junit is not None and passed.written in junit.node_reporters_ordered:
            junit.node_reporters_ordered.remove(passed.written)
            junit.stats["passed"] -= 1


def note_in_junit(config: pytest.Config, name: str, value: str) -> None:
    """Give JUnit's file a property of the whole run, if there is one."""
    junit = _junit(config)
    if junit is not None:
        junit.add_global_property(name, value)


def _junit(config: pytest.Config) -> Any:
    """Return the plugin that writes JUnit's file; None without one. Pytest gives it no name."""
    plugins = config.pluginmanager.get_plugins()
    return next((plugin for plugin in plugins if hasattr(plugin, "node_reporters_ordered")), None)
