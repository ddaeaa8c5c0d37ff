from __future__ import annotations

import resource
import sys
from itertools import repeat
from pathlib import Path

import pytest

from pytest_modellens.errors import ConfigError
from pytest_modellens.load import descriptors
from pytest_modellens.load.descriptors import room_in_flight
from pytest_modellens.load.executor import execute
from pytest_modellens.load.plan import LoadPlan
from pytest_modellens.models import RunRequest
from pytest_modellens.providers.vllm import VLLMProvider


@pytest.fixture
def limit_of_100(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (100, 200))
    monkeypatch.setattr(descriptors, "_in_use", lambda: 8)


@pytest.mark.usefixtures("limit_of_100")
def test_too_many_streams_are_refused_before_anything_is_sent() -> None:
    expected = (
        r"load: 61 requests in flight need 101 file descriptors, and this process may open 100 "
        r"\(raise the limit with: ulimit -n 101\)"
    )
    with pytest.raises(ConfigError, match=expected):
        next(execute(VLLMProvider(), LoadPlan(concurrency=61, requests=61), repeat(RunRequest("x", "m"))))
    with pytest.raises(ConfigError, match=expected):
        room_in_flight(LoadPlan(rate=1, max_in_flight=61, requests=1))


@pytest.mark.usefixtures("limit_of_100")
def test_what_fits_is_allowed() -> None:
    assert room_in_flight(LoadPlan(concurrency=60, requests=60)) == 60


@pytest.mark.usefixtures("limit_of_100")
def test_open_loop_without_a_bound_gets_what_there_is() -> None:
    assert room_in_flight(LoadPlan(rate=1, requests=1)) == 60


def test_without_a_limit_everything_is_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    assert room_in_flight(LoadPlan(concurrency=9999, requests=9999)) == 9999
    assert room_in_flight(LoadPlan(rate=1, requests=1)) == 10_000


def test_platform_without_limits_allows_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "resource", None)
    assert room_in_flight(LoadPlan(concurrency=9999, requests=9999)) == 9999


def test_descriptors_in_use_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    before = descriptors._in_use()
    with Path(__file__).open():
        assert descriptors._in_use() == before + 1

    def fail(_: Path) -> None:
        raise OSError

    monkeypatch.setattr(Path, "iterdir", fail)
    assert descriptors._in_use() == 32
