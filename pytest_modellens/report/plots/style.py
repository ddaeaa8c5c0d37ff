"""How every plot looks: one set of colours that colour-blind people can tell apart, light and dark."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["DARK", "DASHES", "LIGHT", "THEMES", "Theme", "axis_labels", "parameters"]


@dataclass(frozen=True, slots=True)
class Theme:
    """Colours by what they are for. All differ, so that a drawn colour says which one it was."""

    background: str
    ink: str
    muted: str
    grid: str
    accent: str
    bad: str
    series: tuple[str, ...]
    """After Okabe & Ito, Color Universal Design (2008); in the dark, the same hues lighter."""


LIGHT = Theme(
    background="#fefefe",
    ink="#1c2024",
    muted="#60666c",
    grid="#e3e6e9",
    accent="#0a5fae",
    bad="#b3261e",
    series=("#0072b2", "#d55e00", "#009e73", "#b9568f", "#a87900", "#3a93c8"),
)
DARK = Theme(
    background="#14171a",
    ink="#e9ecee",
    muted="#a0a7ad",
    grid="#2b3035",
    accent="#6cb4f5",
    bad="#ff8a80",
    series=("#56b4e9", "#ff9a56", "#3fcf9f", "#e59ac6", "#e8c04c", "#9bd3f7"),
)
THEMES = {"light": LIGHT, "dark": DARK}

DASHES = ("-", (0, (5, 1.6)), (0, (1.2, 1.2)), (0, (6, 1.5, 1.2, 1.5)), (0, (3, 1)), (0, (8, 2)))
"""Of each series' line, for those who cannot tell its colour."""


def parameters(theme: Theme) -> dict[Any, Any]:
    """Return matplotlib's settings for `theme`: quiet axes, no frame, text as text, the same bytes every time."""
    return {
        "figure.facecolor": theme.background,
        "axes.facecolor": "none",
        "axes.edgecolor": theme.grid,
        "axes.labelcolor": theme.muted,
        "axes.labelsize": 10,
        "axes.titlecolor": theme.ink,
        "axes.titlesize": 11,
        "axes.titleweight": "bold",
        "axes.titlelocation": "left",
        "axes.titlepad": 10,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.spines.left": False,
        "axes.grid": True,
        "axes.axisbelow": True,
        "axes.formatter.useoffset": False,
        "grid.color": theme.grid,
        "grid.linewidth": 0.8,
        "xtick.color": theme.muted,
        "ytick.color": theme.muted,
        "xtick.labelsize": 10,
        "ytick.labelsize": 10,
        "xtick.major.size": 0,
        "ytick.major.size": 0,
        "xtick.major.pad": 6,
        "xtick.minor.size": 0,
        "ytick.minor.size": 0,
        "text.color": theme.ink,
        "text.parse_math": False,
        "font.size": 10,
        "legend.frameon": False,
        "legend.fontsize": 10,
        "lines.linewidth": 1.8,
        "svg.fonttype": "none",
        "svg.hashsalt": "pytest-modellens",
    }


def axis_labels(axes: Axes, x: str, y: str, *, ticks: int = 5) -> None:
    """Name both axes, the vertical one above its end, where it can be read without turning the head."""
    from matplotlib.ticker import MaxNLocator

    axes.set_xlabel(x, loc="right")
    if y:
        # Not a title: placing those costs a fifth of a plot's time.
        axes.annotate(
            y, (0, 1), (0, 7), xycoords="axes fraction", textcoords="offset points", color=axes.xaxis.label.get_color()
        )
    if axes.get_xscale() == "linear":
        axes.xaxis.set_major_locator(MaxNLocator(ticks))
    if axes.get_yscale() == "linear":
        axes.yaxis.set_major_locator(MaxNLocator(ticks))
