"""Suites run by pytest through modules of Amplifier: records, run.json, and what is said of wrong configurations."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from pytest_modellens.truth.client import TruthServer
from tests.amplifier.inside.running import ROUNDS, kept, run

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with TruthServer() as server:
        yield server.url


def test_suite_is_measured_and_recorded(tmp_path: Path, url: str) -> None:
    done = run(tmp_path, f"--provider=amplifier:modellens-vllm={url}")
    assert done.returncode == 0, done.stdout + done.stderr
    measured = [record for record in kept(tmp_path).records if record["phase"] == "measured"]
    assert len(measured) == 3
    for record in measured:
        assert (record["provider"], record["provider_kind"]) == ("amplifier-modellens-vllm", "amplifier:modellens-vllm")
        assert (record["amplifier"]["rung"], record["clock"]) == (1, "perf_counter")
        assert "hook" in record["clock_note"]
        assert (record["prompt_tokens"], record["completion_tokens"]) == (8, 32)
        assert record["ttft_ms"] < record["total_time_ms"]
        assert len(record["inter_chunk_ms"]) == 31
    (server,) = kept(tmp_path).meta["servers"].values()
    assert server["amplifier"]["module"] == "provider-modellens-vllm"
    assert server["amplifier"]["models"][0]["metadata"]["cost_tier"] == "free"


def test_failures_are_records(tmp_path: Path, url: str) -> None:
    done = run(tmp_path, f"--provider=amplifier:modellens-vllm={url}", suite=ROUNDS.replace("steady", "refused-429"))
    assert done.returncode == 1
    assert {record["error_class"] for record in kept(tmp_path).records} == {"http_429"}
    assert "Traceback" not in done.stdout


def test_plan_of_the_user_configures_the_module(tmp_path: Path, url: str) -> None:
    plan = """
        session: {orchestrator: {module: loop-basic}, context: {module: context-simple}}
        providers:
        - {module: provider-other}
        - {module: provider-modellens-vllm, config: {base_url: "${HERE}", default_model: "${MODEL:truth:steady}"}}
    """
    (tmp_path / "plan.yaml").write_text(plan)
    suite = ROUNDS.replace(", model: 'truth:steady'", "")
    options = ("--provider=amplifier:modellens-vllm", "--modellens-amplifier-config=plan.yaml")
    done = run(tmp_path, *options, "--modellens-model=truth:listed-gaps", suite=suite, HERE=url)
    assert done.returncode == 0, done.stdout + done.stderr
    assert {record["model"] for record in kept(tmp_path).records} == {"truth:listed-gaps"}


INLINE = """
defaults:
  rounds: 1
  warmup: 0
  model: 'truth:steady'
  amplifier: {base_url: "${HERE}", api_key: sk-abcdefghijk}
cases:
- {name: a, prompt: hi}
- {name: b, prompt: hi}
- {name: c, prompt: hi, amplifier: {config: {base_url: "${HERE}", default_model: other}}}
"""


def test_suite_itself_configures_the_module(tmp_path: Path, url: str) -> None:
    done = run(tmp_path, "--provider=amplifier:urllib", "--setup-show", suite=INLINE, HERE=url)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("SETUP    S provider[amplifier-urllib]") == 2  # one for a and b, one for c
    assert [record["ok"] for record in kept(tmp_path).records] == [True] * 3
    results = "".join(path.read_text() for path in (tmp_path / "results").rglob("*.json*"))
    assert "abcdefghijk" not in results + done.stdout


def test_suite_and_plan_are_merged_key_by_key_and_the_command_line_wins(tmp_path: Path, url: str) -> None:
    (tmp_path / "plan.yaml").write_text("{base_url: 'http://127.0.0.1:9', timeout: 30, max_retries: 1}")
    suite = ROUNDS.replace("rounds: 3", "amplifier: {base_url: 'http://127.0.0.1:10', max_tokens: 9}, rounds: 1")
    options = (f"--provider=amplifier:modellens-vllm={url}", "--modellens-amplifier-config=plan.yaml")
    done = run(tmp_path, *options, suite=suite)
    assert done.returncode == 0, done.stdout + done.stderr
    (server,) = kept(tmp_path).meta["servers"].values()
    assert server["amplifier"]["config_keys"] == ["base_url", "max_retries", "max_tokens", "timeout"]


def test_other_providers_take_no_notice_of_it(tmp_path: Path, url: str) -> None:
    done = run(tmp_path, f"--provider=vllm={url}", suite=INLINE.replace("${HERE}", "${NOWHERE_SET}"))
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("written", "message"),
    [
        ("{config: {}, confg: {}}", "suites/a.yaml: 'amplifier': unknown key 'confg' (did you mean 'config'?"),
        ("{base_url: '${NOWHERE_SET}'}", "suites/a.yaml: 'amplifier': ${NOWHERE_SET} not set (export it, or give"),
        ("{providers: [{module: x}]}", "suites/a.yaml: 'amplifier': has no entry for provider-urllib (it has: x)"),
        ("{config: [sk-abcdefghijk]}", "suites/a.yaml: 'amplifier': 'config' must be a mapping (got ['sk-***'])"),
        ("{config: 3}", "suites/a.yaml: 'amplifier': 'config' must be a mapping (got 3)"),
        ("[3]", "suites/a.yaml:1: 'amplifier' of defaults must be a mapping such as {default_model: gpt-4o-mini}"),
    ],
)
def test_what_is_wrong_in_a_suite_is_said(tmp_path: Path, url: str, written: str, message: str) -> None:
    suite = ROUNDS.replace("rounds: 3", f"amplifier: {written}, rounds: 3")
    done = run(tmp_path, "--provider=amplifier:urllib", suite=suite)
    assert done.returncode in {1, 2}
    assert message in done.stdout
    assert "Traceback" not in done.stdout + done.stderr


OWN_TEST = """
import pytest

@pytest.mark.modellens_suite("suites/a.yaml")
def test_own(cell, modellens):
    modellens.run_cell(cell)
"""


def test_test_of_ones_own_has_one_configuration_for_all_its_cells(tmp_path: Path, url: str) -> None:
    (tmp_path / "test_own.py").write_text(OWN_TEST)
    options = ("--provider=amplifier:urllib", "test_own.py", "--deselect=suites")
    done = run(tmp_path, *options, suite=INLINE, HERE=url)
    assert "its cases differ in 'amplifier', and it has one provider for all" in done.stdout
    done = run(tmp_path, *options, suite=INLINE[: INLINE.index("- {name: c")], HERE=url)
    assert done.returncode == 0, done.stdout + done.stderr


def test_model_is_chosen_by_its_tier(tmp_path: Path, url: str) -> None:
    prices = "{'truth:s*': {input: 1, output: 4}, '*': {input: 1, output: 40}}"
    suite = f"defaults: {{amplifier: {{prices: {prices}}}, rounds: 1}}\ncases: [{{name: a, prompt: hi}}]\n"
    options = (f"--provider=amplifier:modellens-vllm={url}", "--modellens-model=tier:low")
    done = run(tmp_path, *options, suite=suite)
    assert done.returncode == 0, done.stdout + done.stderr
    (model,) = {record["model"] for record in kept(tmp_path).records}
    assert model.startswith("truth:s")
    (server,) = kept(tmp_path).meta["servers"].values()
    assert {listed["cost_tier"] for listed in server["models"]} == {"low", "high"}


def test_servers_of_one_module_are_described_each_by_itself(tmp_path: Path, url: str) -> None:
    with TruthServer() as other:
        options = [
            f"--provider={label}:amplifier:modellens-vllm={at}" for label, at in {"a": url, "b": other.url}.items()
        ]
        done = run(tmp_path, *options)
        assert done.returncode == 0, done.stdout + done.stderr
        servers = kept(tmp_path).meta["servers"]
        assert {label: server["amplifier"]["base_url"] for label, server in servers.items()} == {
            "a": url,
            "b": other.url,
        }
    assert servers["a"]["amplifier"]["info"]["credential_env_vars"] == ["VLLM_API_KEY"]


def test_key_that_a_module_must_not_see_is_there_for_the_server_beside_it(tmp_path: Path, url: str) -> None:
    entry = f'provider = "openai"\nbase_url = "{url}"\napi_key_env = "OPENAI_API_KEY"\n'
    (tmp_path / "pyproject.toml").write_text(f"[tool.modellens.providers.direct]\n{entry}")
    options = (f"--provider=amplifier:modellens-openai={url}", "--modellens-ab=direct", "--modellens-blocks=6")
    done = run(tmp_path, *options, suite=ROUNDS.replace("steady", "single-token"), OPENAI_API_KEY="sk-abcdefghijk")
    assert done.returncode == 0, done.stdout + done.stderr
    (hidden,) = (server for name, server in kept(tmp_path).meta["servers"].items() if name != "direct")
    assert "OPENAI_API_KEY" in hidden["amplifier"]["environment_scrubbed"]


OURS = "amplifier:modellens-vllm"


@pytest.mark.parametrize(
    ("provider", "config", "message"),
    [
        ("amplifier:no-such-one", None, "amplifier:no-such-one: no such module ("),
        (
            "amplifier:modellens-vllm",
            "base_url: ${NOWHERE_SET}",
            "${NOWHERE_SET} not set (export it, or give a default",
        ),
        (
            "amplifier:modellens-vllm",
            "{module: provider-modellens-vllm, confg: {}}",
            "unknown key 'confg' (did you mean 'config'?",
        ),
        (
            "amplifier:modellens-vllm",
            "{providers: [], providrs: []}",
            "unknown key 'providrs' (did you mean 'providers'?",
        ),
        (
            "amplifier:modellens-vllm",
            "{providers: [{module: x}]}",
            "has no entry for provider-modellens-vllm (it has: x)",
        ),
        (OURS, "[3]", "providers[0]: must be a mapping with 'module' (got 3)"),
        (OURS, "just text", "must be an entry of a mount plan's 'providers' (got 'just text')"),
        (OURS, "config: [1]", "'config' must be a mapping (got [1])"),
        (OURS, "a: [", "is not YAML ("),
        (OURS, "max_tokens: many", "mount() failed with ConfigurationError"),
        ("amplifier:broken", None, "cannot be loaded (RuntimeError: broken)"),
    ],
)
def test_what_is_wrong_is_said(tmp_path: Path, provider: str, config: str | None, message: str) -> None:
    options = [f"--provider={provider}"]
    if config is not None:
        (tmp_path / "plan.yaml").write_text(config)
        options.append("--modellens-amplifier-config=plan.yaml")
    done = run(tmp_path, *options)
    assert done.returncode == 1
    assert message in done.stdout
    assert "Traceback" not in done.stdout + done.stderr


def test_plan_that_is_not_there_is_named(tmp_path: Path) -> None:
    done = run(tmp_path, "--provider=amplifier:older", "--modellens-amplifier-config=no.yaml")
    assert "no.yaml: cannot be read (No such file or directory)" in done.stdout


def test_cost_that_is_a_float_is_left_out_and_said_below_the_table(tmp_path: Path) -> None:
    done = run(tmp_path, "--provider=amplifier:failing", suite=ROUNDS.replace("truth:steady", "float"))
    assert done.returncode == 0, done.stdout
    assert "the module's cost_usd is a float, and must be a Decimal" in " ".join(done.stdout.split())
    assert "cost:" not in done.stdout
    assert {record["cost_usd"] for record in kept(tmp_path).records} == {None}
    done = run(tmp_path, "--provider=amplifier:failing", suite=ROUNDS.replace("truth:steady", "exact"))
    assert "cost: 1.000000 USD for 4 requests" in done.stdout


def test_module_that_shows_nothing_is_measured_to_its_end(tmp_path: Path) -> None:
    done = run(tmp_path, "--provider=amplifier:silent", suite=ROUNDS.replace("truth:steady", "m"))
    assert done.returncode == 0, done.stdout
    (record, *_) = kept(tmp_path).records
    assert (record["amplifier"]["rung"], record["ttft_ms"], record["completion_tokens"]) == (5, None, None)
    assert record["total_time_ms"] is not None
