"""Everything about Amplifier says which command installs what it needs, and imports none of it unasked."""

from __future__ import annotations

import subprocess
import sys

import pytest

from pytest_modellens.bridge import loading
from pytest_modellens.bridge.plans import plan_for
from pytest_modellens.bridge.validation import validate
from pytest_modellens.cli import main
from pytest_modellens.errors import MissingExtraError
from pytest_modellens.providers.registry import create_provider

NOT_THERE = r"amplifier-core is not installed \(pip install 'pytest-modellens\[amplifier\]'\)"


@pytest.fixture(autouse=True)
def _no_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loading, "find_spec", lambda _: None)


def test_provider_needs_the_extra() -> None:
    with pytest.raises(MissingExtraError, match=NOT_THERE):
        create_provider("amplifier:provider-openai")


def test_plans_and_validation_need_the_extra() -> None:
    with pytest.raises(MissingExtraError, match=NOT_THERE):
        plan_for("provider-openai", {})
    with pytest.raises(MissingExtraError, match=NOT_THERE):
        validate("provider-openai")


def test_command_says_it_in_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["amplifier", "validate", "provider-openai"]) == 1
    assert capsys.readouterr().err.startswith("modellens: amplifier-core is not installed (pip install ")


def test_kernel_is_imported_by_nobody_unasked() -> None:
    code = (
        "import sys, pytest_modellens.cli, pytest_modellens.plugin, pytest_modellens.providers.amplifier\n"
        "import pytest_modellens.bridge.validation, pytest_modellens.bridge.portrait\n"
        "print([name for name in sys.modules if name.partition('.')[0] in ('amplifier_core', 'pydantic', 'httpx')])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "[]"
