"""Keys in a module's configuration: in nothing that is written or shown, whatever the module does with them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import yaml

from pytest_modellens.cli import main
from tests.amplifier.inside.running import ROUNDS, kept, run

if TYPE_CHECKING:
    from pathlib import Path

# Each with the parts of which not one may be seen anywhere.
CONFIGS: list[tuple[dict[str, Any], tuple[str, ...]]] = [
    ({"api_key": "zebra-crossing"}, ("zebra", "crossing")),
    ({"api_key": "sk-zebra$%/c\\ro'ss\"inx"}, ("zebra", "inx")),
    ({"api_key": "Bearer zebra crossing"}, ("zebra", "crossing")),
    ({"base_url": "http://ann:ze%40bra-x@127.0.0.1:9/v1"}, ("ze%40bra", "ze@bra", "emVAYnJhLXg")),
    ({"base_url": "http://zebra-x@127.0.0.1:9/v1"}, ("zebra",)),
    ({"base_url": "http://127.0.0.1:9/v1?api_key=zebra-x&api-version=7"}, ("zebra",)),
    ({"default_headers": {"X-Animal": "zebra-x"}}, ("zebra",)),
    ({"credentials": {"user": "zebra-u", "others": ["zebra-x"]}}, ("zebra",)),
    ({"animal": "${ANIMAL_TOKEN}"}, ("zebra",)),
]


def everything(folder: Path) -> str:
    return "".join(
        path.read_text() for path in (folder / "results").rglob("*") if path.suffix in {".jsonl", ".json", ".csv"}
    )


@pytest.mark.parametrize(("config", "parts"), CONFIGS)
def test_nothing_of_a_secret_is_kept_or_shown(tmp_path: Path, config: dict[str, Any], parts: tuple[str, ...]) -> None:
    (tmp_path / "plan.yaml").write_text(yaml.safe_dump(config))
    suite = ROUNDS.replace("'truth:steady'", "m") + "- {name: b, prompt: hi, model: fails}\n"
    options = ("--provider=amplifier:leaking", "--modellens-amplifier-config=plan.yaml", "-o", "log_cli=true")
    done = run(tmp_path, *options, suite=suite, ANIMAL_TOKEN="zebra-x")
    assert "let a RuntimeError through" in done.stdout
    shown = done.stdout + done.stderr + everything(tmp_path)
    assert [part for part in parts if part in shown] == []
    assert kept(tmp_path).meta["servers"]["amplifier-leaking"]["amplifier"]["config_keys"] == sorted(
        [*config, "max_retries"]
    )
    assert "cleanup failed with RuntimeError" in shown


@pytest.mark.parametrize(("config", "parts"), CONFIGS[:-1])
def test_nothing_of_a_secret_is_in_what_commands_say(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], config: dict[str, Any], parts: tuple[str, ...]
) -> None:
    (tmp_path / "plan.yaml").write_text(yaml.safe_dump(config))
    main(["providers", "amplifier:leaking", "--plan", str(tmp_path / "plan.yaml")])
    main(["amplifier", "validate", "leaking", "--plan", str(tmp_path / "plan.yaml")])
    (tmp_path / "plan.yaml").write_text(yaml.safe_dump({**config, "refuse": "yes"}))
    assert main(["providers", "amplifier:leaking", "--plan", str(tmp_path / "plan.yaml")]) == 1
    out, err = capfd.readouterr()
    assert "mount() failed with ValueError: refused" in err
    assert [part for part in parts if part in out + err] == []


def test_key_that_is_too_short_to_be_one_is_left_in_the_answer(tmp_path: Path) -> None:
    (tmp_path / "plan.yaml").write_text("api_key: you")
    options = ("--provider=amplifier:leaking", "--modellens-amplifier-config=plan.yaml")
    done = run(tmp_path, *options, suite=ROUNDS.replace("'truth:steady'", "m"))
    assert done.returncode == 0, done.stdout
    assert kept(tmp_path).records[0]["response"].startswith("You asked me for ")
    assert "***" not in kept(tmp_path).records[0]["response"]
