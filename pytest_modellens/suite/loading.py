"""The kind of `load`: closed or open loop, one value or a sweep."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

from pytest_modellens.load.plan import LoadPlan
from pytest_modellens.suite.keys import Key, mapping_schema, parse_keys, table
from pytest_modellens.suite.kinds import InvalidError, Kind, Scope, choice, duration, integer, number, shown
from pytest_modellens.suite.yamltext import YamlList, YamlMap

if TYPE_CHECKING:
    from pytest_modellens.suite.case import Scalar

__all__ = ["LOAD_KEYS", "Load", "load", "rate"]

_RATE = r"(\d+(?:\.\d+)?) ?/ ?(s|m|h)"
_SECONDS = {"s": 1, "m": 60, "h": 3600}
_HIGHEST_PER_S = 100_000
_MAX_SWEEP = 100


class Load(NamedTuple):
    """What `load` says."""

    plans: tuple[LoadPlan, ...]
    """One for each value of the sweep, else just one."""
    swept: str | None
    """The key that holds a list; None without one."""
    written: tuple[Scalar, ...]
    """The values of that list, as the file has them."""


class _Values(NamedTuple):
    """One value, or the list of a sweep."""

    parsed: tuple[Any, ...]
    written: tuple[Scalar, ...]
    is_list: bool


def rate() -> Kind:
    """Return the kind of rates with a unit, per second once read."""

    def parse(value: Any, _: Scope) -> float:
        if type(value) in (int, float) and value > 0:
            raise InvalidError(f"must have a unit: write {value:g}/s (got {shown(value)}; units are /s, /m, /h)")
        match = re.fullmatch(_RATE, value, re.ASCII) if isinstance(value, str) else None
        if match is None:
            raise InvalidError(f"must be a rate such as 4/s or 120/m (got {shown(value)})")
        per_s = float(match[1]) / _SECONDS[match[2]]
        if not 0 < per_s <= _HIGHEST_PER_S:
            raise InvalidError(f"must be above 0 and up to {_HIGHEST_PER_S}/s (got {shown(value)})")
        return per_s

    return Kind({"type": "string", "pattern": f"^{_RATE}$"}, parse)


def _one_or_list(name: str, kind: Kind) -> Kind:
    def parse(value: Any, scope: Scope) -> _Values:
        if not isinstance(value, YamlList):
            return _Values((kind.parse(value, scope),), (value,), is_list=False)
        if not 0 < len(value) <= _MAX_SWEEP:
            raise InvalidError(f"must be a value or a list of 1 to {_MAX_SWEEP} values (got {len(value)} values)")
        found: dict[Any, Scalar] = {}
        for line, item in zip(value.lines, value, strict=True):
            try:
                parsed = kind.parse(item, scope)
                if parsed in found:
                    raise InvalidError(f"must not have a value twice (got {shown(item)})")
                found[parsed] = item
            except InvalidError as exc:
                scope.wrong(line, f"{name!r} of {scope.place} {exc}")
        return _Values(tuple(found), tuple(found.values()), is_list=True)

    many = {"type": "array", "items": kind.schema, "minItems": 1, "maxItems": _MAX_SWEEP, "uniqueItems": True}
    return Kind({"anyOf": [kind.schema, many]}, parse)


def _warmup() -> Kind:
    whole, time = integer(0, 1_000_000), duration()

    def parse(value: Any, scope: Scope) -> int | float:
        kind = time if isinstance(value, str) else whole
        try:
            found: int | float = kind.parse(value, scope)
        except InvalidError as exc:
            raise InvalidError(f"must be a duration such as 10s, or a number of requests (got {shown(value)})") from exc
        return found

    return Kind({"anyOf": [time.schema, whole.schema]}, parse)


LOAD_KEYS = table(
    Key(
        "concurrency",
        _one_or_list("concurrency", integer(1, 10_000)),
        "Closed loop: so many streams, each of which sends its next request when the one before has ended. "
        "A list is a sweep: every value is measured as a cell of its own.",
    ),
    Key(
        "rate",
        _one_or_list("rate", rate()),
        "Open loop: so many requests start per second (4/s), minute or hour, whatever the server does. "
        "A list is a sweep: every value is measured as a cell of its own.",
    ),
    Key("requests", integer(1, 1_000_000), "How many measured requests."),
    Key(
        "duration",
        duration(),
        "How long measured requests start, with its unit; those in flight then still end.",
        field="duration_s",
    ),
    Key("warmup", _warmup(), "What comes before the measured requests: a time (10s) or a number of requests."),
    Key("arrival", choice("constant", "poisson", "gamma"), "How the starts of an open loop are spread in time."),
    Key(
        "burstiness",
        number(0, 1000, above=True),
        "Shape of gamma-distributed gaps: 1 is Poisson, less comes in bursts, more is regular.",
    ),
    Key(
        "max_in_flight",
        integer(1, 10_000),
        "Most requests of an open loop in flight at once; one that has to wait has a schedule delay.",
    ),
    Key(
        "stagger",
        duration(),
        "Time between the first requests of two streams of a closed loop.",
        field="stagger_s",
    ),
    Key(
        "ramp",
        duration(),
        "Time over which the streams, or the rate, rise linearly from nothing; what starts in it is warm-up.",
        field="ramp_s",
    ),
    Key("seed", integer(0, 2**63 - 1), "Of random arrivals: the same seed gives the same instants."),
    Key(
        "max_error_rate",
        number(0, 1),
        "Nothing more starts once clearly more than this share of the requests fails; 1 never stops.",
    ),
)

_OF_ONE_LOOP = {
    "arrival": "rate",
    "burstiness": "rate",
    "max_in_flight": "rate",
    "stagger": "concurrency",
}


def load() -> Kind:
    """Return the kind of `load`; a `Load` once read, None for null."""

    def parse(value: Any, scope: Scope) -> Load | None:
        if value is None:
            return None
        if not isinstance(value, YamlMap):
            raise InvalidError(f"must be a mapping such as {{concurrency: 8, requests: 200}} (got {shown(value)})")
        inner = scope.inside("load")
        found = parse_keys(value, LOAD_KEYS, inner)
        _check_shape(value, inner)
        if not inner.failed:
            _check_values(found, value, inner)
        scope.failed |= inner.failed
        return None if inner.failed else _load(found)

    schema = mapping_schema(LOAD_KEYS, LoadPlan)
    # `required` speaks of objects only, so null stays valid.
    schema["allOf"] = [
        {"anyOf": [{"required": ["concurrency"]}, {"required": ["rate"]}]},
        {"anyOf": [{"required": ["requests"]}, {"required": ["duration"]}]},
    ]
    schema["dependentSchemas"] = {
        key: {"not": {"required": ["concurrency" if loop == "rate" else "rate"]}} for key, loop in _OF_ONE_LOOP.items()
    } | {"concurrency": {"not": {"required": ["rate"]}}}
    return Kind({**schema, "type": ["object", "null"]}, parse)


def _check_shape(written: YamlMap, scope: Scope) -> None:
    """Tell `scope` of keys that are missing, or do not go together."""
    place, meant = scope.place, scope.meant
    loops = [key for key in ("concurrency", "rate") if key in written]
    if len(loops) == 2:
        second = max(loops, key=lambda key: written.lines[key])
        scope.wrong(
            written.lines[second],
            f"{place} has both 'concurrency' (so many in flight) and 'rate' (so many started per second); keep one",
        )
    elif not loops and not meant & {"concurrency", "rate"}:
        scope.wrong(written.line, f"{place} needs 'concurrency' (so many in flight) or 'rate' (started per second)")
    if not {"requests", "duration"} & written.keys() and not meant & {"requests", "duration"}:
        scope.wrong(written.line, f"{place} needs 'duration' or 'requests', else it would never end")
    for key, loop in _OF_ONE_LOOP.items():
        if key in written and len(loops) == 1 and loop not in loops:
            scope.wrong(written.lines[key], f"{key!r} of {place} goes with {loop!r} only")
    if "stagger" in written and "ramp" in written:
        scope.wrong(written.lines["stagger"], f"{place} has both 'stagger' and 'ramp' (keep one)")


def _check_values(found: dict[str, Any], written: YamlMap, scope: Scope) -> None:
    """Tell `scope` of values that do not go together."""
    place, is_gamma = scope.place, found.get("arrival") == "gamma"
    if "burstiness" in found and not is_gamma:
        scope.wrong(written.lines["burstiness"], f"'burstiness' of {place} needs 'arrival: gamma'")
    if is_gamma and "burstiness" not in found:
        scope.wrong(written.lines["arrival"], f"'arrival: gamma' of {place} needs 'burstiness' (1 is Poisson)")
    if "concurrency" in found:
        most = max(found["concurrency"].parsed, default=0)
        if found.get("requests", most) < most:
            scope.wrong(
                written.lines["requests"],
                f"'requests' of {place} is less than its 'concurrency', {most}: so many would never be in flight",
            )


def _load(found: dict[str, Any]) -> Load:
    loop = "concurrency" if "concurrency" in found else "rate"
    values: _Values = found.pop(loop)
    warmup = found.pop("warmup", 0)
    found["warmup_requests" if isinstance(warmup, int) else "warmup_s"] = warmup
    plan = LoadPlan(**found)
    plans = tuple(
        replace(plan, concurrency=value) if loop == "concurrency" else replace(plan, rate=value)
        for value in values.parsed
    )
    return Load(plans, loop if values.is_list else None, values.written)
