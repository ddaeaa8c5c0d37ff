"""What `modellens amplifier` does."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from pytest_modellens.errors import ConfigError

if TYPE_CHECKING:
    import argparse

__all__ = ["add_amplifier_commands"]

_OURS = ("llamacpp", "ollama", "openai", "vllm")
"""Providers that have a module of their own; whoever has none speaks OpenAI's API all the same."""


def add_amplifier_commands(parser: argparse.ArgumentParser) -> None:
    """Add the sub-commands; each returns an exit status."""
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    plan = commands.add_parser("plan", help="print a mount plan with one of our modules")
    plan.add_argument("url", nargs="?", help="where its server is (default: the first that is found on this machine)")
    plan.set_defaults(command=_plan)
    check = commands.add_parser("validate", help="check a provider module against the contract, with real requests")
    check.add_argument("module", help="id, package, or folder of the package")
    check.add_argument("--plan", type=Path, metavar="FILE", help="what to mount it with (default: a scripted server)")
    check.add_argument("--model", metavar="MODEL", help="what to ask for (default: a scripted answer)")
    check.set_defaults(command=_validate)


def _plan(options: argparse.Namespace) -> int:
    from pytest_modellens.bridge.loading import PREFIX
    from pytest_modellens.bridge.plans import plan_for
    from pytest_modellens.providers.discovery import find_servers
    from pytest_modellens.urls import normalize_base_url

    search = find_servers(normalize_base_url(options.url) if options.url else None)
    server = search.best
    if server is None:
        seen = ", ".join(f"{address}: {reason}" for address, reason in search.missed.items())
        raise ConfigError(f"no server was found ({seen}; start one, or give its address: modellens amplifier plan URL)")
    config = {"base_url": server.base_url}
    if server.models:
        config["default_model"] = server.models[0].id
    print(plan_for(f"{PREFIX}modellens-{server.name if server.name in _OURS else 'openai'}", config), end="")
    return 0


def _validate(options: argparse.Namespace) -> int:
    from pytest_modellens.bridge.validation import lines_of, validate

    module, checks = validate(options.module, plan=options.plan, model=options.model)
    print("\n".join(lines_of(module, checks)))
    return 0 if all(check.passed for check in checks if check.level == "must") else 1
