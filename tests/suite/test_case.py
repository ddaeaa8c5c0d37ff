from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pytest_modellens.suite.schema import Case, Cell, Suite, case_hash, suite_hash

if TYPE_CHECKING:
    from tests.suite.conftest import Load

CASE = Case(name="a", line=1, prompt="hi")


def test_case_without_matrix_has_one_cell_without_id() -> None:
    assert CASE.cells() == (Cell(CASE, {}, ""),)


def test_cells_are_all_combinations_with_values_applied(load: Load) -> None:
    case = load("cases: [{name: a, prompt: x, matrix: {temperature: [0, 0.7], timeout: [5s, 2m]}}]").cases[0]
    cells = case.cells()
    assert [cell.id for cell in cells] == [
        "temperature0-timeout5s",
        "temperature0-timeout2m",
        "temperature0.7-timeout5s",
        "temperature0.7-timeout2m",
    ]
    assert cells[3].params == {"temperature": 0.7, "timeout": "2m"}
    assert (cells[3].case.temperature, cells[3].case.timeout_s) == (0.7, 120.0)
    assert cells[3].case.matrix == {"temperature": (0, 0.7), "timeout": ("5s", "2m")}


def test_every_scalar_key_can_be_swept(load: Load, tmp_path: Path) -> None:
    (tmp_path / "p.txt").write_text("one")
    (tmp_path / "q.txt").write_text("two")
    axes: dict[str, list[Any]] = {
        "prompt": ["x", "y"],
        "prompt_file": ["p.txt", "q.txt"],
        "system_prompt": [None, "s"],
        "model": ["m/1", None],
        "stream": [True, False],
        "max_tokens": [1, 2],
        "temperature": [0.5, 1],
        "top_p": [0.5, 1],
        "seed": [None, 1],
        "rounds": [1, 2],
        "warmup": [0, 1],
        "concurrency": [1, 2],
        "cache": ["cold", "warm"],
        "timeout": ["5s", "5m"],
        "stall_timeout": [None, "5s"],
    }
    for key, values in axes.items():
        written = str(values).replace("None", "null").replace("True", "true").replace("False", "false")
        source = "" if key.startswith("prompt") else "prompt: x, "
        first, second = load(f"cases: [{{name: a, {source}matrix: {{{key}: {written}}}}}]").cases[0].cells()
        assert (first.params, second.params) == ({key: values[0]}, {key: values[1]})
        assert first.case != second.case
    assert (first.id, second.id) == ("stall_timeoutnull", "stall_timeout5s")


@pytest.mark.parametrize(
    ("key", "values", "ids"),
    [
        ("prompt", ("a b\x1b[31m::c", "a b\x1b[31m::d"), ["prompta_b_31m_c", "prompta_b_31m_d"]),
        ("prompt", ("é", "è", "ê"), ["prompt_", "prompt_.2", "prompt_.3"]),
        ("prompt", ("x" * 500 + "1", "x" * 500 + "2"), ["prompt" + "x" * 32, "prompt" + "x" * 32 + ".2"]),
        ("prompt", ("é", "_.2", "è"), ["prompt_", "prompt_.2", "prompt_.3"]),
        ("stream", (True, False), ["streamtrue", "streamfalse"]),
        ("seed", (None, 1), ["seednull", "seed1"]),
        ("model", ("org/tiny-1.5b:q4",), ["modelorg_tiny-1.5b_q4"]),
    ],
)
def test_cell_ids_are_unique_and_printable(key: str, values: tuple[Any, ...], ids: list[str]) -> None:
    case = replace(CASE, matrix={key: values}, overrides={key: values})
    assert [cell.id for cell in case.cells()] == ids


def test_cell_id_of_a_prompt_file_is_its_stem() -> None:
    case = replace(CASE, matrix={"prompt_file": ("p/long.txt",)}, overrides={"prompt": ("text",)})
    assert [(cell.id, cell.case.prompt) for cell in case.cells()] == [("prompt_filelong", "text")]


def test_suite_finds_cases_by_name_and_lists_cells() -> None:
    other = replace(CASE, name="b", matrix={"seed": (1, 2)}, overrides={"seed": (1, 2)})
    suite = Suite(Path("s.yaml"), "", (CASE, other), suite_hash((CASE, other)))
    assert suite.by_name["b"] is other
    assert [cell.id for cell in suite.cells()] == ["", "seed1", "seed2"]


@pytest.mark.parametrize(
    "change",
    [
        {"name": "b"},
        {"prompt": "ho"},
        {"prompt": "x" * 5000},
        {"system_prompt": "s"},
        {"messages": ({"role": "user", "content": "x"},)},
        {"model": "m"},
        {"stream": False},
        {"max_tokens": 5},
        {"temperature": 0.1},
        {"top_p": 0.1},
        {"seed": None},
        {"cache": "cold"},
        {"concurrency": 2},
        {"extra_body": {"x": 1}},
        {"amplifier": {"max_tokens": 5}},
        {"matrix": {"seed": (1,)}, "overrides": {"seed": (1,)}},
        {"matrix": {"prompt": ("y",)}, "overrides": {"prompt": ("y",)}},
    ],
)
def test_hash_changes_with_what_is_sent(change: dict[str, Any]) -> None:
    assert case_hash(replace(CASE, **change)) != case_hash(CASE)
    assert suite_hash((replace(CASE, **change),)) != suite_hash((CASE,))


@pytest.mark.parametrize(
    "change",
    [
        {"line": 9},
        {"description": "d"},
        {"marks": ("m",)},
        {"rounds": 9},
        {"warmup": 9},
        {"timeout_s": 9.0},
        {"headers": {"a": "b"}},
        {"base_url": "http://x"},
        {"amplifier": {"base_url": "http://x", "api_key": "k"}},
    ],
)
def test_hash_stays_with_what_only_judges_repeats_or_addresses(change: dict[str, Any]) -> None:
    assert case_hash(replace(CASE, **change)) == case_hash(CASE)


def test_hash_does_not_depend_on_comments_layout_or_order(load: Load) -> None:
    first = load("cases: [{name: a, prompt: x}, {name: b, prompt: y, extra_body: {p: 1, q: 2}}]")
    second = load(
        "# other\ncases:\n- {prompt: y, name: b, seed: 0, extra_body: {q: 2, p: 1}}\n- prompt: 'x'\n  name: a\n"
    )
    assert first.hash == second.hash
    assert len(first.hash) == 64
