"""Baselines on disk, and the commands that handle them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from pytest_modellens.cli import main
from pytest_modellens.errors import StorageError
from pytest_modellens.gate.baseline import KEPT, add_session, baseline_folder, list_baselines, prune, read_baseline
from pytest_modellens.gate.session import Fitness, case_key, differences, session_of

if TYPE_CHECKING:
    from pathlib import Path

    from pytest_modellens.gate.session import Session

META: dict[str, Any] = {
    "started_at": "2026-01-01T00:00:00.000Z",
    "exit_status": 0,
    "servers": {"vllm": {"version": "1", "models": [{"id": "m", "aliases": ["n"], "quantization": "Q4"}]}},
    "environment": {
        "machine": {"cpu_model": "Z80", "cores_usable": 2, "ram_total_mb": 4000.0, "gpus": [{"name": "H100"}]}
    },
}


def record(case: str = "a", number: int = 0, **more: Any) -> dict[str, Any]:
    return {
        "suite": "s.yaml",
        "case": case,
        "params": {},
        "provider": "vllm",
        "model": "m",
        "case_hash": "a" * 64,
        "round": number,
        "phase": "measured",
        "ok": True,
        "invalid": None,
        "expect_failures": [],
        "error_class": None,
        "tokens_source": "usage",
        "tokens_per_second_mode": "generation",
        "streamed": True,
        "concurrency": 1,
        "completion_tokens": 64,
        "tokens_per_second": 50.0 + number % 3,
        "ttft_ms": 12.3456789,
        "response": "secret",
        **more,
    }


def records(speed: float = 1.0) -> list[dict[str, Any]]:
    return [
        record(case, number, tokens_per_second=(50.0 + number % 3) * speed)
        for case in ("a", "b")
        for number in range(6)
    ]


def session(number: int = 1, speed: float = 1.0) -> Session:
    return session_of(f"202601{number:02}T000000Z-run", META, records(speed))


def unfit(meta: dict[str, Any], records: list[dict[str, Any]]) -> list[str]:
    fitness = Fitness()
    assert [*fitness.seen(records)] == records
    return fitness.wrong(meta)


def run_folder(results: Path, name: str, speed: float = 1.0, *, rows: Any = None, **meta: Any) -> None:
    folder = results / name
    folder.mkdir(parents=True)
    (folder / "run.json").write_text(json.dumps({**META, **meta}))
    lines = [json.dumps(row) + "\n" for row in rows or records(speed)]
    (folder / "requests.jsonl").write_text("".join(lines))


def test_session_keeps_numbers_and_facts_and_no_text() -> None:
    kept = session_of("r", META, [record(), record(phase="warmup"), record("b", 1, ok=False, error_class="timeout")])
    assert kept.rows == [
        {
            "case": "s.yaml::a (vllm)",
            "start": 0,
            "block": 0,
            "t": 0,
            "completion_tokens": 64,
            "ttft_ms": 12.3457,
            "ttfo_ms": None,
            "tpot_ms": None,
            "tokens_per_second": 50.0,
            "e2e_tokens_per_second": None,
            "total_time_ms": None,
            "goodput": None,
            "error": None,
        },
        {**dict.fromkeys(kept.rows[0]), "case": "s.yaml::b (vllm)", "start": 0, "block": 1, "t": 1, "error": "timeout"},
    ]
    assert kept.cases["s.yaml::a (vllm)"]["quantization"] == "Q4"
    assert kept.cases["s.yaml::a (vllm)"]["server_version"] == "1"
    assert kept.machine == {
        "cpu": "Z80",
        "cores": 2,
        "memory_gb": 4,
        "gpus": [{"name": "H100"}],
        "metric_definitions": 1,
    }


ASKED = {"suite": "s.yaml", "case": "a", "params": {}, "provider": "vllm"}


def test_goodput_of_a_request_is_whether_it_met_its_objectives() -> None:
    meta = {**META, "asked": [{**ASKED, "asked": {"slo": ["ttft_ms <= 12"]}}]}
    kept = session_of("r", meta, [record(slo_met=True), record(slo_met=False, ok=False), record("b", slo_met=None)])
    assert [row["goodput"] for row in kept.rows] == [1, 0, None]
    assert [facts["slo"] for facts in kept.cases.values()] == [["ttft_ms <= 12"], []]


def test_goodput_of_older_records_is_worked_out() -> None:
    meta = {**META, "asked": [{**ASKED, "asked": {"slo": ["ttft_ms <= 12"]}}]}
    older = [record(ttft_ms=11.0), record(), record(ttft_ms=11.0, ok=False), record("b")]
    assert [row["goodput"] for row in session_of("r", meta, older).rows] == [1, 0, 0, None]


@pytest.mark.parametrize(
    "asked", [None, "x", [3], [{}], [{**ASKED, "asked": {"slo": ["fast"]}}], [{"asked": {"slo": 3}}]]
)
def test_run_that_does_not_say_its_objectives_has_none(asked: Any) -> None:
    kept = session_of("r", {**META, "asked": asked}, [record()])
    assert kept.rows[0]["goodput"] is None
    assert kept.cases["s.yaml::a (vllm)"]["slo"] == []


def test_case_with_an_invalid_request_has_no_goodput() -> None:
    rows = [record(slo_met=True, invalid="client-bound"), record(slo_met=False, ok=False), record("b", slo_met=True)]
    assert [row["goodput"] for row in session_of("r", META, rows).rows] == [None, None, 1]


def test_sessions_of_other_objectives_go_into_one_baseline(tmp_path: Path) -> None:
    for number, bound in enumerate((12, 13)):
        meta = {**META, "asked": [{**ASKED, "asked": {"slo": [f"ttft_ms <= {bound}"]}}]}
        add_session(tmp_path / "main", session_of(f"2026010{number}T000000Z-run", meta, [record(slo_met=True)]))
    assert len(read_baseline(tmp_path / "main").sessions) == 2


def test_session_of_a_run_that_says_nothing_of_itself_has_unknown_facts() -> None:
    kept = session_of("r", {"servers": None, "environment": []}, [record(sent_ns=2_500_000_000)])
    assert kept.machine["cpu"] is None
    assert kept.machine["memory_gb"] is None
    assert kept.cases["s.yaml::a (vllm)"]["quantization"] is None
    assert kept.rows[0]["t"] == 2.5


def test_fact_that_a_failed_request_does_not_know_is_taken_from_the_next() -> None:
    kept = session_of("r", META, [record(ok=False, tokens_source="unknown"), record(number=1)])
    assert kept.cases["s.yaml::a (vllm)"]["tokens_source"] == "usage"


def test_key_of_a_case_names_its_place_in_the_matrix() -> None:
    assert case_key(record(params={"t": 0.7})) == 's.yaml::a{"t": 0.7} (vllm)'


def test_session_survives_the_disk(tmp_path: Path) -> None:
    folder = baseline_folder(tmp_path, "main")
    add_session(folder, session(2))
    add_session(folder, session(1))
    found = read_baseline(folder)
    assert [one.name for one in found.sessions] == ["20260101T000000Z-run", "20260102T000000Z-run"]
    assert found.sessions[0] == session(1)
    assert list_baselines(tmp_path) == ["main"]
    assert list_baselines(tmp_path / "none") == []
    assert read_baseline(tmp_path / "none").sessions == []


def test_baseline_keeps_the_newest_sessions(tmp_path: Path) -> None:
    for number in range(1, KEPT + 3):
        add_session(tmp_path, session(number))
    assert [one.name[:8] for one in read_baseline(tmp_path).sessions] == [
        f"202601{number:02}" for number in range(3, KEPT + 3)
    ]


def test_session_is_added_once(tmp_path: Path) -> None:
    add_session(tmp_path, session())
    with pytest.raises(StorageError, match="has the session 20260101T000000Z-run already"):
        add_session(tmp_path, session())


def test_name_that_leads_elsewhere_is_refused(tmp_path: Path) -> None:
    for name in ("..", ".hidden", "a b", ""):
        with pytest.raises(StorageError, match="must be letters, digits"):
            baseline_folder(tmp_path, name)
    assert baseline_folder(tmp_path, f"{tmp_path}/elsewhere") == tmp_path / "elsewhere"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda text: "", "is no session of a baseline (Input data was truncated; restore it from git or remove it)"),
        (lambda text: "[]", "is no session of a baseline (Expected `object`, got `array`; restore it from git"),
        (lambda text: text.replace('"rows"', '"lines"'), "is no session of a baseline (Object missing required field"),
        (
            lambda text: text.replace("50.0", "55.0"),
            "was changed after it was written (its hash differs; restore it from",
        ),
        (
            lambda text: text.replace('"schema_version": 1', '"schema_version": 2'),
            "written by a newer pytest-modellens (schema_version 2; upgrade it)",
        ),
    ],
)
def test_damaged_file_is_told(tmp_path: Path, change: Any, message: str) -> None:
    path = add_session(tmp_path, session())
    path.write_text(change(path.read_text()))
    with pytest.raises(StorageError) as caught:
        read_baseline(tmp_path)
    assert str(caught.value).startswith(f"{path}: ")
    assert message in str(caught.value)


def test_file_that_is_a_folder_is_told(tmp_path: Path) -> None:
    (tmp_path / "a.json").mkdir()
    with pytest.raises(StorageError, match=r"a\.json: cannot be read"):
        read_baseline(tmp_path)
    with pytest.raises(StorageError, match=r"a\.json: cannot be removed"):
        prune(tmp_path, keep=0)
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="cannot be written"):
        add_session(tmp_path / "file" / "b", session())


def test_every_difference_is_listed_once() -> None:
    other = msgspec.structs.replace(
        session(),
        machine={**session().machine, "cpu": "6502", "gpus": []},
        cases={
            **session().cases,
            "s.yaml::a (vllm)": {
                **session().cases["s.yaml::a (vllm)"],
                "case_hash": "b" * 64,
                "server_version": "2",
                "tokens_per_second_mode": None,
            },
        },
    )
    found = differences([session(), session()], other, may_differ=["server_version"])
    assert found == {
        "": ['cpu: "Z80" in the baseline, "6502" now', 'gpus: [{"name": "H100"}] in the baseline, [] now'],
        "s.yaml::a (vllm)": ["case_hash: aaaaaaaa… in the baseline, bbbbbbbb… now"],
    }


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"ok": False}, "1 of 2 requests failed"),
        ({"invalid": "client-bound"}, "1 of 2 requests are no valid measurement"),
        ({"expect_failures": ["no"]}, "1 of 2 requests were not answered as expected"),
    ],
)
def test_flawed_run_is_not_fit_for_a_baseline(change: Any, reason: str) -> None:
    assert unfit(META, [record(), record(number=1, **change)]) == [reason]


def test_degraded_or_empty_run_is_not_fit_for_a_baseline() -> None:
    assert unfit({**META, "degraded": [{}]}, [record()]) == ["1 measurements were degraded"]
    assert unfit(META, [record(phase="warmup")]) == ["nothing was measured"]
    assert unfit(META, [record()]) == []


def test_runs_are_added_judged_shown_and_pruned(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    at = f"--results={tmp_path}"
    for number in range(1, 6):
        run_folder(tmp_path, f"2026010{number}T000000Z-run", 1 + 0.002 * number)
        assert main(["baseline", "add", f"2026010{number}T000000Z-run", at]) == 0
    run_folder(tmp_path, "20260201T000000Z-same")
    run_folder(tmp_path, "20260202T000000Z-slow", 0.8)
    capsys.readouterr()
    gate = ["--gate", "tokens_per_second:-5%", at]
    assert main(["gate", "same", *gate]) == 0
    assert capsys.readouterr().out.startswith("gate: pass, against baseline main (5 sessions)\n")
    assert main(["gate", *gate]) == 1
    assert "gate: regression" in capsys.readouterr().out
    assert main(["baseline", "show", "main", at]) == 0
    shown = capsys.readouterr().out
    assert "20260105T000000Z-run  12 requests\n" in shown
    assert "  cpu: Z80\n" in shown
    assert "  s.yaml::a (vllm): m, tokens from usage\n" in shown
    assert main(["baseline", "prune", "main", "--keep=1", at]) == 0
    assert capsys.readouterr().out.startswith("removed 4 sessions\n  20260101T000000Z-run\n")
    assert main(["gate", "same", *gate]) == 3
    assert main(["gate", "same", "--baseline=other", *gate]) == 4
    assert main(["baseline", "list", at]) == 0
    assert capsys.readouterr().out.endswith("main             1      2  20260105T000000Z-run\n")


def recomputed(results: Path, of: str, name: str) -> None:
    run_folder(results, name, recomputed={"from": of, "measured_at": META["started_at"]}, started_at="2026-02-02")


def test_recomputed_run_is_the_session_that_it_was_made_of(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    at = f"--results={tmp_path}"
    run_folder(tmp_path, "20260101T000000Z-run")
    recomputed(tmp_path, "20260101T000000Z-run", "20260301T000000Z-run-recomputed")
    assert main(["baseline", "add", "latest", at]) == 0
    (session,) = read_baseline(baseline_folder(tmp_path, "main")).sessions
    assert (session.name, session.made_at) == ("20260101T000000Z-run", META["started_at"])
    capsys.readouterr()
    # The same measurements twice would look like two sessions that agree.
    assert main(["baseline", "add", "20260101T000000Z-run", at]) == 1
    assert "has the session 20260101T000000Z-run already" in capsys.readouterr().err


def test_run_is_not_compared_with_itself(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    at = f"--results={tmp_path}"
    for number in range(1, 7):
        run_folder(tmp_path, f"2026010{number}T000000Z-run", 0.8 if number == 6 else 1 + 0.002 * number)
        assert main(["baseline", "add", "latest", at]) == 0
    assert main(["gate", "latest", "--gate", "tokens_per_second:-5%", at]) == 1
    assert "gate: regression, against baseline main (5 sessions)" in capsys.readouterr().out


def test_failed_run_is_not_added(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run_folder(tmp_path, "20260101T000000Z-run", exit_status=1)
    assert main(["baseline", "add", "latest", f"--results={tmp_path}"]) == 1
    assert "20260101T000000Z-run: cannot be a baseline (the run failed, or was cut off)" in capsys.readouterr().err
    assert list_baselines(tmp_path) == []


def test_what_is_not_there_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    at = f"--results={tmp_path}"
    assert main(["baseline", "list", at]) == 0
    assert capsys.readouterr().out.startswith(f"no baselines in {tmp_path} (make one: ")
    for action in (["show", "main"], ["prune", "main", "--keep=1"], ["prune", "main", "--before=20260101"]):
        assert main(["baseline", *action, at]) == 1
        assert "no such baseline (modellens baseline list" in capsys.readouterr().err
    (tmp_path / "baselines" / "bad").mkdir(parents=True)
    (tmp_path / "baselines" / "bad" / "a.json").write_text("{")
    (tmp_path / "baselines" / "empty").mkdir()
    assert main(["baseline", "list", at]) == 0
    out = capsys.readouterr().out
    assert "a.json: is no session of a baseline" in out
    assert "empty            0      0  –" in out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["gate", "--gate", "ttft_ms:-5%"],
            "so its limit must be positive (got 'ttft_ms:-5%')",
        ),
        (["gate", "--gate", "ttft_ms:+5%", "--may-differ=weather"], "must be among case_hash, model, "),
        (["gate"], "the following arguments are required: --gate"),
        (
            ["gate", "--gate", "ttft_ms:<=5", "--alpha=nan"],
            "must be a probability above 0, and 0.2 at most (got 'nan')",
        ),
        (["gate", "--gate", "ttft_ms:<=5", "--alpha=7"], "must be a probability above 0, and 0.2 at most (got '7')"),
        (["baseline", "prune", "main", "--keep", "0"], "must be a whole number from 1 on (got '0')"),
        # Older than these are all sessions.
        (["baseline", "prune", "main", "--before", "latest"], "must be the name of a run, such as 2026"),
        (["baseline", "prune", "main", "--before", "2026-01-04"], "or a day, such as 20261122 (got '2026-01-04')"),
    ],
)
def test_wrong_usage_is_told(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    assert message in capsys.readouterr().err
