"""What a search found, within 80 columns, and harmless in a terminal."""

from __future__ import annotations

import pytest

from pytest_modellens.models import Model
from pytest_modellens.providers.discovery import FoundServer, Search
from pytest_modellens.report.providers_table import ProviderRow, providers_table, row_of, why_found, why_none


def found(name: str = "vllm", *models: str, port: int = 8000, also: tuple[str, ...] = ()) -> FoundServer:
    listed = tuple(Model(model, model, name) for model in models)
    return FoundServer(name, f"http://joe:secret@127.0.0.1:{port}/v1", "/version answers", also, "0.32.0", listed)


def test_table_shows_a_line_for_each_server_and_why() -> None:
    rows = [row_of(found("vllm", "tiny", "llama")), ProviderRow("ollama", "–", "http://127.0.0.1:11434")]
    assert providers_table(rows) == [
        "provider found URL                      version models",
        "vllm     yes   http://127.0.0.1:8000/v1 0.32.0  tiny, llama",
        "ollama   –     http://127.0.0.1:11434",
        "  vllm: /version answers",
    ]


@pytest.mark.parametrize("width", [20, 80, 100, 200])
def test_long_list_of_models_is_cut_and_counted(width: int) -> None:
    names = [f"organisation/model-{number}" for number in range(10_000)]
    lines = providers_table([row_of(found("vllm", *names))], width=width)
    assert max(map(len, lines)) < max(width, 80)
    assert lines[1].endswith(", … 10,000 in all") or "10,000 models, organisation/" in lines[1]


def test_one_long_name_of_many_is_cut() -> None:
    (_, line, _) = providers_table([row_of(found("vllm", "x" * 300, "y"))])
    assert "2 models, xxx" in line
    assert len(line) < 80
    (_, line, _) = providers_table([row_of(found("vllm", "x" * 300))])
    assert line.endswith("x…")
    assert len(line) < 80


def test_nothing_of_a_server_steers_the_terminal() -> None:
    hostile = FoundServer("vllm", "http://h/v1", "fact\x1b[2J", (), "\x1b[2J", (Model("\x1b[2J", "", "vllm"),))
    search = Search([hostile])
    assert "\x1b" not in "".join([*providers_table([row_of(hostile)]), why_found(search)])


def test_models_that_did_not_come_are_told() -> None:
    late = FoundServer("vllm", "http://h/v1", "fact")
    assert row_of(late) == ProviderRow(
        "vllm", "yes", "http://h/v1", "–", ("–",), "fact; its models did not come in time"
    )


def test_sentence_names_what_is_taken_why_and_what_else_there_is() -> None:
    search = Search([found("vllm", "tiny", also=("ollama",)), found("tgi", port=3000)])
    assert why_found(search) == (
        "vllm at http://127.0.0.1:8000/v1 (/version answers, and less exactly like ollama); "
        "also found: tgi at http://127.0.0.1:3000/v1"
    )
    assert row_of(search.found[0]).note == "/version answers (fits ollama too, less exactly)"


def test_sentence_names_what_was_tried_and_what_to_do() -> None:
    missed = {"http://127.0.0.1:1": "nothing listens", "http://joe:secret@127.0.0.1:2": "silent"}
    missed["http://127.0.0.1:3"] = "nothing listens"
    assert why_none(Search([], ["vllm", "tgi"], missed)) == (
        "no server of vllm, tgi found (nothing listens at 127.0.0.1:1, 127.0.0.1:3; silent at 127.0.0.1:2; start one, "
        "or give its address: --provider NAME=URL; without any server: pip install 'pytest-modellens[local]', "
        "modellens fetch, --provider local)"
    )
