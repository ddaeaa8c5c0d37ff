"""Baselines: sessions that a person has accepted, one file each, in `results/baselines/<name>/`."""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING, Any

import msgspec

from pytest_modellens.errors import StorageError
from pytest_modellens.gate.session import SLO, Session, differences
from pytest_modellens.storage.whole import write_whole

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

__all__ = [
    "KEPT",
    "Baseline",
    "add_session",
    "baseline_folder",
    "check_baseline",
    "let_git_see",
    "list_baselines",
    "prune",
    "prune_before",
    "read_baseline",
    "remove_sessions",
]

SCHEMA_VERSION = 1
KEPT = 20
"""Sessions that a baseline keeps; older ones make room."""
_FOLDER = "baselines"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_IGNORED = b"*\n!.gitignore\n!/baselines/\n!/baselines/**\n!/calibrations/\n!/calibrations/**\n"
_IGNORED_BEFORE = (b"*\n!.gitignore\n", b"*\n!.gitignore\n!/baselines/\n!/baselines/**\n")


class Baseline(msgspec.Struct, frozen=True):
    """A baseline on disk."""

    name: str
    folder: Any
    sessions: list[Session]
    """Oldest first."""


def baseline_folder(results: Path, name: str) -> Path:
    """Return where the baseline is: a folder named by its path, or one of `results`.

    Raises:
        StorageError: the name cannot be one.
    """
    if "/" in name or "\\" in name:
        return type(results)(name)
    if not _NAME.fullmatch(name):
        raise StorageError(f"baseline {name!r}: must be letters, digits, '.', '_' and '-', such as main")
    return results / _FOLDER / name


def list_baselines(results: Path) -> list[str]:
    """Return the names of the baselines in `results`, sorted."""
    try:
        return sorted(path.name for path in (results / _FOLDER).iterdir() if path.is_dir())
    except OSError:
        return []


def read_baseline(folder: Path) -> Baseline:
    """Return the baseline in `folder`; it has no sessions where there is no such folder.

    Raises:
        StorageError: a file cannot be read, is damaged or was changed, or is of a newer version.
    """
    sessions = [_read(path) for path in _files(folder)]
    return Baseline(folder.name, folder, sessions)


def check_baseline(folder: Path) -> None:
    """Return when there is a baseline with sessions, whatever they hold.

    Raises:
        StorageError: there is none.
    """
    if not _files(folder):
        raise StorageError(f"{folder}: no such baseline (modellens baseline list shows those there are)")


def add_session(folder: Path, session: Session, *, may_differ: Sequence[str] = ()) -> Path:
    """Write a session to a baseline, and drop the oldest beyond `KEPT`; returns its file.

    Raises:
        StorageError: it is there already, does not go with those there, or cannot be written.
    """
    there = read_baseline(folder).sessions
    if any(one.name == session.name for one in there):
        raise StorageError(f"{folder}: has the session {session.name} already")
    differing = differences(there, session, may_differ=(*may_differ, SLO))
    if differing:
        told = "; ".join(f"{key + ': ' if key else ''}{text}" for key, texts in differing.items() for text in texts)
        raise StorageError(f"{folder}: {session.name} does not go with the sessions there ({told}; use another name)")
    path = folder / f"{session.name}.json"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if folder.parent.name == _FOLDER:
            let_git_see(folder.parent.parent)
        write_whole(path, _encoded(session))
    except OSError as exc:
        raise StorageError(f"{path}: cannot be written ({exc.strerror})") from exc
    prune(folder, keep=KEPT)
    return path


def prune(folder: Path, *, keep: int) -> list[str]:
    """Remove all but the newest `keep` sessions; returns the names of those removed.

    Raises:
        StorageError: a file cannot be removed.
    """
    return remove_sessions(folder, [path.stem for path in _files(folder)[: -keep or None]])


def prune_before(folder: Path, run: str) -> list[str]:
    """Remove the sessions that are older than the run, by its name; returns the names of those removed.

    Raises:
        StorageError: a file cannot be removed.
    """
    return remove_sessions(folder, [path.stem for path in _files(folder) if path.stem < run])


def remove_sessions(folder: Path, names: Sequence[str]) -> list[str]:
    """Remove sessions by name, and return the names.

    Raises:
        StorageError: a file cannot be removed.
    """
    for name in names:
        path = folder / f"{name}.json"
        try:
            path.unlink()
        except OSError as exc:
            raise StorageError(f"{path}: cannot be removed ({exc.strerror})") from exc
    return [*names]


def _files(folder: Path) -> list[Path]:
    # A run's name begins with its time.
    return sorted(folder.glob("*.json"))


def let_git_see(results: Path) -> None:
    """Have the folder's own .gitignore, if it is as it was made, leave baselines and calibrations to be committed."""
    ignored = results / ".gitignore"
    if ignored.is_file() and ignored.read_bytes() in _IGNORED_BEFORE:
        ignored.write_bytes(_IGNORED)


def _encoded(session: Session) -> bytes:
    """Return the file: a row a line, so that a diff shows requests."""
    plain = msgspec.to_builtins(session)
    rows = b",\n  ".join(msgspec.json.encode(row) for row in plain.pop("rows"))
    head = {"schema_version": SCHEMA_VERSION, "content_hash": _hash(session), **plain}
    text = msgspec.json.format(msgspec.json.encode(head), indent=2)
    return text.removesuffix(b"\n}") + b',\n  "rows": [\n  ' + rows + b"\n  ]\n}\n"


def _hash(session: Session) -> str:
    return hashlib.sha256(msgspec.json.encode(session, order="deterministic")).hexdigest()


def _read(path: Path) -> Session:
    try:
        raw = msgspec.json.decode(path.read_bytes())
        if isinstance(raw, dict) and isinstance(raw.get("schema_version"), int):
            _check_version(raw["schema_version"], path)
        session = msgspec.convert(raw, type=Session)
    except OSError as exc:
        raise StorageError(f"{path}: cannot be read ({exc.strerror})") from exc
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as exc:
        raise StorageError(f"{path}: is no session of a baseline ({exc}; restore it from git or remove it)") from exc
    if raw.get("content_hash") != _hash(session):
        raise StorageError(f"{path}: was changed after it was written (its hash differs; restore it from git)")
    return session


def _check_version(version: int, path: Path) -> None:
    if version > SCHEMA_VERSION:
        raise StorageError(f"{path}: written by a newer pytest-modellens (schema_version {version}; upgrade it)")
