"""Absolute gates in a run: bounds on every case, judged once everything is measured; no baseline is needed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from pytest_modellens.errors import StorageError
from pytest_modellens.gate.absolute import judge_absolute, of_candidate
from pytest_modellens.gate.calibrations import known_for, read_calibrations
from pytest_modellens.gate.session import case_key, session_of
from pytest_modellens.gate.show_bounds import bound_lines
from pytest_modellens.plugin.gate_asked import alpha_of
from pytest_modellens.plugin.limits import ModelLensLimitWarning
from pytest_modellens.plugin.reports import Passes, note_in_junit
from pytest_modellens.plugin.stash import RECORDER
from pytest_modellens.plugin.warned import warn

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable
    from typing import Any

    from pytest_modellens.gate.calibrations import MachineCalibration
    from pytest_modellens.plugin.options import Settings

__all__ = ["AbsoluteGate"]


class AbsoluteGate:
    """Registered beside the recorder: without workers, or in their controller."""

    def __init__(self, config: pytest.Config, settings: Settings) -> None:
        self._config = config
        self._settings = settings
        self._passes = Passes(config)
        self._tests: dict[str, dict[str, None]] = {}
        """By case key: the tests that measured it, in order."""
        self._calibrations: dict[str, MachineCalibration] = {}
        self._lines: list[str] = []
        self._is_bad = False

    # Before the recorder makes a folder for the run.
    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionstart(self) -> None:
        """Refuse a calibration that cannot be read before anything is measured."""
        try:
            self._calibrations = read_calibrations(self._config.rootpath / (self._settings.results or "results"))
        except StorageError as exc:
            raise pytest.UsageError(f"--modellens-gate: {exc}") from None

    @pytest.hookimpl(trylast=True)
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self._passes.note(report)
        for record in getattr(report, "modellens", {}).get("keys", ()):
            self._tests.setdefault(case_key(record), {})[report.nodeid] = None

    @pytest.hookimpl(wrapper=True)
    def pytest_runtestloop(self) -> Generator[None, object, object]:
        # Before the exit status is known, and under xdist when every worker has reported.
        result = yield
        if RECORDER in self._config.stash:
            self._judge()
        return result

    def _judge(self) -> None:
        recorder = self._config.stash[RECORDER]
        session = session_of(recorder.folder.name, recorder.meta, of_candidate(recorder.records))
        if not session.cases:
            return
        known = known_for(self._calibrations, session.machine, [bound.name for bound in self._settings.bounds])
        found = judge_absolute(
            session,
            self._settings.bounds,
            alpha=alpha_of(self._settings),
            calibration=None if known is None else known.calibration,
        )
        recorder.meta["absolute_gate"] = found.to_json()
        note_in_junit(self._config, "modellens_absolute_gate", found.name)
        self._lines = bound_lines(found, width=self._config.get_terminal_writer().fullwidth)
        text = "\n".join(bound_lines(found))
        self._fail(found.cases("fail"), "call", text)
        undecided = found.cases("inconclusive")
        if self._settings.inconclusive == "fail":
            self._fail(undecided, "call", text)
        elif undecided:
            warn(self._config, text, where=__file__, kind=ModelLensLimitWarning)
        self._fail(found.cases("incomparable"), "teardown", text)

    def _fail(self, cases: Iterable[str], when: str, text: str) -> None:
        keys = {*cases}
        if not keys:
            return
        self._is_bad = True
        recorder = self._config.stash[RECORDER]
        recorder.note_failed((record for record in recorder.records if case_key(record) in keys), text)
        for nodeid in dict.fromkeys(nodeid for key in self._tests if key in keys for nodeid in self._tests[key]):
            self._passes.take_back(nodeid, when=when, text=text)

    @pytest.hookimpl(trylast=True)
    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        if not self._lines:
            return
        terminalreporter.section("modellens absolute gate")
        for line in self._lines:
            terminalreporter.line(line, **({"red": True} if self._is_bad and line is self._lines[0] else {}))
