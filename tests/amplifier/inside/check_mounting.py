"""Modules that cannot be found, mounted or cleaned up: what is said of them."""

from __future__ import annotations

import asyncio
import sys
from types import ModuleType
from typing import Any

import pytest
from amplifier_core import llm_errors

from pytest_modellens.bridge import mounting
from pytest_modellens.bridge.loading import Module, find_module
from pytest_modellens.errors import ConfigError


class Plain:
    name = "plain"

    async def complete(self, request: Any, **_: Any) -> Any:
        raise NotImplementedError


def mounted(function: Any, config: dict[str, Any] | None = None) -> Any:
    module = Module("provider-plain", function, "plain", None)

    async def main() -> Any:
        found = await mounting.mount(module, config or {})
        await found.close()
        return found

    return asyncio.run(main())


def problem(function: Any) -> str:
    with pytest.raises(ConfigError) as caught:
        mounted(function)
    return str(caught.value)


@pytest.fixture
def package(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    module = ModuleType("amplifier_module_provider_made_up")
    module.__spec__ = type("Spec", (), {})()
    monkeypatch.setitem(sys.modules, module.__name__, module)
    return module


def test_unknown_module_is_said_with_what_to_do() -> None:
    with pytest.raises(ConfigError) as caught:
        find_module("opnai")
    assert str(caught.value).startswith("amplifier:opnai: no such module (")
    assert "pip install the module's package" in str(caught.value)


@pytest.mark.parametrize("name", ["", "a.b.c", "..", "amplifier_core.nothing"])
def test_names_that_are_none_are_unknown_modules(name: str) -> None:
    with pytest.raises(ConfigError, match="no such module"):
        find_module(name)


def test_package_without_mount_is_no_module(package: ModuleType) -> None:
    with pytest.raises(ConfigError, match=r"amplifier_module_provider_made_up has no mount\(\) function"):
        find_module("made-up")


@pytest.mark.parametrize("name", ["made-up", "provider-made-up", "amplifier_module_provider_made_up"])
def test_package_is_found_by_each_of_its_names(package: ModuleType, name: str) -> None:
    package.mount = mounted  # type: ignore[attr-defined]
    assert find_module(name).id == "provider-made-up"


def test_module_that_cannot_be_imported_is_named_with_the_reason() -> None:
    with pytest.raises(
        ConfigError, match=r"amplifier_module_provider_broken cannot be loaded \(RuntimeError: broken\)"
    ):
        find_module("broken")


def test_mount_that_raises() -> None:
    async def mount(coordinator: Any, config: Any) -> None:
        raise llm_errors.ConfigurationError("no key sk-abcdefghijk")

    text = problem(mount)
    assert text == "amplifier:provider-plain: mount() failed with ConfigurationError: no key sk-***"


def test_mount_that_returns_none() -> None:
    async def mount(coordinator: Any, config: Any) -> None:
        return None

    assert "mounted no provider and returned None, as modules do that lack a key" in problem(mount)


def test_mount_that_returns_a_provider_or_only_a_cleanup() -> None:
    async def provider(coordinator: Any, config: Any) -> Any:
        return Plain()

    async def cleanup(coordinator: Any, config: Any) -> Any:
        return lambda: None

    assert "returned a provider instead of mounting it" in problem(provider)
    assert problem(cleanup).endswith("mount() mounted no provider")


def test_mount_that_is_not_async() -> None:
    assert "mount() is not async" in problem(lambda coordinator, config: None)


def test_mount_that_never_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mounting, "MOUNT_S", 0.05)

    async def mount(coordinator: Any, config: Any) -> None:
        await asyncio.sleep(60)

    assert "mount() did not end within 0.05 s" in problem(mount)


def test_time_out_of_the_modules_own_is_told_as_its_failure() -> None:
    async def mount(coordinator: Any, config: Any) -> None:
        raise TimeoutError("no server")

    assert "mount() failed with TimeoutError: no server" in problem(mount)


def test_what_is_mounted_has_to_be_a_provider() -> None:
    async def mount(coordinator: Any, config: Any) -> None:
        await coordinator.mount("providers", object(), name="plain")

    assert "has no name and no complete (it is no Provider)" in problem(mount)


def mounts(cleanup: Any) -> Any:
    async def mount(coordinator: Any, config: Any) -> Any:
        await coordinator.mount("providers", Plain(), name="plain")
        return cleanup

    return mount


@pytest.mark.parametrize("is_async", [True, False])
def test_cleanup_is_called(is_async: bool) -> None:
    calls: list[int] = []

    async def later() -> None:
        calls.append(1)

    mounted(mounts(later if is_async else lambda: calls.append(1)))
    assert calls == [1]


def test_cleanup_that_fails_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    async def cleanup() -> None:
        raise RuntimeError("sore")

    mounted(mounts(cleanup))
    assert "amplifier:provider-plain: cleanup failed with RuntimeError: sore" in caplog.text


def test_cleanup_that_hangs_is_left_alone(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr(mounting, "CLEANUP_S", 0.05)
    ends = asyncio.Event()

    async def cleanup() -> None:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            await asyncio.sleep(0.1)  # takes its time to notice
            ends.set()

    mounted(mounts(cleanup))
    assert "cleanup did not end within 0.05 s; left alone" in caplog.text
