from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from pytest_modellens.hardware.gpu import Gpu, GpuReader, process_memory_mb, read_gpus, total

if TYPE_CHECKING:
    from types import ModuleType


def test_gpus_are_read_in_mb_watts_and_percent(nvml: ModuleType) -> None:
    reading = read_gpus()
    assert reading.gpus[0] == Gpu(
        index=0,
        name="NVIDIA L4",
        memory_total_mb=24576.0,
        memory_used_mb=6144.0,
        utilization_percent=90.0,
        power_w=71.5,
        temperature_c=64.0,
        sm_clock_mhz=1980.0,
        memory_clock_mhz=6251.0,
        power_limit_w=72.0,
        default_power_limit_w=72.0,
        energy_j=1000.0,
        clock_reasons=0,
    )
    assert reading.gpus[1].name == "NVIDIA A100"
    assert (reading.note, reading.driver) == (None, "560.35.03")


@pytest.mark.parametrize(
    ("function", "fields"),
    [
        ("nvmlDeviceGetMemoryInfo", ["memory_total_mb", "memory_used_mb"]),
        ("nvmlDeviceGetUtilizationRates", ["utilization_percent"]),
        ("nvmlDeviceGetPowerUsage", ["power_w"]),
        ("nvmlDeviceGetTemperature", ["temperature_c"]),
        ("nvmlDeviceGetName", ["name"]),
        ("nvmlDeviceGetClockInfo", ["sm_clock_mhz", "memory_clock_mhz"]),
        ("nvmlDeviceGetEnforcedPowerLimit", ["power_limit_w"]),
        ("nvmlDeviceGetPowerManagementDefaultLimit", ["default_power_limit_w"]),
        ("nvmlDeviceGetTotalEnergyConsumption", ["energy_j"]),
    ],
)
def test_gpu_value_that_is_refused_is_none_and_the_others_stay(nvml: Any, function: str, fields: list[str]) -> None:
    nvml.cards[0].refuses = {function}
    first, second = read_gpus().gpus
    assert [name for name in Gpu.__slots__ if getattr(first, name) is None] == fields
    assert all(getattr(second, name) is not None for name in Gpu.__slots__)


def test_clock_reasons_are_read_from_old_drivers_too(nvml: Any) -> None:
    nvml.cards[0].reasons = 0x44
    nvml.cards[0].refuses = {"nvmlDeviceGetCurrentClocksEventReasons"}
    nvml.cards[1].refuses = nvml.cards[0].refuses | {"nvmlDeviceGetCurrentClocksThrottleReasons"}
    assert [gpu.clock_reasons for gpu in read_gpus().gpus] == [0x44, None]


def test_gpu_split_into_instances_says_so(nvml: Any) -> None:
    nvml.cards[0].mig = (1, 1)
    nvml.cards[1].refuses = {"nvmlDeviceGetMigMode"}
    assert [gpu.is_split for gpu in read_gpus().gpus] == [True, False]


def test_gpu_that_cannot_be_opened_is_left_out(nvml: Any) -> None:
    nvml.cards[0].refuses = {"nvmlDeviceGetHandleByIndex"}
    assert [gpu.name for gpu in read_gpus().gpus] == ["NVIDIA A100"]


@pytest.mark.parametrize("refused", [set(), {"nvmlDeviceGetCount"}])
def test_driver_without_gpus_says_so(nvml: Any, refused: set[str]) -> None:
    nvml.cards.clear()
    nvml.refuses = refused
    reading = read_gpus()
    assert (reading.gpus, reading.note) == ((), "NVML: the driver shows no GPU")


def test_driver_that_does_not_start_leaves_no_gpus_and_the_reason(nvml: Any) -> None:
    nvml.refuses = {"nvmlInit"}
    reading = read_gpus()
    assert (reading.gpus, reading.note, reading.driver) == ((), "NVML: Not Supported", None)


@pytest.mark.usefixtures("no_nvml")
def test_missing_pynvml_leaves_no_gpus_and_the_reason() -> None:
    reading = read_gpus()
    assert reading.gpus == ()
    assert str(reading.note).startswith("NVML: not importable (")


def test_session_is_closed_and_reads_nothing_afterwards(nvml: Any) -> None:
    with GpuReader() as reader:
        assert nvml.open_sessions == 1
        assert len(reader.read()) == 2
    assert nvml.open_sessions == 0
    assert reader.read() == []


def test_processes_are_read_only_when_asked_for(nvml: Any) -> None:
    nvml.cards[0].compute = ((10, 2**30), (11, None))
    nvml.cards[0].graphics = ((10, 2**30), (12, 2**20))
    with GpuReader() as reader:
        assert reader.read()[0].process_memory_mb == {}
        card = reader.read(with_processes=True)[0]
    assert card.process_memory_mb == {10: 1024.0, 11: None, 12: 1.0}
    assert card.computing == {10, 11}, "1 GB is more than a desktop's program has"


def test_process_that_also_draws_computes_from_half_a_gigabyte_on(nvml: Any) -> None:
    both = ((10, 511 * 2**20), (11, 512 * 2**20), (12, None))
    nvml.cards[0].compute, nvml.cards[0].graphics = both, both
    with GpuReader() as reader:
        assert reader.read(with_processes=True)[0].computing == {11}


def test_processes_that_are_refused_leave_none(nvml: Any) -> None:
    nvml.cards[0].refuses = {"nvmlDeviceGetComputeRunningProcesses", "nvmlDeviceGetGraphicsRunningProcesses"}
    with GpuReader() as reader:
        assert reader.read(with_processes=True)[0].process_memory_mb == {}


def test_process_memory_is_added_over_gpus_and_processes(nvml: Any) -> None:
    nvml.cards[0].compute = ((10, 2**30), (99, 2**30))
    nvml.cards[1].compute = ((10, 2**30), (11, 2**20))
    with GpuReader() as reader:
        gpus = reader.read(with_processes=True)
    assert process_memory_mb(gpus, {10, 11}) == 2049.0
    assert process_memory_mb(gpus, {12}) is None
    assert process_memory_mb([], {10}) is None


def test_process_memory_is_none_when_one_size_is_unknown(nvml: Any) -> None:
    nvml.cards[0].compute = ((10, 2**30), (11, None))
    with GpuReader() as reader:
        assert process_memory_mb(reader.read(with_processes=True), {10, 11}) is None


def test_total_is_none_without_values_or_with_an_unknown_one() -> None:
    assert total([1.0, 2.5]) == 3.5
    assert total([1.0, None]) is None
    assert total([None]) is None
    assert total([]) is None
