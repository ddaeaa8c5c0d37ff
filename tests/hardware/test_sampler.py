from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from pytest_modellens.hardware import process, watcher
from pytest_modellens.hardware import sampler as module
from pytest_modellens.hardware.gpu import GpuReader
from pytest_modellens.hardware.sampler import GAUGES, SHARES, HardwareSampler
from pytest_modellens.hardware.system import read_memory

LONG_S = 3600.0


@pytest.mark.usefixtures("no_nvml")
def test_sampler_has_a_sample_at_the_start_and_the_end_of_the_shortest_cell() -> None:
    with HardwareSampler(LONG_S) as sampler:
        assert len(sampler.series) == 1
    first, last = sampler.series
    assert 0 <= first["at_ms"] < last["at_ms"]
    assert datetime.fromisoformat(first["at"]).utcoffset() is not None
    assert sampler.summary()["samples"] == 2
    assert sampler.summary()["sampler_note"] is None


def test_energy_of_requests_is_looked_up_by_the_wall_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    began = datetime(2026, 11, 21, 20, 30, tzinfo=UTC)
    # The wall clock is read after the other one, later in one look than in another.
    walls = [began + timedelta(seconds=at, milliseconds=30 * (at % 2)) for at in range(11)]
    series = [
        {"at": wall.isoformat(), "at_ms": 1000.0 * at, "gpus": [], "cpu_energy_j": 10.0 * at}
        for at, wall in enumerate(walls)
    ]
    monkeypatch.setattr(HardwareSampler, "series", series)
    sampler = HardwareSampler()
    assert sampler.energy_within([(began + timedelta(seconds=3), 5000.0)])["cpu_energy_j"] == pytest.approx(50)
    monkeypatch.setattr(HardwareSampler, "series", [])
    assert sampler.energy_within([(began, 5000.0)]) == {}


@pytest.mark.usefixtures("no_nvml")
def test_sampler_stopped_inside_its_block_has_its_last_sample() -> None:
    with HardwareSampler(LONG_S) as sampler:
        sampler.stop()
        assert sampler.summary()["samples"] == 2
    assert sampler.summary()["samples"] == 2


@pytest.mark.usefixtures("no_nvml")
def test_sampler_shares_of_a_cell_too_short_for_them_are_none(monkeypatch: pytest.MonkeyPatch) -> None:
    for one in (module, process):
        monkeypatch.setattr(one, "MIN_SPAN_S", LONG_S)
    with HardwareSampler(pid=os.getpid()) as sampler:
        pass
    summary = sampler.summary()
    assert [summary[f"{name}_{kind}"] for name in SHARES for kind in ("mean", "peak")] == [None] * 4
    assert summary["process_rss_mb_peak"] is not None


@pytest.mark.usefixtures("no_nvml")
def test_sampler_sees_the_process_of_a_port_at_work() -> None:
    began_s = time.perf_counter()
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        HardwareSampler(0.1, port=server.getsockname()[1]) as sampler,
    ):
        until_s = time.process_time() + 0.6
        while time.process_time() < until_s:
            pass
    # What was used in the last tenth of a second may not be in it.
    least = 100 * 0.4 / (time.perf_counter() - began_s)
    summary = sampler.summary()
    cpu = summary["process_cpu_percent_mean"]
    assert isinstance(cpu, float)
    assert cpu > least
    assert isinstance(summary["cpu_percent_mean"], float)
    assert summary["process_note"] is None
    assert str(summary["gpu_note"]).startswith("NVML: not importable")
    json.dumps([summary, sampler.series], allow_nan=False)


@pytest.mark.usefixtures("no_nvml")
def test_sampler_without_gpu_has_none_for_everything_of_the_gpu() -> None:
    with HardwareSampler() as sampler:
        pass
    summary = sampler.summary()
    assert {summary[f"{name}_{kind}"] for name in GAUGES if "gpu" in name for kind in ("mean", "peak")} == {None}
    assert "gpus" not in sampler.series[0]


def test_sampler_adds_gpus_and_finds_the_memory_of_the_process(nvml: Any) -> None:
    nvml.cards[0].compute = ((os.getpid(), 2**30), (1, 2**30))
    nvml.cards[1].load = 50
    with HardwareSampler(pid=os.getpid()) as sampler:
        pass
    summary = sampler.summary()
    assert summary["gpu_memory_used_mb_peak"] == 47104.0
    assert summary["gpu_power_w_mean"] == 371.5
    assert summary["gpu_utilization_percent_mean"] == 70.0
    assert summary["gpu_temperature_c_peak"] == 71.0
    assert summary["process_gpu_memory_mb_peak"] == 1024.0
    assert summary["gpu_note"] is None
    assert summary["gpu_sm_clock_mhz_peak"] == 1980.0
    assert summary["gpu_power_limit_w_mean"] == 144.0
    assert sampler.series[0]["gpus"][0]["process_memory_mb"] == {str(os.getpid()): 1024.0, "1": 1024.0}
    json.dumps([summary, sampler.series], allow_nan=False)
    assert nvml.open_sessions == 0


def test_sampler_judges_the_gpus_of_the_server_and_names_strangers(nvml: Any) -> None:
    waits = [sys.executable, "-S", "-c", "input()"]
    with (
        subprocess.Popen(waits, stdin=subprocess.PIPE) as server,
        subprocess.Popen(waits, stdin=subprocess.PIPE) as stranger,
    ):
        mine = (os.getpid(), 2**30)
        nvml.cards[0].compute = ((server.pid, 2**30), mine, (stranger.pid, 3 * 2**30), (2**22 + 1, None))
        nvml.cards[0].graphics = ((2**22 + 2, 2**30),)
        nvml.cards[0].reasons = 0x40
        nvml.cards[1].reasons = 0x20
        with HardwareSampler(pid=server.pid) as sampler:
            nvml.cards[0].energy_mj += 50_000
        stranger.communicate(b"\n")
        server.communicate(b"\n")
    summary = sampler.summary()
    assert (summary["gpu_energy_j"], summary["gpu_energy_source"]) == (50.0, "counter")
    assert summary["gpu_throttled_percent"] == 100.0
    assert summary["gpu_clock_reasons"] == "hw_thermal_slowdown 100 %"
    assert summary["gpu_foreign_processes"] == 2
    heat, shared = sampler.degraded
    assert heat == "GPU throttled: hw_thermal_slowdown 100 % of the samples, up to 64 °C"
    assert shared.startswith("GPU shared: ")
    assert f"({stranger.pid}) holds 3,072 MB" in shared
    assert "process 4194305" in shared
    assert "4194306" not in shared


def test_sampler_of_a_server_elsewhere_judges_no_gpu_of_this_machine(nvml: Any) -> None:
    nvml.cards[0].reasons = 0x40
    with HardwareSampler() as sampler:
        pass
    assert sampler.degraded == []
    assert sampler.summary()["gpu_energy_j"] is None


def test_sampler_does_not_guess_who_is_who_among_ids_of_another_machine(nvml: Any) -> None:
    nvml.cards[0].compute = ((2**22 + 1, 2**30),)
    with HardwareSampler(pid=os.getpid()) as sampler:
        pass
    assert sampler.degraded == []
    assert sampler.summary()["gpu_foreign_processes"] is None
    assert sampler.summary()["gpu_throttled_percent"] == 0.0, "both are busy, so they are the server's"


def test_sampler_of_a_server_without_a_gpu_leaves_the_desktop_s_alone(nvml: Any) -> None:
    nvml.cards[0].graphics = ((os.getppid(), 2**30),)
    nvml.cards[0].reasons = 0x40
    with subprocess.Popen([sys.executable, "-S", "-c", "input()"], stdin=subprocess.PIPE) as server:
        with HardwareSampler(pid=server.pid) as sampler:
            pass
        server.communicate(b"\n")
    assert sampler.degraded == []
    assert sampler.summary()["gpu_energy_j"] is None


def test_sampler_takes_no_stranger_for_a_neighbour_on_a_gpu_of_several_instances(nvml: Any) -> None:
    nvml.cards[0].compute = ((os.getpid(), 2**30), (2**22 + 1, 2**30))
    nvml.cards[0].mig = (1, 1)
    with HardwareSampler(pid=os.getpid()) as sampler:
        pass
    assert sampler.degraded == []


@pytest.mark.usefixtures("no_nvml")
@pytest.mark.parametrize(
    ("pid", "port", "note"),
    [
        (None, None, "no process was asked for"),
        (None, 1, "port 1: no process of this machine listens there"),
        (2**22 + 1, None, "process 4194305 cannot be followed ("),
        (-1, None, "process -1 cannot be followed ("),
    ],
)
def test_sampler_says_why_it_saw_no_process(pid: int | None, port: int | None, note: str) -> None:
    with HardwareSampler(pid=pid, port=port) as sampler:
        pass
    assert str(sampler.summary()["process_note"]).startswith(note)
    assert sampler.summary()["process_rss_mb_peak"] is None


@pytest.mark.usefixtures("no_nvml")
def test_sampler_notes_a_process_that_ends_and_keeps_what_it_saw() -> None:
    child = subprocess.Popen([sys.executable, "-S", "-c", "input()"], stdin=subprocess.PIPE)
    with HardwareSampler(pid=child.pid) as sampler:
        child.communicate(b"\n")
    summary = sampler.summary()
    assert summary["process_note"] == f"process {child.pid} has ended"
    assert summary["process_rss_mb_peak"] is not None


@pytest.mark.usefixtures("no_nvml")
def test_sampler_notes_a_sample_that_fails_and_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    good = read_memory
    answers = iter([ZeroDivisionError("broken driver")])

    def read() -> Any:
        failure = next(answers, None)
        if failure is not None:
            raise failure
        return good()

    monkeypatch.setattr(module, "read_memory", read)
    with HardwareSampler(LONG_S) as sampler:
        pass
    assert sampler.summary()["samples"] == 1
    assert sampler.summary()["sampler_note"] == "a sample failed (ZeroDivisionError('broken driver'))"


def test_sampler_survives_a_driver_that_breaks_at_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    def explode(self: GpuReader) -> None:
        raise OSError("driver and library do not match")

    monkeypatch.setattr(GpuReader, "__enter__", explode)
    with HardwareSampler() as sampler:
        pass
    assert sampler.summary()["samples"] == 0
    assert sampler.summary()["sampler_note"] == "sampling ended early (OSError('driver and library do not match'))"


def test_sampler_survives_a_machine_that_starts_no_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    sampler = HardwareSampler()
    monkeypatch.setattr(threading.Thread, "start", refuse)
    with sampler:
        pass
    assert sampler.summary()["sampler_note"] == "sampling did not start (can't start new thread)"


@pytest.mark.usefixtures("no_nvml")
def test_sampler_does_not_wait_for_a_driver_that_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    released = threading.Event()
    good = read_memory

    def hang() -> Any:
        released.wait(60)
        return good()

    monkeypatch.setattr(module, "read_memory", hang)
    monkeypatch.setattr(watcher, "PATIENCE_S", 0.02)
    with HardwareSampler() as sampler:
        assert sampler.summary()["sampler_note"] == "the first sample took more than 0.02 s"
    assert sampler.summary()["sampler_note"] == "the last sample took more than 0.02 s"
    released.set()
    for thread in threading.enumerate():
        if thread.name == "modellens-hardware":
            thread.join()


@pytest.mark.usefixtures("no_nvml")
def test_sampler_samples_less_often_where_a_sample_is_expensive(monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []
    times = iter([0.0, 0.01, 1.0, 1.002, 2.0, 2.0])

    class Instant(threading.Event):
        def wait(self, timeout: float | None = None) -> bool:
            waits.append(timeout or 0)
            return len(waits) == 2

    monkeypatch.setattr(time, "thread_time", lambda: next(times))
    sampler = HardwareSampler(0.5)
    sampler._stop = Instant()
    with sampler:
        sampler._thread.join()
    assert waits == [2.0, 0.5]


def test_sampler_mean_of_a_share_weighs_by_time_and_of_a_gauge_does_not() -> None:
    sampler = HardwareSampler()
    empty = dict.fromkeys((*SHARES, *GAUGES, "cpu_energy_j"))
    sampler._series = [
        empty | {"at_ms": 0.0, "ram_used_mb": 10.0},
        empty | {"at_ms": 500.0, "cpu_percent": 100.0, "ram_used_mb": 20.0},
        empty | {"at_ms": 600.0, "ram_used_mb": 30.0},
        empty | {"at_ms": 2000.0, "cpu_percent": 0.0, "ram_used_mb": 60.0},
    ]
    summary = sampler.summary()
    assert (summary["cpu_percent_mean"], summary["cpu_percent_peak"]) == (25.0, 100.0)
    assert (summary["ram_used_mb_mean"], summary["ram_used_mb_peak"]) == (30.0, 60.0)
    assert summary["gpu_power_w_mean"] is None


def test_energy_that_cannot_be_read_to_the_end_is_not_that_of_the_beginning() -> None:
    sampler = HardwareSampler()
    empty = dict.fromkeys((*SHARES, *GAUGES))
    for joules, told in (([0.0, 4.0, 9.0], 9.0), ([0.0, 4.0, None], None), ([], None)):
        sampler._series = [empty | {"at_ms": 500.0 * at, "cpu_energy_j": one} for at, one in enumerate(joules)]
        assert sampler.summary()["cpu_energy_j"] == told


def test_sampler_refuses_an_interval_of_zero() -> None:
    with pytest.raises(ValueError, match=r"interval_s: must be above 0 \(got 0\)"):
        HardwareSampler(0)
