"""Command line, environment and ini options, merged once into frozen `Settings`."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from pytest_modellens.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from decimal import Decimal

    from pytest_modellens.cost import PriceTable

__all__ = ["AUTO", "OPTIONS", "SETTINGS", "Option", "ProviderSpec", "Settings", "add_options", "seconds", "url_value"]

AUTO = "auto"
"""The name that stands for whatever server is found."""

SUITE_GLOBS = ("suites/*.yaml", "suites/*.yml", "*.suite.yaml", "*.suite.yml")

_SIZE = re.compile(r"(\d+(?:\.\d+)?) ?([KMGT]i?)?B?", re.IGNORECASE)
_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|)")
_YES, _NO = {"1", "true", "yes", "on"}, {"0", "false", "no", "off"}
_SECONDS = {"ms": 0.001, "s": 1.0, "": 1.0, "m": 60.0, "h": 3600.0}


def _text(value: str) -> str:
    if not value.strip():
        raise ValueError("must not be empty")
    return value


def _count(value: str) -> int:
    if not value.isascii() or not value.isdigit() or int(value) < 1:
        raise ValueError("must be a whole number from 1 on")
    return int(value)


def _count_or_none(value: str) -> int:
    if not value.isascii() or not value.isdigit():
        raise ValueError("must be a whole number from 0 on")
    return int(value)


def seconds(value: str) -> float:
    match = _DURATION.fullmatch(value)
    seconds = float(match[1]) * _SECONDS[match[2]] if match else 0.0
    if not 0 < seconds < 1e9:
        raise ValueError("must be a duration such as 60s, 2m or 500ms")
    return seconds


def _size(value: str) -> int:
    match = _SIZE.fullmatch(value)
    prefix = (match[2] or "") if match else ""
    power = "kmgt".find(prefix[:1].lower()) + 1 if prefix else 0
    size = int(float(match[1]) * (1024 if prefix[1:] else 1000) ** power) if match else 0
    if not size:
        raise ValueError("must be a size such as 500MB or 2GiB")
    return size


def url_value(value: str) -> str:
    from pytest_modellens.urls import normalize_base_url

    try:
        return normalize_base_url(value)
    except ConfigError:
        raise ValueError("must be a URL such as http://127.0.0.1:8000/v1") from None


def _amount(value: str) -> Decimal:
    from pytest_modellens.budget import dollars

    try:
        return dollars(value)
    except ConfigError as exc:
        raise ValueError(str(exc)) from None


def _formats(value: str) -> tuple[str, ...]:
    formats = tuple(value.split(","))
    if not {*formats} <= {"png", "svg"} or len({*formats}) < len(formats):
        raise ValueError("must be png, svg or png,svg")
    return formats


@dataclass(frozen=True, slots=True)
class Option:
    """One option: `--modellens-<name>`, the ini value `modellens_<name>`, the variable `MODELLENS_<NAME>`."""

    name: str
    metavar: str
    help: str
    parse: Callable[[str], Any]

    @property
    def flag(self) -> str:
        return f"--modellens-{self.name}"

    @property
    def dest(self) -> str:
        return f"modellens_{self.name.replace('-', '_')}"


OPTIONS = (
    Option(
        "model", "MODEL", "Model to ask for; with --provider local a GGUF file (default: the server's first)", _text
    ),
    Option(
        "base-url", "URL", "Where the provider's API is (default: this machine, the provider's usual port)", url_value
    ),
    Option("api-key-env", "NAME", "Environment variable that holds the API key (default: the provider's own)", _text),
    Option("rounds", "N", "Measured requests per cell (default: what the case says)", _count),
    Option("warmup", "N", "Unmeasured requests before them (default: what the case says)", _count_or_none),
    Option("timeout", "DURATION", "Longest time of one request, such as 60s (default: what the case says)", seconds),
    Option("workers", "N", "Processes that put a load on the server (default: 1)", _count),
    Option("budget", "AMOUNT", "Most that the run may cost, such as 5USD (default: no bound)", _amount),
    Option(
        "serve-timeout", "DURATION", "Longest time from starting a server to its first token (default: 10m)", seconds
    ),
    Option(
        "amplifier-config",
        "FILE",
        "Mount plan, or its entry, for --provider amplifier:MODULE (default: an empty configuration)",
        _text,
    ),
    Option("results", "DIR", "Folder that runs are written to (default: results)", _text),
    Option("report", "FILE", "Where the HTML report goes, or off (default: report.html in the run's folder)", _text),
    Option(
        "plots", "FORMATS", "Write plots too, as png, svg or png,svg, into the run's folder (default: none)", _formats
    ),
    Option("json", "FILE", "Write a summary as JSON too (default: none)", _text),
    Option("run-name", "NAME", "Name of the run, after its time (default: the providers' names)", _text),
    Option("cassette", "DIR", "Folder that the raw bytes of every request are kept in (default: not kept)", _text),
    Option("cassette-limit", "SIZE", "Largest size of one run's cassette, such as 500MB (default: 1GiB)", _size),
)


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
            prices=_prices(config) if providers else None,
            from_ini=frozenset(from_ini),
            **values,
        )
        return replace(settings, providers=tuple(map(settings.completed, providers)))

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
        group.addoption(option.flag, dest=option.dest, metavar=option.metavar, help=option.help)
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
    parser.addini("modellens_strict", "Fail instead of skip when no server answers", type="bool", default=None)
    parser.addini("modellens_suite_files", "Globs of suite files", type="args", default=list(SUITE_GLOBS))


def _raw(config: pytest.Config, dest: str, flag: str, env: Mapping[str, str]) -> tuple[str, str | None]:
    """Return where a value comes from, and the value as text; None when nobody gave one."""
    given = config.getoption(dest)
    if given is not None:
        return flag, str(given)
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


def _prices(config: pytest.Config) -> PriceTable:
    from pytest_modellens.cost import read_prices

    try:
        return read_prices(config.rootpath)
    except ConfigError as exc:
        raise pytest.UsageError(str(exc)) from None


def _providers(config: pytest.Config, env: Mapping[str, str]) -> tuple[ProviderSpec, ...]:
    source, given = _list(config, env, "provider", str.split)
    serve_source, commands = _list(config, env, "serve", str.splitlines)
    if not given and not commands:
        return ()
    from pytest_modellens.plugin.pyproject import named_providers
    from pytest_modellens.plugin.specs import labelled, with_commands

    try:
        named = named_providers(config)
    except ConfigError as exc:
        raise pytest.UsageError(str(exc)) from None
    try:
        specs = labelled(given, named)
    except ConfigError as exc:
        raise pytest.UsageError(f"{source}: {exc}") from None
    try:
        return with_commands(specs, commands, named)
    except ConfigError as exc:
        raise pytest.UsageError(f"{serve_source}: {exc}") from None


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
