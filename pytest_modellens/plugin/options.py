"""Command line, environment and ini options, merged once into frozen `Settings`."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from pytest_modellens.plugin.option_table import OPTIONS, Option
from pytest_modellens.plugin.values import of_gate, prices_of, seconds, url_value

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from decimal import Decimal

    from pytest_modellens.cost import PriceTable
    from pytest_modellens.gate.bounds import AbsoluteLimit

__all__ = ["AUTO", "OPTIONS", "SETTINGS", "Option", "ProviderSpec", "Settings", "add_options", "seconds", "url_value"]

AUTO = "auto"
"""The name that stands for whatever server is found."""

SUITE_GLOBS = ("suites/*.yaml", "suites/*.yml", "*.suite.yaml", "*.suite.yml")

_YES, _NO = {"1", "true", "yes", "on"}, {"0", "false", "no", "off"}


class ProviderSpec(NamedTuple):
    """One server to measure, as the command line and pyproject.toml name it."""

    label: str
    """What it is called in ids and records; the provider's name unless it was given another."""
    name: str
    """Its provider; "auto" until the server is looked for."""
    base_url: str | None = None
    model: str | None = None
    api_key_env: str | None = None
    headers: Mapping[str, str | HeaderVariable] | None = None
    """Sent with every request; a `HeaderVariable` is the value of an environment variable."""
    timeout: float | None = None
    """Longest time of one request, in seconds."""
    serve: str | None = None
    """Command that starts the server; None: it runs already."""
    mounted: Mapping[str, Any] | None = None
    """What a suite says of the configuration of an Amplifier module."""
    mounted_by: str = ""
    """The suite, as errors name it."""

    @property
    def shown(self) -> str:
        """Name and provider as `--provider` takes them."""
        if self.name == AUTO and self.serve:
            return self.label
        return self.name if self.label == self.name else f"{self.label}:{self.name}"

    def __repr__(self) -> str:
        """Return the label: `--setup-show` prints parameters, and a URL may hold a password."""
        return self.label


class HeaderVariable(NamedTuple):
    """A header's value that is taken from the environment when it is sent."""

    env: str


@dataclass(frozen=True, slots=True)
class Settings:
    """What the user asked for."""

    providers: tuple[ProviderSpec, ...]
    suite_globs: tuple[str, ...]
    strict: bool
    """True makes a missing server an error instead of a skip."""
    selfcheck: bool = False
    """True checks how exactly this machine measures, and runs no tests."""
    model: str | None = None
    base_url: str | None = None
    api_key_env: str | None = None
    rounds: int | None = None
    warmup: int | None = None
    timeout: float | None = None
    workers: int | None = None
    serve_timeout: float | None = None
    budget: Decimal | None = None
    amplifier_config: str | None = None
    results: str | None = None
    report: str | None = None
    """A file; "off" for no report; None for the run's folder."""
    plots: tuple[str, ...] | None = None
    """Formats of plots to write as files."""
    json: str | None = None
    run_name: str | None = None
    prices: PriceTable | None = None
    """Of pyproject.toml; None without providers."""
    cassette: str | None = None
    cassette_limit: int | None = None
    """In bytes."""
    gate: Mapping[str, float] | None = None
    """Signed change that is allowed, by metric; None without any."""
    bounds: tuple[AbsoluteLimit, ...] = ()
    """What metrics must be at least, or may be at most."""
    ab: str | None = None
    blocks: tuple[int, ...] | None = None
    restarts: str | None = None
    """"always", "never", or "auto", which None is as well."""
    beside: ProviderSpec | None = None
    """The baseline that is measured side by side with the only provider; None without one."""
    baseline: str | None = None
    alpha: float | None = None
    inconclusive: str | None = None
    subject: tuple[str, ...] | None = None
    allow_mismatch: tuple[str, ...] | None = None
    update_baseline: bool = False
    """True makes the run a session of the baseline, if nothing is wrong with it."""
    require_baseline: bool = False
    """True makes it an error when there is nothing to judge against."""
    from_ini: frozenset[str] = frozenset()
    """Which of these the ini file gave."""

    @classmethod
    def from_config(cls, config: pytest.Config, *, env: Mapping[str, str] = os.environ) -> Settings:
        """Return the merged settings: the command line wins over MODELLENS_* variables, these over the ini file.

        Raises:
            pytest.UsageError: a value cannot be used; the message names the option.
        """
        values: dict[str, Any] = {}
        from_ini = set()
        for option in OPTIONS:
            source, raw = _raw(config, option.dest, option.flag, env)
            if raw is not None:
                name = option.dest.removeprefix("modellens_")
                values[name] = _parsed(option, source, raw)
                if name == "gate":
                    values["bounds"], values["gate"] = of_gate("parse_bounds")(raw), values["gate"] or None
                if source == option.dest:
                    from_ini.add(name)
        providers = _providers(config, env)
        if values.get("base_url") and len(providers) > 1:
            instead = " ".join(f"--provider {spec.shown}=URL" for spec in providers)
            raise pytest.UsageError(f"--modellens-base-url: is for one provider (give each its own: {instead})")
        if values.get("base_url") and any(spec.serve for spec in providers):
            raise pytest.UsageError("--modellens-base-url: is for a server that runs already (leave it out)")
        settings = cls(
            providers=(),
            suite_globs=tuple(config.getini("modellens_suite_files")),
            strict=_strict(config, env),
            selfcheck=config.getoption("modellens_selfcheck"),
            prices=prices_of(config) if providers else None,
            update_baseline=config.getoption("modellens_update_baseline"),
            require_baseline=config.getoption("modellens_require_baseline"),
            from_ini=frozenset(from_ini),
            **values,
        )
        if not providers:
            return settings
        from pytest_modellens.plugin.arms import with_baseline

        return with_baseline(config, replace(settings, providers=tuple(map(settings.completed, providers))))

    @property
    def servers(self) -> tuple[ProviderSpec, ...]:
        """All servers that are measured."""
        return self.providers if self.beside is None else (*self.providers, self.beside)

    def completed(self, spec: ProviderSpec) -> ProviderSpec:
        """Return `spec` with what the options say for all providers.

        What is said of one provider in pyproject.toml gives way to the command line and the environment, not to the
        ini file, which is for all of them.
        """
        for name in ("base_url", "model", "api_key_env", "timeout"):
            value = getattr(self, name)
            if value is not None and (
                getattr(spec, name) is None or (name not in self.from_ini and name != "base_url")
            ):
                spec = spec._replace(**{name: value})
        return spec


SETTINGS: pytest.StashKey[Settings] = pytest.StashKey()


def add_options(parser: pytest.Parser) -> None:
    """Register every option. Help: capital first letter, no final period, the default stated."""
    group = parser.getgroup("modellens", "LLM inference benchmarks")
    group.addoption(
        "--provider",
        "--modellens-provider",
        dest="modellens_provider",
        action="append",
        metavar="[NAME:]PROVIDER[=URL]",
        help="Server to measure, such as auto, vllm or fast:vllm=http://host:8001/v1; repeatable (default: none)",
    )
    parser.addini("modellens_provider", "Servers to measure (see --provider)", type="args", default=[])
    group.addoption(
        "--modellens-serve",
        action="append",
        metavar="[[NAME:]PROVIDER=]COMMAND",
        help="Command that starts the server, with {port} for its port; repeatable (default: none is started)",
    )
    parser.addini("modellens_serve", "Commands that start servers, one a line", type="linelist", default=[])
    for option in OPTIONS:
        group.addoption(
            option.flag,
            dest=option.dest,
            metavar=option.metavar,
            help=option.help.replace("%", "%%"),
            action="append" if option.repeatable else "store",
        )
        parser.addini(option.dest, option.help, default=None)
    group.addoption(
        "--modellens-strict",
        dest="modellens_strict",
        action="store_true",
        default=None,
        help="Fail instead of skip when no server answers (default: only where CI is set)",
    )
    group.addoption(
        "--modellens-selfcheck",
        dest="modellens_selfcheck",
        action="store_true",
        help="Check how exactly this machine measures, instead of running tests (default: off)",
    )
    group.addoption(
        "--modellens-update-baseline",
        dest="modellens_update_baseline",
        action="store_true",
        help="Make this run a session of the baseline, unless anything is wrong with it (default: off)",
    )
    group.addoption(
        "--modellens-require-baseline",
        dest="modellens_require_baseline",
        action="store_true",
        help="Make it an error when the baseline lacks what is judged (default: off)",
    )
    parser.addini("modellens_strict", "Fail instead of skip when no server answers", type="bool", default=None)
    parser.addini("modellens_suite_files", "Globs of suite files", type="args", default=list(SUITE_GLOBS))


def _raw(config: pytest.Config, dest: str, flag: str, env: Mapping[str, str]) -> tuple[str, str | None]:
    """Return where a value comes from, and the value as text; None when nobody gave one."""
    given = config.getoption(dest)
    if given is not None:
        return flag, " ".join(given) if isinstance(given, list) else str(given)
    variable = dest.upper()
    if env.get(variable):
        return variable, env[variable]
    from_ini = config.getini(dest)
    return dest, str(from_ini) if from_ini else None


def _parsed(option: Option, source: str, raw: str) -> Any:
    try:
        return option.parse(raw)
    except ValueError as exc:
        shown = "" if option.name == "base-url" and "@" in raw else f" (got {raw!r})"
        raise pytest.UsageError(f"{source}: {exc}{shown}") from None


def _strict(config: pytest.Config, env: Mapping[str, str]) -> bool:
    if config.getoption("modellens_strict"):
        return True
    if variable := env.get("MODELLENS_STRICT"):
        if variable.lower() not in _YES | _NO:
            raise pytest.UsageError(f"MODELLENS_STRICT: must be true or false (got {variable!r})")
        return variable.lower() in _YES
    from_ini = config.getini("modellens_strict")
    return env.get("CI", "").lower() in _YES if from_ini is None else bool(from_ini)


def _providers(config: pytest.Config, env: Mapping[str, str]) -> tuple[ProviderSpec, ...]:
    source, given = _list(config, env, "provider", str.split)
    serve_source, commands = _list(config, env, "serve", str.splitlines)
    if not given and not commands:
        return ()
    from pytest_modellens.plugin.specs import specs_of

    return specs_of(config, (source, given), (serve_source, commands))


def _list(
    config: pytest.Config, env: Mapping[str, str], name: str, split: Callable[[str], list[str]]
) -> tuple[str, list[str]]:
    """Return where the values of an option that can be given several times come from, and the values."""
    if given := config.getoption(f"modellens_{name}"):
        return "--provider" if name == "provider" else f"--modellens-{name}", given
    variable = f"MODELLENS_{name.upper()}"
    if given := [text for text in split(env.get(variable, "")) if text.strip()]:
        return variable, given
    return f"modellens_{name}", config.getini(f"modellens_{name}")
