"""What a suite file means: its cases, and their cells."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, field, replace
from functools import lru_cache
from itertools import product
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

from pytest_modellens.load.plan import LoadPlan
from pytest_modellens.suite.expect import Expect

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from pytest_modellens.models import Message
    from pytest_modellens.suite.dataset import Dataset
    from pytest_modellens.suite.limits import Limit
    from pytest_modellens.suite.slo import Slo
    from pytest_modellens.suite.synthetic import Synthetic

__all__ = ["Case", "Cell", "Scalar", "Suite", "case_hash", "suite_hash"]

Scalar = str | int | float | bool | None

_LABEL_LENGTH = 32
_NOT_IN_LABELS = re.compile(r"[^A-Za-z0-9._+-]+")
_LONG_TEXT = 4096
_ADDRESSES = ("base_url", "host", "api_base", "endpoint", "api_key")
"""What a module's configuration calls the place that it asks."""


@dataclass(frozen=True, slots=True)
class Case:
    """One case of a suite, with the suite's defaults applied."""

    name: str
    line: int
    """Where the case begins in the file, from 1."""
    description: str = ""
    prompt: str = ""
    """The text to send, already read when it stands in a file; empty with any other source of prompts."""
    system_prompt: str | None = None
    messages: tuple[Message, ...] | None = None
    dataset: Dataset | None = None
    """Where prompts come from instead; see `suite.prompts`."""
    synthetic: Synthetic | None = None
    """How prompts are made up instead; see `suite.prompts`."""
    model: str | None = None
    """None takes the one of the command line, else the provider's own."""
    stream: bool = True
    max_tokens: int = 64
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int | None = 0
    """None sends none."""
    extra_body: Mapping[str, Any] = field(default_factory=dict)
    """More fields of the request body, sent as they are."""
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    """More HTTP headers, expanded. May hold secrets: never shown, never recorded."""
    base_url: str | None = field(default=None, repr=False)
    """Where to send the case instead, expanded. May hold secrets: never shown, never recorded."""
    amplifier: Mapping[str, Any] | None = field(default=None, repr=False)
    """What a module of Amplifier is mounted with, as written. May hold secrets: never shown, never recorded."""
    rounds: int = 5
    """How many measured requests."""
    warmup: int = 1
    """How many unmeasured requests before them."""
    concurrency: int = 1
    """How many of the rounds are in flight at once."""
    cache: str = "any"
    """What the server's prompt cache may do: "any", "cold" (must not be used) or "warm" (primed before)."""
    timeout_s: float = 60.0
    """Longest total time of one request."""
    stall_timeout_s: float | None = None
    """Longest silence of a server within one request; None sets no bound but `timeout_s`."""
    matrix: Mapping[str, tuple[Scalar, ...]] = field(default_factory=dict)
    """Values by key, as the file has them; every combination is a cell."""
    marks: tuple[str, ...] = ()
    expect: Expect = field(default_factory=Expect)
    limits: tuple[Limit, ...] = ()
    load: LoadPlan | None = None
    """Load on the server; `rounds`, `warmup` and `concurrency` mean nothing then. None: rounds."""
    slo: tuple[Slo, ...] = ()
    """What each request must keep to."""
    overrides: Mapping[str, tuple[Any, ...]] = field(default_factory=dict, repr=False)
    """The values of `matrix` by field of `Case`, as the field holds them (`timeout: 60s` is `timeout_s`, 60.0)."""

    def cells(self) -> tuple[Cell, ...]:
        """Return the case at each point of its matrix, in the file's order, the last key turning fastest."""
        if not self.matrix:
            return (Cell(self, {}, ""),)
        ids: set[str] = set()
        return tuple(self._cell(point, ids) for point in product(*(range(len(v)) for v in self.matrix.values())))

    def _cell(self, point: tuple[int, ...], ids: set[str]) -> Cell:
        params = {key: values[at] for at, (key, values) in zip(point, self.matrix.items(), strict=True)}
        fields = {name: values[at] for at, (name, values) in zip(point, self.overrides.items(), strict=True)}
        wanted = unique = "-".join(key + _label(key, value) for key, value in params.items())
        number = 2
        while unique in ids:
            unique, number = f"{wanted}.{number}", number + 1
        ids.add(unique)
        return Cell(replace(self, **fields), params, unique)


@dataclass(frozen=True, slots=True)
class Cell:
    """A case at one point of its matrix."""

    case: Case
    """The case with the point's values applied."""
    params: Mapping[str, Scalar]
    """The point: values by key, as the file has them; empty without a matrix."""
    id: str
    """The point in short ("temperature0.7-concurrency8"), unique within the case; empty without a matrix."""


@dataclass(frozen=True, slots=True)
class Suite:
    """One suite file."""

    path: Path
    description: str
    cases: tuple[Case, ...]
    hash: str
    """SHA-256 over what is sent and how (see `suite_hash`), in hexadecimal."""
    by_name: Mapping[str, Case] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "by_name", {case.name: case for case in self.cases})

    def cells(self) -> Iterator[Cell]:
        """Yield every cell of every case, in the file's order."""
        for case in self.cases:
            yield from case.cells()


def _label(key: str, value: Scalar) -> str:
    text = "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
    if key == "prompt_file":
        text = PurePosixPath(text).stem
    return _NOT_IN_LABELS.sub("_", text[: _LABEL_LENGTH * 2])[:_LABEL_LENGTH]


def suite_hash(cases: tuple[Case, ...]) -> str:
    """Return one SHA-256 for the cases, whatever their order: equal as long as `case_hash` of each is."""
    return hashlib.sha256("".join(sorted(case_hash(case) for case in cases)).encode()).hexdigest()


def case_hash(case: Case) -> str:
    """Return a SHA-256 over what a case sends and how: two runs of equal hash measured the same thing.

    It covers prompts' text (of a data set, the file's bytes), sampling, streaming, cache, concurrency, the shape of the
    load, and the matrix. It leaves out what only judges or repeats (expect, limits, SLOs, marks, rounds, requests,
    duration, warm-up, time-outs), descriptions, and where to send it (headers, base URL).
    """
    from msgspec.json import encode

    sent: tuple[Any, ...] = (
        case.name,
        _digest(case.prompt),
        case.system_prompt if case.system_prompt is None else _digest(case.system_prompt),
        case.messages,
        (case.model, case.stream, case.max_tokens, case.temperature, case.top_p, case.seed),
        (case.cache, case.concurrency),
        case.extra_body,
        tuple(case.overrides),
        tuple(tuple(map(_swept, values)) for values in case.overrides.values()),
    )
    # Only where there are any, so that the hash of a case without them is what it was before they existed.
    mounted = {key: value for key, value in (case.amplifier or {}).items() if key not in _ADDRESSES} or None
    many = {
        "amplifier": mounted,
        "load": case.load and _shape(case.load),
        "dataset": _rows(case.dataset),
        "synthetic": case.synthetic,
    }
    sent += tuple((name, value) for name, value in many.items() if value is not None)
    return hashlib.sha256(encode(sent, order="deterministic")).hexdigest()


def _swept(value: Any) -> Any:
    if isinstance(value, LoadPlan):
        return _shape(value)
    return _digest(value) if isinstance(value, str) else value


def _shape(plan: LoadPlan) -> tuple[Any, ...]:
    """Return what a plan puts on the server at any time, without how long."""
    closed = (plan.concurrency, plan.stagger_s, plan.ramp_s)
    return (*closed, plan.rate, plan.arrival, plan.burstiness, plan.max_in_flight, plan.seed)


def _rows(dataset: Dataset | None) -> tuple[Any, ...] | None:
    if dataset is None:
        return None
    return (dataset.digest(), dataset.field, dataset.max_tokens_field, dataset.sample, dataset.seed)


def _digest(text: str) -> str:
    return text if len(text) < _LONG_TEXT else _long_digest(text)


@lru_cache(maxsize=64)
def _long_digest(text: str) -> str:
    # Kept, because thousands of cases may share one text of a megabyte.
    return hashlib.sha256(text.encode()).hexdigest()
