"""A recording of NVML, replayed, reads as the driver itself did."""

from __future__ import annotations

import json
import sys
from typing import Any

import pytest

from pytest_modellens.hardware.gpu import GpuReader
from tests.hardware.nvml_record import ReplayedNvml, plain, record


def test_recording_reads_as_the_driver_did(nvml: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    nvml.cards[0].compute = ((10, 2**30), (11, None))
    nvml.cards[0].reasons = 0x4
    nvml.cards[1].refuses = {"nvmlDeviceGetTotalEnergyConsumption", "nvmlDeviceGetMigMode"}
    with GpuReader() as reader:
        seen = reader.read(with_processes=True)
    recording = json.loads(json.dumps(record(0.0, every_s=0.0)))
    assert sys.modules["pynvml"] is nvml
    assert nvml.open_sessions == 0
    monkeypatch.setitem(sys.modules, "pynvml", ReplayedNvml(recording))
    with GpuReader() as reader:
        assert reader.read(with_processes=True) == seen
        assert reader.driver == "560.35.03"


def test_recording_has_a_look_for_each_time_and_a_replay_moves_between_them(
    nvml: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = iter(range(1000))
    monkeypatch.setattr(type(nvml), "nvmlDeviceGetPowerUsage", lambda self, card: 1000 * next(names), raising=False)
    replay = ReplayedNvml(record(0.05, [sys.executable, "-c", "input()"], every_s=0.01))
    monkeypatch.setitem(sys.modules, "pynvml", replay)
    with GpuReader() as reader:
        assert [gpu.power_w for gpu in reader.read()] == [0.0, 1.0]
        replay.look = 2
        assert [gpu.power_w for gpu in reader.read()] == [2.0, 3.0]


def test_replay_refuses_what_was_not_recorded() -> None:
    replay = ReplayedNvml({"constants": {"NVML_CLOCK_SM": 1}, "looks": [{}, {}]})
    assert vars(replay)["NVML_CLOCK_SM"] == 1
    with pytest.raises(replay.NVMLError, match="Function Not Found"):
        replay.nvmlDeviceGetCount()
    with pytest.raises(AttributeError):
        _ = replay.NVML_CLOCK_MEM


def test_structures_and_bytes_are_plain() -> None:
    import ctypes

    class Pair(ctypes.Structure):
        _fields_ = (("used", ctypes.c_uint), ("name", ctypes.c_char * 4))

    assert plain([Pair(3, b"ab"), b"c", None]) == [{"used": 3, "name": "ab"}, "c", None]
