"""Options: three ways to give each, one order among them, and a message that names what cannot be used."""

from __future__ import annotations

import re
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pytest_modellens.gate.session import FACTS
from pytest_modellens.plugin.options import OPTIONS, SETTINGS, Settings

if TYPE_CHECKING:
    from tests.plugin.conftest import Project
    from tests.plugin.fake_server import FakeServer

GOOD: dict[str, tuple[str, str, str, Any]] = {
    "model": ("a", "b", "c", "a"),
    "base-url": ("http://a/v1/", "http://b", "http://c", "http://a/v1"),
    "api-key-env": ("A_KEY", "B_KEY", "C_KEY", "A_KEY"),
    "rounds": ("1", "2", "3", 1),
    "workers": ("1", "2", "3", 1),
    "warmup": ("0", "2", "3", 0),
    "timeout": ("1500ms", "2m", "3", 1.5),
    "serve-timeout": ("90s", "2m", "3", 90.0),
    "budget": ("5USD", "$2", "0.5", Decimal(5)),
    "amplifier-config": ("a", "b", "c", "a"),
    "results": ("a", "b", "c", "a"),
    "report": ("a.html", "off", "c", "a.html"),
    "plots": ("png,svg", "svg", "png", ("png", "svg")),
    "json": ("a.json", "b", "c", "a.json"),
    "run-name": ("a", "b", "c", "a"),
    "cassette": ("a", "b", "c", "a"),
    "cassette-limit": ("1.5GiB", "500 MB", "4096", 3 * 2**29),
    "gate": (
        "tokens_per_second:-5%",
        "ttft_ms:+10% tpot_ms:+5%",
        "ttft_ms.p95:+20%",
        {"tokens_per_second": -0.05},
    ),
    "ab": ("http://a/v1", "vllm=http://b/v1", "old", "http://a/v1"),
    "restarts": ("always", "never", "auto", "always"),
    "blocks": ("6,12", "20", "3, 6, 9", (6, 12)),
    "baseline": ("a", "b", "c", "a"),
    "alpha": ("0.05", "0.1", "0.02", 0.05),
    "inconclusive": ("warn", "fail", "warn", "warn"),
    "subject": ("model,quantization", "cpu", "gpus", ("model", "quantization")),
    "allow-mismatch": ("model", "cpu gpus", "memory_gb", ("model",)),
}
"""By option: values for the command line, the environment and the ini file, and what the first one means."""

BAD = [
    ("model", " ", "must not be empty (got ' ')"),
    ("base-url", "localhost:8000", "must be a URL such as http://127.0.0.1:8000/v1 (got 'localhost:8000')"),
    ("base-url", "http://joe:secret@host:x", "must be a URL such as http://127.0.0.1:8000/v1"),
    ("api-key-env", " ", "must not be empty (got ' ')"),
    ("rounds", "0", "must be a whole number from 1 on (got '0')"),
    ("workers", "0", "must be a whole number from 1 on (got '0')"),
    ("rounds", "many", "must be a whole number from 1 on (got 'many')"),
    ("rounds", "2.5", "must be a whole number from 1 on (got '2.5')"),
    ("rounds", "²", "must be a whole number from 1 on (got '²')"),
    ("warmup", "-1", "must be a whole number from 0 on (got '-1')"),
    ("timeout", "5x", "must be a duration such as 60s, 2m or 500ms (got '5x')"),
    ("timeout", "0", "must be a duration such as 60s, 2m or 500ms (got '0')"),
    ("serve-timeout", "soon", "must be a duration such as 60s, 2m or 500ms (got 'soon')"),
    ("budget", "much", "must be an amount of US dollars such as 5USD or 0.50USD (got 'much')"),
    ("budget", "0", "must be an amount of US dollars such as 5USD or 0.50USD (got '0')"),
    ("budget", "5EUR", "must be an amount of US dollars such as 5USD or 0.50USD (got '5EUR')"),
    ("amplifier-config", " ", "must not be empty (got ' ')"),
    ("results", " ", "must not be empty (got ' ')"),
    ("report", " ", "must not be empty (got ' ')"),
    ("plots", "pdf", "must be png, svg or png,svg (got 'pdf')"),
    ("plots", "png,png", "must be png, svg or png,svg (got 'png,png')"),
    ("json", " ", "must not be empty (got ' ')"),
    ("run-name", " ", "must not be empty (got ' ')"),
    ("cassette", " ", "must not be empty (got ' ')"),
    ("cassette-limit", "0", "must be a size such as 500MB or 2GiB (got '0')"),
    ("cassette-limit", "0.1B", "must be a size such as 500MB or 2GiB (got '0.1B')"),
    ("cassette-limit", "much", "must be a size such as 500MB or 2GiB (got 'much')"),
    ("gate", " ", "must not be empty (got ' ')"),
    (
        "gate",
        "tokens_per_second",
        (
            "must be a metric and its allowed change, such as tokens_per_second:-5%, or its bound, such as "
            "tokens_per_second:>=40 (got 'tokens_per_second')"
        ),
    ),
    (
        "gate",
        "tokens_per_second:+5%",
        (
            "cannot be used: tokens_per_second: a higher value is better, so its limit must be negative "
            "(got 'tokens_per_second:+5%')"
        ),
    ),
    (
        "gate",
        "goodput:-2%",
        "must give the change of goodput in pp, percentage points: goodput:-2pp (got 'goodput:-2%')",
    ),
    (
        "gate",
        "ttft_ms:+2pp",
        "must give the change of ttft_ms in %, such as tokens_per_second:-5% (got 'ttft_ms:+2pp')",
    ),
    ("gate", "ttft_ms:+5% ttft_ms:+6%", "must not name ttft_ms twice (got 'ttft_ms:+5% ttft_ms:+6%')"),
    ("ab", " ", "must not be empty (got ' ')"),
    *(
        ("blocks", value, f"must be numbers of blocks that grow, from 3 on, such as 6,12,20,40 or 20 (got {value!r})")
        for value in ("0", "2", "12,6", "6,6", "many", "6,", "²", "6;12")
    ),
    ("restarts", "5", "must be auto, always or never (got '5')"),
    ("baseline", " ", "must not be empty (got ' ')"),
    ("alpha", "1%", "must be a probability above 0, and 0.2 at most (got '1%')"),
    ("alpha", "0.5", "must be a probability above 0, and 0.2 at most (got '0.5')"),
    ("inconclusive", "pass", "must be warn or fail (got 'pass')"),
    ("subject", " ", f"must be among {', '.join(FACTS)} (got ' ')"),
    ("allow-mismatch", "weather", f"must be among {', '.join(FACTS)} (got 'weather')"),
]


@pytest.fixture(autouse=True)
def _no_environment(_plain_environment: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MODELLENS_REPORT")


def settings(project: Project, *arguments: str) -> Settings:
    return project.pytester.parseconfigure(*arguments).stash[SETTINGS]


def test_every_option_is_tried_here() -> None:
    assert {option.name for option in OPTIONS} == {*GOOD} == {name for name, _, _ in BAD}


@pytest.mark.parametrize("option", OPTIONS, ids=lambda option: option.name)
def test_option_of_the_command_line_wins_over_environment_and_ini(
    project: Project, monkeypatch: pytest.MonkeyPatch, option: Any
) -> None:
    first, second, third, meaning = GOOD[option.name]
    field = option.name.replace("-", "_")
    assert getattr(settings(project), field) is None
    project.pytester.makeini(f"[pytest]\n{option.dest} = {third}\n")
    from_ini = getattr(settings(project), field)
    assert from_ini == option.parse(third)
    monkeypatch.setenv(option.dest.upper(), second)
    assert getattr(settings(project), field) == option.parse(second) != from_ini
    assert getattr(settings(project, f"{option.flag}={first}"), field) == meaning == option.parse(first)


@pytest.mark.parametrize(("name", "value", "message"), BAD)
def test_bad_value_is_a_usage_error_that_names_the_option(
    project: Project, monkeypatch: pytest.MonkeyPatch, name: str, value: str, message: str
) -> None:
    result = project.run(None, f"--modellens-{name}={value}")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert result.errlines == [f"ERROR: --modellens-{name}: {message}", ""]
    variable = f"MODELLENS_{name.replace('-', '_').upper()}"
    monkeypatch.setenv(variable, value)
    assert project.run(None).errlines == [f"ERROR: {variable}: {message}", ""]


def test_bad_value_of_the_ini_file_is_named_as_there(project: Project) -> None:
    project.pytester.makeini("[pytest]\nmodellens_rounds = many\n")
    result = project.run(None)
    assert result.errlines == ["ERROR: modellens_rounds: must be a whole number from 1 on (got 'many')", ""]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("vlm", "unknown provider 'vlm' (did you mean 'vllm'? known: auto, *vllm, amplifier:MODULE)"),
        ("", "unknown provider '' (known: auto, *vllm, amplifier:MODULE)"),
        ("vllm=host:8000", "*vllm: the part after = must be a URL such as http://127.0.0.1:8000/v1"),
        ("vllm=", "*vllm: the part after = must be a URL such as http://127.0.0.1:8000/v1"),
    ],
)
def test_provider_that_cannot_be_is_a_usage_error(project: Project, given: str, message: str) -> None:
    result = project.run(None, f"--provider={given}")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"ERROR: --provider*: {message}".replace("*: *", "*")])
    result.stderr.no_fnmatch_line("*Traceback*")


def test_provider_comes_from_command_line_environment_or_ini(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    def labels(*arguments: str) -> list[str]:
        return [spec.label for spec in settings(project, *arguments).providers]

    assert labels() == []
    project.pytester.makeini("[pytest]\nmodellens_provider = vllm openai\n")
    assert labels() == ["vllm", "openai"]
    monkeypatch.setenv("MODELLENS_PROVIDER", "local vllm=http://h/v1")
    assert labels() == ["local", "vllm"]
    assert labels("--modellens-provider", "llamacpp", "--provider", "vllm") == ["llamacpp", "vllm"]


def test_one_base_url_for_two_providers_is_a_usage_error(project: Project) -> None:
    result = project.run(None, "--provider=vllm", "--provider=openai", "--modellens-base-url=http://h/v1")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: --modellens-base-url: is for one provider (give each its own: *"])


def test_strict_comes_from_command_line_environment_ini_or_ci(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert settings(project).strict is False
    monkeypatch.setenv("CI", "true")
    assert settings(project).strict is True
    project.pytester.makeini("[pytest]\nmodellens_strict = false\n")
    assert settings(project).strict is False
    monkeypatch.setenv("MODELLENS_STRICT", "1")
    assert settings(project).strict is True
    monkeypatch.setenv("MODELLENS_STRICT", "off")
    assert settings(project).strict is False
    assert settings(project, "--modellens-strict").strict is True
    monkeypatch.setenv("MODELLENS_STRICT", "maybe")
    assert project.run(None).errlines == ["ERROR: MODELLENS_STRICT: must be true or false (got 'maybe')", ""]


def test_api_key_variable_that_is_not_set_is_told(project: Project, server: FakeServer) -> None:
    project.case()
    result = project.run(server, "--modellens-api-key-env", "NO_SUCH_KEY")
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*llamacpp: API key: the variable NO_SUCH_KEY is not set (export NO_SUCH_KEY=…)"])
    result.stdout.no_fnmatch_line("*Traceback*")
    assert server.connections == 0


def test_suite_files_of_the_ini_file_are_collected(project: Project, server: FakeServer) -> None:
    project.pytester.makeini("[pytest]\nmodellens_suite_files = prompts/*.yml\n")
    project.suite()
    project.suite(name="prompts/chat.yml")
    result = project.run(server, "--collect-only", "-q")
    assert {line.partition("::")[0] for line in result.outlines if "::" in line} == {"prompts/chat.yml"}


def test_help_lists_every_option_in_one_style(project: Project) -> None:
    result = project.run(None, "--help")
    result.stdout.fnmatch_lines(["LLM inference benchmarks:", "*--provider*NAME*"])
    for option in OPTIONS:
        result.stdout.fnmatch_lines([f"  {option.flag}=*"])
        assert re.match(r"[A-Z].*\(default: .+\)$", option.help)


def test_table_of_the_documentation_equals_the_code() -> None:
    page = Path(__file__).parents[2] / "docs" / "options.md"
    lines = page.read_text(encoding="utf-8").splitlines()
    documented = [line for line in lines if line.startswith("| `--modellens-")]
    expected = [
        f"| `{option.flag} {option.metavar}` | `{option.dest}` | `{option.dest.upper()}` | {option.help} |"
        for option in OPTIONS
    ]
    assert documented[: len(expected)] == expected
    assert [line for line in lines if "`modellens_strict`" in line]
    assert [line for line in lines if "`modellens_suite_files`" in line]
    assert [line for line in lines if "`modellens_serve`" in line]
    assert [line for line in lines if line.startswith("| `--provider [NAME:]PROVIDER[=URL]`")]
