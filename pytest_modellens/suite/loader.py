"""Suite files to suites, with every problem of a file named by its line."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from pytest_modellens.errors import Problem, SuiteError
from pytest_modellens.suite.files import FileError, Source, read_text
from pytest_modellens.suite.keys import parse_keys, unknown
from pytest_modellens.suite.kinds import Scope, shown
from pytest_modellens.suite.limits import METRICS
from pytest_modellens.suite.relations import Written, check_load, check_sources, values_of
from pytest_modellens.suite.schema import CASE_KEYS, DEFAULTS_KEYS, Case, Suite, suite_hash
from pytest_modellens.suite.yamltext import YamlList, YamlMap, YamlTextError, parse_yaml

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

__all__ = ["load_suite"]

MAX_CELLS_IN_SUITE = 100_000
_TOP_KEYS = {"description": None, "defaults": None, "cases": None}


def load_suite(path: Path, *, shown_as: str | None = None, env: Mapping[str, str] = os.environ) -> Suite:
    """Return the suite in the file `path`, which errors name as `shown_as`.

    Raises:
        SuiteError: with every problem of the file.
    """
    source = Source(str(path) if shown_as is None else shown_as, path.parent, env)
    try:
        document = parse_yaml(read_text(path), source.report)
    except (FileError, YamlTextError) as exc:
        raise SuiteError([*source.problems, Problem(source.shown_as, exc.line, str(exc))]) from exc
    suite = _Reader(source).suite(path, document)
    if source.problems or suite is None:
        raise SuiteError(source.problems)
    return suite


class _Reader:
    """Turns the document of one file into cases; lives as long as its loading."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._defaults = YamlMap(0)
        self._inherited: dict[str, Any] = {}
        self._names: dict[str, int] = {}
        self._cells = 0

    def suite(self, path: Path, document: Any) -> Suite | None:
        """Return the suite; None, or one with holes, when problems were reported."""
        report = self._source.report
        if not isinstance(document, YamlMap):
            seen = "an empty file" if document is None else shown(document)
            report(getattr(document, "line", 1), f"a suite must be a mapping with 'cases' (got {seen})")
            return None
        top = Scope("the suite", self._source)
        for name in document:
            if name not in _TOP_KEYS:
                unknown(name, _TOP_KEYS, top, document.lines[name])
        description = document.get("description") or ""
        if not isinstance(description, str):
            report(document.lines["description"], f"'description' of the suite must be text (got {shown(description)})")
        self._read_defaults(document)
        cases = self._cases(document)
        return None if self._source.problems else Suite(path, description, cases, suite_hash(cases))

    def _read_defaults(self, document: YamlMap) -> None:
        defaults = document.get("defaults")
        if isinstance(defaults, YamlMap):
            self._defaults = defaults
            self._inherited = parse_keys(defaults, DEFAULTS_KEYS, Scope("defaults", self._source))
        elif defaults is not None:
            self._source.report(document.lines["defaults"], f"'defaults' must be a mapping (got {shown(defaults)})")

    def _cases(self, document: YamlMap) -> tuple[Case, ...]:
        cases = document.get("cases")
        if not isinstance(cases, YamlList) or not cases:
            seen = "none" if "cases" not in document else "an empty list" if cases == [] else shown(cases)
            line = document.lines.get("cases", document.line)
            self._source.report(line, f"'cases' must be a list with at least one case (got {seen})")
            return ()
        read = (self._case(at, line, case) for at, (line, case) in enumerate(zip(cases.lines, cases, strict=True), 1))
        return tuple(case for case in read if case is not None)

    def _case(self, position: int, line: int, written: Any) -> Case | None:
        if not isinstance(written, YamlMap):
            self._source.report(line, f"case {position} must be a mapping (got {shown(written)})")
            return None
        name = written.get("name")
        scope = Scope(f"case {shown(name)}" if isinstance(name, str) else f"case {position}", self._source)
        own = parse_keys(written, CASE_KEYS, scope)
        self._check_name(written, line, scope)
        whole = Written(written, self._defaults, line)
        check_sources(whole, scope)
        check_load(whole, scope)
        if scope.failed:
            return None
        case = Case(**values_of(own, self._inherited), line=line)
        self._check_case(case, whole)
        return case

    def _check_name(self, written: YamlMap, line: int, scope: Scope) -> None:
        if "name" not in written:
            scope.wrong(line, f"{scope.place} has no 'name'")
        name = written.get("name")
        if isinstance(name, str):
            if name in self._names:
                first = self._names[name]
                scope.wrong(written.lines["name"], f"case name {shown(name)} is used twice (first on line {first})")
            self._names.setdefault(name, written.lines["name"])

    def _check_case(self, case: Case, written: Written) -> None:
        """Report what each key allows and the case as a whole does not."""
        cells = 1
        for values in case.overrides.values():
            cells *= len(values)
        self._cells += cells
        if self._cells - cells <= MAX_CELLS_IN_SUITE < self._cells:
            self._source.report(
                written.line, f"the suite has more than {MAX_CELLS_IN_SUITE:,} cells, from case {case.name!r} on"
            )
        for limit in case.limits:
            self._check_metric(limit.metric, f"{limit.metric}.{limit.statistic}", "limits", case, written)
        for slo in case.slo:
            self._check_metric(slo.metric, slo.metric, "slo", case, written)
        least, most = case.expect.min_tokens, min(case.overrides.get("max_tokens", (case.max_tokens,)))
        if least is not None and least > most:
            at = written.holder("expect")["expect"].lines["min_tokens"]
            self._source.report(
                at, f"'min_tokens' of expect of case {case.name!r} is more than its 'max_tokens', {most}"
            )

    def _check_metric(self, metric: str, key: str, judged_by: str, case: Case, written: Written) -> None:
        reason = _impossible(metric, case)
        if reason:
            kind = "limit" if judged_by == "limits" else "SLO"
            at = written.holder(judged_by)[judged_by].lines[key]
            self._source.report(at, f"{kind} {key!r} of case {case.name!r} can never be measured: {reason}")


def _impossible(name: str, case: Case) -> str | None:
    """Return why no cell, or not every cell, of `case` has the metric `name`; None when each may have it."""
    metric = METRICS[name]
    streams = case.overrides.get("stream", (case.stream,))
    if metric.streamed_only and not all(streams):
        return f"{name} needs 'stream: true'"
    if metric.several_tokens and min(case.overrides.get("max_tokens", (case.max_tokens,))) < 2 and any(streams):
        return f"{name} needs 'max_tokens' of at least 2"
    return None
