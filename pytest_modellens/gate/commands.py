"""`modellens gate` and `modellens baseline`: the same judging for runs that were recorded before."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pytest_modellens.commandline import add_results, count
from pytest_modellens.errors import ConfigError, StorageError
from pytest_modellens.gate.arguments import alpha, facts, limits, run_or_time
from pytest_modellens.gate.calibrate_command import add_calibrate
from pytest_modellens.text import printable

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable

__all__ = ["add_commands"]


def add_commands(commands: Any) -> None:
    """Add them to the parser's `commands`."""
    add_calibrate(commands)
    gate = commands.add_parser("gate", help="judge a run against a baseline; exit status 0, 1, 3 or 4 by verdict")
    gate.add_argument("run", nargs="?", default="latest", help="name, part of a name, path, or latest (default)")
    gate.add_argument(
        "--gate",
        action="append",
        required=True,
        type=limits,
        metavar="METRIC:CHANGE",
        help="such as tokens_per_second:-5%%, or a bound, such as tokens_per_second:>=40; repeatable",
    )
    gate.add_argument("--baseline", default="main", metavar="NAME", help="baseline, or its folder (default: main)")
    gate.add_argument("--alpha", type=alpha, default=0.01, help="unchanged servers called slower (default: 0.01)")
    _add_may_differ(gate)
    add_results(gate)
    gate.set_defaults(command=_gate)

    baseline = commands.add_parser("baseline", help="list, show, add to and prune baselines")
    actions = baseline.add_subparsers(title="actions", required=True, metavar="ACTION")
    _add_action(actions, "list", "list the baselines", _list)
    _add_action(actions, "show", "show the sessions of one", _show).add_argument("name")
    add = _add_action(actions, "add", "make a recorded run a session of one", _add)
    add.add_argument("run", help="name, part of a name, path, or latest")
    add.add_argument("--name", default="main", help="the baseline (default: main)")
    _add_may_differ(add)
    prune = _add_action(actions, "prune", "remove the oldest sessions of one", _prune)
    prune.add_argument("name")
    which = prune.add_mutually_exclusive_group(required=True)
    which.add_argument("--keep", type=count, metavar="N", help="how many sessions to keep")
    which.add_argument(
        "--before", type=run_or_time, metavar="RUN", help="remove those older than this run, or day 20261122"
    )
    reanchor = _add_action(actions, "reanchor", "have one begin with a run, after a change that was meant", _reanchor)
    reanchor.add_argument("name")
    reanchor.add_argument("--since", required=True, metavar="RUN", help="the first run at the new level")
    _add_may_differ(reanchor)


def _add_action(actions: Any, name: str, text: str, command: Callable[[argparse.Namespace], int]) -> Any:
    parser = actions.add_parser(name, help=text)
    add_results(parser)
    parser.set_defaults(command=command)
    return parser


def _add_may_differ(parser: Any) -> None:
    parser.add_argument(
        "--may-differ",
        type=facts,
        default=("server_version",),
        metavar="KEY,…",
        help="what may differ from the baseline (default: server_version)",
    )


def _gate(options: argparse.Namespace) -> int:
    import shutil

    from pytest_modellens.gate.absolute import judge_absolute
    from pytest_modellens.gate.baseline import baseline_folder, read_baseline
    from pytest_modellens.gate.calibrations import known_for, read_calibrations
    from pytest_modellens.gate.recorded import RecordedRun, candidate_session, recorded_sides
    from pytest_modellens.gate.run import judge_run
    from pytest_modellens.gate.show import verdict_lines
    from pytest_modellens.gate.show_bounds import bound_lines
    from pytest_modellens.gate.specs import parse_bounds, parse_limits
    from pytest_modellens.storage import find_run

    try:
        changes, bounds = parse_limits(" ".join(options.gate)), parse_bounds(" ".join(options.gate))
    except ValueError as exc:
        raise ConfigError(f"--gate: {exc}") from None
    folder, calibrations = find_run(options.results, options.run), read_calibrations(options.results)
    # Together they err as seldom as one alone.
    alpha = options.alpha / (2 if changes and bounds else 1)
    width = shutil.get_terminal_size().columns
    lines: list[str] = []
    statuses = []
    if changes:
        about: dict[str, Any] = {
            "limits": changes,
            "alpha": alpha,
            "may_differ": options.may_differ,
            "calibrations": calibrations,
        }
        found = recorded_sides(folder, **about)
        if found is None:
            session = RecordedRun(folder).session()
            found = judge_run(read_baseline(baseline_folder(options.results, options.baseline)), session, **about)
        lines += verdict_lines(found, width=width)
        statuses.append(found.exit_status)
    if bounds:
        session = candidate_session(folder)
        if not session.cases:
            raise StorageError(f"{session.name}: nothing was measured")
        known = known_for(calibrations, session.machine, [bound.name for bound in bounds])
        bounded = judge_absolute(session, bounds, alpha=alpha, calibration=None if known is None else known.calibration)
        lines += bound_lines(bounded, width=width)
        statuses.append(bounded.exit_status)
    print("\n".join(lines))
    return min(statuses, key=(1, 4, 3, 0).index)


def _list(options: argparse.Namespace) -> int:
    from pytest_modellens.gate.baseline import baseline_folder, list_baselines, read_baseline

    names = list_baselines(options.results)
    if not names:
        print(f"no baselines in {options.results} (make one: pytest --provider … --modellens-update-baseline)")
        return 0
    width = max(len("baseline"), *map(len, names))
    print(f"{'baseline':{width}}  sessions  cases  newest")
    for name in names:
        try:
            sessions = read_baseline(baseline_folder(options.results, name)).sessions
        except StorageError as exc:
            print(f"{name:{width}}  {printable(str(exc), limit=500)}")
            continue
        cases = len({key for session in sessions for key in session.cases})
        print(f"{name:{width}}  {len(sessions):8}  {cases:5}  {sessions[-1].name if sessions else '–'}")
    return 0


def _show(options: argparse.Namespace) -> int:
    from pytest_modellens.gate.baseline import baseline_folder, check_baseline, read_baseline

    folder = baseline_folder(options.results, options.name)
    check_baseline(folder)
    baseline = read_baseline(folder)
    for session in baseline.sessions:
        print(f"{printable(session.name)}  {len(session.rows)} requests")
    newest = baseline.sessions[-1]
    for fact, value in newest.machine.items():
        print(f"  {fact}: {printable(str(value))}")
    for key, known in newest.cases.items():
        model, source = (printable(str(known[name])) for name in ("model", "tokens_source"))
        print(f"  {printable(key)}: {model}, tokens from {source}")
    return 0


def _add(options: argparse.Namespace) -> int:
    from pytest_modellens.gate.baseline import add_session, baseline_folder
    from pytest_modellens.gate.recorded import recorded_session
    from pytest_modellens.storage import find_run

    session, wrong = recorded_session(find_run(options.results, options.run))
    if wrong:
        raise StorageError(f"{session.name}: cannot be a baseline ({'; '.join(wrong)})")
    folder = baseline_folder(options.results, options.name)
    print(f"added: {add_session(folder, session, may_differ=options.may_differ)}")
    return 0


def _prune(options: argparse.Namespace) -> int:
    from pytest_modellens.gate.baseline import baseline_folder, check_baseline, prune, prune_before

    folder = baseline_folder(options.results, options.name)
    check_baseline(folder)
    removed = prune(folder, keep=options.keep) if options.keep else prune_before(folder, options.before)
    print(f"removed {len(removed)} sessions" + "".join(f"\n  {printable(name)}" for name in removed))
    return 0


def _reanchor(options: argparse.Namespace) -> int:
    from pytest_modellens.gate.anchoring import reanchor
    from pytest_modellens.gate.baseline import baseline_folder
    from pytest_modellens.gate.recorded import RecordedRun
    from pytest_modellens.storage import find_run

    since = RecordedRun(find_run(options.results, options.since)).name
    folder = baseline_folder(options.results, options.name)
    removed, added = reanchor(folder, options.results, since=since, may_differ=options.may_differ)
    for what, names in (("removed", removed), ("added", added)):
        print(f"{what} {len(names)} sessions" + "".join(f"\n  {printable(name)}" for name in names))
    print(f"baseline {options.name} begins with {printable(since)} (review it and commit it)")
    return 0
