"""The report in a real browser: it works, asks for nothing, and runs nothing but itself."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pytest
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from pytest_modellens.report.page import page, write_page
from pytest_modellens.report.source import run_of
from tests.report import runs

if TYPE_CHECKING:
    from pathlib import Path

    from tests.report.conftest import Browser

SWEEP = [1, 2, 4, 8, 16]


@pytest.fixture(scope="session")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a report with everything that one can have: flaws, a comparison, loads, hardware."""
    path = tmp_path_factory.mktemp("report") / "report.html"
    asked = {"description": "A fact", "prompt": "What is the capital of France?", "prompt_characters": 30}
    asked |= {"settings": {"max_tokens": 16}, "expect": {"contains": ["Paris"]}, "limits": ["ttft_ms.p95 < 500"]}
    limit = {"limit": "ttft_ms.p95 < 500", "verdict": "inconclusive", "reason": "not decided (…)", "n": 12}
    bound = {**limit, "case": "suites/chat.yaml::wrong (vllm)", "limit": "tokens_per_second >= 200", "verdict": "fail"}
    meta = {
        "limits": [{**runs.KEY, **limit, "estimate": 118.0, "low": 103.0, "missing": 47}],
        "absolute_gate": {"alpha": 0.01, "bounds": [{**bound, "estimate": 98.0, "low": 96.0, "high": 99.0}]},
        "asked": [{**runs.KEY, "asked": asked}],
        "failed": [{**runs.KEY, "case": "wrong", "why": "1 of 7 answers are not as expected"}],
        "cells": [runs.load(n, case="steady") for n in SWEEP],
    }
    rows = [
        *runs.records(12),
        *[row for n in SWEEP for row in runs.records(6, case="steady", params={"concurrency": n})],
        *[runs.record(n, case="slow", speed=0.1) for n in range(6)],
        *[runs.record(n, case="wrong", expect_failures=["no 'Paris'"][: n == 3]) for n in range(7)],
        *[runs.failure(n, case="down") for n in range(3)],
    ]
    other = [{**row, "provider": "llamacpp"} for row in runs.records(12, speed=1.3)]
    found = run_of("20261121T203000Z-base", {**runs.META, **meta}, [*rows, *other], [runs.hardware()])
    write_page(path, page([found]))
    return path


def names(browser: Browser) -> list[str]:
    return [text.splitlines()[0] for text in browser.texts("#table tbody th")]


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_page_is_accessible_and_silent(browser: Browser, report: Path, theme: str, width: int) -> None:
    browser.open(report, theme=theme, width=width)
    browser.js("for (const one of document.querySelectorAll('details')) one.open = true")
    assert browser.axe() == []
    assert browser.complaints() == []
    assert browser.requests() == []
    assert browser.js("return document.documentElement.scrollWidth <= innerWidth"), "wider than the window"


def test_page_says_first_what_it_found(browser: Browser, report: Path) -> None:
    browser.open(report)
    assert browser.texts(".verdict h2") == [
        "The bound is not kept",
        "llamacpp is faster than vllm",
        "2 of 10 cells need a look",
    ]


def test_table_is_sorted_by_mouse_and_keyboard(browser: Browser, report: Path) -> None:
    browser.open(report)
    in_order = names(browser)

    def head(text: str) -> Any:
        return browser.driver.find_element(By.XPATH, f"//table[@id='table']//th[contains(., '{text}')]")

    head("TTFT p50").find_element(By.TAG_NAME, "button").click()
    assert head("TTFT p50").get_attribute("aria-sort") == "ascending"
    values = browser.js("return [...document.querySelectorAll('#table tbody tr')].map(r => r.cells[4].dataset.value)")
    known = [float(value) for value in values if value]
    assert known == sorted(known)
    assert len(known) > 3
    assert values[-1] == "", "what has no value comes last"
    head("TTFT p50").find_element(By.TAG_NAME, "button").send_keys(Keys.ENTER)
    assert head("TTFT p50").get_attribute("aria-sort") == "descending"
    assert names(browser)[0] == "slow"
    head("case").find_element(By.TAG_NAME, "button").click()
    assert names(browser) == ["capital", "capital", "down", "slow", *in_order[2:7], "wrong"]
    assert head("TTFT p50").get_attribute("aria-sort") is None
    assert browser.complaints() == []


def test_table_is_filtered_by_words_and_state(browser: Browser, report: Path) -> None:
    browser.open(report)
    assert browser.texts("#shown") == ["10 of 10 shown"]
    field = browser.driver.find_element(By.ID, "filter")
    field.send_keys("STEADY vllm")
    assert {name.partition("[")[0] for name in names(browser)} == {"steady"}
    assert browser.texts("#shown") == ["5 of 10 shown"]
    field.clear()
    field.send_keys("nothing like this")
    assert names(browser) == []
    field.clear()
    field.send_keys(Keys.BACKSPACE)
    browser.driver.find_element(By.ID, "flawed").click()
    assert names(browser) == ["wrong", "down"]
    assert browser.texts("#shown") == ["2 of 10 shown"]


def test_theme_can_be_chosen(browser: Browser, report: Path) -> None:
    browser.open(report, theme="light")
    button = browser.driver.find_element(By.ID, "theme")

    def background() -> str:
        return str(browser.js("return getComputedStyle(document.body).backgroundColor"))

    seen = {}
    for _ in range(3):
        button.click()
        seen[button.text] = background()
    assert set(seen) == {"Theme: light", "Theme: dark", "Theme: system"}
    assert seen["Theme: light"] == seen["Theme: system"] != seen["Theme: dark"]
    assert browser.js("return getComputedStyle(document.querySelector('.plot text')).fill") != "rgb(0, 0, 0)"


def test_link_of_a_row_opens_its_case(browser: Browser, report: Path) -> None:
    browser.open(report)
    link = browser.driver.find_element(By.LINK_TEXT, "slow")
    target = str(link.get_attribute("href")).partition("#")[2]
    assert browser.js("return document.getElementById(arguments[0]).open", target) is False
    link.click()
    assert browser.js("return document.getElementById(arguments[0]).open", target) is True


def test_flawed_cases_are_open_and_say_why(browser: Browser, report: Path) -> None:
    browser.open(report)
    assert browser.texts("details.case[open] > summary h3") == ["wrong", "down"]
    shown = "\n".join(browser.texts("details.case[open]"))
    assert "3 × timeout: no answer within 60 s" in shown
    assert "1 of 7 answers are not as expected" in shown
    assert "no 'Paris'" in shown


def test_page_prints_everything(browser: Browser, report: Path) -> None:
    browser.open(report)
    browser.js("dispatchEvent(new Event('beforeprint'))")
    assert browser.js("return document.querySelectorAll('details:not([open])').length") == 0
    browser.js("dispatchEvent(new Event('afterprint'))")
    assert browser.js("return document.querySelectorAll('details:not([open])').length") > 0


@pytest.mark.parametrize("chosen", [0, 2])
def test_page_prints_on_white_and_loses_no_column(browser: Browser, report: Path, chosen: int) -> None:
    browser.open(report, theme="dark", width=700)
    for _ in range(chosen):
        browser.driver.find_element(By.ID, "theme").click()
    dark = browser.js("return getComputedStyle(document.body).backgroundColor")
    browser.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    try:
        assert browser.js("return getComputedStyle(document.body).backgroundColor") == "rgb(254, 254, 254)" != dark
        ink = browser.js("return getComputedStyle(document.querySelector('.plot text')).fill")
        assert {int(part) < 120 for part in re.findall(r"\d+", ink)} == {True}
        # Paper does not scroll.
        wide = browser.js("return [...document.querySelectorAll('.scroll')].map(e => e.scrollWidth - e.clientWidth)")
        assert max(wide) <= 1
    finally:
        browser.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})
        browser.js("localStorage.clear()")


def test_names_of_rows_stay_in_sight_on_a_telephone(browser: Browser, report: Path) -> None:
    browser.open(report, width=390)
    places = browser.js(
        "const part = document.getElementById('table').parentElement; part.scrollLeft = 200;"
        "const [name, configuration, speed] = part.querySelector('tbody tr').cells;"
        "return [part.scrollLeft, name.getBoundingClientRect().left, speed.getBoundingClientRect().left]"
    )
    assert places[0] == 200
    assert places[1] >= 0
    assert places[2] < 300, "the most important number is the first"


def test_comparison_is_a_table_too(browser: Browser, report: Path) -> None:
    browser.open(report)
    assert browser.texts("h3[id^=pair]") == ["llamacpp beside vllm"]
    assert browser.texts(".ratios thead th") == [
        "case", "tokens/s", "95 % interval", "llamacpp is", "TTFT", "95 % interval", "llamacpp is"]  # fmt: skip
    (row,) = browser.js(
        "return [...document.querySelectorAll('.ratios tbody tr')].map(row => [...row.cells].map(c => c.innerText))"
    )
    assert (row[0], row[1], row[3], row[4], row[6]) == ("capital", "1.30×", "better", "0.77×", "better")


def test_page_is_whole_without_its_script(browser: Browser, report: Path, tmp_path: Path) -> None:
    path = tmp_path / "silent.html"
    html = report.read_text(encoding="utf-8")
    path.write_text(html.replace("<script>", "<script>//", 1), encoding="utf-8")
    browser.open(path)
    assert len(names(browser)) == 10
    assert browser.texts("#filter") == []
    assert any("Content Security Policy" in text for text in browser.complaints()), "a changed script must not run"


@pytest.mark.parametrize("part", [slice(0, 11), slice(11, 21), slice(21, None)], ids=["page", "sheets", "rest"])
def test_hostile_text_is_shown_and_does_nothing(browser: Browser, tmp_path: Path, part: slice) -> None:
    rows: list[dict[str, Any]] = []
    meta: dict[str, Any] = {"asked": [], "failed": [], "cells": [], "servers": {}}
    texts = runs.HOSTILE[part]
    for text in texts:
        more, other = runs.hostile(text)
        rows += more
        meta["environment"] = other["environment"]
        meta["servers"] |= other["servers"]
        for name in ("asked", "failed", "cells"):
            meta[name] += other[name]
    found = run_of(texts[0], {**runs.META, **meta}, rows, [runs.hardware(case=texts[0])])
    path = tmp_path / "hostile.html"
    write_page(path, page([found, run_of("other", runs.META, runs.records(6))]))
    browser.open(path)
    assert browser.js("return window.wasAttacked") is None
    assert browser.complaints() == []
    assert browser.requests() == []
    assert browser.driver.current_url == path.as_uri()
    counts = browser.js(
        "return Object.fromEntries(arguments[0].map(name => [name, document.querySelectorAll(name).length]))",
        ["h1", "main", "script", "style", "img", "iframe", "link", "base", "object", "form", "meta"],
    )
    assert counts == {"h1": 1, "main": 1, "script": 1, "style": 1, "meta": 5} | dict.fromkeys(
        ("img", "iframe", "link", "base", "object", "form"), 0
    )
    attributes = browser.js(
        "return [...document.querySelectorAll('*')].flatMap(e => e.getAttributeNames())"
        ".filter(name => name.startsWith('on') || name === 'style' || name === 'src')"
    )
    assert attributes == []
    hrefs = browser.js("return [...document.querySelectorAll('a')].map(a => a.getAttribute('href')[0])")
    assert {*hrefs} == {"#"}
    shown = browser.js("return document.body.textContent")
    for text in texts:
        if text.isascii() and text.isprintable() and len(text) < 80:
            assert text in shown
    assert not {character for character in shown if character < " "} - {"\n"}
    assert not {*"\u202e\u2066\ufeff\u2028\x9b"} & {*shown}
    assert browser.js("return document.documentElement.scrollWidth <= innerWidth"), "wider than the window"
