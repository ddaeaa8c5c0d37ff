"""What a suite takes from files and from the environment."""

# ruff: noqa: E501 - a message stands on the line of what causes it

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from pytest_modellens.errors import SuiteError
from pytest_modellens.suite import files
from pytest_modellens.suite.loader import load_suite

if TYPE_CHECKING:
    from pathlib import Path

    from tests.suite.conftest import Load, Problems

SECRET = "sk-very-secret"
OUTSIDE = "leads outside of the suite's folder"


def with_file(name: str) -> str:
    return f"cases:\n- name: a\n  prompt_file: {name}\n"


def test_prompt_file_is_read_relative_to_the_suite(load: Load, tmp_path: Path) -> None:
    (tmp_path / "prompts").mkdir()
    (tmp_path / "prompts/p.txt").write_bytes(b"\xef\xbb\xbfone\r\ntwo \xc3\xa9\n")
    assert load(with_file("prompts/p.txt")).cases[0].prompt == "one\ntwo é\n"


def test_prompt_file_may_be_reached_by_a_link_inside(load: Load, tmp_path: Path) -> None:
    (tmp_path / "p.txt").write_text("hi")
    (tmp_path / "link.txt").symlink_to("p.txt")
    assert load(with_file("link.txt")).cases[0].prompt == "hi"


@pytest.mark.parametrize(
    "name", ["../out.txt", "x/../../out.txt", "link.txt", "folder/out.txt", '"C:\\\\out.txt"', '"\\\\out.txt"']
)
def test_prompt_file_outside_is_refused(problems: Problems, tmp_path: Path, name: str) -> None:
    folder = tmp_path.parent / f"{tmp_path.name}-outside"
    folder.mkdir()
    (folder / "out.txt").write_text(SECRET)
    (tmp_path / "link.txt").symlink_to(folder / "out.txt")
    (tmp_path / "folder").symlink_to(folder)
    (problem,) = problems(with_file(name))
    assert problem.startswith("s.yaml:3: 'prompt_file' of case 'a' '")
    assert problem.endswith(f"' {OUTSIDE}")


def test_prompt_file_by_absolute_path_is_refused_even_inside(problems: Problems, tmp_path: Path) -> None:
    (tmp_path / "p.txt").write_text("hi")
    (problem,) = problems(with_file(str(tmp_path / "p.txt")))
    assert problem.endswith(OUTSIDE)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("none.txt", "'none.txt' does not exist"),
        ("empty.txt", "'empty.txt' is empty"),
        ("latin.txt", "'latin.txt' is not UTF-8 (byte 0xe9 on line 2)"),
        ("dir", "'dir' is not a file"),
        ('"a\\0b"', "'a\\x00b' is no file name"),
        ("loop", "'loop' leads outside of the suite's folder"),
        ("p.txt/x", "'p.txt/x' cannot be read: Not a directory"),
        ("5", "must be text (got 5; put it in quotes)"),
    ],
)
def test_prompt_file_that_cannot_be_used_is_named(problems: Problems, tmp_path: Path, name: str, reason: str) -> None:
    (tmp_path / "empty.txt").write_text(" \n")
    (tmp_path / "latin.txt").write_bytes(b"a\n\xe9")
    (tmp_path / "p.txt").write_text("hi")
    (tmp_path / "dir").mkdir()
    (tmp_path / "loop").symlink_to("../nowhere")
    assert problems(with_file(name)) == [f"s.yaml:3: 'prompt_file' of case 'a' {reason}"]


def test_prompt_file_that_is_too_large_is_refused(
    problems: Problems, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "MAX_BYTES", 100)
    (tmp_path / "p.txt").write_text("x" * 101)
    assert problems(with_file("p.txt")) == ["s.yaml:3: 'prompt_file' of case 'a' 'p.txt' has 101 bytes, more than 100"]


def test_prompt_file_is_read_once_for_all_cases(load: Load, tmp_path: Path) -> None:
    (tmp_path / "p.txt").write_text("hi")
    first, second = load("defaults: {prompt_file: p.txt}\ncases: [{name: a}, {name: b, prompt_file: p.txt}]").cases
    assert first.prompt is second.prompt


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("none.yaml", "1: does not exist"),
        ("dir", "1: is not a file"),
        ("latin.yaml", "2: is not UTF-8 (byte 0xe9 on line 2)"),
        ("nul\0.yaml", "1: cannot be read: its name holds a null character"),
    ],
)
def test_suite_file_that_cannot_be_read_is_named(tmp_path: Path, name: str, reason: str) -> None:
    (tmp_path / "dir").mkdir()
    (tmp_path / "latin.yaml").write_bytes(b"a: 1\nb: \xe9\n")
    with pytest.raises(SuiteError) as caught:
        load_suite(tmp_path / name)
    assert str(caught.value) == f"{tmp_path / name}:{reason}"


def test_suite_file_may_begin_with_a_byte_order_mark(tmp_path: Path) -> None:
    (tmp_path / "s.yaml").write_bytes(b"\xef\xbb\xbfcases:\r\n- name: a\r\n  prompt: x\r\n")
    assert load_suite(tmp_path / "s.yaml").cases[0].prompt == "x"


def test_environment_expands_in_headers_and_base_url(load: Load) -> None:
    text = """\
    cases:
    - name: a
      prompt: ${TOKEN}
      headers: {Authorization: "Bearer ${TOKEN}", X-A: "${NONE:d e}", X-B: "${NONE:}", X-C: $5}
      base_url: http://${HOST:localhost}:8000/v1/
    """
    case = load(text, env={"TOKEN": SECRET, "HOST": "gpu"}).cases[0]
    assert case.prompt == "${TOKEN}"
    assert case.headers == {"Authorization": f"Bearer {SECRET}", "X-A": "d e", "X-B": "", "X-C": "$5"}
    assert case.base_url == "http://gpu:8000/v1"


def test_environment_never_shows_in_repr_ids_or_hash(load: Load) -> None:
    text = 'cases: [{name: a, prompt: x, headers: {A: "${T}"}, base_url: "http://${T}", matrix: {seed: [1, 2]}}]'
    suite = load(text, env={"T": SECRET})
    assert SECRET not in repr(suite)
    assert SECRET not in repr(list(suite.cells()))
    assert suite.hash == load(text, env={"T": "other"}).hash


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ('headers: {A: "${T}${GONE}"}', "header 'A' of case 'a' needs the environment variable GONE, which is not set (${GONE:default} gives a default)"),
        ("base_url: http://${GONE}", "'base_url' of case 'a' needs the environment variable GONE, which is not set (${GONE:default} gives a default)"),
        ('headers: {A: "${T} ${1}"}', "header 'A' of case 'a' has a '${' that begins neither ${NAME} nor ${NAME:default}"),
        ('headers: {A: "${BAD}"}', "header 'A' of case 'a' holds characters that a header cannot carry"),
        ("base_url: ${T}", "'base_url' of case 'a' must be an http:// or https:// URL with a host and without query or fragment"),
    ],
)  # fmt: skip
def test_environment_errors_name_the_variable_and_no_value(problems: Problems, line: str, expected: str) -> None:
    env = {"T": SECRET, "BAD": f"{SECRET}\nX: y"}
    assert problems(f"cases:\n- name: a\n  prompt: x\n  {line}\n", env=env) == [f"s.yaml:4: {expected}"]
