"""`--modellens-selfcheck`: the check in place of the tests, in pytest's own clothes."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest

from pytest_modellens.errors import ModelLensError
from pytest_modellens.plugin.progress import Progress

if TYPE_CHECKING:
    from pytest_modellens.selfcheck.check import SelfCheck

__all__ = ["SelfCheckSession"]


class SelfCheckSession:
    """Registered only where the option is given."""

    def __init__(self, config: pytest.Config) -> None:
        # The option may be in an ini file's addopts, and -n too.
        if config.getoption("numprocesses", None) or config.getoption("dist", "no") != "no":
            raise pytest.UsageError("--modellens-selfcheck: checks this process alone (add -n 0)")
        self._config = config
        self._is_good = False

    @pytest.hookimpl(tryfirst=True)
    def pytest_collection(self) -> bool:
        """Collect nothing."""
        return True

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self) -> bool:
        """Run the check, show and keep its outcome."""
        from pytest_modellens.environment import fingerprint
        from pytest_modellens.selfcheck.check import selfcheck
        from pytest_modellens.selfcheck.floor import keep_floor

        try:
            with Progress(self._config, "self-check") as progress:
                check = selfcheck(on_progress=progress.say)
            self._show(check)
            self._is_good = check.is_good
            kept = keep_floor(check, machine=fingerprint(), now=datetime.now(UTC))
            self._line(f"kept for later runs: {kept}")
        except ModelLensError as exc:
            self._is_good = False
            self._line(f"self-check: {exc}", red=True)
        return True

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self, session: pytest.Session, exitstatus: int) -> None:
        """Say with the exit status how the check ended; that no tests were collected is no failure here."""
        if exitstatus in {pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED}:
            session.exitstatus = pytest.ExitCode.OK if self._is_good else pytest.ExitCode.TESTS_FAILED

    def _show(self, check: SelfCheck) -> None:
        from pytest_modellens.selfcheck.table import table

        reporter: Any = self._config.pluginmanager.get_plugin("terminalreporter")
        if reporter is not None:
            reporter.section("modellens self-check")
        for line in table(check):
            self._line(line)

    def _line(self, text: str, **style: bool) -> None:
        reporter: Any = self._config.pluginmanager.get_plugin("terminalreporter")
        if reporter is not None:
            reporter.line(text, **style)
