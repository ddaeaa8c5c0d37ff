"""Every bad input has its message, and its line."""

# ruff: noqa: E501 - a message stands on the line of what causes it

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.suite.conftest import Problems

CASE = "cases:\n- name: a\n  prompt: hi\n"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "1: a suite must be a mapping with 'cases' (got an empty file)"),
        ("# only a comment\n", "1: a suite must be a mapping with 'cases' (got an empty file)"),
        ("- a\n", "1: a suite must be a mapping with 'cases' (got a list)"),
        ("just text", "1: a suite must be a mapping with 'cases' (got 'just text')"),
        ("description: d\n", "1: 'cases' must be a list with at least one case (got none)"),
        ("\ncases: []\n", "2: 'cases' must be a list with at least one case (got an empty list)"),
        ("cases: {a: 1}\n", "1: 'cases' must be a list with at least one case (got a mapping)"),
        ("cases:\n- 5\n", "2: case 1 must be a mapping (got 5)"),
        ("cases:\n- prompt: hi\n", "2: case 1 has no 'name'"),
        ("casse: 1\n" + CASE, "1: unknown key 'casse' in the suite (did you mean 'cases'?)"),
        ("zzz: 1\n" + CASE, "1: unknown key 'zzz' in the suite (description, defaults, cases exist)"),
        ("description: 5\n" + CASE, "1: 'description' of the suite must be text (got 5)"),
        ("defaults: [a]\n" + CASE, "1: 'defaults' must be a mapping (got a list)"),
        ("defaults:\n  name: a\n" + CASE, "2: unknown key 'name' in defaults"),
        (
            "defaults:\n  max_tokens: 0\n" + CASE,
            "2: 'max_tokens' of defaults must be a whole number from 1 to 1000000 (got 0)",
        ),
        ("cases:\n\t- name: a\n", "2: a tab stands where YAML allows only spaces"),
        ("a: b: c\n", "1: not YAML: mapping values are not allowed in this context"),
        (
            "a: [1\n",
            "2: not YAML: did not find expected ',' or ']' (while parsing a flow sequence)",
        ),
        ("a: \x07\n", "1: holds the control character U+0007 (in double quotes, write it escaped)"),
        (CASE + "---\nx: 1\n", "4: a second document begins (a suite is one; remove the '---')"),
        ("x: *none\n", "1: alias '*none' has no anchor '&none' above it"),
        ("x: &a [*a]\n", "1: alias '*a' stands inside of its own anchor"),
        ("? [a]\n: b\n", "1: a key must be plain text"),
        ("x:\n  " + "[" * 70 + "]" * 70, "2: nested more than 60 deep"),
        (
            "cases:\n- name: a\n  prompt: !!python/object:os.system x\n",
            "3: tag 'tag:yaml.org,2002:python/object:os.system' is not allowed in a suite",
        ),
        (
            "cases:\n- name: a\n  prompt: hi\n  headers: !!set {a: b}\n",
            "4: tag 'tag:yaml.org,2002:set' is not allowed in a suite",
        ),
        (
            "cases:\n- name: a\n  prompt: hi\n  seed: 0b\n",
            "4: 'seed' of case 'a' must be a whole number from 0 to 9223372036854775807 (got '0b')",
        ),
        ("cases:\n- name: a\n  name: a\n  prompt: hi\n", "3: key 'name' is written twice (first on line 2)"),
        (
            "cases:\n- name: a\n  prompt: hi\n  <<: 5\n",
            "4: '<<' must be a mapping or a list of mappings, such as '*name' of an anchored mapping",
        ),
        (CASE + "- name: a\n  prompt: hi\n", "4: case name 'a' is used twice (first on line 2)"),
        ("cases: [{name: a, prompt: x}, {name: a, prompt: y}]", "1: case name 'a' is used twice (first on line 1)"),
    ],
)
def test_suite_error_of_the_file(problems: Problems, text: str, expected: str) -> None:
    assert problems(text) == [f"s.yaml:{expected}"]


OF_CASE = [
    ("promt: x", "unknown key 'promt' in case 'a' (did you mean 'prompt'?)"),
    ("zzzzz: x", "unknown key 'zzzzz' in case 'a'"),
    ("description: 5", "'description' of case 'a' must be text (got 5; put it in quotes)"),
    ("prompt: [x]", "'prompt' of case 'a' must be text (got a list)"),
    ("prompt: yes", "'prompt' of case 'a' must be text (got true (unquoted yes, no, on and off are booleans in YAML); put it in quotes)"),
    ("prompt: ' '", "'prompt' of case 'a' must not be empty"),
    ("prompt: null", "'prompt' of case 'a' must be text (got null)"),
    ("max_tokens: 0", "'max_tokens' of case 'a' must be a whole number from 1 to 1000000 (got 0)"),
    ("max_tokens: 6.0", "'max_tokens' of case 'a' must be a whole number from 1 to 1000000 (got 6.0)"),
    ("max_tokens: true", "'max_tokens' of case 'a' must be a whole number from 1 to 1000000 (got true (unquoted yes, no, on and off are booleans in YAML))"),
    ("rounds: -1", "'rounds' of case 'a' must be a whole number from 1 to 100000 (got -1)"),
    ("temperature: hot", "'temperature' of case 'a' must be a number from 0 to 100 (got 'hot')"),
    ("temperature: -0.1", "'temperature' of case 'a' must be a number from 0 to 100 (got -0.1)"),
    ("temperature: .nan", "'temperature' of case 'a' must be a number from 0 to 100 (got nan)"),
    ("temperature: .inf", "'temperature' of case 'a' must be a number from 0 to 100 (got inf)"),
    ("top_p: 0", "'top_p' of case 'a' must be a number above 0 and up to 1 (got 0)"),
    ("stream: 1", "'stream' of case 'a' must be true or false (got 1)"),
    ("cache: hot", "'cache' of case 'a' must be any, cold or warm (got 'hot')"),
    ("cache: [any]", "'cache' of case 'a' must be any, cold or warm (got a list)"),
    ("timeout: 60", "'timeout' of case 'a' must have a unit: write 60s for seconds (got 60; units are ms, s, m, h)"),
    ("timeout: -60", "'timeout' of case 'a' must be a duration such as 60s, 250ms, 2m or 1h (got -60)"),
    ("timeout: 1 day", "'timeout' of case 'a' must be a duration such as 60s, 250ms, 2m or 1h (got '1 day')"),
    ("timeout: 0s", "'timeout' of case 'a' must be from 1ms to 24h (got '0s')"),
    ("timeout: 25h", "'timeout' of case 'a' must be from 1ms to 24h (got '25h')"),
    ("stall_timeout: .inf", "'stall_timeout' of case 'a' must be a duration such as 60s, 250ms, 2m or 1h (got inf)"),
    ("marks: smoke", "'marks' of case 'a' must be a list of marks such as [smoke] (got 'smoke')"),
    ("marks: [a b]", "'marks' of case 'a' must hold names of marks (got 'a b')"),
    ("marks: [skipif]", "'marks' of case 'a' cannot hold 'skipif', which needs arguments"),
    ("extra_body: 5", "'extra_body' of case 'a' must be a mapping (got 5)"),
    ("extra_body: {model: x}", "'extra_body' of case 'a' must not hold 'model' (write it as a key of the case)"),
    ("extra_body: {n: 2}", "'n' of extra_body of case 'a' asks for several answers, of which none could be measured by itself (got 2; ask for more 'rounds')"),
    ("extra_body: {best_of: 4}", "'best_of' of extra_body of case 'a' asks for several answers, of which none could be measured by itself (got 4; ask for more 'rounds')"),
    ("extra_body: {x: [.inf]}", "JSON has no inf, in case 'a'"),
    ("extra_body: {x: 99999999999999999999}", "a number of more than 64 bits, in case 'a', is more than servers read"),
    ("amplifier: 5", "'amplifier' of case 'a' must be a mapping such as {default_model: gpt-4o-mini} (got 5)"),
    ("amplifier: {x: [.inf]}", "JSON has no inf, in case 'a'"),
    ("headers: 5", "'headers' of case 'a' must be a mapping (got 5)"),
    ("headers: {X-A: 5}", "header 'X-A' of case 'a' must be text (put it in quotes)"),
    ('headers: {"X A": x}', "header 'X A' of case 'a' is not a header name"),
    ("headers: {content-length: '5'}", "header 'content-length' of case 'a' is set by the client"),
    ('headers: {X-A: "a\\nb"}', "header 'X-A' of case 'a' holds characters that a header cannot carry"),
    ("headers: {X-A: a, x-a: b}", "header 'x-a' of case 'a' is written twice (case does not matter)"),
    ("base_url: ftp://x", "'base_url' of case 'a' must be an http:// or https:// URL with a host and without query or fragment"),
    ("base_url: 'http://[x'", "'base_url' of case 'a' must be an http:// or https:// URL with a host and without query or fragment"),
    ("expect: Paris", "'expect' of case 'a' must be a mapping such as {contains: Paris} (got 'Paris')"),
    ("expect: {contain: x}", "unknown key 'contain' in expect of case 'a' (did you mean 'contains'?)"),
    ("expect: {contains: []}", "'contains' of expect of case 'a' must be text or a list of texts (got an empty list)"),
    ("expect: {contains: [x, 5]}", "'contains' of expect of case 'a' must be text (got 5; put it in quotes)"),
    ("expect: {regex: '('}", "'regex' of expect of case 'a' is not a regular expression: missing ), unterminated subpattern at position 0 (got '(')"),
    ("expect: {json_schema: x}", "'json_schema' of expect of case 'a' must be a JSON Schema (got 'x')"),
    ("expect: {json_schema: {type: objekt}}", "'json_schema' of expect of case 'a' is not a usable JSON Schema: 'objekt' is not valid under any of the given schemas at $.type"),
    ("expect: {python: no function}", "'python' of expect of case 'a' must be package.module:function (got 'no function')"),
    ("expect: {min_tokens: 3, max_tokens: 2}", "'min_tokens' of expect of case 'a' is greater than 'max_tokens'"),
    ("expect: {min_tokens: 65}", "'min_tokens' of expect of case 'a' is more than its 'max_tokens', 64"),
    ("limits: fast", "'limits' of case 'a' must be a mapping such as {ttft_ms.p95: \"< 500\"} (got 'fast')"),
    ("limits: {ttft_ms.p95: 500}", "limit 'ttft_ms.p95' of case 'a' must be a comparison in quotes such as \"< 500\" (got 500)"),
    ("matrix: [1]", "'matrix' of case 'a' must be a mapping such as {temperature: [0.0, 0.7]} (got a list)"),
    ("matrix: {temperature: []}", "'temperature' in the matrix of case 'a' must be a list of values (got an empty list)"),
    ("matrix: {temperature: 0.5}", "'temperature' in the matrix of case 'a' must be a list of values (got 0.5)"),
    ("matrix: {temperature: [0.5, hot]}", "'temperature' in the matrix of case 'a' must be a number from 0 to 100 (got 'hot')"),
    ("matrix: {temperature: [1, 1.0]}", "'temperature' in the matrix of case 'a' must not have a value twice (got 1.0)"),
    ("matrix: {temperatur: [1]}", "unknown key 'temperatur' in the matrix of case 'a' (did you mean 'temperature'?)"),
    ("matrix: {headers: [1]}", "'headers' cannot be in the matrix of case 'a'"),
    ("matrix: {base_url: ['http://x']}", "'base_url' cannot be in the matrix of case 'a'"),
]  # fmt: skip


@pytest.mark.parametrize(("line", "expected"), OF_CASE, ids=[line for line, _ in OF_CASE])
def test_suite_error_of_a_case(problems: Problems, line: str, expected: str) -> None:
    own = line if line.startswith("prompt") else f"prompt: hi\n  {line}"
    at = 3 + own.count("\n")
    assert problems(f"cases:\n- name: a\n  {own}\n") == [f"s.yaml:{at}: {expected}"]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("Ab", "'name' of case 'Ab' must be kebab-case such as short-answer-2: a-z, 0-9, with single - or . between (got 'Ab')"),
        ("setup_module", "'name' of case 'setup_module' must be kebab-case such as short-answer-2: a-z, 0-9, with single - or . between (got 'setup_module')"),
        ("pytestmark", "'name' of case 'pytestmark' must not be 'pytestmark', which pytest keeps for itself"),
        ("yes", "'name' of case 1 must be text (got true (unquoted yes, no, on and off are booleans in YAML); put it in quotes)"),
        ('"a\\e[31m"', "'name' of case 'a\\x1b[31m' must be kebab-case such as short-answer-2: a-z, 0-9, with single - or . between (got 'a\\x1b[31m')"),
    ],
)  # fmt: skip
def test_suite_error_of_a_name(problems: Problems, name: str, expected: str) -> None:
    assert problems(f"cases:\n- name: {name}\n  prompt: hi\n") == [f"s.yaml:2: {expected}"]


MESSAGES = [
    ("hello", "3", "'messages' of case 'a' must be a list of messages {role: user, content: …} (got 'hello')"),
    ("[]", "3", "'messages' of case 'a' must be a list of messages {role: user, content: …} (got an empty list)"),
    ("[hello]", "3", "a message of case 'a' must be a mapping {role: user, content: …} (got 'hello')"),
    ("\n  - content: x", "4", "a message of case 'a' must have a 'role' out of system, developer, user, assistant, tool (got none)"),
    ("\n  - {role: usr, content: x}", "4", "a message of case 'a' must have a 'role' out of system, developer, user, assistant, tool (got 'usr')"),
    ("\n  - {role: user}", "4", "a message of case 'a' has no 'content'"),
    ("\n  - {role: user, content: 7}", "4", "a message of case 'a' must have text or a list of parts as 'content' (got 7; put text in quotes)"),
]  # fmt: skip


@pytest.mark.parametrize(("written", "line", "expected"), MESSAGES)
def test_suite_error_of_messages(problems: Problems, written: str, line: str, expected: str) -> None:
    assert problems(f"cases:\n- name: a\n  messages: {written}\n") == [f"s.yaml:{line}: {expected}"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("cases:\n- name: a\n", "2: case 'a' has no prompt (give 'prompt', 'prompt_file', 'messages', 'dataset' or 'synthetic')"),
        ("cases:\n- name: a\n  promt: x\n", "3: unknown key 'promt' in case 'a' (did you mean 'prompt'?)"),
        ("cases:\n- name: a\n  dataset: x\n", "3: 'dataset' of case 'a' must be a mapping such as {file: data/prompts.jsonl} (got 'x')"),
        ("cases:\n- name: a\n  prompt: x\n  messages: [{role: user, content: x}]\n", "4: case 'a' has two prompts, 'prompt' and 'messages' (keep one)"),
        ("cases:\n- name: a\n  messages: [{role: user, content: x}]\n  matrix: {prompt: [x]}\n", "4: case 'a' has two prompts, 'messages' and 'prompt' (keep one)"),
        ("cases:\n- name: a\n  messages: [{role: user, content: x}]\n  system_prompt: x\n", "4: 'system_prompt' of case 'a' is not sent with 'messages' (make it the first message)"),
        ("cases:\n- name: a\n  messages: [{role: user, content: x}]\n  matrix: {system_prompt: [x]}\n", "3: 'system_prompt' of case 'a' is not sent with 'messages' (make it the first message)"),
    ],
)  # fmt: skip
def test_suite_error_of_prompt_sources(problems: Problems, text: str, expected: str) -> None:
    assert problems(text) == [f"s.yaml:{expected}"]


@pytest.mark.parametrize("metric", ["ttft_ms", "ttfo_ms", "tpot_ms", "itl_ms", "inter_chunk_ms"])
@pytest.mark.parametrize("unstreamed", ["stream: false", "matrix: {stream: [true, false]}"])
def test_limit_that_cannot_be_measured_is_an_error(problems: Problems, metric: str, unstreamed: str) -> None:
    text = f'cases:\n- name: a\n  prompt: x\n  {unstreamed}\n  limits:\n    {metric}.p95: "< 5"\n'
    assert problems(text) == [
        f"s.yaml:6: limit '{metric}.p95' of case 'a' can never be measured: {metric} needs 'stream: true'"
    ]


def test_limit_of_defaults_is_named_by_its_line_there(problems: Problems) -> None:
    text = 'defaults:\n  limits:\n    tpot_ms.p95: "< 5"\ncases:\n- {name: a, prompt: x, max_tokens: 1}\n'
    assert problems(text) == [
        "s.yaml:3: limit 'tpot_ms.p95' of case 'a' can never be measured: tpot_ms needs 'max_tokens' of at least 2"
    ]


def test_min_tokens_of_defaults_is_named_by_its_line_there(problems: Problems) -> None:
    text = "defaults:\n  expect:\n    min_tokens: 5\ncases:\n- {name: a, prompt: x, matrix: {max_tokens: [4, 8]}}\n"
    assert problems(text) == ["s.yaml:3: 'min_tokens' of expect of case 'a' is more than its 'max_tokens', 4"]


def test_suite_error_holds_every_problem_in_file_order(problems: Problems) -> None:
    text = """\
    defaults: {max_tokens: -1}
    cases:
    - name: a
      promt: hi
      limits: {ttft.p95: "< 1", ttft_ms.p95: "> 1"}
    - name: a
      prompt: hi
      expect: {json: 1}
    oops: 1
    """
    assert problems(text) == [
        "s.yaml:1: 'max_tokens' of defaults must be a whole number from 1 to 1000000 (got -1)",
        "s.yaml:4: unknown key 'promt' in case 'a' (did you mean 'prompt'?)",
        "s.yaml:5: limit 'ttft.p95' of case 'a' names an unknown metric 'ttft' (did you mean 'ttft_ms'?)",
        "s.yaml:5: limit 'ttft_ms.p95' of case 'a' must use < or <=, since a lower ttft_ms is better (got '> 1')",
        "s.yaml:6: case name 'a' is used twice (first on line 3)",
        "s.yaml:8: 'json' of expect of case 'a' must be true or false (got 1)",
        "s.yaml:9: unknown key 'oops' in the suite (description, defaults, cases exist)",
    ]


def test_billion_laughs_are_refused(problems: Problems) -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 12)]
    assert problems("\n".join(lines)) == [
        "s.yaml:6: too large: with its aliases expanded, the suite has more than 1,000,000 values or 67,108,864 characters"
    ]


def test_long_texts_multiplied_by_aliases_are_refused(problems: Problems) -> None:
    assert problems(f"a: &a {'x' * 1_000_000}\nb: [{', '.join(['*a'] * 100)}]\n") == [
        "s.yaml:2: too large: with its aliases expanded, the suite has more than 1,000,000 values or 67,108,864 characters"
    ]


def test_huge_matrix_is_refused(problems: Problems) -> None:
    axis = list(range(1, 102))
    text = f"cases:\n- name: a\n  prompt: x\n  matrix:\n    seed: {axis}\n    max_tokens: {axis}\n"
    assert problems(text) == ["s.yaml:5: the matrix of case 'a' has 10,201 cells, more than 10,000"]


def test_huge_suite_is_refused(problems: Problems) -> None:
    cases = "".join(f"- {{name: a{n}, prompt: x}}\n" for n in range(12))
    text = f"defaults:\n  matrix: {{seed: {list(range(9_000))}}}\ncases:\n{cases}"
    assert problems(text) == ["s.yaml:15: the suite has more than 100,000 cells, from case 'a11' on"]
