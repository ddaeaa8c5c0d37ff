from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from pytest_modellens.hardware.energy import CpuEnergy, energy_within, gpu_energy, joules_per_token

if TYPE_CHECKING:
    from pathlib import Path


def domain(folder: Path, name: str, called: str, uj: int | str, most_uj: int = 1000) -> Path:
    path = folder / name
    path.mkdir(parents=True)
    for file, text in (("name", called), ("energy_uj", uj), ("max_energy_range_uj", most_uj)):
        (path / file).write_text(f"{text}\n")
    return path


def samples(*values: tuple[float | None, float | None], index: int = 0) -> list[dict[str, Any]]:
    """Return a sample a second, of (counter, power)."""
    return [
        {"at_ms": 1000.0 * number, "gpus": [{"index": index, "energy_j": energy, "power_w": power}]}
        for number, (energy, power) in enumerate(values)
    ]


def test_energy_of_packages_is_added_and_their_parts_are_not(tmp_path: Path) -> None:
    first = domain(tmp_path, "intel-rapl:0", "package-0", 100)
    second = domain(tmp_path, "intel-rapl:1", "package-1", 900)
    domain(tmp_path, "intel-rapl:0:0", "core", 5)
    domain(tmp_path, "intel-rapl:2", "psys", 5)
    (tmp_path / "intel-rapl:3").mkdir()
    energy = CpuEnergy(tmp_path)
    assert energy.read() == 0.0
    (first / "energy_uj").write_text("300\n")
    (second / "energy_uj").write_text("950\n")
    assert energy.read() == pytest.approx(250e-6)
    assert energy.note is None


def test_energy_counter_that_wraps_around_goes_on(tmp_path: Path) -> None:
    package = domain(tmp_path, "intel-rapl:0", "package-0", 900)
    energy = CpuEnergy(tmp_path)
    energy.read()
    for value, total in ((100, 200), (950, 1050), (50, 1150)):
        (package / "energy_uj").write_text(f"{value}\n")
        assert energy.read() == pytest.approx(total * 1e-6)


def test_machine_without_rapl_says_so(tmp_path: Path) -> None:
    energy = CpuEnergy(tmp_path / "none")
    assert energy.read() is None
    assert energy.note == "RAPL: this machine shows none"


def test_counter_that_only_root_may_read_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    domain(tmp_path, "intel-rapl:0", "package-0", 1)
    read = type(tmp_path).read_text

    def refuse(self: Path, *args: Any, **kwargs: Any) -> str:
        if self.name == "energy_uj":
            raise PermissionError(13, "Permission denied")
        return read(self, *args, **kwargs)

    monkeypatch.setattr(type(tmp_path), "read_text", refuse)
    energy = CpuEnergy(tmp_path)
    assert (energy.read(), energy.read()) == (None, None)
    assert energy.note == "RAPL: cannot be read (Permission denied)"


def test_counter_that_is_no_number_says_so(tmp_path: Path) -> None:
    domain(tmp_path, "intel-rapl:0", "package-0", "many")
    energy = CpuEnergy(tmp_path)
    assert energy.read() is None
    assert energy.note == "RAPL: cannot be read (no number there)"


@pytest.mark.parametrize(
    ("looks", "expected"),
    [
        (samples((10.0, 300.0), (200.0, 300.0), (610.0, 300.0)), (600.0, "counter")),
        (samples((None, 100.0), (None, 300.0), (None, 300.0)), (500.0, "power")),
        (samples((900.0, 100.0), (5.0, 100.0)), (100.0, "power")),
        (samples((None, None), (None, 300.0), (None, None), (None, 500.0)), (800.0, "power")),
        (samples((10.0, 100.0)), (None, None)),
        (samples((None, None), (None, None)), (None, None)),
        ([{"at_ms": 0.0}, {"at_ms": 1000.0}], (None, None)),
    ],
)
def test_energy_of_a_gpu_is_its_counter_else_its_power_over_time(looks: Any, expected: Any) -> None:
    assert gpu_energy(looks, [0]) == expected


def test_energy_of_several_gpus_is_added_from_one_source() -> None:
    first, second = samples((0.0, 100.0), (50.0, 100.0)), samples((None, 10.0), (None, 10.0), index=1)
    both = [{**a, "gpus": a["gpus"] + b["gpus"]} for a, b in zip(first, second, strict=True)]
    assert gpu_energy(both, [0]) == (50.0, "counter")
    assert gpu_energy(both, [0, 1]) == (110.0, "power")
    assert gpu_energy(both, []) == (None, None)


@pytest.mark.parametrize(
    ("summary", "tokens", "gpu", "cpu"),
    [
        ({"gpu_energy_j": 600.0, "cpu_energy_j": 60.0}, 300, 2.0, 0.2),
        ({"gpu_energy_j": 600.0, "cpu_energy_j": None}, 300, 2.0, None),
        ({"gpu_energy_j": 600.0}, None, None, None),
        ({"gpu_energy_j": 600.0}, 0, None, None),
    ],
)
def test_energy_by_tokens(summary: Any, tokens: int | None, gpu: float | None, cpu: float | None) -> None:
    assert joules_per_token(summary, tokens) == {"gpu_energy_j_per_token": gpu, "cpu_energy_j_per_token": cpu}


def in_turn(*, seconds: int, every_s: float = 0.5) -> list[dict[str, Any]]:
    """Return samples of counters that rise by 100 J/s in the even turns of `seconds`, which are the server's own, and
    by 30 J/s in the others; the CPU's by a tenth of that.
    """

    def risen(at: float) -> float:
        turns, rest = divmod(at, seconds)
        own = (turns + 1) // 2 * seconds + (rest if turns % 2 == 0 else 0)
        return 100 * own + 30 * (at - own)

    count = round(6 * seconds / every_s)
    return [
        {
            "at_ms": 1000 * every_s * number,
            "cpu_energy_j": risen(every_s * number) / 10,
            "gpus": [{"index": 0, "energy_j": risen(every_s * number), "power_w": 65.0}],
        }
        for number in range(count + 1)
    ]


def turns(seconds: int) -> list[tuple[float, float]]:
    return [(2000.0 * seconds * number, 2000.0 * seconds * number + 1000 * seconds) for number in range(3)]


def test_energy_of_a_server_is_that_of_its_own_turns() -> None:
    found = energy_within(in_turn(seconds=4), [0], turns(4))
    assert found == {"gpu_energy_j": 1200.0, "gpu_energy_source": "counter", "cpu_energy_j": 120.0}
    whole, _ = gpu_energy(in_turn(seconds=4), [0])
    assert whole == pytest.approx(1200 + 360)
    others = [(begin + 4000, end + 4000) for begin, end in turns(4)]
    assert energy_within(in_turn(seconds=4), [0], others)["gpu_energy_j"] == pytest.approx(360)


@pytest.mark.parametrize(
    ("series", "spans"),
    [
        (in_turn(seconds=1, every_s=0.5), turns(1)),
        (in_turn(seconds=4)[1:], turns(4)),
        (in_turn(seconds=4)[:-12], turns(4)),
        (in_turn(seconds=4), []),
        (in_turn(seconds=4)[:1], turns(4)),
        ([*in_turn(seconds=4)[:20], *in_turn(seconds=4)[5:]], turns(4)),
    ],
    ids=["too seldom", "late", "ended early", "nobody knows when", "one look", "counter began again"],
)
def test_energy_that_nobody_can_tell_apart_is_none_and_says_so(series: Any, spans: Any) -> None:
    found = energy_within(series, [0], spans)
    assert (found["gpu_energy_j"], found["gpu_energy_source"], found["cpu_energy_j"]) == (None, None, None)
    assert "do not tell the energy of one from that of the other" in str(found["gpu_energy_note"])
    assert found["cpu_energy_note"] == found["gpu_energy_note"]


def test_power_alone_tells_no_server_from_another() -> None:
    series = [{**row, "cpu_energy_j": None, "gpus": [{"index": 0, "energy_j": None, "power_w": 65.0}]}
              for row in in_turn(seconds=4)]  # fmt: skip
    found = energy_within(series, [0], turns(4))
    assert found["gpu_energy_j"] is None
    assert "gpu_energy_note" in found
    assert "cpu_energy_note" not in found, "there is a note already of why the machine has none"
    assert "gpu_energy_note" not in energy_within(series, [], turns(4))
