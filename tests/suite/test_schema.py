from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from jsonschema import Draft202012Validator

import pytest_modellens.suite
from pytest_modellens.suite.loader import load_suite
from pytest_modellens.suite.schema import CASE_KEYS, json_schema
from tests.suite.test_loader import FULL
from tests.suite.test_loader_errors import OF_CASE

if TYPE_CHECKING:
    from collections.abc import Iterator

SUITES = sorted((Path(__file__).parents[2] / "suites").glob("*.yaml"))
COMMITTED = Path(pytest_modellens.suite.__file__).parent / "suite.schema.json"


def is_valid(document: Any) -> bool:
    return bool(Draft202012Validator(json_schema()).is_valid(document))


def test_committed_schema_is_the_generated_one() -> None:
    """To renew it: `python -m json.tool` of what `json_schema()` returns, or `modellens schema`."""
    assert COMMITTED.read_text(encoding="utf-8") == json.dumps(json_schema(), indent=2, ensure_ascii=False) + "\n"


def test_schema_is_a_schema() -> None:
    Draft202012Validator.check_schema(json_schema())


def _properties(schema: Any, path: str = "$") -> Iterator[tuple[str, Any]]:
    if isinstance(schema, dict):
        for name, value in schema.items():
            if name == "properties":
                yield from ((f"{path}.{key}", inner) for key, inner in value.items())
            yield from _properties(value, f"{path}.{name}")


def test_schema_describes_every_key() -> None:
    assert [
        path for path, inner in _properties(json_schema()) if "$ref" not in inner and not inner.get("description")
    ] == []


def test_schema_knows_the_keys_of_the_loader() -> None:
    assert set(json_schema()["$defs"]["case"]["properties"]) == set(CASE_KEYS)


def test_schema_accepts_what_the_loader_accepts() -> None:
    assert is_valid(yaml.safe_load(FULL.replace("timeout: 1.5 m", "timeout: 1.5m").replace("on: {yes: no}", "on1: 1")))


# What the loader alone can know: relations between keys, and the insides of texts.
BEYOND = (
    "seed: 0b", "extra_body: {x", "expect: {regex", "expect: {json_schema: {", "expect: {min_tokens", "headers: ",
    "amplifier: {x",
    "timeout: 0s", "timeout: 25h", "base_url", "prompt: ' '", "marks: [skipif]",
    "max_tokens: 6.0", "temperature: .nan",  # to JSON Schema, 6.0 is an integer; JSON has no NaN
)  # fmt: skip


@pytest.mark.parametrize("line", [line for line, _ in OF_CASE if not line.startswith(BEYOND)])
def test_schema_refuses_what_the_loader_refuses(line: str) -> None:
    own = line if line.startswith("prompt") else f"prompt: hi\n  {line}"
    assert not is_valid(yaml.safe_load(f"cases:\n- name: a\n  {own}\n"))


@pytest.mark.parametrize("path", SUITES, ids=lambda path: path.name)
def test_shipped_suite_loads_and_matches_the_schema(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert text.startswith("# yaml-language-server: $schema=../pytest_modellens/suite/suite.schema.json\n")
    assert is_valid(yaml.safe_load(text))
    suite = load_suite(path, env={})
    assert suite.description
    assert all(cell.case.prompt or cell.case.messages for cell in suite.cells())


def test_shipped_suites_are_the_four() -> None:
    assert [path.stem for path in SUITES] == ["chat", "long-context", "smoke", "throughput"]
