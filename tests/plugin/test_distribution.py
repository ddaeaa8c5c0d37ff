"""Under xdist the records, the run and the verdicts are those of one process."""

from __future__ import annotations

import time
from threading import Lock
from typing import TYPE_CHECKING, Any

from tests.plugin.conftest import SUITE

if TYPE_CHECKING:
    from pytest_modellens.storage import Run
    from tests.plugin.conftest import Project
    from tests.plugin.fake_server import FakeServer

MEASURED = (
    *("_ms", "_per_second", "_mode", "first_event_tokens", "hardware", "timeline", "timings"),
    *("started_at", "worker", "reads", "connection_reused", "clock", "clock_note"),
)


def shape(run: Run) -> list[dict[str, Any]]:
    """Return the records without what differs between any two runs."""
    plain = [{k: v for k, v in r.items() if not k.endswith(MEASURED)} for r in run.records]
    return sorted(plain, key=lambda r: (r["case"], str(r["params"]), r["phase"], r["round"]))


def test_two_workers_keep_the_same_records_in_one_run(project: Project, server: FakeServer) -> None:
    project.suite(SUITE + "  - {name: wrong, prompt: hi, expect: {contains: London}}\n")
    project.run(server, "--modellens-results=one").assert_outcomes(passed=3, failed=1)
    alone = len(server.chats)
    result = project.run_apart(server, "-n", "2", "--modellens-results=two", "--junitxml=out.xml")
    result.assert_outcomes(passed=3, failed=1)
    assert len(server.chats) == 2 * alone

    from pytest_modellens.storage import find_run, read_run

    one, two = (read_run(find_run(project.path / name, "latest")) for name in ("one", "two"))
    assert len([*(project.path / "two").glob("2*")]) == 1
    assert shape(one) == shape(two)
    assert {record["worker"] for record in one.records} == {None}
    assert {record["worker"] for record in two.records} <= {"gw0", "gw1"}
    assert one.meta["suites"] == two.meta["suites"]
    assert one.meta["counts"] == two.meta["counts"]
    assert {*one.meta["servers"]} == {*two.meta["servers"]}
    result.stdout.fnmatch_lines(["summary[[]temperature=0.0] llamacpp 2 *✓"])
    result.stdout.fnmatch_lines(["wrong *✗"])
    assert "modellens_ttft_ms" in (project.path / "out.xml").read_text()
    project.run(server, "--lf").assert_outcomes(failed=1)


def test_worker_that_dies_loses_only_its_own_item(project: Project, server: FakeServer) -> None:
    project.suite()
    project.write("test_crash.py", "import os\ndef test_crash(): os._exit(3)\n")
    result = project.run_apart(server, "-n", "1")
    result.assert_outcomes(passed=3, failed=1)
    assert len(project.result.records) == 9


def test_measurements_of_one_server_never_overlap(project: Project, server: FakeServer) -> None:
    answer, lock, under_way, most = server.answer, Lock(), [0], [0]

    def watch(chat: Any) -> None:
        with lock:
            under_way[0] += 1
            most[0] = max(most[0], under_way[0])
        time.sleep(0.01)
        # Before it is answered: who asks next may do so while this thread has not gone on.
        with lock:
            under_way[0] -= 1
        answer(chat)

    server.answer = watch
    project.suite("defaults: {rounds: 20, warmup: 0}\ncases:\n- {name: a, prompt: hi}\n- {name: b, prompt: hi}\n")
    project.run_apart(server, "-n", "2").assert_outcomes(passed=2)
    assert len(server.chats) == 40
    assert most == [1]
