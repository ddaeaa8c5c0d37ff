"""`load`, `slo` and what they have to do with the rest of a case."""

# ruff: noqa: E501 - a message stands on the line of what causes it

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import yaml
from jsonschema import Draft202012Validator

from pytest_modellens.load.plan import LoadPlan
from pytest_modellens.suite.case import case_hash
from pytest_modellens.suite.loading import rate
from pytest_modellens.suite.schema import json_schema
from pytest_modellens.suite.slo import Slo

if TYPE_CHECKING:
    from pytest_modellens.suite.schema import Case
    from tests.suite.conftest import Load, Problems


def suite(lines: str) -> str:
    return f"cases:\n- name: a\n  prompt: hi\n  {lines}\n"


def is_valid(text: str) -> bool:
    return bool(Draft202012Validator(json_schema()).is_valid(yaml.safe_load(text)))


@pytest.mark.parametrize(
    ("written", "plan"),
    [
        ("{concurrency: 8, requests: 200}", LoadPlan(concurrency=8, requests=200)),
        (
            "{concurrency: 2, duration: 60s, warmup: 10s, stagger: 50ms, seed: 7, max_error_rate: 1}",
            LoadPlan(concurrency=2, duration_s=60, warmup_s=10, stagger_s=0.05, seed=7, max_error_rate=1),
        ),
        ("{concurrency: 2, requests: 5, warmup: 20, ramp: 10s}", LoadPlan(concurrency=2, requests=5, warmup_requests=20, ramp_s=10)),
        ("{rate: 4/s, duration: 1m}", LoadPlan(rate=4, duration_s=60)),
        ("{rate: 120/m, requests: 9, arrival: poisson}", LoadPlan(rate=2, requests=9, arrival="poisson")),
        (
            "{rate: 36 / h, requests: 9, arrival: gamma, burstiness: 0.5, max_in_flight: 3}",
            LoadPlan(rate=0.01, requests=9, arrival="gamma", burstiness=0.5, max_in_flight=3),
        ),
    ],
)  # fmt: skip
def test_load_is_read_as_a_plan(load: Load, written: str, plan: LoadPlan) -> None:
    case = load(suite(f"load: {written}")).by_name["a"]
    assert case.load == plan
    assert [cell.id for cell in case.cells()] == [""]
    assert is_valid(suite(f"load: {written}"))


@pytest.mark.parametrize(
    ("written", "key", "ids", "values"),
    [
        ("{concurrency: [1, 2, 4], requests: 9}", "concurrency", ["concurrency1", "concurrency2", "concurrency4"], [1, 2, 4]),
        ("{rate: [1/s, 90/m], requests: 9}", "rate", ["rate1_s", "rate90_m"], ["1/s", "90/m"]),
    ],
)  # fmt: skip
def test_list_is_a_sweep(load: Load, written: str, key: str, ids: list[str], values: list[Any]) -> None:
    assert is_valid(suite(f"load: {written}"))
    cells = load(suite(f"load: {written}")).by_name["a"].cells()
    assert [cell.id for cell in cells] == ids
    assert [cell.params for cell in cells] == [{key: value} for value in values]
    plans = [cell.case.load for cell in cells if cell.case.load is not None]
    assert [plan.concurrency or plan.rate for plan in plans] == [1, 2, 4] if key == "concurrency" else [1, 1.5]


def test_sweep_turns_faster_than_the_matrix(load: Load) -> None:
    case = load(suite("load: {concurrency: [1, 2], requests: 9}\n  matrix: {seed: [1, 2]}")).by_name["a"]
    assert [cell.id for cell in case.cells()] == [
        "seed1-concurrency1", "seed1-concurrency2", "seed2-concurrency1", "seed2-concurrency2",
    ]  # fmt: skip


def test_load_of_defaults_is_inherited_and_taken_off(load: Load) -> None:
    text = """\
    defaults: {load: {concurrency: 2, requests: 9}, rounds: 3}
    cases:
    - {name: a, prompt: hi}
    - {name: b, prompt: hi, load: null, rounds: 7}
    - {name: c, prompt: hi, load: {rate: 1/s, requests: 1}}
    """
    cases = load(text).by_name
    assert cases["a"].load == LoadPlan(concurrency=2, requests=9)
    assert (cases["b"].load, cases["b"].rounds) == (None, 7)
    assert cases["c"].load == LoadPlan(rate=1, requests=1)


OF_LOAD = [
    ("load: 5", "'load' of case 'a' must be a mapping such as {concurrency: 8, requests: 200} (got 5)"),
    ("load: {concurrency: 0, requests: 9}", "'concurrency' of load of case 'a' must be a whole number from 1 to 10000 (got 0)"),
    ("load: {concurrency: [], requests: 9}", "'concurrency' of load of case 'a' must be a value or a list of 1 to 100 values (got 0 values)"),
    ("load: {concurrency: [1, 1], requests: 9}", "'concurrency' of load of case 'a' must not have a value twice (got 1)"),
    ("load: {concurrency: [1, x], requests: 9}", "'concurrency' of load of case 'a' must be a whole number from 1 to 10000 (got 'x')"),
    ("load: {rate: 4, requests: 9}", "'rate' of load of case 'a' must have a unit: write 4/s (got 4; units are /s, /m, /h)"),
    ("load: {rate: 0, requests: 9}", "'rate' of load of case 'a' must be a rate such as 4/s or 120/m (got 0)"),
    ("load: {rate: 0/s, requests: 9}", "'rate' of load of case 'a' must be above 0 and up to 100000/s (got '0/s')"),
    ("load: {rate: -1/s, requests: 9}", "'rate' of load of case 'a' must be a rate such as 4/s or 120/m (got '-1/s')"),
    ("load: {rate: 4/d, requests: 9}", "'rate' of load of case 'a' must be a rate such as 4/s or 120/m (got '4/d')"),
    ("load: {rate: true, requests: 9}", "'rate' of load of case 'a' must be a rate such as 4/s or 120/m (got true (unquoted yes, no, on and off are booleans in YAML))"),
    ("load: {rate: 100001/s, requests: 9}", "'rate' of load of case 'a' must be above 0 and up to 100000/s (got '100001/s')"),
    ("load: {rate: [1/s, 60/m], requests: 9}", "'rate' of load of case 'a' must not have a value twice (got '60/m')"),
    ("load: {rate: 4/s, concurrency: 2, requests: 9}", "load of case 'a' has both 'concurrency' (so many in flight) and 'rate' (so many started per second); keep one"),
    ("load: {requests: 9}", "load of case 'a' needs 'concurrency' (so many in flight) or 'rate' (started per second)"),
    ("load: {rate: 4/s}", "load of case 'a' needs 'duration' or 'requests', else it would never end"),
    ("load: {rate: 4/s, duration: 60}", "'duration' of load of case 'a' must have a unit: write 60s for seconds (got 60; units are ms, s, m, h)"),
    ("load: {rate: 4/s, requests: 9, warmup: 10 s x}", "'warmup' of load of case 'a' must be a duration such as 10s, or a number of requests (got '10 s x')"),
    ("load: {rate: 4/s, requests: 9, warmup: -1}", "'warmup' of load of case 'a' must be a duration such as 10s, or a number of requests (got -1)"),
    ("load: {rate: 4/s, requests: 9, burstiness: 0.5}", "'burstiness' of load of case 'a' needs 'arrival: gamma'"),
    ("load: {rate: 4/s, requests: 9, arrival: gamma}", "'arrival: gamma' of load of case 'a' needs 'burstiness' (1 is Poisson)"),
    ("load: {rate: 4/s, requests: 9, arrival: gamma, burstiness: 0}", "'burstiness' of load of case 'a' must be a number above 0 and up to 1000 (got 0)"),
    ("load: {rate: 4/s, requests: 9, arrival: uniform}", "'arrival' of load of case 'a' must be constant, poisson or gamma (got 'uniform')"),
    ("load: {rate: 4/s, requests: 9, stagger: 50ms}", "'stagger' of load of case 'a' goes with 'concurrency' only"),
    ("load: {concurrency: 4, requests: 9, arrival: poisson}", "'arrival' of load of case 'a' goes with 'rate' only"),
    ("load: {concurrency: 4, requests: 9, max_in_flight: 4}", "'max_in_flight' of load of case 'a' goes with 'rate' only"),
    ("load: {concurrency: 4, requests: 9, ramp: 1s, stagger: 1s}", "load of case 'a' has both 'stagger' and 'ramp' (keep one)"),
    ("load: {concurrency: [4, 16], requests: 9}", "'requests' of load of case 'a' is less than its 'concurrency', 16: so many would never be in flight"),
    ("load: {concurency: 4, requests: 9}", "unknown key 'concurency' in load of case 'a' (did you mean 'concurrency'?)"),
    ("load: {rate: 4/s, request: 9}", "unknown key 'request' in load of case 'a' (did you mean 'requests'?)"),
    ("load: {rate: 4/s, requests: 9, max_error_rate: 2}", "'max_error_rate' of load of case 'a' must be a number from 0 to 1 (got 2)"),
    ("matrix: {load: [1]}", "'load' cannot be in the matrix of case 'a'"),
    ("slo: 5", "'slo' of case 'a' must be a mapping such as {ttft_ms: 500, tpot_ms: 50} (got 5)"),
    ("slo: {ttft_ms: 0}", "'ttft_ms' of slo of case 'a' must be a number above 0 and up to 1e+09 (got 0)"),
    ("slo: {ttft_ms: '< 500'}", "'ttft_ms' of slo of case 'a' must be a number above 0 and up to 1e+09 (got '< 500')"),
    ("slo: {tttf_ms: 5}", "unknown key 'tttf_ms' in slo of case 'a' (did you mean 'ttft_ms'?)"),
]  # fmt: skip

# Relations between values, which the schema does not know.
BEYOND = (
    "load: {rate: 0/s", "load: {rate: 100001/s", "load: {rate: [1/s, 60/m]", "load: {rate: 4/s, requests: 9, burst",
    "load: {rate: 4/s, requests: 9, arrival: gamma}", "load: {concurrency: 4, requests: 9, ramp", "load: {concurrency: [4, 16]",
)  # fmt: skip


@pytest.mark.parametrize(("line", "expected"), OF_LOAD, ids=[line for line, _ in OF_LOAD])
def test_suite_error_of_load(problems: Problems, line: str, expected: str) -> None:
    assert problems(suite(line)) == [f"s.yaml:4: {expected}"]


@pytest.mark.parametrize("line", [line for line, _ in OF_LOAD if not line.startswith(BEYOND)])
def test_schema_refuses_a_load_that_the_loader_refuses(line: str) -> None:
    assert not is_valid(suite(line))


def test_schema_knows_that_null_is_no_load() -> None:
    assert is_valid(suite("load: null\n  slo: null"))


def test_errors_of_a_sweep_are_named_by_their_lines(problems: Problems) -> None:
    assert problems(suite("load:\n    requests: 9\n    rate:\n    - 1/s\n    - 2")) == [
        "s.yaml:8: 'rate' of load of case 'a' must have a unit: write 2/s (got 2; units are /s, /m, /h)"
    ]


@pytest.mark.parametrize(
    ("key", "instead"), [("rounds", "requests"), ("warmup", "warmup"), ("concurrency", "concurrency")]
)
def test_keys_of_rounds_do_not_go_with_load(problems: Problems, key: str, instead: str) -> None:
    load = "load: {rate: 1/s, requests: 9}"
    sentence = f"{key!r} of case 'a' does not go with 'load' (write {instead!r} in 'load'"
    assert problems(suite(f"{load}\n  {key}: 3")) == [f"s.yaml:5: {sentence})"]
    assert problems(suite(f"{load}\n  matrix:\n    {key}: [3]")) == [f"s.yaml:6: {sentence})"]
    assert problems(f"defaults: {{{load}}}\n{suite(f'{key}: 3')}") == [
        f"s.yaml:5: {sentence}; 'load: null' takes the load of the defaults off the case)"
    ]


def test_huge_sweep_counts_as_cells(problems: Problems) -> None:
    load = f"load: {{concurrency: {list(range(1, 101))}, requests: 100}}"
    found = problems(suite(f"{load}\n  matrix: {{seed: {list(range(1001))}}}"))
    assert found == ["s.yaml:2: the suite has more than 100,000 cells, from case 'a' on"]


def test_slo_is_read(load: Load) -> None:
    case = load(suite("slo: {ttft_ms: 500, tokens_per_second: 20}")).by_name["a"]
    assert case.slo == (Slo("ttft_ms", 500), Slo("tokens_per_second", 20))
    assert list(map(str, case.slo)) == ["ttft_ms <= 500", "tokens_per_second >= 20"]
    assert load(suite("slo: null")).by_name["a"].slo == ()


@pytest.mark.parametrize("metric", ["ttft_ms", "ttfo_ms", "tpot_ms"])
def test_slo_that_cannot_be_measured_is_an_error(problems: Problems, metric: str) -> None:
    assert problems(suite(f"stream: false\n  slo:\n    {metric}: 5")) == [
        f"s.yaml:6: SLO {metric!r} of case 'a' can never be measured: {metric} needs 'stream: true'"
    ]


@pytest.mark.parametrize(
    ("slo", "record", "met"),
    [
        (Slo("ttft_ms", 500), {"ttft_ms": 500.0}, True),
        (Slo("ttft_ms", 500), {"ttft_ms": 500.1}, False),
        (Slo("ttft_ms", 500), {"ttft_ms": None, "completion_tokens": 1}, False),
        (Slo("tokens_per_second", 20), {"tokens_per_second": 20.0}, True),
        (Slo("tokens_per_second", 20), {"tokens_per_second": 19.9}, False),
        (Slo("tpot_ms", 5), {"tpot_ms": None, "completion_tokens": 1}, True),
        (Slo("tpot_ms", 5), {"tpot_ms": None, "completion_tokens": 2}, False),
        (Slo("tpot_ms", 5), {"tpot_ms": None, "completion_tokens": 3, "total_time_ms": 10.0}, True),
        (Slo("tpot_ms", 5), {"tpot_ms": None, "completion_tokens": 3, "total_time_ms": 10.1}, False),
        (Slo("tokens_per_second", 200), {"completion_tokens": 3, "total_time_ms": 10.0}, True),
        (Slo("tokens_per_second", 200), {"completion_tokens": 3, "total_time_ms": 10.1}, False),
        (Slo("ttft_ms", 5), {"completion_tokens": 3, "total_time_ms": 1.0}, False),
        (Slo("tpot_ms", 5), {}, False),
    ],
)
def test_slo_is_met_or_not(slo: Slo, record: dict[str, Any], met: bool) -> None:
    assert slo.is_met(record) is met


def hashed(load: Load, lines: str) -> str:
    case: Case = load(suite(lines)).by_name["a"]
    return case_hash(case)


def test_hash_knows_the_shape_of_a_load_and_not_its_length(load: Load) -> None:
    base = hashed(load, "load: {concurrency: 2, requests: 9}")
    same = (
        "load: {concurrency: 2, requests: 10, warmup: 5, max_error_rate: 1}",
        "load: {concurrency: 2, duration: 1s}\n  slo: {ttft_ms: 5}",
    )
    assert {hashed(load, lines) for lines in same} == {base}
    others = ("load: null", "load: {concurrency: 3, requests: 9}", "load: {concurrency: [2], requests: 9}",
              "load: {concurrency: [2, 3], requests: 9}", "load: {rate: 2/s, requests: 9}",
              "load: {concurrency: 2, requests: 9, ramp: 1s}")  # fmt: skip
    assert len({base, *(hashed(load, lines) for lines in others)}) == 1 + len(others)


def test_rate_has_one_kind() -> None:
    assert rate().schema["type"] == "string"
