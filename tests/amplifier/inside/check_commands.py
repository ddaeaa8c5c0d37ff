"""`modellens amplifier plan`, `modellens amplifier validate`, `modellens providers amplifier:MODULE`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from amplifier_core.models import ModelInfo, Pricing
from amplifier_core.validation import MountPlanValidator

from pytest_modellens.amplifier.describing import PricedModelInfo
from pytest_modellens.bridge.plans import plan_for
from pytest_modellens.cli import main
from pytest_modellens.errors import ConfigError
from pytest_modellens.truth.client import TruthServer
from tests.amplifier.inside.modules.doubles import Double
from tests.plugin.fake_server import fake_server, stream

ROOT = Path(__file__).parents[3]


def test_plan_names_the_server_that_is_found(capsys: pytest.CaptureFixture[str]) -> None:
    with fake_server(stream("a")) as server:
        assert main(["amplifier", "plan", server.url]) == 0
        plan = yaml.safe_load(capsys.readouterr().out)
        assert plan["providers"] == [
            {
                "module": "provider-modellens-llamacpp",
                "config": {"base_url": server.url, "default_model": "fake"},
            }
        ]
    assert MountPlanValidator().validate(plan).passed


def test_plan_without_a_server_says_what_was_tried(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["amplifier", "plan", "http://127.0.0.1:9"]) == 1
    assert "127.0.0.1:9" in capsys.readouterr().err


def test_plan_that_is_none_is_not_printed() -> None:
    with pytest.raises(ConfigError, match="no valid plan comes of it"):
        plan_for("", {})


PACKAGE = "amplifier_module_provider_modellens_vllm"


@pytest.mark.parametrize("name", ["modellens-vllm", PACKAGE, str(ROOT / PACKAGE)])
def test_good_module_is_valid(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["amplifier", "validate", name]) == 0
    out = capsys.readouterr().out
    assert "MUST  15 of 15" in out
    assert out.startswith("provider-modellens-vllm (amplifier_module_provider_modellens_vllm ")


def test_plan_and_model_lead_to_another_server(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with TruthServer() as server:
        config = {"base_url": server.url, "prices": {"*": {"input": 0, "output": 0}}}
        plan = {"module": "provider-modellens-openai", "config": config}
        (tmp_path / "plan.yaml").write_text(yaml.safe_dump(plan))
        options = ["--plan", str(tmp_path / "plan.yaml"), "--model", "truth:steady"]
        assert main(["amplifier", "validate", "modellens-openai", *options]) == 0
    out = capsys.readouterr().out
    assert "MUST  15 of 15" in out
    assert "SHOULD  8 of 8" in out


def test_ollamas_module_is_asked_natively(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["amplifier", "validate", "modellens-ollama"]) == 0
    assert "MUST  15 of 15" in capsys.readouterr().out


def test_poor_module_is_not_valid(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["amplifier", "validate", "silent"]) == 1
    out = capsys.readouterr().out
    assert "✗ has the five members of a Provider: lacks list_models" in out
    assert "✗ passes amplifier_core's own validator: protocol_compliance" in out


def test_what_is_no_module_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["amplifier", "validate", "no-such-one"]) == 1
    assert "modellens: amplifier:no-such-one: no such module (" in capsys.readouterr().err
    assert main(["amplifier", "validate", str(tmp_path)]) == 1
    assert "no package of a module is there" in capsys.readouterr().err


def test_module_that_cannot_be_mounted_fails_the_list(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "plan.yaml").write_text("max_tokens: many")
    assert main(["amplifier", "validate", "modellens-vllm", "--plan", str(tmp_path / "plan.yaml")]) == 1
    assert "✗ mounts with its configuration: " in capsys.readouterr().out


def test_providers_describes_a_module(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["providers", "amplifier:older"]) == 0
    out = capsys.readouterr().out
    assert out.splitlines()[0] == "amplifier:older  older"
    assert "  model         m: 100 tokens of context; price unknown; tier unknown; none" in out
    assert main(["providers", "amplifier:silent"]) == 0
    out = capsys.readouterr().out
    assert "none without a server or a key" in out
    assert max(map(len, out.splitlines())) <= 80
    assert main(["providers", "amplifier:no-such-one"]) == 1


def flat(text: str) -> str:
    return " ".join(text.split())


def lists(monkeypatch: pytest.MonkeyPatch, **more: Any) -> None:
    """Let the doubles list one model, as one of ours does that knows the fields of the contract."""

    async def listing(_: Double) -> list[ModelInfo]:
        return [PricedModelInfo(id="m", display_name="M", context_window=9, max_output_tokens=1, **more)]

    monkeypatch.setattr(Double, "list_models", listing)


@pytest.mark.parametrize(
    ("more", "shown", "tier"),
    [
        (
            {"pricing": Pricing(input_per_million=1.5, output_per_million=6)},
            "1.5 in, 6 out USD",
            "medium (by its price)",
        ),
        ({"cost_per_input_token": 3e-6, "cost_per_output_token": 1.5e-5}, "3 in, 15 out USD", "medium (by its price)"),
        (
            {"pricing": Pricing(input_per_million=0, output_per_million=90), "metadata": {"cost_tier": "low"}},
            "0 in, 90 out USD",
            "low",
        ),
        ({"pricing": Pricing(input_per_million=1, output_per_million=2, currency="EUR")}, "1 in, 2 out EUR", "unknown"),
        ({"pricing": Pricing(input_per_million=float("nan"), output_per_million=2)}, None, "unknown"),
        ({"cost_per_input_token": 3e-6, "metadata": {"cost_tier": "dear"}}, None, "unknown"),
    ],
)
def test_prices_and_tiers_are_shown_as_they_are_told(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], more: dict[str, Any], shown: str, tier: str
) -> None:
    lists(monkeypatch, **more)
    assert main(["providers", "amplifier:older"]) == 0
    price = f"{shown} per 1M tokens" if shown else "price unknown"
    assert f"m: 9 tokens of context; {price}; tier {tier}; none" in flat(capsys.readouterr().out)


def test_providers_describes_a_module_at_its_server_and_with_its_plan(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-abcdefghijk")
    assert main(["providers", "amplifier:modellens-openai"]) == 0
    assert "none without a server or a key (give MODULE=URL, or a mount plan: --plan FILE)" in flat(
        capsys.readouterr().out
    )
    with TruthServer() as server:
        assert main(["providers", f"amplifier:modellens-openai={server.url}"]) == 0
        assert "  model         truth:steady: " in capsys.readouterr().out
        config = {"base_url": server.url, "api_key": "${OPENAI_API_KEY}", "prices": {"*": {"input": 1, "output": 4}}}
        (tmp_path / "plan.yaml").write_text(yaml.safe_dump(config))
        assert main(["providers", "amplifier:modellens-openai", "--plan", str(tmp_path / "plan.yaml")]) == 0
    out = flat(capsys.readouterr().out)
    assert "; 1 in, 4 out USD per 1M tokens; tier low; streaming" in out
    assert "abcdefghijk" not in out
    assert main(["providers", "amplifier:modellens-openai=nowhere"]) == 1
    assert "base URL: must start with http:// or https://" in capsys.readouterr().err
