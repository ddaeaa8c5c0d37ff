from __future__ import annotations

import random
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest

from pytest_modellens.errors import Problem, SuiteError
from pytest_modellens.suite.limits import Limit
from pytest_modellens.suite.loader import load_suite
from pytest_modellens.suite.schema import Case, Expect

if TYPE_CHECKING:
    from pathlib import Path

    from tests.suite.conftest import Load

FULL = """\
description: everything
defaults:
  model: tiny
  timeout: 1.5 m
  limits: {ttft_ms.p95: "< 500"}
  marks: [smoke]
cases:
  - name: full
    description: all keys
    prompt: hello
    system_prompt: be short
    stream: false
    max_tokens: 5
    temperature: 1
    top_p: 0.5
    seed: null
    rounds: 9
    warmup: 0
    timeout: 250ms
    stall_timeout: 30s
    cache: cold
    concurrency: 3
    extra_body: {stop: ["\\n"], on: {yes: no}}
    amplifier: {api_key: "${KEY}", prices: {m: {input: 1}}}
    marks: [slow, gpu]
    limits: null
    expect:
      contains: Paris
      not_contains: [Rome, Oslo]
      equals: Paris
      regex: "[[P]"
      json: false
      json_schema: true
      min_tokens: 1
      max_tokens: 5
      finish_reason: stop
      python: a.b:c

  - {name: short, messages: [{role: user, content: hi}], matrix: null, expect: null}
"""


def test_load_suite_reads_every_key(load: Load) -> None:
    suite = load(FULL)
    assert suite.description == "everything"
    assert suite.by_name["full"] == Case(
        name="full",
        line=8,
        description="all keys",
        prompt="hello",
        system_prompt="be short",
        model="tiny",
        stream=False,
        max_tokens=5,
        temperature=1.0,
        top_p=0.5,
        seed=None,
        rounds=9,
        warmup=0,
        timeout_s=0.25,
        stall_timeout_s=30.0,
        cache="cold",
        concurrency=3,
        extra_body={"stop": ["\n"], "on": {"yes": False}},
        amplifier={"api_key": "${KEY}", "prices": {"m": {"input": 1}}},
        marks=("slow", "gpu"),
        expect=Expect(
            contains=("Paris",),
            not_contains=("Rome", "Oslo"),
            equals="Paris",
            regex="[[P]",
            json_schema=True,
            min_tokens=1,
            max_tokens=5,
            finish_reason="stop",
            python="a.b:c",
        ),
    )
    assert suite.by_name["full"].expect.validator is not None


def test_case_inherits_defaults_key_by_key(load: Load) -> None:
    case = load(FULL).by_name["short"]
    assert (case.model, case.timeout_s, case.marks) == ("tiny", 90.0, ("smoke",))
    assert case.limits == (Limit("ttft_ms", "p95", "<", 500.0),)
    assert case.messages == ({"role": "user", "content": "hi"},)
    assert type(case.messages[0]) is dict
    assert case.line == 39


def test_case_replaces_the_prompt_of_defaults_whatever_its_key(load: Load) -> None:
    suite = load("""\
    defaults: {prompt: d, system_prompt: s}
    cases:
    - {name: a}
    - {name: b, messages: [{role: user, content: x}]}
    - {name: c, matrix: {system_prompt: [null, x]}}
    """)
    assert [(case.prompt, case.system_prompt) for case in suite.cases] == [("d", "s"), ("", None), ("d", "s")]
    assert [cell.case.system_prompt for cell in suite.by_name["c"].cells()] == [None, "x"]


def test_anchors_and_merge_keys_work(load: Load) -> None:
    suite = load("""\
    cases:
    - &a {name: a, prompt: &p hi, max_tokens: 5, expect: &e {contains: x}}
    - <<: *a
      name: b
      max_tokens: 7
    - {<<: [{seed: 3}, *a], name: c, "expect": *e}
    - {name: d, prompt: *p}
    """)
    assert [(c.name, c.prompt, c.max_tokens, c.seed) for c in suite.cases] == [
        ("a", "hi", 5, 0),
        ("b", "hi", 7, 0),
        ("c", "hi", 5, 3),
        ("d", "hi", 64, 0),
    ]


def test_error_of_a_merged_key_is_named_where_it_is_written(tmp_path: Path) -> None:
    path = tmp_path / "s.yaml"
    path.write_text("cases:\n- &a\n  name: a\n  prompt: x\n  max_tokens: 0\n- <<: *a\n  name: b\n")
    with pytest.raises(SuiteError) as caught:
        load_suite(path, shown_as="s.yaml", env={})
    assert [problem.line for problem in caught.value.problems] == [5, 5]


@pytest.mark.parametrize("written", ["2024-05-01", "!!str 5", "'yes'", "1e-3", "12:30:45x", "~x", "=", "<<"])
def test_text_stays_text(load: Load, written: str) -> None:
    prompt = load(f"cases: [{{name: a, prompt: {written}}}]").cases[0].prompt
    assert prompt == written.removeprefix("!!str ").strip("'")


def test_load_suite_works_without_libyaml(load: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    import yaml

    fast = load(FULL)
    monkeypatch.delattr(yaml, "CSafeLoader")
    assert load(FULL) == fast


def test_load_suite_raises_only_suite_errors_whatever_the_text(tmp_path: Path) -> None:
    random_ = random.Random(5)
    path = tmp_path / "s.yaml"
    for _ in range(1500):
        text = list(FULL)
        for _ in range(random_.randrange(1, 12)):
            at = random_.randrange(len(text))
            text[at] = random_.choice("\t\n :-[]{}&*!|>'\"%@`#,?09ax~<é\\\x00")
        path.write_text("".join(text), encoding="utf-8")
        found: tuple[Problem, ...] = ()
        try:
            load_suite(path, env={})
        except SuiteError as exc:
            found = exc.problems
        assert all(problem.line >= 1 and str(problem).isprintable() for problem in found), found


@pytest.mark.parametrize("number", ["9" * 5000, "0x" + "f" * 5000, "1:" * 40 + "1"])
def test_number_of_very_many_digits_is_an_error(tmp_path: Path, number: str) -> None:
    path = tmp_path / "s.yaml"
    path.write_text(f"cases:\n- name: a\n  prompt: x\n  seed: {number}\n")
    with pytest.raises(SuiteError, match=r"^s\.yaml:4: '[0-9xf:]+ is no number \(put it in quotes if it is text\)"):
        load_suite(path, shown_as="s.yaml", env={})


def test_load_suite_of_ten_thousand_cases_takes_seconds_at_most(tmp_path: Path) -> None:
    path = tmp_path / "s.yaml"
    case = '- name: case-{}\n  prompt: What is {}?\n  expect: {{contains: x}}\n  limits: {{ttft_ms.p95: "< 500"}}\n'
    path.write_text("cases:\n" + "".join(case.format(n, n) for n in range(10_000)))
    started = time.perf_counter()
    assert len(load_suite(path, env={}).cases) == 10_000
    assert time.perf_counter() - started < 60  # about 0.7 s alone; slack for busy machines


def test_importing_the_format_imports_nothing_heavy() -> None:
    code = "import sys, pytest_modellens.suite.loader; print({'yaml', 'jsonschema', 'msgspec'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"
