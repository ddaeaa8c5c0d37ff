"""Plots: that each is drawn in both formats and themes, the same way every time, and can stand in a strict page."""

from __future__ import annotations

import re
import subprocess
import sys
from typing import TYPE_CHECKING
from xml.etree import ElementTree

import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.font_manager import FontEntry, findSystemFonts, fontManager

from pytest_modellens.report.plots.distributions import ecdf, strip
from pytest_modellens.report.plots.estimates import MOST_ROWS, forest, intervals
from pytest_modellens.report.plots.glyphs import _look_for_new_fonts, make_drawable
from pytest_modellens.report.plots.hardware import hardware
from pytest_modellens.report.plots.history import history
from pytest_modellens.report.plots.loads import LoadPoint, goodput, knee, sweep
from pytest_modellens.report.plots.requests import Span, arrivals, spans, waterfall
from pytest_modellens.report.plots.series import Estimate, Series, label, median_of, thinned
from pytest_modellens.report.plots.style import DARK, LIGHT
from tests.report import runs

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from pytest_modellens.report.plots.plot import Plot

POINTS = [LoadPoint(n, 200 * n / (1 + n / 9), 40 + 0.5 * n**1.6, 0.9, 0.8, 0.95) for n in (1, 2, 4, 8, 16, 32)]
ESTIMATES = [Estimate("capital", 1.2, 1.1, 1.3), Estimate("capital", 0.9, 0.8, 1.1, 1), Estimate("list", 1.02)]


def plots(text: str = "vllm") -> dict[str, Plot]:
    series = [Series(text, [float(n % 17) + 1 for n in range(200)]), Series("other", [3.0, 4.0])]
    rows = runs.records(9)
    rows[3]["case"] = text
    named = [Estimate(text, 1.2, 1.1, 1.3), *ESTIMATES]
    drawn = [
        ecdf("ecdf", series, what="TTFT", unit="ms"),
        strip("strip", series, what="TTFT", unit="ms"),
        intervals("intervals", named, what="tokens/s", unit="1/s", series=["a", text]),
        forest(
            "forest", named, what="tokens/s", than=text, better="higher", overall=Estimate("over all", 1.05, 1.0, 1.1)
        ),
        sweep("sweep", {text: POINTS, "b": POINTS[:3]}, latency="TTFT", throughput="tok/s", is_rate=False, slo_ms=90),
        goodput("goodput", {text: POINTS, "b": POINTS[:2]}, is_rate=True),
        waterfall("waterfall", spans([*rows, runs.failure(timeline={"ended_ns": 5_000_000})]), of=text),
        arrivals("arrivals", rows, of=text),
        hardware("hardware", [runs.hardware(case=text), runs.hardware()]),
        history("history", named, what="tokens/s", unit="1/s", changes=[2]),
    ]
    assert None not in drawn
    return {plot.name: plot for plot in drawn if plot is not None}


NAMES = sorted(plots())
NEEDED = "needs a font with Chinese characters (apt-get install fonts-wqy-microhei)"


@pytest.mark.parametrize("name", NAMES)
def test_plot_is_a_png_and_an_svg_in_both_themes(name: str) -> None:
    plot = plots()[name]
    for theme, colours in (("light", LIGHT), ("dark", DARK)):
        assert plot.image("png", theme).startswith(b"\x89PNG")
        svg = plot.image("svg", theme).decode()
        assert ElementTree.fromstring(svg).tag.endswith("svg")
        assert colours.background in svg
        assert plot.title in svg


@pytest.mark.parametrize("name", NAMES)
def test_plot_is_the_same_every_time(name: str) -> None:
    first, second = plots()[name], plots()[name]
    assert first.image("svg") == second.image("svg")
    assert first.image("png", "dark") == second.image("png", "dark")
    assert first.inline() == second.inline()


@pytest.mark.parametrize("name", NAMES)
def test_plot_fits_a_strict_page(name: str) -> None:
    svg = plots()[name].inline()
    ElementTree.fromstring(svg)
    assert "style=" not in svg
    assert "<style" not in svg
    assert not re.search(r"#[0-9a-f]{6}\b", svg), "a colour that no theme changes"
    assert "var(--" in svg
    assert not re.search(r"https?:", svg)
    identities = re.findall(r'\bid="([^"]*)"', svg)
    assert all(identity.startswith(f"{name}-") for identity in identities)
    assert len(set(identities)) == len(identities)
    used = {*re.findall(r'href="#([^"]*)"', svg), *re.findall(r"url\(#([^)]*)\)", svg)}
    assert used <= {*identities}
    assert 'role="img"' in svg
    assert len(svg) < 30_000


@pytest.mark.parametrize("text", runs.HOSTILE, ids=range(len(runs.HOSTILE)))
def test_plot_shows_hostile_text_as_text(text: str) -> None:
    drawn = plots(text)
    for name in ("ecdf", "forest", "sweep", "arrivals"):
        svg = drawn[name].inline()
        root = ElementTree.fromstring(svg)
        assert {element.tag.rpartition("}")[2] for element in root.iter()} <= {
            "svg",
            "g",
            "path",
            "use",
            "text",
            "defs",
        } | {
            "clipPath",
            "rect",
            "tspan",
        }
        assert not any(name.lower().startswith("on") for element in root.iter() for name in element.attrib)
    assert drawn["ecdf"].image("png").startswith(b"\x89PNG")


@pytest.mark.parametrize("name", NAMES)
def test_names_in_any_script_are_drawn_without_a_warning(name: str) -> None:
    # Warnings are errors here, of glyphs that are missing too.
    assert plots("日本語のモデル \U0001f642 हिन्दी")[name].image("png").startswith(b"\x89PNG")


@pytest.fixture
def look_again() -> Iterator[None]:
    """Fonts are looked for as if for the first time, here and afterwards."""
    _look_for_new_fonts.cache_clear()
    yield
    _look_for_new_fonts.cache_clear()


def figure_with(text: str) -> Figure:
    figure = Figure()
    axes = figure.subplots()
    axes.set_yticks([0, 1], [text, "plain"])
    axes.set_title(text)
    return figure


@pytest.mark.usefixtures("look_again")
def test_characters_without_a_font_are_drawn_as_escapes(monkeypatch: pytest.MonkeyPatch) -> None:
    only = [font for font in fontManager.ttflist if font.name == "DejaVu Sans"]
    monkeypatch.setattr("matplotlib.font_manager.fontManager.ttflist", only)
    monkeypatch.setattr("matplotlib.font_manager.findSystemFonts", list)
    figure = figure_with("日本 é")
    make_drawable(figure)
    FigureCanvasAgg(figure).draw()  # type: ignore[no-untyped-call]
    axes = figure.axes[0]
    assert axes.get_title() == r"\u65e5\u672c é"
    assert [label.get_text() for label in axes.get_yticklabels()] == [r"\u65e5\u672c é", "plain"]
    long = figure_with("日本語" * 9)
    make_drawable(long)
    assert len(long.axes[0].get_title()) == 24


def test_characters_that_an_installed_font_has_are_drawn_in_it(monkeypatch: pytest.MonkeyPatch) -> None:
    fonts = [FontEntry(name=name) for name in ("Noto Sans CJK JP", "Noto Color Emoji", "Courier")]
    monkeypatch.setattr("matplotlib.font_manager.fontManager.ttflist", fonts)
    monkeypatch.setattr("pytest_modellens.report.plots.glyphs._look_for_new_fonts", lambda: None)
    has = {"DejaVu Sans": {ord("é"), ord("p")}, "Noto Sans CJK JP": {ord("日")}}
    monkeypatch.setattr("pytest_modellens.report.plots.glyphs._characters", lambda family: has.get(family, set()))
    figure = figure_with("日本")
    make_drawable(figure)
    assert figure.axes[0].get_title() == r"日\u672c"
    assert figure.axes[0].title.get_fontfamily() == ["DejaVu Sans", "Noto Sans CJK JP"]


@pytest.mark.usefixtures("look_again")
def test_font_that_was_installed_after_matplotlib_had_looked_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = next((path for path in findSystemFonts() if path.endswith("wqy-microhei.ttc")), None)
    if source is None:
        pytest.fail(NEEDED, pytrace=False)
    new, broken = tmp_path / "wqy-WenQuanYi.ttc", tmp_path / "NotoSansCJK.ttc"
    new.symlink_to(source)
    broken.write_text("no font")
    only = [font for font in fontManager.ttflist if font.name == "DejaVu Sans"]
    monkeypatch.setattr("matplotlib.font_manager.fontManager.ttflist", only)
    monkeypatch.setattr("matplotlib.font_manager.findSystemFonts", lambda: [str(broken), str(new)])
    figure = figure_with("首都")
    make_drawable(figure)
    assert figure.axes[0].get_title() == "首都"


def test_wide_name_is_cut_to_its_room() -> None:
    assert label("首都" * 20, 10) == "首都…首都"
    assert label("capital", 10) == "capital"


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_name_in_chinese_is_drawn_in_a_real_font(theme: str, caplog: pytest.LogCaptureFixture) -> None:
    name, family = "首都是哪里", "WenQuanYi Micro Hei"
    figure = figure_with(name)
    make_drawable(figure)
    if family not in {font.name for font in fontManager.ttflist}:
        pytest.fail(NEEDED, pytrace=False)
    FigureCanvasAgg(figure).draw()  # type: ignore[no-untyped-call]
    axes = figure.axes[0]
    assert axes.get_title() == name
    assert [label.get_text() for label in axes.get_yticklabels()] == [name, "plain"]
    # What is drawn is the characters: in a font without them, all are the same box.
    ink = {one: drawn(one, theme) for one in name}
    assert len({*ink.values()}) == len(name)
    assert drawn("\U000e0100", theme) not in ink.values()
    # A title, which is bold.
    assert waterfall("w", spans(runs.records(3)), of=name).image("png", theme)
    assert caplog.text == ""


def drawn(character: str, theme: str) -> bytes:
    """Return a PNG with one character as a case's name."""
    row = Estimate(character, 1.0)
    return intervals("i", [row], what="a", unit="b").image("png", theme)


def test_numbers_of_a_page_are_those_that_were_drawn() -> None:
    near = [Estimate("a", 0.97, 0.95, 0.99), Estimate("b", 1.02, 1.01, 1.04)]
    svg = forest("f", near, what="TTFT", than="a", better="lower").inline()
    drawn = {text for text in re.findall(r">([^<]*)</text>", svg) if text.endswith("×")}
    assert {"1×", "0.95×"} <= drawn
    assert len(drawn) == svg.count("×</text>")


def test_description_says_what_is_drawn() -> None:
    drawn = plots()
    assert "vllm: 200 values" in drawn["ecdf"].description
    assert "capital: 1.2 (1.1 to 1.3); capital: 0.9" in drawn["intervals"].description
    assert "knee at" in drawn["sweep"].description
    assert "cpu" not in drawn["hardware"].description
    assert "machine CPU, %: 50 to 53" in drawn["hardware"].description


def test_knee_is_where_latency_takes_off() -> None:
    points = [LoadPoint(n, throughput, latency) for n, throughput, latency in
              [(1, 100, 50), (2, 200, 52), (4, 390, 55), (8, 700, 60), (16, 760, 140), (32, 770, 300)]]  # fmt: skip
    found = knee(points[::-1])
    assert found is not None
    assert found.asked == 8


@pytest.mark.parametrize(
    "points",
    [
        [],
        POINTS[:3],
        [LoadPoint(n, 100.0 * n, 50.0 * n) for n in (1, 2, 4, 8)],
        [LoadPoint(n, 100.0, 50.0 * n) for n in (1, 2, 4, 8)],
        [LoadPoint(n, 100.0 * n, 50.0) for n in (1, 2, 4, 8)],
    ],
    ids=["none", "three", "straight", "no more throughput", "no more latency"],
)
def test_sweep_without_a_bend_has_no_knee(points: list[LoadPoint]) -> None:
    assert knee(points) is None


def test_bars_of_a_request_are_where_its_time_went() -> None:
    timings = {"server_queue_ms": 30.0}
    row = runs.record(ttft_ms=100.0, total_time_ms=180.0, server_timings=timings, schedule_delay_ms=5.0)
    assert spans([row]) == [Span(0.0, 5.0, 30.0, 70.0, 80.0)]
    loaded = runs.record(ttft_ms=None, total_time_ms=50.0, server_timings={}, sent_ns=2_000_000)
    assert spans([loaded]) == [Span(2.0, 0.0, 0.0, 50.0, 0.0)]


def test_requests_without_times_have_no_bars() -> None:
    assert spans([runs.failure()]) == []
    assert arrivals("a", [runs.failure(), runs.record(timeline=None)]) is None


def test_arrivals_without_counts_count_events() -> None:
    timeline = runs.record()["timeline"] | {"event_tokens": [None] * 8}
    assert arrivals("a", [runs.record(timeline=timeline)]) is not None


@pytest.mark.parametrize(
    "rows",
    [
        [],
        [runs.hardware() | {"series": []}],
        [runs.hardware() | {"series": [{"at": "soon", "at_ms": 1.0}] * 3}],
        [runs.hardware() | {"series": [{"at": "2026-11-21T20:30:00+00:00", "at_ms": 1.0}] * 3}],
        [runs.hardware() | {"series": runs.hardware()["series"][:1]}],
    ],
    ids=["no rows", "no samples", "no times", "no values", "one sample"],
)
def test_hardware_without_samples_has_no_plot(rows: list[dict[str, object]]) -> None:
    assert hardware("h", rows) is None


def test_long_lists_are_cut() -> None:
    many = [Estimate(f"case {n}", 1.0 + n) for n in range(200)]
    assert intervals("i", many, what="x", unit="y").description.count("case ") == MOST_ROWS
    assert thinned(range(1001), 3) == [0, 500, 1000]
    assert thinned([*range(1000, -1, -1)], 3) == [0, 500, 1000]
    assert thinned([2.0, 1.0, 1.0], 3) == [1.0, 1.0, 2.0]
    assert thinned([], 3) == []
    assert label("x" * 100) == "x" * 15 + "…" + "x" * 16


def test_median_of_nothing_is_none() -> None:
    assert median_of(Series("a", [])) is None


def test_plot_without_matplotlib_says_what_to_install() -> None:
    code = """
import sys
sys.modules["matplotlib"] = None
from pytest_modellens.errors import MissingExtraError
from pytest_modellens.report.plots.estimates import intervals
from pytest_modellens.report.plots.series import Estimate
try:
    intervals("a", [Estimate("b", 1.0)], what="c", unit="d").inline()
except MissingExtraError as exc:
    print(exc)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout == "plots need matplotlib, which is not installed (pip install matplotlib)\n"
