"""What a suite takes from outside of its text: its file, prompt files below its folder, the environment."""

from __future__ import annotations

import re
import stat
from dataclasses import dataclass, field
from pathlib import Path, PureWindowsPath
from typing import TYPE_CHECKING

from pytest_modellens.errors import Problem

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["FileError", "Source", "read_text"]

MAX_BYTES = 16 * 1024 * 1024
_VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)(?::([^}]*))?\}")


class FileError(ValueError):
    """A file cannot be used as text; the message says why."""

    def __init__(self, text: str, line: int = 1) -> None:
        super().__init__(text)
        self.line = line


def read_text(path: Path, *, max_bytes: int | None = None) -> str:
    """Return the UTF-8 text of a regular file, with Unix line ends and without a byte order mark.

    Raises:
        FileError: unreadable, not a file, too large or not UTF-8.
    """
    try:
        most = MAX_BYTES if max_bytes is None else max_bytes
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise FileError("is not a file")
        if status.st_size > most:
            raise FileError(f"has {status.st_size:,} bytes, more than {most:,}")
        data = path.read_bytes()
    except FileNotFoundError as exc:
        raise FileError("does not exist") from exc
    except FileError:
        raise
    except OSError as exc:
        raise FileError(f"cannot be read: {exc.strerror}") from exc
    except ValueError as exc:
        raise FileError("cannot be read: its name holds a null character") from exc
    try:
        return data.decode("utf-8-sig").replace("\r\n", "\n")
    except UnicodeDecodeError as exc:
        line = data.count(b"\n", 0, exc.start) + 1
        raise FileError(f"is not UTF-8 (byte 0x{data[exc.start]:02x} on line {line})", line) from exc


@dataclass(slots=True)
class Source:
    """One suite file while it is being read."""

    shown_as: str
    folder: Path
    env: Mapping[str, str]
    problems: list[Problem] = field(default_factory=list)
    _texts: dict[str, str] = field(default_factory=dict)

    def report(self, line: int, sentence: str) -> None:
        """Keep `sentence` as a problem of the file."""
        self.problems.append(Problem(self.shown_as, line, sentence))

    def text_of(self, name: str) -> str:
        """Return the text of the file `name` below the suite's folder.

        Raises:
            FileError: outside of the folder, or not readable as text.
        """
        if name not in self._texts:
            self._texts[name] = read_text(self._inside(name))
        return self._texts[name]

    def file_at(self, name: str) -> Path:
        """Return the path of the file `name` below the suite's folder, which is there and can be read.

        Raises:
            FileError: outside of the folder, missing, no file, or not readable.
        """
        path = self._inside(name)
        try:
            if not path.is_file():
                raise FileError("is not a file" if path.exists() else "does not exist")
            path.open("rb").close()
        except OSError as exc:
            raise FileError(f"cannot be read: {exc.strerror or exc}") from exc
        return path

    def _inside(self, name: str) -> Path:
        if "\x00" in name:
            raise FileError("is no file name")
        root = self.folder.resolve()
        # A drive or a backslash root leads outside on Windows only, but a suite should not mean two things.
        inside = not Path(name).is_absolute() and not PureWindowsPath(name).anchor
        target = (root / name).resolve() if inside else root
        if not inside or not target.is_relative_to(root):
            raise FileError("leads outside of the suite's folder")
        return target

    def expand(self, value: str) -> str:
        """Return `value` with `${NAME}` and `${NAME:default}` replaced from the environment.

        Raises:
            FileError: a variable without default is not set. Never holds a value: it may be a secret.
        """
        missing = [match[1] for match in _VARIABLE.finditer(value) if match[2] is None and match[1] not in self.env]
        if missing:
            name = missing[0]
            raise FileError(
                f"needs the environment variable {name}, which is not set (${{{name}:default}} gives a default)"
            )
        if "${" in _VARIABLE.sub("", value):
            raise FileError("has a '${' that begins neither ${NAME} nor ${NAME:default}")
        return _VARIABLE.sub(lambda match: self.env.get(match[1], match[2] or ""), value)
