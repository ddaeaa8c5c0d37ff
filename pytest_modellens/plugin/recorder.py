"""The controller's side of a run: its folder, its records as they come, its summary at the end."""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest

from pytest_modellens.errors import ModelLensError, StorageError
from pytest_modellens.plugin.cassette import count, make_cassette
from pytest_modellens.plugin.leftovers import take
from pytest_modellens.plugin.options import AUTO, SETTINGS
from pytest_modellens.plugin.spooling import adopt, of_killed_workers
from pytest_modellens.plugin.stash import CASSETTE_FOLDER, FOUND, OF_CELLS, RECORDER, RUN_FOLDER
from pytest_modellens.plugin.updating import UpdatedCells, updated_run

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from pytest_modellens.plugin.options import Settings
    from pytest_modellens.plugin.stash import Evidence
    from pytest_modellens.report.cell_key import CellKey
    from pytest_modellens.report.source import ReportRun
    from pytest_modellens.storage import RunFolder

__all__ = ["Recorder", "begin_recording"]


def begin_recording(config: pytest.Config) -> Recorder:
    """Return the recorder of the run, which begins now if it has not; not for workers.

    Raises:
        pytest.UsageError: it cannot begin; the next call tries again.
    """
    if RECORDER not in config.stash:
        recorder = Recorder(config, config.stash[SETTINGS])
        recorder.pytest_sessionstart()
        config.stash[RECORDER] = recorder
        config.pluginmanager.register(recorder, "modellens-recorder")
    return config.stash[RECORDER]


_LISTS = ("cells", "asked", "limits", "degraded")
"""What of an item's evidence run.json holds, about its cells."""
_LOOKED_BACK = 20
LONGEST = 2000
"""Characters of a failure's message that run.json keeps."""


class Recorder:
    """Registered where there are no workers, or in their controller; one path for `-n 0` and `-n 2`."""

    def __init__(self, config: pytest.Config, settings: Settings) -> None:
        self._config = config
        self._settings = settings
        self._folder: RunFolder | None = None
        self._meta: dict[str, Any] = {
            "suites": {},
            "servers": {},
            **{name: [] for name in _LISTS},
            "failed": [],
            "ended_at": None,
        }
        self._count = 0
        self._clocks: set[str] = set()
        self._run: ReportRun | None = None
        self._hardware: list[dict[str, Any]] = []
        self._server: list[dict[str, Any]] = []
        self._failed: set[CellKey] = set()
        self._problems: list[str] = []
        self._files: dict[str, Path] = {}

    @property
    def meta(self) -> dict[str, Any]:
        """What run.json will say; more may be added until the session ends."""
        return self._meta

    @property
    def records(self) -> Sequence[dict[str, Any]]:
        """Every record so far, read from the disk whenever it is looked at."""
        assert self._folder is not None
        try:
            return self._folder.records
        except StorageError as exc:  # somebody has removed the folder meanwhile
            self._problems.append(str(exc))
            return ()

    @property
    def folder(self) -> Path:
        """Where the run is written."""
        assert self._folder is not None
        return self._folder.path

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionstart(self) -> None:
        from pytest_modellens.environment import collect
        from pytest_modellens.storage import RunFolder

        name = self._settings.run_name or "-".join(spec.label for spec in self._settings.providers) or "tests"
        results = self._config.rootpath / (self._settings.results or "results")
        try:
            self._folder = RunFolder.create(results, name, now=datetime.now(UTC))
            self._config.stash[RUN_FOLDER] = str(self._folder.path)
            self._meta["started_at"] = self._folder.started_at
            options = {**asdict(self._settings), "arguments": list(self._config.invocation_params.args)}
            self._meta["environment"] = collect(options, rootdir=self._config.rootpath)
            for more in self._config.hook.pytest_modellens_environment(config=self._config):
                self._meta["environment"] |= more
            self._meta |= make_cassette(self._config, self._folder.path.name)
            self._write_run()
        except StorageError as exc:
            raise pytest.UsageError(str(exc)) from None
        except pytest.UsageError:
            assert self._folder is not None
            self._discard(self._folder)
            raise
        if any(spec.name == AUTO and not spec.serve for spec in self._settings.servers):
            from pytest_modellens.plugin.auto import look_for_servers

            self._config.stash[FOUND] = look_for_servers(self._settings)

    @pytest.hookimpl(optionalhook=True)
    def pytest_configure_node(self, node: Any) -> None:
        """Tell an xdist worker where the run is written."""
        node.workerinput["modellens_run_folder"] = self._config.stash[RUN_FOLDER]
        node.workerinput["modellens_found"] = self._config.stash.get(FOUND, {})
        node.workerinput["modellens_cassette"] = self._config.stash.get(CASSETTE_FOLDER, None)

    # Before everybody else, so that what cannot be written fails its test in the terminal, JUnit and --lf alike.
    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        evidence: Evidence | None = getattr(report, "modellens", None)
        if evidence is None:
            return
        try:
            self.keep(evidence)
        except StorageError as exc:
            report.outcome = "failed"
            vars(report).pop("wasxfail", None)  # this failure was not the expected one
            earlier = f"{report.longreprtext}\n" if report.longrepr else ""
            report.longrepr = f"{earlier}{exc}"
        if not report.passed:
            self.note_failed(evidence["keys"], report.longreprtext if report.failed else None)

    def note_failed(self, records: Iterable[Mapping[str, Any]], why: str | None) -> None:
        """Have reports show that the tests which measured `records`, or those of their cells, failed; None: skipped."""
        from pytest_modellens.report.cell_key import cell_key
        from pytest_modellens.report.columns import KEY

        keys = {cell_key(record): record for record in records}
        self._failed |= keys.keys()
        if why is not None:
            short = {"why": why[:LONGEST]}
            self._meta["failed"] += [{name: one[name] for name in KEY} | short for one in keys.values()]

    def keep_unreported(self, evidence: Evidence) -> None:
        """Write what an interrupted item measured; what cannot be written is said at the end."""
        try:
            self.keep(evidence)
        except StorageError as exc:
            self._problems.append(str(exc))

    def keep(self, evidence: Evidence) -> None:
        """Write what one item measured, at once; of its records nothing stays in memory but the `keys` of their cells.

        Raises:
            StorageError: it cannot be written now; it is kept and written with what comes next.
        """
        assert self._folder is not None
        cells = UpdatedCells(self._config, is_updated=evidence.get("is_updated", False))
        records, evidence["records"], evidence["keys"] = evidence["records"], [], cells.names.values()
        spools, evidence["spools"] = evidence["spools"], []
        try:
            self._folder.append(self._updated(records, cells))
            for spool in spools:
                adopt(self._folder, spool, lambda rows: self._updated(rows, cells))
        finally:
            is_new = self._note(evidence, cells)
        if evidence["hardware"]:
            self._folder.write_hardware(evidence["hardware"])
        if evidence["server"]:
            self._folder.write_server(evidence["server"])
        if is_new:
            self._write_run()

    def _note(self, evidence: Evidence, cells: UpdatedCells) -> bool:
        """Add what else is known of `cells`; returns whether run.json lacks something that matters after a crash."""
        for name in OF_CELLS:
            evidence[name] = cells.follow(evidence[name])
        self._hardware += evidence["hardware"]
        self._server += evidence["server"]
        for name in _LISTS:
            self._meta[name] += evidence[name]
        is_new = bool(evidence["cells"] or evidence["degraded"]) or not (
            evidence["suites"].items() <= self._meta["suites"].items()
            and evidence["servers"].keys() <= self._meta["servers"].keys()
        )
        self._meta["suites"] |= evidence["suites"]
        self._meta["servers"] |= evidence["servers"]
        return is_new

    def _updated(self, records: Iterable[dict[str, Any]], cells: UpdatedCells) -> Iterator[dict[str, Any]]:
        """Yield `records` as they are to be written, of `cells`."""
        for record in map(cells.updated, records):
            self._count += 1
            if record["clock"]:
                self._clocks.add(record["clock"])
            if "cassette" in self._meta:
                count(self._meta["cassette"], record)
            yield record

    def _write_run(self) -> None:
        assert self._folder is not None
        self._folder.write_run(updated_run(self._config, self._meta))

    # Inside of the terminal's own wrapper, which prints the summary, and after xdist has ended its workers.
    @pytest.hookimpl(wrapper=True, trylast=True)
    def pytest_sessionfinish(self, exitstatus: int) -> Generator[None]:
        yield
        folder = self._folder
        if folder is None:
            return
        for evidence in (*take(folder.path), *of_killed_workers(folder.path)):
            self.keep_unreported(evidence)
        # The log of a server that did not start is worth keeping.
        quiet = exitstatus in {pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED}
        if not self._count and (quiet or not any(folder.path.glob("*.log"))):
            self._discard(folder)
            return
        self._meta |= {"ended_at": datetime.now(UTC).isoformat(timespec="milliseconds"), "exit_status": int(exitstatus)}
        self._meta["clocks"] = sorted(self._clocks)
        for step in (self._write_run, folder.close):
            try:
                step()
            except (ModelLensError, OSError) as exc:
                self._problems.append(str(exc))
        self._run = self._write_reports(folder)
        self._config.hook.pytest_modellens_report(config=self._config, records=self.records, directory=folder.path)

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        """Print a table per suite, then where the results are."""
        if not self._count or self._folder is None or self._run is None:
            return
        from pytest_modellens.plugin.ending import ending

        terminalreporter.section("modellens")
        for line in ending(
            self._run,
            failed=self._failed,
            problems=self._problems,
            files=self._files,
            earlier=self._earlier(),
            start=self._config.invocation_params.dir,
            width=self._config.get_terminal_writer().fullwidth,
        ):
            terminalreporter.line(line.text, **({line.style: True} if line.style else {}))

    def _earlier(self) -> str | None:
        """Return the name of the newest finished run before this one that shares a suite with it."""
        from pytest_modellens.storage import list_runs, read_meta

        assert self._folder is not None
        try:
            runs = [run for run in list_runs(self._folder.path.parent) if run.name < self._folder.path.name]
            for run in runs[:_LOOKED_BACK]:
                suites = read_meta(run.folder, []).get("suites")
                if run.is_finished and isinstance(suites, dict) and suites.keys() & self._meta["suites"].keys():
                    return run.name
        except StorageError:
            pass  # a suggestion is not worth an error
        return None

    def _write_reports(self, folder: RunFolder) -> ReportRun:
        from pytest_modellens.plugin.progress import Progress
        from pytest_modellens.plugin.reporting import write_reports
        from pytest_modellens.report.source import run_of
        from pytest_modellens.storage.requests import Requests

        path, lines = folder.path, folder.lines
        problems: list[str] = []
        with Progress(self._config, "writing results") as progress:
            records = Requests(path, lines=lines)
            meta = updated_run(self._config, self._meta)
            run = run_of(path.name, meta, records, self._hardware, self._server, problems=problems)
            written = write_reports(
                run,
                self._settings,
                records,
                start=self._config.invocation_params.dir,
                say=progress.say,
            )
        self._files = written.files
        self._problems += problems + written.problems
        return run

    def _discard(self, folder: RunFolder) -> None:
        """Remove the folder of a run in which nothing was measured."""
        import contextlib
        import shutil

        with contextlib.suppress(ModelLensError):
            folder.close()
        shutil.rmtree(folder.path, ignore_errors=True)
        if "cassette" in self._meta:
            shutil.rmtree(self._meta["cassette"]["folder"], ignore_errors=True)
