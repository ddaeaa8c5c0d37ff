from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import time
from importlib import metadata
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from pytest_modellens import environment
from pytest_modellens.environment import collect
from pytest_modellens.hardware.gpu import Gpu, GpuReading

if TYPE_CHECKING:
    from pathlib import Path

IDENTITY = {"GIT_AUTHOR_NAME": "a", "GIT_AUTHOR_EMAIL": "a@b", "GIT_COMMITTER_NAME": "a", "GIT_COMMITTER_EMAIL": "a@b"}


def git(folder: Path, *arguments: str) -> str:
    command = ["git", "-c", "init.defaultBranch=main", *arguments]
    done = subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True, env=os.environ | IDENTITY)
    return done.stdout.strip()


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A git repository with one commit."""
    git(tmp_path, "init")
    (tmp_path / "suite.yaml").write_text("cases: []\n")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-m", "one")
    return tmp_path


def write(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


def test_environment_is_plain_json_and_holds_no_secret(tmp_path: Path) -> None:
    found = collect({"base_url": "http://u:p@h", "api_key": "abc", "rounds": 3}, rootdir=tmp_path)
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert found["options"] == {"base_url": "http://h", "api_key": "***", "rounds": 3}
    assert platform.node() not in json.dumps(found) or not platform.node()


def test_environment_names_python_packages_and_clock(tmp_path: Path) -> None:
    found = collect({}, rootdir=tmp_path)
    assert found["python"] == {
        "version": platform.python_version(),
        "implementation": platform.python_implementation(),
    }
    assert found["packages"]["pytest"] == metadata.version("pytest")
    assert set(found["packages"]) == set(environment.PACKAGES)
    assert found["clock"]["resolution_s"] == time.get_clock_info("perf_counter").resolution
    assert found["machine"]["cores_logical"] == os.cpu_count()


def test_environment_has_none_for_a_package_that_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environment, "PACKAGES", ("no-such-distribution",))
    assert collect({})["packages"] == {"no-such-distribution": None}


def test_git_has_commit_and_branch_and_is_clean(repository: Path) -> None:
    (repository / "untracked.txt").write_text("")
    assert collect({}, rootdir=repository)["git"] == {
        "commit": git(repository, "rev-parse", "HEAD"),
        "branch": "main",
        "is_dirty": False,
    }


def test_git_is_dirty_when_a_tracked_file_differs(repository: Path) -> None:
    (repository / "suite.yaml").write_text("cases: [1]\n")
    assert collect({}, rootdir=repository)["git"]["is_dirty"] is True


def test_git_on_no_branch_has_none(repository: Path) -> None:
    git(repository, "checkout", "--detach")
    assert collect({}, rootdir=repository)["git"]["branch"] is None


def test_git_is_none_outside_a_repository_and_before_the_first_commit(tmp_path: Path) -> None:
    assert collect({}, rootdir=tmp_path)["git"] is None
    git(tmp_path, "init")
    assert collect({}, rootdir=tmp_path)["git"] is None


def test_git_is_none_without_git(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert collect({}, rootdir=tmp_path)["git"] is None


def test_git_that_is_too_slow_does_not_say_whether_it_is_dirty(
    repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    good = subprocess.run

    def slow(command: list[str], **options: Any) -> Any:
        if "status" in command:
            raise subprocess.TimeoutExpired(command, 5)
        return good(command, **options)

    monkeypatch.setattr(subprocess, "run", slow)
    assert environment._git(repository)["is_dirty"] is None  # type: ignore[index]


def test_machine_shows_gpus_without_their_load(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    gpu = Gpu(0, "NVIDIA L4", 24576.0, 1.0, 2.0, 3.0, 4.0)
    monkeypatch.setattr(environment, "read_gpus", lambda: GpuReading((gpu,), None, "560.35.03"))
    machine = environment._machine(tmp_path)
    assert machine["gpus"] == [{"name": "NVIDIA L4", "memory_total_mb": 24576.0}]
    assert (machine["gpu_driver"], machine["gpu_note"]) == ("560.35.03", None)


def test_machine_reads_frequency_governor_and_limits_in_their_units(tmp_path: Path) -> None:
    root = write(
        tmp_path,
        {
            "proc/cpuinfo": "processor\t: 0\nmodel name\t: Fast CPU\n\nprocessor\t: 1\nmodel name\t: Other\n",
            "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor": "powersave\n",
            "sys/devices/system/cpu/cpu0/cpufreq/scaling_cur_freq": "2400000\n",
            "sys/devices/system/cpu/cpu0/cpufreq/scaling_max_freq": "4800000\n",
            "sys/fs/cgroup/cpu.max": "150000 100000\n",
            "sys/fs/cgroup/memory.max": "1073741824\n",
        },
    )
    machine = environment._machine(root)
    wanted = ("cpu_model", "cpu_governor", "cpu_mhz", "cpu_mhz_max", "cpu_limit", "ram_limit_mb")
    assert [machine[name] for name in wanted] == ["Fast CPU", "powersave", 2400.0, 4800.0, 1.5, 1024.0]


@pytest.mark.parametrize("files", [{}, {"sys/fs/cgroup/cpu.max": "max 100000\n", "sys/fs/cgroup/memory.max": "max\n"}])
def test_machine_without_limits_and_frequency_has_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, files: dict[str, str]
) -> None:
    monkeypatch.setattr(platform, "processor", lambda: "")
    machine = environment._machine(write(tmp_path, files))
    wanted = ("cpu_model", "cpu_governor", "cpu_mhz", "cpu_mhz_max", "cpu_limit", "ram_limit_mb")
    assert [machine[name] for name in wanted] == [None] * 6


@pytest.mark.parametrize(
    ("cpuinfo", "model"), [("Model\t: Raspberry Pi 5\n", "Raspberry Pi 5"), ("Hardware : BCM2711\n", "BCM2711")]
)
def test_machine_with_arm_cores_is_named_by_its_board(tmp_path: Path, cpuinfo: str, model: str) -> None:
    assert environment._cpu_model(write(tmp_path, {"proc/cpuinfo": cpuinfo})) == model


def test_machine_without_load_average_has_none(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> None:
        raise OSError

    monkeypatch.setattr(os, "getloadavg", refuse)
    assert environment._load_average() is None


def test_machine_without_affinity_counts_its_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    assert environment._usable_cores() == os.cpu_count()


def test_mac_is_asked_in_its_own_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.setattr(platform, "mac_ver", lambda: ("15.1", ("", "", ""), "arm64"))
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: SimpleNamespace(stdout=b"Apple M4\n"))
    assert environment._cpu_model(tmp_path) == "Apple M4"
    assert environment._distribution(tmp_path) == "macOS 15.1"


def test_operating_system_is_named_by_its_distribution(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    monkeypatch.setattr(platform, "release", lambda: "5.15.0-Microsoft-standard-WSL2")
    write(tmp_path, {"etc/os-release": 'NAME=x\nPRETTY_NAME="Debian 12"\n'})
    assert environment._operating_system(tmp_path) == {
        "name": platform.system(),
        "version": "Debian 12",
        "kernel": "5.15.0-Microsoft-standard-WSL2",
        "container": None,
        "wsl": True,
    }


def test_operating_system_without_distribution_has_the_kernels_version(tmp_path: Path) -> None:
    assert environment._operating_system(tmp_path)["version"] == platform.version()


@pytest.mark.parametrize(("file", "name"), [(".dockerenv", "docker"), ("run/.containerenv", "podman")])
def test_container_is_hinted_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, file: str, name: str) -> None:
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    assert environment._container(write(tmp_path, {file: ""})) == name
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.0.0.1")
    assert environment._container(tmp_path) == "kubernetes"
