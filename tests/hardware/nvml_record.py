"""Records what a real NVML answers to everything that `GpuReader` asks, and answers from such a recording.

    python -m tests.hardware.nvml_record OUT.json SECONDS [COMMAND …]

runs COMMAND meanwhile. Numbers, names and process ids only: no serial number and no UUID is ever asked for.
"""

from __future__ import annotations

import ctypes
import json
import subprocess
import sys
import time
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import TYPE_CHECKING, Any

from pytest_modellens.hardware.gpu import GpuReader

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


class RecordingNvml(ModuleType):
    """Stands before the real module `pynvml` and writes down every call with its answer."""

    def __init__(self, real: Any) -> None:
        super().__init__("pynvml")
        self._real = real
        self._handles: list[Any] = []
        self.constants: dict[str, int] = {}
        self.looks: list[dict[str, Any]] = [{}]
        """What was asked when the session was opened, and then in each look at the GPUs."""

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._real, name)
        if not name.startswith("nvml"):
            if isinstance(value, int):
                self.constants[name] = value
            return value

        def call(*arguments: Any) -> Any:
            at = [self._number(argument) for argument in arguments]
            try:
                answer = value(*arguments)
            except self._real.NVMLError as exc:
                self.looks[-1][key(name, at)] = {"error": str(exc)}
                raise
            if name == "nvmlDeviceGetHandleByIndex":
                self._handles.append(answer)
                self.looks[-1][key(name, at)] = {"value": len(self._handles) - 1}
            else:
                self.looks[-1][key(name, at)] = {"value": plain(answer)}
            return answer

        return call

    def _number(self, argument: Any) -> Any:
        for number, handle in enumerate(self._handles):
            if handle is argument:
                return f"gpu{number}"
        return argument


class ReplayedNvml(ModuleType):
    """Stands in for the module `pynvml`: answers as recorded; `look` is which of the looks."""

    class NVMLError(Exception):
        """As in pynvml: the base of all NVML errors."""

    def __init__(self, recording: dict[str, Any]) -> None:
        super().__init__("pynvml")
        vars(self).update(recording["constants"])
        self._looks = recording["looks"]
        self.look = 1

    def __getattr__(self, name: str) -> Callable[..., Any]:
        if not name.startswith("nvml"):
            raise AttributeError(name)

        def call(*arguments: Any) -> Any:
            asked = key(name, arguments)
            answer = self._looks[self.look].get(asked) or self._looks[0].get(asked) or {"error": "Function Not Found"}
            if "error" in answer:
                raise self.NVMLError(answer["error"])
            if name == "nvmlDeviceGetHandleByIndex":
                return f"gpu{answer['value']}"
            return json.loads(json.dumps(answer["value"]), object_hook=lambda fields: SimpleNamespace(**fields))

        return call


def key(function: str, arguments: Sequence[Any]) -> str:
    """Return how a recording names a call."""
    return f"{function}({', '.join(map(str, arguments))})"


def plain(value: Any) -> Any:
    """Return an answer of NVML's as JSON types."""
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    if value is None or isinstance(value, (str, int, float)):
        return value
    if isinstance(value, ctypes.Structure):
        return {name: plain(getattr(value, name)) for name, *_ in value._fields_}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    return {name: plain(item) for name, item in vars(value).items()}


def record(seconds: float, command: Sequence[str] = (), *, every_s: float = 0.5) -> dict[str, Any]:
    """Return a recording of so many seconds, made while a command runs."""
    import pynvml

    recorder = RecordingNvml(pynvml)
    sys.modules["pynvml"] = recorder
    try:
        with GpuReader() as reader:
            program = subprocess.Popen(command) if command else None
            try:
                until = time.monotonic() + seconds
                while time.monotonic() < until or len(recorder.looks) == 1:
                    recorder.looks.append({})
                    reader.read(with_processes=True)
                    time.sleep(every_s)
            finally:
                if program is not None:
                    program.kill()
                    program.wait()
    finally:
        sys.modules["pynvml"] = pynvml
    return {"constants": recorder.constants, "looks": recorder.looks}


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(json.dumps(record(float(sys.argv[2]), sys.argv[3:]), indent=0), encoding="utf-8")
