"""Scraping in the background of a cell: whatever the page does, the cell does not notice."""

from __future__ import annotations

import json
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

from pytest_modellens.hardware import watcher
from pytest_modellens.hardware.prometheus import ServerMetrics
from pytest_modellens.hardware.scraper import ServerScraper

if TYPE_CHECKING:
    from collections.abc import Callable

METRICS = ServerMetrics(
    {
        "requests_running": "running",
        "requests_waiting": "waiting",
        "kv_cache_percent": "kv",
        "prompt_tokens": "prompt_total",
        "cached_tokens": "cached_total",
        "generation_tokens": "written_total",
    },
    hint="start it with --metrics",
)
PATIENCE_S = 60.0


class Page:
    """A page whose answers are prepared: text, or what is raised; the last one again and again."""

    def __init__(self, *answers: str | Exception) -> None:
        self.answers = list(answers)
        self.asked = 0

    def __call__(self) -> bytes:
        self.asked += 1
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer.encode()

    def wait(self, times: int) -> None:
        """Wait until the page was asked for so often."""
        until = time.monotonic() + PATIENCE_S
        while self.asked < times:
            assert time.monotonic() < until, f"asked {self.asked} times"
            time.sleep(0.001)


def says(
    running: int = 0, waiting: int = 0, kv: float = 0.0, prompt: int = 0, cached: int = 0, written: int = 0
) -> str:
    return (
        f"running {running}\nwaiting {waiting}\nkv {kv}\nprompt_total {prompt}\ncached_total {cached}\n"
        f"written_total {written}\n"
    )


def scraped(page: Callable[[], bytes], times: int = 0, interval_s: float | None = 0.001) -> ServerScraper:
    """Return a scraper after a cell that lasted until the page was asked for so often."""
    with ServerScraper(page, METRICS, interval_s) as scraper:
        if isinstance(page, Page):
            page.wait(times)
    return scraper


def test_gauges_are_of_the_cell_and_counters_from_end_to_end() -> None:
    page = Page(
        says(prompt=100, cached=10, written=1000),
        says(running=2, waiting=0, kv=0.5, prompt=120, cached=10, written=1010),
        says(running=4, waiting=6, kv=0.75, prompt=200, cached=15, written=1020),
        says(prompt=200, cached=30, written=1500),
    )
    scraper = ServerScraper(page, METRICS)
    for _ in range(3):
        scraper._add_sample()
    scraper._stop.set()
    scraper._add_sample()
    assert scraper.summary() == {
        "scrapes": 4,
        "requests_running_mean": 3.0,
        "requests_running_peak": 4,
        "requests_waiting_mean": 3.0,
        "requests_waiting_peak": 6,
        "kv_cache_percent_mean": 62.5,
        "kv_cache_percent_peak": 75.0,
        "prompt_tokens": 100,
        "computed_prompt_tokens": None,
        "cached_tokens": 20,
        "generation_tokens": 500,
        "preemptions": None,
        "cache_hit_percent": 20.0,
        "note": None,
    }
    assert [row["phase"] for row in scraper.series] == ["before", "during", "during", "after"]
    json.dumps([scraper.summary(), scraper.series], allow_nan=False)


def test_cell_of_single_requests_is_looked_at_only_before_and_after() -> None:
    page = Page(says(written=1), says(written=4))
    scraper = scraped(page, interval_s=None)
    assert page.asked == 2
    summary = scraper.summary()
    assert (summary["scrapes"], summary["generation_tokens"], summary["requests_running_mean"]) == (2, 3, None)


def test_page_is_asked_for_again_and_again_during_a_load() -> None:
    page = Page(says(running=1))
    scraper = scraped(page, times=5)
    assert scraper.summary()["requests_running_mean"] == 1
    assert {row["phase"] for row in scraper.series} == {"before", "during", "after"}
    assert scraper.cpu_s > 0


@pytest.mark.parametrize(
    ("answer", "note"),
    [
        (ValueError("HTTP 404"), "/metrics: HTTP 404 (start it with --metrics)"),
        (ValueError("HTTP 501"), "/metrics: HTTP 501 (start it with --metrics)"),
        (OSError("no route"), "/metrics: no route (start it with --metrics)"),
        ("<html>welcome</html>", "/metrics: the page has none of the metrics that the provider knows (start it with"),
        ("", "/metrics: the page has none of the metrics that the provider knows"),
    ],
)
def test_page_that_is_not_there_is_a_note_and_not_asked_for_again(answer: Any, note: str) -> None:
    page = Page(answer)
    scraper = scraped(page)
    summary = scraper.summary()
    assert str(summary["note"]).startswith(note)
    assert page.asked == 1
    assert summary["scrapes"] == 0
    assert {value for name, value in summary.items() if name not in {"note", "scrapes"}} == {None}


def test_page_in_another_format_is_a_note() -> None:
    summary = scraped(Page("running many\n"), times=3).summary()
    assert str(summary["note"]).startswith("/metrics: not in Prometheus' format (")
    assert summary["scrapes"] == 0


def test_page_that_fails_once_is_asked_for_again() -> None:
    page = Page(says(written=5), ValueError("HTTP 500"), says(written=9))
    summary = scraped(page, times=4).summary()
    assert summary["generation_tokens"] == 4
    assert summary["note"] == "/metrics: HTTP 500"


def test_server_that_dies_in_the_middle_leaves_what_was_seen_but_no_total() -> None:
    page = Page(says(written=5), says(running=3, written=7), ValueError("no connection"))
    scraper = scraped(page, times=5)
    asked = page.asked
    assert asked == 5, "given up after three failures in a row"
    summary = scraper.summary()
    assert (summary["requests_running_mean"], summary["scrapes"]) == (3, 2)
    assert summary["generation_tokens"] is None
    assert summary["note"] == "/metrics: no connection"


def test_server_that_starts_again_in_the_middle_has_no_totals() -> None:
    page = Page(says(written=50), says(written=60), says(written=3), says(written=80))
    summary = scraped(page, times=4).summary()
    assert summary["generation_tokens"] is None
    assert summary["note"] == "the server's counters fell: it was restarted meanwhile"


def test_page_asked_for_while_the_cell_ends_is_one_of_the_cell() -> None:
    scraper = ServerScraper(lambda: b"", METRICS)
    pages = iter([says(written=1), says(written=5), says(written=9), says(written=12)])

    def fetch() -> bytes:
        page = next(pages)
        if "written_total 5" in page:
            scraper._stop.set()  # the cell ends before its answer comes
        return page.encode()

    scraper._fetch = fetch
    for _ in range(4):  # one more look begins just then, and the last one comes as always
        scraper._add_sample()
    assert [row["phase"] for row in scraper.series] == ["before", "during", "after", "after"]
    assert scraper.summary()["generation_tokens"] == 11


def test_no_prompt_has_no_share_of_the_cache() -> None:
    assert scraped(Page(says())).summary()["cache_hit_percent"] is None


def test_share_of_the_cache_where_only_computed_tokens_are_counted() -> None:
    metrics = ServerMetrics({"computed_prompt_tokens": "computed", "cached_tokens": "cached"})
    with ServerScraper(Page("computed 0\ncached 0\n", "computed 30\ncached 10\n"), metrics, None) as scraper:
        pass
    assert scraper.summary()["cache_hit_percent"] == 25.0


def test_server_that_does_not_answer_does_not_hold_up_the_cell(monkeypatch: pytest.MonkeyPatch) -> None:
    released = threading.Event()

    def hang() -> bytes:
        released.wait(PATIENCE_S)
        return says().encode()

    monkeypatch.setattr(watcher, "PATIENCE_S", 0.02)
    with ServerScraper(hang, METRICS) as scraper:
        pass
    assert scraper.summary()["note"] == "the last sample took more than 0.02 s"
    released.set()
    scraper._thread.join()


def test_terminal_escapes_of_a_server_do_not_reach_the_note() -> None:
    assert "\x1b" not in str(scraped(Page(ValueError("\x1b[2Jgone"))).summary()["note"])
