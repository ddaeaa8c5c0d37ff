"""A plot that is not drawn yet: for a page, or as a PNG or SVG file."""

from __future__ import annotations

import io
import re
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING
from xml.sax.saxutils import quoteattr

from pytest_modellens.errors import MissingExtraError
from pytest_modellens.report.plots.glyphs import make_drawable
from pytest_modellens.report.plots.style import LIGHT, THEMES, parameters

if TYPE_CHECKING:
    from collections.abc import Callable

    from matplotlib.figure import Figure, SubFigure

    from pytest_modellens.report.plots.style import Theme

__all__ = ["WIDTH", "Plot", "inches"]

WIDTH = 5.9
"""Inches of 72 points: about half the page, and the whole width of a telephone."""

_PNG_DPI = 160
_HEAD = 0.36
"""Inches above a plot in a file of its own, for its title."""
_STYLE = re.compile(r' style="([^"]*)"')
_TAG = re.compile(r"<[^>]*>")
_NUMBER = re.compile(r"-?\d+\.\d{2,}")
_ATTRIBUTES = {"fill", "stroke", "stroke-width", "stroke-dasharray", "stroke-opacity", "fill-opacity", "opacity"} | {
    "text-anchor",
    "font-size",
    "font-weight",
}


@dataclass(frozen=True)
class Plot:
    """What `draw` puts on a figure."""

    name: str
    """Of its file: letters, digits and hyphens."""
    title: str
    description: str
    """What it shows, in words, for those who cannot see it."""
    draw: Callable[[Figure | SubFigure, Theme], None]
    height: float = 3.0
    width: float = WIDTH

    def image(self, kind: str, theme: str = "light") -> bytes:
        """Return the plot as a file: `kind` is "png" or "svg", `theme` "light" or "dark"; the same bytes every time.

        Raises:
            MissingExtraError: matplotlib is not installed.
        """
        return self._drawn(kind, THEMES[theme], is_alone=True)

    def inline(self) -> str:
        """Return the plot as an SVG element for a page, in the page's colours, whatever its theme.

        Colours are `var(--…)`, nothing has an inline style, and ids are the plot's own, so that many fit into one page
        under a strict Content-Security-Policy.

        Raises:
            MissingExtraError: matplotlib is not installed.
        """
        svg = self._drawn("svg", LIGHT).decode()
        svg = svg[svg.index("<svg") :]
        svg = re.sub(r"<metadata>.*?</metadata>|<style[^>]*>.*?</style>|<!--.*?-->", "", svg, flags=re.DOTALL)
        svg = _STYLE.sub(_attributes, svg)
        svg = re.sub(r'<g id="[^"]*"', "<g", svg)
        svg = re.sub(r'(id="|href="#|url\(#)', rf"\g<1>{self.name}-", svg).replace("xlink:href", "href")
        svg = re.sub(r' transform="rotate\(-?0 [^)]*\)"', "", svg)
        svg = _TAG.sub(_rounded, svg)
        svg = re.sub(r">\s+<", "><", re.sub(r"\s*\n", " ", svg))
        for colour, name in _NAMES.items():
            svg = svg.replace(f'"{colour}"', f'"var(--{name})"')
        head = re.compile(r"<svg [^>]*?(viewBox=\"[^\"]*\")[^>]*>").match(svg)
        assert head is not None
        label = quoteattr(f"{self.title}. {self.description}")
        return f'<svg class="plot" role="img" aria-label={label} {head[1]}>{svg[head.end() :]}'

    def _drawn(self, kind: str, theme: Theme, *, is_alone: bool = False) -> bytes:
        try:
            import matplotlib
            from matplotlib.backends.backend_agg import FigureCanvasAgg
            from matplotlib.figure import Figure
        except ImportError as exc:
            raise MissingExtraError("plots need matplotlib, which is not installed (pip install matplotlib)") from exc
        with matplotlib.rc_context(parameters(theme)), warnings.catch_warnings():
            if kind == "svg":
                # A model may have a name in a script that the font lacks; SVG leaves the font to the reader.
                warnings.filterwarnings("ignore", message="Glyph .* missing from")
            # A page writes the title itself; a file has to bring it.
            head = _HEAD if is_alone else 0.0
            figure = Figure(figsize=(self.width, self.height + head), dpi=72)
            FigureCanvasAgg(figure)
            panel: Figure | SubFigure = figure
            if is_alone:
                figure.text(0.02, 1 - 0.6 * head / (self.height + head), self.title, fontweight="bold", fontsize=11)
                panel = figure.subfigures(2, 1, squeeze=False, height_ratios=(head, self.height), hspace=0)[1, 0]
                panel.set_facecolor("none")
            self.draw(panel, theme)
            if kind == "png":
                make_drawable(figure)
            file = io.BytesIO()
            nothing = {"Date": None} if kind == "svg" else {"Software": None}
            figure.savefig(file, format=kind, dpi=_PNG_DPI, metadata=nothing)
        return file.getvalue()


_NAMES = {getattr(LIGHT, name): name for name in ("background", "ink", "muted", "grid", "accent", "bad")} | {
    colour: f"series-{number}" for number, colour in enumerate(LIGHT.series)
}


def _rounded(tag: re.Match[str]) -> str:
    """Return a tag with its coordinates to a tenth of a point; the text between tags is left as it is."""
    return _NUMBER.sub(lambda match: f"{float(match.group()):.1f}", tag.group())


def _attributes(match: re.Match[str]) -> str:
    """Return a `style` attribute as the presentation attributes that a strict page allows."""
    found = [part.partition(":") for part in match[1].split(";")]
    return "".join(f' {name.strip()}="{value.strip()}"' for name, _, value in found if name.strip() in _ATTRIBUTES)


def inches(figure: Figure | SubFigure) -> float:
    """Return how high a figure, or a part of one, is."""
    return float(figure.bbox.height / figure.dpi)
