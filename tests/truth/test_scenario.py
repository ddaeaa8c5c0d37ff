"""Scenarios: what they may say, what they mean, and how JSON spells them."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import pairwise
from statistics import fmean, stdev
from typing import Any

import pytest

from pytest_modellens.errors import ConfigError
from pytest_modellens.truth.catalogue import SCENARIOS
from pytest_modellens.truth.parse import named_scenario, parse_scenario, scenario_json
from pytest_modellens.truth.plan import plan_events
from pytest_modellens.truth.scenario import Distribution, Scenario
from pytest_modellens.truth.script import Cue, write_script

CHAT = "/v1/chat/completions"


@pytest.mark.parametrize("name", sorted(SCENARIOS))
def test_catalogue_survives_json(name: str) -> None:
    assert parse_scenario(json.loads(json.dumps(scenario_json(SCENARIOS[name])))) == SCENARIOS[name]


def test_base_gives_the_fields_that_are_not_named() -> None:
    scenario = parse_scenario({"base": "stall", "tokens": 20})

    assert scenario == replace(SCENARIOS["stall"], name="inline", description="", tokens=20)


@pytest.mark.parametrize(
    ("fields", "turns"),
    [({}, 1), ({"refuse_every": 3}, 1), ({"refuse_every": 3, "refuse_status": 503}, 3), ({"slow_from": 4}, 4)],
)
def test_turns_show_all_that_it_does(fields: dict[str, Any], turns: int) -> None:
    assert Scenario(**fields).turns == turns


def test_name_is_taken_with_and_without_prefix() -> None:
    assert named_scenario("truth:steady") is parse_scenario("steady") is SCENARIOS["steady"]


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (7, "scenario: must be a name or an object (got 7)"),
        ("steddy", "scenario 'steddy': not in the catalogue (did you mean 'steady'?)"),
        ({"base": 1}, "scenario: 'base' must be a name (got 1)"),
        ({"base": "nowhere-near"}, "scenario 'nowhere-near': not in the catalogue"),
        ({"token": 3}, "scenario: unknown key 'token' (did you mean 'tokens'?)"),
        ({"tokens": "3"}, "scenario: 'tokens': expected `int`, got `str` (got '3')"),
        ({"usage": "never"}, "scenario: 'usage': invalid enum value 'never' (got 'never')"),
        ({"split_at": [1, "x"]}, "scenario: 'split_at': expected `int`, got `str` - at `split_at[1]` (got [1, 'x'])"),
        ({"gap_ms": {"distribution": "flat", "mean_ms": 1}}, "scenario: 'gap_ms': invalid enum value 'flat'"),
        ({"tokens": -1}, "scenario: 'tokens' must be from 0 to 100000 (got -1)"),
        ({"ttft_ms": -1}, "scenario: 'ttft_ms' must be from 0 to 3.6e+06 (got -1.0)"),
        ({"ttft_ms": float("nan")}, "scenario: 'ttft_ms' must be from 0 to 3.6e+06 (got nan)"),
        ({"gap_ms": []}, "scenario: 'gap_ms' must not be an empty list"),
        ({"gap_ms": [1, -1]}, "scenario: 'gap_ms' must be from 0 to 3.6e+06 (got -1.0)"),
        ({"gap_ms": {"distribution": "gamma", "mean_ms": 1, "cv": 0}}, "'gap_ms.cv' must be above 0 and at most 100"),
        ({"gap_ms": {"distribution": "gamma", "mean_ms": -1}}, "'gap_ms.mean_ms' must be from 0"),
        ({"tokens_per_event": []}, "scenario: 'tokens_per_event' must not be an empty list"),
        ({"tokens_per_event": [1, 0]}, "scenario: 'tokens_per_event' must be from 1 to 100000 (got 0)"),
        ({"reasoning_tokens": 99}, "scenario: 'reasoning_tokens' must be from 0 to 16 (got 99)"),
        ({"cached_tokens": 9}, "scenario: 'cached_tokens' must be from 0 to 8 (got 9)"),
        ({"split_at": [3, 2]}, "scenario: 'split_at' must rise, from 1 on (got [3, 2])"),
        ({"refuse_status": 200}, "scenario: 'refuse_status' must be from 400 to 599 (got 200)"),
        ({"retry_after": "1\r\nX: y"}, "scenario: 'retry_after' must be printable ASCII"),
        ({"headers_ms": 60}, "scenario: 'headers_ms' must not exceed 'ttft_ms' (60.0 > 50.0)"),
        ({"error": "data", "close": "reset"}, "scenario: 'error' and 'close' exclude each other"),
        ({"close": "clean", "close_after": 17}, "scenario: 'close_after' must be from 0 to 16 (got 17)"),
        ({"refuse_every": 0}, "scenario: 'refuse_every' must be from 1 to 1e+09 (got 0)"),
    ],
)
def test_wrong_scenario_is_refused_with_the_key(value: Any, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_scenario(value)
    assert message in str(caught.value)


@pytest.mark.parametrize("kind", ["exponential", "lognormal", "gamma"])
def test_drawn_gaps_have_the_mean_and_spread_asked_for(kind: Any) -> None:
    gaps = Distribution(kind, 10, cv=1.0, seed=3).draw(20_000)

    assert fmean(gaps) == pytest.approx(10, rel=0.05)
    assert stdev(gaps) / fmean(gaps) == pytest.approx(1, rel=0.1)


@pytest.mark.parametrize("kind", ["exponential", "lognormal", "gamma"])
def test_seed_decides_the_gaps(kind: Any) -> None:
    assert Distribution(kind, 10, seed=3).draw(50) == Distribution(kind, 10, seed=3).draw(50)
    assert Distribution(kind, 10, seed=3).draw(50) != Distribution(kind, 10, seed=4).draw(50)
    assert Distribution(kind, 0).draw(2) == [0.0, 0.0]


def test_event_ends_where_reasoning_ends() -> None:
    assert Scenario(tokens=10, reasoning_tokens=5, tokens_per_event=3).token_groups() == [3, 2, 3, 2]


def test_listed_gaps_begin_again() -> None:
    events = plan_events(Scenario(ttft_ms=5, gap_ms=(1, 2), tokens=4, first_events=()), "openai")

    assert [event.at_ms for event in events if event.tokens] == [5, 6, 8, 9]


def test_stall_comes_on_top_of_the_gap() -> None:
    events = plan_events(
        Scenario(ttft_ms=5, gap_ms=1, tokens=3, stall_ms=100, stall_after=2, first_events=()), "openai"
    )

    assert [event.at_ms for event in events] == [5, 6, 107, 108, 108, 108]
    assert [event.kind for event in events[3:]] == ["finish", "usage", "done"]


def test_stall_after_all_tokens_holds_up_the_finish() -> None:
    assert plan_events(Scenario(ttft_ms=5, gap_ms=1, tokens=1, stall_ms=100, first_events=()), "openai")[1].at_ms == 106


def test_split_packets_join_to_the_same_bytes() -> None:
    whole = write_script(SCENARIOS["steady"], Cue(CHAT, "m", stream=True))
    cut = write_script(replace(SCENARIOS["steady"], split_at=(1, 5, 9), split_gap_ms=9), Cue(CHAT, "m", stream=True))

    assert b"".join(p.data for p in cut.packets) == b"".join(p.data for p in whole.packets)
    assert len(cut.packets) > 3 * len(whole.packets)
    assert all(later.at_ns >= earlier.at_ns for earlier, later in pairwise(cut.packets))


def test_characters_are_split_in_the_middle() -> None:
    script = write_script(SCENARIOS["characters-split-by-packet"], Cue(CHAT, "m", stream=True))

    firsts = [p.data for p, q in pairwise(script.packets) if q.marks[0].kind == "content"]
    assert len(firsts) == 6
    for data in firsts:
        with pytest.raises(UnicodeDecodeError):
            data.decode()


def test_escaped_characters_are_ascii() -> None:
    script = write_script(SCENARIOS["escaped-characters"], Cue(CHAT, "m", stream=True))

    assert all(packet.data.isascii() for packet in script.packets)
    assert any(rb"\ud83d\ude00" in packet.data for packet in script.packets)


def test_events_share_a_packet_when_the_first_is_due() -> None:
    script = write_script(SCENARIOS["four-a-packet"], Cue(CHAT, "m", stream=True))

    shared = [packet for packet in script.packets if len(packet.marks) > 1]
    assert [packet.at_ns for packet in shared] == [20_000_000, 36_000_000, 52_000_000, 68_000_000]
    assert [len(packet.marks) for packet in shared] == [4] * 4


def test_closing_after_the_last_event_has_an_instant_of_its_own() -> None:
    scenario = Scenario(ttft_ms=5, gap_ms=1, tokens=2, close="clean", close_after=2, first_events=())

    assert [(event.at_ms, event.kind) for event in plan_events(scenario, "openai")][1:] == [
        (6, "content"),
        (7, "close"),
    ]
