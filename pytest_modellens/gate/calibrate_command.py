"""`modellens calibrate`: how much this machine's numbers vary while nothing changes."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from pytest_modellens.commandline import add_results, count, duration, progress, words
from pytest_modellens.errors import ConfigError
from pytest_modellens.text import printable

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence
    from pathlib import Path

    from pytest_modellens.gate.calibrate_runs import Plan
    from pytest_modellens.gate.session import Session

__all__ = ["add_calibrate"]

INTERRUPTED = 130


def add_calibrate(commands: Any) -> None:
    """Add the command to the parser's `commands`."""
    parser = commands.add_parser(
        "calibrate",
        help="measure how much an unchanged server's numbers vary on this machine, for the gate",
        description="Runs suites again and again against an unchanged server, or takes runs that are there.",
    )
    parser.add_argument("suites", nargs="*", default=["suites"], metavar="SUITE", help="what to run (default: suites)")
    parser.add_argument(
        "--from",
        nargs="+",
        dest="recorded",
        metavar="RUN[,RUN…]",
        help="take recorded runs, a session each; with commas, several server starts of one session",
    )
    parser.add_argument("--provider", metavar="PROVIDER", help="server to measure, as for pytest")
    parser.add_argument("--serve", metavar="COMMAND", help="command that starts it, as --modellens-serve takes it")
    parser.add_argument(
        "--pytest", type=words, default=[], metavar="ARGS", help="more for pytest, such as '-k capital'"
    )
    parser.add_argument("--sessions", type=count, default=5, metavar="N", help="(default: 5; 3 are needed)")
    parser.add_argument(
        "--starts", type=count, metavar="N", help="server starts a session (default: 2 of one that is started here)"
    )
    parser.add_argument("--rounds", type=count, default=20, metavar="N", help="requests a case and start (default: 20)")
    parser.add_argument("--pause", type=duration, default=0.0, metavar="DURATION", help="between sessions (default: 0)")
    parser.add_argument("--plan", action="store_true", help="say what it would take, and end")
    add_results(parser)
    parser.set_defaults(command=_calibrate)


def _calibrate(options: argparse.Namespace) -> int:
    from pytest_modellens.storage import find_run

    if options.recorded:
        return _conclude(
            options.results, [[find_run(options.results, run) for run in one.split(",")] for one in options.recorded]
        )
    from pytest_modellens.gate.calibrate_runs import InterruptedCalibration, measure

    plan = _plan(options)
    _announce(plan)
    if options.plan:
        return 0
    with progress() as say:

        def tell(text: str) -> None:
            say("")
            print(text, flush=True)

        try:
            return _conclude(options.results, measure(plan, say=say, tell=tell))
        except InterruptedCalibration as stopped:
            say("")
            return _after_interruption(options.results, stopped.sessions)


def _plan(options: argparse.Namespace) -> Plan:
    from pytest_modellens.gate.calibrate_runs import Plan
    from pytest_modellens.gate.calibrating import LEAST_SESSIONS

    if not options.provider and not options.serve:
        raise ConfigError(
            "calibrate: which server? (--provider local, --provider vllm, --serve COMMAND, or recorded runs: --from)"
        )
    if options.sessions < LEAST_SESSIONS:
        raise ConfigError(
            f"--sessions: must be {LEAST_SESSIONS} or more (got {options.sessions}; 5 or more are better)"
        )
    is_started = bool(options.serve) or options.provider.partition("=")[0].rpartition(":")[2] == "local"
    if not is_started and (options.starts or 1) > 1:
        raise ConfigError(
            f"--starts: {options.provider} runs already, and is not started again here (use --serve, or --starts 1)"
        )
    server = [f"--provider={options.provider}"] if options.provider else []
    server += [f"--modellens-serve={options.serve}"] if options.serve else []
    return Plan(
        arguments=(*server, *options.suites, *options.pytest),
        results=options.results.absolute(),
        sessions=options.sessions,
        starts=options.starts or (2 if is_started else 1),
        rounds=options.rounds,
        pause_s=options.pause,
    )


def _announce(plan: Plan) -> None:
    from pytest_modellens.gate.calibrate_runs import count_tests

    tests = count_tests(plan)
    each = f"{plan.starts} server start{'s' * (plan.starts > 1)}"
    cells = f"{tests} cell{'s' * (tests != 1)}"
    print(f"{plan.sessions} sessions of {each}: {plan.runs} runs of pytest, {cells} with {plan.rounds} requests")
    print(f"each, {plan.runs * tests * plan.rounds:,} requests in all, and their warm-up; Ctrl-C keeps what there is")
    if plan.pause_s:
        print(f"between sessions it waits, {plan.pause_s * (plan.sessions - 1) / 60:.0f} min in all")
    print(flush=True)


def _conclude(results: Path, folders: Sequence[Sequence[Path]]) -> int:
    from pytest_modellens.gate.calibrating import calibrate
    from pytest_modellens.gate.calibrations import write_calibration
    from pytest_modellens.gate.show_calibration import calibration_lines

    sessions, left_out = _sessions(folders)
    try:
        found = calibrate(sessions, now=datetime.now(UTC))
    except ConfigError as exc:
        raise ConfigError("\n".join([str(exc), *(f"left out: {text}" for text in left_out)])) from None
    path = write_calibration(results, found)
    print("\n".join(calibration_lines(found)))
    for text in left_out:
        print(f"left out: {text}")
    print(f"kept: {path}")
    print("the gate uses it from now on, for this machine (review it and commit it)")
    return 0


def _sessions(folders: Sequence[Sequence[Path]]) -> tuple[list[list[Session]], list[str]]:
    """Return the sessions, and of each run that cannot be used why."""
    from pytest_modellens.gate.recorded import recorded_session

    sessions, left_out = [], []
    for group in folders:
        usable = []
        for folder in group:
            session, wrong = recorded_session(folder)
            if wrong:
                left_out.append(f"{printable(session.name)} ({'; '.join(wrong)})")
            else:
                usable.append(session)
        if usable:
            sessions.append(usable)
    return sessions, left_out


def _after_interruption(results: Path, folders: Sequence[Sequence[Path]]) -> int:
    from pytest_modellens.gate.calibrating import LEAST_SESSIONS

    if len(folders) >= LEAST_SESSIONS:
        print(f"stopped after {len(folders)} sessions")
        _conclude(results, folders)
    elif folders:
        runs = " ".join(",".join(folder.name for folder in group) for group in folders)
        print(f"stopped after {len(folders)} of the {LEAST_SESSIONS} sessions that are needed; their runs are kept:")
        print(f"  modellens calibrate --from {runs} …")
    return INTERRUPTED
