"""A provider module judged: by amplifier_core's own validator, then by the conformance list."""

from __future__ import annotations

import asyncio
import os
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_modellens.bridge.conformance import Check, check_module
from pytest_modellens.bridge.loading import find_module, require_amplifier
from pytest_modellens.bridge.loop import LoopThread
from pytest_modellens.bridge.plans import read_entry
from pytest_modellens.bridge.proxy import RecordingProxy, address_in
from pytest_modellens.bridge.surroundings import scrubbed
from pytest_modellens.errors import ConfigError
from pytest_modellens.truth.client import TruthServer
from pytest_modellens.urls import get_root_url

if TYPE_CHECKING:
    from pytest_modellens.bridge.loading import Module

__all__ = ["lines_of", "validate"]

_SCRIPTED_MODEL = "truth:reasoning"
_LONGEST_S = 300.0


def validate(name: str, *, plan: Path | None = None, model: str | None = None) -> tuple[Module, list[Check]]:
    """Return the module that `name` means and what was found of it.

    Args:
        name: an id, an importable package, or the folder of a package.
        plan: what it is mounted with; None: so that it asks a scripted server on this machine.
        model: what it is asked for; None: a scripted answer, or with a plan the module's own choice.

    Raises:
        MissingExtraError: amplifier_core is not installed.
        ConfigError: there is no such module, or the plan cannot be used.
    """
    require_amplifier()
    folder = Path(name)
    if folder.is_dir():
        name = _importable(folder)
    module = find_module(name)
    entry = read_entry(plan, module) if plan is not None else None
    with ExitStack() as stack:
        stack.enter_context(scrubbed(module.id, keep=entry.named if entry else ()))
        config: dict[str, Any] = {"max_retries": 0, **(entry.config if entry else {})}
        if entry is None:
            model = model or _SCRIPTED_MODEL
            server = stack.enter_context(TruthServer())
            config["base_url"] = get_root_url(server.url) if "ollama" in module.id else server.url
        proxy = None
        if key := address_in(config):
            proxy = stack.enter_context(RecordingProxy(str(config[key])))
            config[key] = proxy.url
        loop = LoopThread()
        stack.callback(loop.close)
        structural = loop.run(_structural(module), timeout_s=_LONGEST_S)
        listed = loop.run(check_module(module, config, model=model, proxy=proxy), timeout_s=_LONGEST_S)
    return module, [*structural, *listed]


def lines_of(module: Module, checks: list[Check]) -> list[str]:
    """Return the report, a line for each check, with what was seen where one failed."""
    lines = [f"{module.id} ({module.package} {module.version or 'of an unknown version'})"]
    for level, title in (("must", "MUST"), ("should", "SHOULD")):
        of_level = [check for check in checks if check.level == level]
        lines += ["", f"{title}  {sum(check.passed for check in of_level)} of {len(of_level)}"]
        lines += [
            f"  {'✓' if check.passed else '✗'} {check.name}{f': {check.message}' if check.message else ''}"
            for check in of_level
        ]
    return lines


def _importable(folder: Path) -> str:
    """Return the name of the package in `folder`, or of the one that is right below it, importable from now on."""
    candidates = [folder, *sorted(folder.glob("amplifier_module_*"))]
    package = next((path for path in candidates if (path / "__init__.py").is_file()), None)
    if package is None:
        raise ConfigError(f"{folder}: no package of a module is there (give the folder that holds its __init__.py)")
    sys.path.insert(0, os.fspath(package.resolve().parent))
    return package.resolve().name


async def _structural(module: Module) -> list[Check]:
    from amplifier_core.validation import ProviderValidator

    result = await asyncio.wait_for(ProviderValidator().validate(module.package), _LONGEST_S)
    failed = [f"{check.name}: {check.message}" for check in result.checks if not check.passed]
    return [Check("must", "passes amplifier_core's own validator", result.passed, "; ".join(failed))]
