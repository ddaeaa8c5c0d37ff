"""Coroutines for those who are not asynchronous."""

from __future__ import annotations

import asyncio
import threading

import pytest

from pytest_modellens.bridge.loop import LoopThread, NotInTimeError


async def double(number: int) -> int:
    await asyncio.sleep(0)
    return 2 * number


async def fails() -> None:
    raise ValueError("no")


async def stubborn() -> None:
    while True:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            continue


begun, released = threading.Event(), threading.Event()


async def blocks() -> None:
    begun.set()
    released.wait(60)


def test_values_and_errors_come_back() -> None:
    loop = LoopThread()
    assert loop.run(double(2)) == 4
    with pytest.raises(ValueError, match="no"):
        loop.run(fails())
    loop.close()


async def times_out() -> None:
    raise TimeoutError("of its own")


def test_time_out_of_its_own_is_not_ours() -> None:
    loop = LoopThread()
    with pytest.raises(TimeoutError, match="of its own") as caught:
        loop.run(times_out(), timeout_s=30)
    assert not isinstance(caught.value, NotInTimeError)
    loop.close()


def test_what_does_not_end_is_not_waited_for() -> None:
    loop = LoopThread()
    with pytest.raises(NotInTimeError):
        loop.run(stubborn(), timeout_s=0.05)
    loop.close()


def test_what_blocks_the_loop_does_not_block_closing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pytest_modellens.bridge.loop.STOP_S", 0.05)
    loop = LoopThread()
    assert loop.run(double(2)) == 4
    with pytest.raises(TimeoutError):
        loop.run(blocks(), timeout_s=1)
    assert begun.is_set()
    loop.close()
    assert loop._thread.is_alive()
    released.set()
    loop._thread.join()
    loop._loop.close()
