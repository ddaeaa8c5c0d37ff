"""`dataset` and `synthetic`: many prompts for one case."""

# ruff: noqa: E501 - a message stands on the line of what causes it

from __future__ import annotations

import csv
import json
from itertools import islice
from random import Random
from statistics import fmean, pstdev
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from jsonschema import Draft202012Validator

from pytest_modellens.errors import SuiteError
from pytest_modellens.runner import request_of
from pytest_modellens.suite import dataset as dataset_module
from pytest_modellens.suite.case import case_hash
from pytest_modellens.suite.dataset import Row
from pytest_modellens.suite.prompts import prompts, requests
from pytest_modellens.suite.schema import json_schema
from pytest_modellens.suite.synthetic import Length, Synthetic

if TYPE_CHECKING:
    from pathlib import Path

    from pytest_modellens.models import RunRequest
    from pytest_modellens.suite.schema import Case
    from tests.suite.conftest import Load, Problems

MESSAGES = [{"role": "user", "content": "hi"}]


def suite(lines: str) -> str:
    return f"cases:\n- name: a\n  {lines}\n"


def is_valid(text: str) -> bool:
    return bool(Draft202012Validator(json_schema()).is_valid(yaml.safe_load(text)))


def read(load: Load, lines: str, **env: str) -> Case:
    return load(suite(lines), env=env).by_name["a"]


def taken(case: Case, n: int) -> list[Row]:
    return list(islice(prompts(case), n))


def sent(case: Case, n: int) -> list[RunRequest]:
    return list(islice(requests(case, "m", request_of), n))


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("p.jsonl", '{"prompt": "one"}\n\n{"prompt": "two", "x": 1}\r\n"three"\n'),
        ("p.NDJSON", '{"prompt": "one"}\n{"prompt": "two"}\n{"prompt": "three"}'),
        ("p.json", ' [ "one",\n {"prompt": "two"} , {"prompt":\n"three"}] '),
        ("p.csv", 'id,prompt\n1,one\n2,"two"\n\n3,three\n'),
        ("p.txt", "\ufeffone\ntwo\n  \nthree"),
    ],
)
def test_dataset_formats(load: Load, tmp_path: Path, name: str, content: str) -> None:
    (tmp_path / name).write_text(content, encoding="utf-8", newline="")
    case = read(load, f"dataset: {{file: {name}}}")
    assert [row.prompt for row in taken(case, 4)] == ["one", "two", "three", "one"]
    assert is_valid(suite(f"dataset: {{file: {name}}}"))


def test_line_separators_within_a_prompt_stay_there(load: Load, tmp_path: Path) -> None:
    (tmp_path / "p.txt").write_text("a\u2028b\x0bc\nd", encoding="utf-8")
    (tmp_path / "p.csv").write_text('prompt\na\u2028b\n"c\nd"\n', encoding="utf-8")
    assert [row.prompt for row in taken(read(load, "dataset: {file: p.txt}"), 2)] == ["a\u2028b\x0bc", "d"]
    assert [row.prompt for row in taken(read(load, "dataset: {file: p.csv}"), 2)] == ["a\u2028b", "c\nd"]


def test_field_may_hold_a_conversation(load: Load, tmp_path: Path) -> None:
    rows = [{"chat": MESSAGES}, {"chat": [{"role": "system", "content": "own"}, *MESSAGES]}]
    (tmp_path / "p.jsonl").write_text("\n".join(map(json.dumps, rows)))
    case = read(load, "dataset: {file: p.jsonl, field: chat}\n  system_prompt: be terse")
    first, second = sent(case, 2)
    assert first.conversation() == [{"role": "system", "content": "be terse"}, *MESSAGES]
    assert second.conversation() == rows[1]["chat"]
    bare = read(load, "dataset: {file: p.jsonl, field: chat}")
    assert sent(bare, 1)[0].conversation() == MESSAGES


def test_max_tokens_come_from_the_row(load: Load, tmp_path: Path) -> None:
    (tmp_path / "p.csv").write_text("prompt,n\na,5\nb,6\n")
    case = read(load, "dataset: {file: p.csv, max_tokens_field: n}\n  system_prompt: s")
    assert [(request.prompt, request.max_tokens) for request in sent(case, 2)] == [("a", 5), ("b", 6)]
    assert sent(case, 1)[0].conversation()[0] == {"role": "system", "content": "s"}


def test_prompt_of_a_csv_may_be_long(load: Load, tmp_path: Path) -> None:
    limit = csv.field_size_limit()
    (tmp_path / "p.csv").write_text(f"prompt,n\n{'a' * 200_000},5\n")
    assert len(sent(read(load, "dataset: {file: p.csv}"), 1)[0].prompt) == 200_000
    assert csv.field_size_limit() == limit  # it is the whole process's


def test_sample_is_random_without_replacement_and_the_same_for_a_seed(load: Load, tmp_path: Path) -> None:
    (tmp_path / "p.txt").write_text("\n".join(map(str, range(100))))
    first, again, other = (
        [row.prompt for row in taken(read(load, f"dataset: {{file: p.txt, sample: 50, seed: {seed}}}"), 51)]
        for seed in (1, 1, 2)
    )
    assert first == again != other
    assert len(set(first[:50])) == 50
    assert first[50] == first[0]


def test_environment_expands_in_the_file_and_is_not_shown(load: Load, tmp_path: Path) -> None:
    (tmp_path / "secret.txt").write_text("one")
    case = read(load, "dataset: {file: '${SET}.txt'}", SET="secret")
    assert taken(case, 1) == [Row("one")]
    assert "secret" not in repr(case.dataset)


def test_hash_is_over_the_bytes_of_the_file(load: Load, tmp_path: Path) -> None:
    path = tmp_path / "p.txt"
    path.write_text("one")
    case = read(load, "dataset: {file: p.txt}")
    before = case_hash(case)
    assert case_hash(read(load, "dataset: {file: p.txt, sample: 1}")) != before
    path.write_text("two!")
    assert case_hash(case) != before
    path.unlink()
    assert case.dataset is not None
    assert case.dataset.digest() == ""


def test_dataset_is_read_only_when_it_is_needed(load: Load, tmp_path: Path) -> None:
    (tmp_path / "p.jsonl").write_text("not JSON")
    case = read(load, "dataset: {file: p.jsonl}")
    with pytest.raises(SuiteError, match="not JSON"):
        prompts(case)


BAD_FILES = [
    ("p.jsonl", '{"prompt": "a"}\n{"prompt', "2: is not JSON (Unterminated string starting at)"),
    ("p.jsonl", "[" * 100_000, "1: is not JSON (*)"),
    ("p.jsonl", '{"prompt": "a"}\n5', "2: must be an object with a field 'prompt', or text (got a number)"),
    ("p.jsonl", "null", "1: must be an object with a field 'prompt', or text (got null)"),
    ("p.jsonl", '{"q": 1, "r": 2}', "1: has no field 'prompt' (there is 'q', 'r')"),
    ("p.jsonl", "{}", "1: has no field 'prompt' (there is none)"),
    ("p.jsonl", '{"prompt": true}', "1: field 'prompt' must be text or a list of messages (got a boolean)"),
    ("p.jsonl", '{"prompt": {}}', "1: field 'prompt' must be text or a list of messages (got an object)"),
    ("p.jsonl", '{"prompt": " "}', "1: field 'prompt' is empty"),
    ("p.jsonl", '{"prompt": []}', "1: field 'prompt' is an empty list of messages"),
    ("p.jsonl", '{"prompt": ["x"]}', "1: field 'prompt' must hold messages {role, content} (got text)"),
    ("p.jsonl", '{"prompt": [{"content": "x"}]}', "1: field 'prompt' has a message without a 'role' out of system, developer, user, assistant, tool (got None)"),
    ("p.jsonl", '{"prompt": [{"role": "user"}]}', "1: field 'prompt' has a message without 'content'"),
    ("p.jsonl", '""', "1: the row is empty"),
    ("p.jsonl", "", "1: has 0 prompts"),
    ("p.json", "[]", "1: has 0 prompts"),
    ("p.json", '{"a": 1}', "1: must be a JSON list of prompts"),
    ("p.json", "", "1: must be a JSON list of prompts"),
    ("p.json", '["a",\n\n"b"\n"c"]', "4: is not JSON (a ',' or the list's ']' is missing)"),
    ("p.json", '["a",\n nope]', "2: is not JSON (Expecting value)"),
    ("p.json", '["a",\n', "2: is not JSON (Expecting value)"),
    ("p.json", "[" * 100_000, "1: is not JSON (*)"),
    ("p.json", f'["a",\n{{"prompt": "x", "n": {"9" * 5000}}}]', "2: is not JSON (Exceeds the limit (4300 digits)*"),
    ("p.json", '["a",\n"b",\n\n[1]]', "4: must be an object with a field 'prompt', or text (got a list)"),
    ("p.csv", "", "1: has 0 prompts"),
    ("p.csv", "prompt,x\na,b\n\nc\n", "4: has 1 columns, its first line 2"),
    ("p.csv", 'prompt,x\na,b\n"a"b,c\n', "3: is not CSV (',' expected after '\"')"),
    ("p.csv", "q\na\n", "2: has no field 'prompt' (there is 'q')"),
    ("p.txt", "\n\n", "1: has 0 prompts"),
    ("p.txt", b"a\nb\xff", "2: is not UTF-8 (byte 0xff on line 2)"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "content", "expected"), BAD_FILES, ids=range(len(BAD_FILES)))
def test_bad_rows_are_named_by_their_lines(load: Load, tmp_path: Path, name: str, content: str | bytes, expected: str) -> None:  # fmt: skip
    (tmp_path / name).write_bytes(content.encode() if isinstance(content, str) else content)
    case = read(load, f"dataset: {{file: {name}}}")
    with pytest.raises(SuiteError) as caught:
        prompts(case)
    begin, star, _ = expected.partition("*")
    assert str(caught.value).startswith(f"{name}:{begin}") if star else str(caught.value) == f"{name}:{expected}"


def test_every_bad_row_is_named_up_to_twenty(load: Load, tmp_path: Path) -> None:
    (tmp_path / "p.jsonl").write_text("5\n" * 30)
    with pytest.raises(SuiteError) as caught:
        prompts(read(load, "dataset: {file: p.jsonl}"))
    assert [problem.line for problem in caught.value.problems] == list(range(1, 21))


@pytest.mark.parametrize(("value", "seen"), [("0", "'0'"), ("-1", "'-1'"), ("x", "'x'"), ("1.5", "'1.5'"), ("", "''"), ("9" * 5000, f"'{'9' * 59}… (5,002 characters)")])  # fmt: skip
def test_bad_max_tokens_of_a_row(load: Load, tmp_path: Path, value: str, seen: str) -> None:
    (tmp_path / "p.csv").write_text(f"prompt,n\na,{value}\n")
    case = read(load, "dataset: {file: p.csv, max_tokens_field: n}")
    with pytest.raises(SuiteError) as caught:
        prompts(case)
    assert str(caught.value) == f"p.csv:2: field 'n' must be a whole number from 1 to 1000000 (got {seen})"


def test_missing_max_tokens_of_a_row(load: Load, tmp_path: Path) -> None:
    (tmp_path / "p.jsonl").write_text('{"prompt": "a"}')
    with pytest.raises(SuiteError, match=r"p.jsonl:1: field 'n' must be .* \(got none\)"):
        prompts(read(load, "dataset: {file: p.jsonl, max_tokens_field: n}"))


def test_sample_larger_than_the_file(load: Load, tmp_path: Path) -> None:
    (tmp_path / "p.txt").write_text("a\nb")
    with pytest.raises(SuiteError, match=r"p\.txt:1: has 2 prompts, fewer than the 3 of 'sample'"):
        prompts(read(load, "dataset: {file: p.txt, sample: 3}"))


def test_dataset_that_is_too_large(load: Load, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "p.txt").write_text("a\nb")
    monkeypatch.setattr(dataset_module, "MAX_BYTES", 2)
    with pytest.raises(SuiteError, match=r"p\.txt:1: has 3 bytes, more than 2"):
        prompts(read(load, "dataset: {file: p.txt}"))


OF_DATASET = [
    ("dataset: p.jsonl", "'dataset' of case 'a' must be a mapping such as {file: data/prompts.jsonl} (got 'p.jsonl')"),
    ("dataset: {field: x}", "dataset of case 'a' needs 'file'"),
    ("dataset: {fil: x}", "unknown key 'fil' in dataset of case 'a' (did you mean 'file'?)"),
    ("dataset: {file: 5}", "'file' of dataset of case 'a' must be text (got 5; put it in quotes)"),
    ("dataset: {file: nope.txt}", "'file' of dataset of case 'a' 'nope.txt' does not exist"),
    ("dataset: {file: ../p.txt}", "'file' of dataset of case 'a' '../p.txt' leads outside of the suite's folder"),
    ("dataset: {file: folder}", "'file' of dataset of case 'a' 'folder' is not a file"),
    ("dataset: {file: p.md}", "'file' of dataset of case 'a' 'p.md' has no suffix that says its format (known are .jsonl, .ndjson, .json, .csv, .txt)"),
    ("dataset: {file: '${NO}.txt'}", "'file' of dataset of case 'a' '${NO}.txt' needs the environment variable NO, which is not set (${NO:default} gives a default)"),
    ("dataset: {file: p.txt, field: x}", "'field' of dataset of case 'a': a text file has no fields, but a prompt a line"),
    ("dataset: {file: p.txt, max_tokens_field: x}", "'max_tokens_field' of dataset of case 'a': a text file has no fields, but a prompt a line"),
    ("dataset: {file: p.txt, sample: 0}", "'sample' of dataset of case 'a' must be a whole number from 1 to 10000000 (got 0)"),
    ("synthetic: 5", "'synthetic' of case 'a' must be a mapping such as {input_tokens: 512} (got 5)"),
    ("synthetic: {}", "synthetic of case 'a' needs 'input_tokens'"),
    ("synthetic: {input_token: 5}", "unknown key 'input_token' in synthetic of case 'a' (did you mean 'input_tokens'?)"),
    ("synthetic: {input_tokens: 0}", "'input_tokens' of synthetic of case 'a' must be a whole number from 1 to 1000000, or a mapping such as {mean: 512, stdev: 64} (got 0)"),
    ("synthetic: {input_tokens: {stdev: 4}}", "'input_tokens' of synthetic of case 'a' needs 'mean'"),
    ("synthetic: {input_tokens: {mean: 5, max: 4}}", "'input_tokens' of synthetic of case 'a' must have its mean, 5, from 'min' to 'max' (they are 1 and 4)"),
    ("synthetic: {input_tokens: {mean: 5, men: 4}}", "unknown key 'men' in synthetic of case 'a' (did you mean 'mean'?)"),
    ("synthetic: {input_tokens: 5, shared_prefix: 2}", "'shared_prefix' of synthetic of case 'a' must be a number from 0 to 1 (got 2)"),
    ("synthetic: {input_tokens: 5, output_tokens: 9}\n  max_tokens: 4", "'max_tokens' of case 'a' is not sent with 'output_tokens' of synthetic (keep one)"),
    ("synthetic: {input_tokens: 5, output_tokens: 9}\n  matrix: {max_tokens: [4]}", "'max_tokens' of case 'a' is not sent with 'output_tokens' of synthetic (keep one)"),
    ("synthetic: {input_tokens: 5}\n  prompt: x", "case 'a' has two prompts, 'synthetic' and 'prompt' (keep one)"),
]  # fmt: skip
BEYOND = ("dataset: {file: nope", "dataset: {file: ..", "dataset: {file: folder", "dataset: {file: p.md", "dataset: {file: '$",
          "dataset: {file: p.txt, field", "dataset: {file: p.txt, max", "synthetic: {input_tokens: {mean: 5, max",
          "synthetic: {input_tokens: 5, output", "synthetic: {input_tokens: 5}")  # fmt: skip


@pytest.mark.parametrize(("line", "expected"), OF_DATASET, ids=[line for line, _ in OF_DATASET])
def test_suite_error_of_prompt_sources(problems: Problems, tmp_path: Path, line: str, expected: str) -> None:
    (tmp_path / "folder").mkdir()
    for name in ("p.txt", "p.md"):
        (tmp_path / name).write_text("x")
    assert problems(suite(line)) == [f"s.yaml:{3 + line.count(chr(10))}: {expected}"]


@pytest.mark.parametrize("line", [line for line, _ in OF_DATASET if not line.startswith(BEYOND)])
def test_schema_refuses_a_source_that_the_loader_refuses(line: str) -> None:
    assert not is_valid(suite(line))


def test_file_that_cannot_be_opened(problems: Problems, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "p.txt"
    path.write_text("x")
    real: Any = type(path).open

    def refuse(self: Path, *args: Any, **options: Any) -> Any:
        if self.name == "p.txt":
            raise PermissionError(13, "Permission denied")
        return real(self, *args, **options)

    monkeypatch.setattr(type(path), "open", refuse)
    assert problems(suite("dataset: {file: p.txt}")) == [
        "s.yaml:3: 'file' of dataset of case 'a' 'p.txt' cannot be read: Permission denied"
    ]


def test_own_source_replaces_the_one_of_the_defaults(load: Load, tmp_path: Path) -> None:
    (tmp_path / "p.txt").write_text("row")
    text = """\
    defaults: {dataset: {file: p.txt}}
    cases:
    - name: a
    - {name: b, prompt: own}
    - {name: c, synthetic: {input_tokens: 3}}
    """
    cases = load(text).by_name
    assert [taken(cases[name], 1)[0].prompt for name in "ab"] == ["row", "own"]
    assert (cases["b"].dataset, cases["c"].dataset) == (None, None)


def test_case_with_one_prompt_sends_it_again_and_again(load: Load) -> None:
    case = read(load, "prompt: hi")
    assert taken(case, 2) == [Row("hi"), Row("hi")]
    first, second = sent(case, 2)
    assert first is second
    assert taken(read(load, "messages: [{role: user, content: hi}]"), 1) == [Row("", tuple(MESSAGES))]


def test_synthetic_prompts_have_the_length_and_differ(load: Load) -> None:
    case = read(load, "synthetic: {input_tokens: 64, output_tokens: 32, shared_prefix: 0.5}")
    found = [row.prompt.split() for row in taken(case, 50)]
    assert {len(words) for words in found} == {64}
    assert len({tuple(words[:32]) for words in found}) == 1
    assert len({tuple(words[32:]) for words in found}) == 50
    assert case.max_tokens == 32
    assert [request.max_tokens for request in sent(case, 2)] == [32, 32]


def test_synthetic_prompts_are_the_same_for_a_seed(load: Load) -> None:
    first, again, other = (taken(read(load, f"synthetic: {{input_tokens: 9, seed: {seed}}}"), 9) for seed in (1, 1, 2))
    assert first == again != other
    assert Synthetic(Length(9, 0, 9, 9), seed=1).prompt(7)[0] == first[7].prompt


def test_synthetic_lengths_follow_their_distribution(load: Load) -> None:
    case = read(
        load, "synthetic: {input_tokens: {mean: 100, stdev: 10}, output_tokens: {mean: 20, stdev: 5, min: 18, max: 22}}"
    )
    rows = taken(case, 2000)
    lengths = [len(row.prompt.split()) for row in rows]
    assert fmean(lengths) == pytest.approx(100, rel=0.01)
    assert pstdev(lengths) == pytest.approx(10, rel=0.05)
    assert {row.max_tokens for row in rows} == {18, 19, 20, 21, 22}
    assert case.max_tokens == 22
    assert max(lengths) <= 140


def test_length_that_is_hardly_ever_drawn_is_the_mean() -> None:
    assert Length(10, 1e6, 10, 10).draw(Random(0)) == 10


def test_lengths_of_synthetic_answers_count_for_checks(load: Load) -> None:
    case = read(load, "synthetic: {input_tokens: 9, output_tokens: 128}\n  expect: {min_tokens: 100}")
    assert case.max_tokens == 128


def test_synthetic_answers_keep_the_cases_own_max_tokens(load: Load) -> None:
    case = read(load, "synthetic: {input_tokens: 9}\n  max_tokens: 7")
    assert sent(case, 1)[0].max_tokens == 7


def test_ignore_eos_is_sent_only_when_asked_for(load: Load) -> None:
    assert "ignore_eos" not in sent(read(load, "synthetic: {input_tokens: 9}"), 1)[0].extra
    asked = "synthetic: {input_tokens: 9, ignore_eos: true}\n  extra_body: {top_k: 1}"
    assert sent(read(load, asked), 1)[0].extra == {"ignore_eos": True, "top_k": 1}
