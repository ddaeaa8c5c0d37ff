"""What the entries of model lists say, as servers and those in front of them write them."""

from __future__ import annotations

from typing import Any

import pytest

from pytest_modellens.models import Model
from pytest_modellens.providers.listing import described
from pytest_modellens.providers.openwebui import OpenWebUIProvider
from tests.transcripts.loader import Transcript


def test_entry_of_open_webui_has_what_the_server_behind_it_says() -> None:
    provider = OpenWebUIProvider("http://127.0.0.1:1/api/v1")
    (entry,) = Transcript("openwebui", "models").json()["data"]
    name = "smollm2-135m-instruct"
    assert provider.model_from(entry) == Model(name, name, "openwebui", "135M", "Q4_1", 96576768, (name,), 4096)
    details = {"parameter_size": "7B", "quantization_level": "Q4_0"}
    behind = {"id": "a:1b", "owned_by": "ollama", "ollama": {"size": 5, "details": details}}
    assert provider.model_from(behind) == Model("a:1b", "a:1b", "openwebui", "7B", "Q4_0", 5)


@pytest.mark.parametrize(
    ("count", "shown"),
    [(8_030_261_248, "8B"), (1_540_000_000, "1.5B"), (134_515_008, "135M"), (70_553_706_496, "70.6B"), (999, "999")],
)
def test_parameter_counts_are_written_as_people_do(count: int, shown: str) -> None:
    assert described({"id": "a", "meta": {"n_params": count}}, "p").parameters == shown


@pytest.mark.parametrize("nothing", [0, "", None, True, -1, [], 2.5])
def test_values_that_are_none_are_unknown(nothing: object) -> None:
    meta = {"n_params": nothing, "size": nothing, "n_ctx": nothing, "ftype": nothing}
    entry: dict[str, Any] = {"id": "a", "name": nothing, "root": nothing, "meta": meta, "max_model_len": nothing}
    assert described(entry, "p") == Model("a", "a", "p")
