"""The gate in a run: judges what was measured once all of it is there, and fails the tests concerned."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from pytest_modellens.errors import StorageError
from pytest_modellens.gate.baseline import add_session, baseline_folder, read_baseline
from pytest_modellens.gate.calibrations import read_calibrations
from pytest_modellens.gate.limits import GOODPUT
from pytest_modellens.gate.run import judge_run
from pytest_modellens.gate.session import Fitness, case_key, session_of
from pytest_modellens.gate.show import verdict_lines
from pytest_modellens.gate.verdict import MIN_SESSIONS
from pytest_modellens.plugin.gate_asked import alpha_of, check_gate_options, gate_is_given
from pytest_modellens.plugin.reports import Passes, note_in_junit
from pytest_modellens.plugin.stash import RECORDER
from pytest_modellens.plugin.warned import ModelLensWarning, warn

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable
    from pathlib import Path

    from pytest_modellens.gate.calibrations import MachineCalibration
    from pytest_modellens.gate.run import RunVerdict
    from pytest_modellens.gate.session import Session
    from pytest_modellens.plugin.options import Settings

__all__ = ["Gate", "ModelLensGateWarning"]

DEFAULT_BASELINE = "main"
DEFAULT_SUBJECT = ("server_version",)


class ModelLensGateWarning(ModelLensWarning):
    """The gate reached no verdict."""


class Gate:
    """Registered beside the recorder: without workers, or in their controller."""

    def __init__(self, config: pytest.Config, settings: Settings) -> None:
        self._config = config
        self._settings = settings
        self._passes = Passes(config)
        self._tests: dict[str, dict[str, None]] = {}
        """By case key: the tests that measured it, in order."""
        self._lines: list[str] = []
        self._is_bad = False
        self._calibrations: dict[str, MachineCalibration] = {}

    @property
    def _results(self) -> Path:
        return self._config.rootpath / (self._settings.results or "results")

    @property
    def _folder(self) -> Path:
        return baseline_folder(self._results, self._settings.baseline or DEFAULT_BASELINE)

    @property
    def _may_differ(self) -> tuple[str, ...]:
        subject = DEFAULT_SUBJECT if self._settings.subject is None else self._settings.subject
        return (*subject, *(self._settings.allow_mismatch or ()))

    # Before the recorder makes a folder for the run.
    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionstart(self) -> None:
        """Refuse options that do nothing, and a baseline that cannot be read, before anything is measured."""
        check_gate_options(self._config, self._settings)
        if not self._settings.providers and not gate_is_given(self._config):
            return  # tests of something else, in a project whose ini file has a gate
        try:
            there = read_baseline(self._folder)
        except StorageError as exc:
            raise pytest.UsageError(f"--modellens-baseline: {exc}") from None
        if self._settings.gate:
            try:
                self._calibrations = read_calibrations(self._results)
            except StorageError as exc:
                raise pytest.UsageError(f"--modellens-gate: {exc}") from None
        if self._settings.gate and self._settings.require_baseline and not there.sessions:
            raise pytest.UsageError(
                f"--modellens-require-baseline: there is no baseline {there.name!r} in {there.folder.parent} (accept a "
                "run as one with --modellens-update-baseline)"
            )

    @pytest.hookimpl(trylast=True)
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self._passes.note(report)
        beside = self._settings.beside
        for record in getattr(report, "modellens", {}).get("keys", ()):
            # What fails is the candidate's.
            if beside is None or record["provider"] != beside.label:
                self._tests.setdefault(case_key(record), {})[report.nodeid] = None

    @pytest.hookimpl(wrapper=True)
    def pytest_runtestloop(self, session: pytest.Session) -> Generator[None, object, object]:
        # Before the exit status is known, and under xdist when every worker has reported.
        result = yield
        candidate = self._session()
        if candidate is None or not candidate.cases:
            self._say_that_nothing_was_measured(session)
        elif self._settings.gate:
            self._judge(candidate, self._settings.gate)
        return result

    def _say_that_nothing_was_measured(self, session: pytest.Session) -> None:
        """A gate that sees nothing must not look like one that passed."""
        if session.testsfailed:
            return  # nor does it
        is_gate = self._settings.gate or self._settings.bounds
        if not self._settings.providers and gate_is_given(self._config):
            flag = "--modellens-gate" if is_gate else "--modellens-update-baseline"
            raise pytest.UsageError(f"{flag}: nothing was measured (name the server, such as --provider vllm)")
        if self._settings.providers and is_gate and session.testscollected:
            self._lines = ["gate: nothing was measured, so nothing was judged"]
            self._warn(self._lines[0])

    def _session(self) -> Session | None:
        recorder = self._config.stash.get(RECORDER, None)
        return None if recorder is None else session_of(recorder.folder.name, recorder.meta, recorder.records)

    def _judge(self, candidate: Session, limits: Any) -> None:
        run = judge_run(
            read_baseline(self._folder),
            candidate,
            limits=limits,
            alpha=alpha_of(self._settings),
            may_differ=self._may_differ,
            calibrations=self._calibrations,
        )
        self._conclude(run)

    def _conclude(self, run: RunVerdict) -> None:
        """Say what the verdict is, and have tests fail accordingly."""
        self._lines = verdict_lines(run, width=self._config.get_terminal_writer().fullwidth)
        self._config.stash[RECORDER].meta["gate"] = run.to_json()
        note_in_junit(self._config, "modellens_gate", run.name)
        text = "\n".join(verdict_lines(run))
        if run.name == "regression":
            self._fail(self._concerned(run), "call", text)
        elif run.name == "inconclusive" and self._settings.inconclusive == "fail":
            self._fail(self._tests, "call", text)
        elif run.name == "incomparable":
            self._fail(run.differing if run.differing and "" not in run.differing else self._tests, "teardown", text)
        elif run.missing and self._settings.require_baseline:
            self._fail(run.missing, "teardown", text)
        elif run.name in {"inconclusive", "no baseline"} or run.missing:
            self._warn(text)

    def _concerned(self, run: RunVerdict) -> Iterable[str]:
        """Return the cases that got slower: all of them, or those that alone are beyond twice the limit."""
        assert run.verdict is not None
        concerned: set[str] = set()
        for metric in run.verdict.metrics:
            if metric.verdict == "regression":
                is_alone = "cases are worse" in metric.reason
                # Not every case has a goodput.
                of_all = metric.cases if metric.metric == GOODPUT else ()
                judged = {case.case for case in of_all} or self._tests.keys() - run.missing
                concerned |= (
                    {case.case for case in metric.cases if case.verdict == "regression"} if is_alone else judged
                )
        return [key for key in self._tests if key in concerned]

    def _fail(self, keys: Iterable[str], when: str, text: str) -> None:
        self._is_bad = True
        keys = [*keys]
        recorder = self._config.stash[RECORDER]
        recorder.note_failed((record for record in recorder.records if case_key(record) in keys), text)
        for nodeid in dict.fromkeys(nodeid for key in keys for nodeid in self._tests[key]):
            self._passes.take_back(nodeid, when=when, text=text)

    def _warn(self, text: str) -> None:
        warn(self._config, text, where=__file__, kind=ModelLensGateWarning)

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self, exitstatus: int) -> None:
        recorder = self._config.stash.get(RECORDER, None) if self._settings.update_baseline else None
        if recorder is None:
            return
        fitness = Fitness()
        session = session_of(recorder.folder.name, recorder.meta, fitness.seen(recorder.records))
        wrong = fitness.wrong(recorder.meta)
        if exitstatus != pytest.ExitCode.OK:
            wrong.insert(0, "the run failed")
        if wrong:
            self._lines.append(f"not made a baseline: {'; '.join(wrong)}")
            return
        try:
            add_session(self._folder, session, may_differ=self._may_differ)
        except StorageError as exc:
            self._lines.append(f"not made a baseline: {exc}")
            return
        count = len(read_baseline(self._folder).sessions)
        missing = f"; {MIN_SESSIONS - count} more are needed" if count < MIN_SESSIONS else ""
        told = f"baseline {self._folder.name}: this run is its session {count} (review it and commit it{missing})"
        self._lines.append(told)

    @pytest.hookimpl(trylast=True)
    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        if not self._lines:
            return
        terminalreporter.section("modellens gate")
        for line in self._lines:
            terminalreporter.line(line, **({"red": True} if self._is_bad and line is self._lines[0] else {}))
