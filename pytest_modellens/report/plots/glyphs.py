"""Names in a script that the plots' font lacks: in a font that has it, where one is installed, and else as escapes."""

from __future__ import annotations

import contextlib
import re
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from matplotlib.figure import Figure

__all__ = ["make_drawable"]

_FONT = "DejaVu Sans"
_WITH_MORE = re.compile(
    r"CJK|Noto Sans|WenQuanYi|Droid Sans Fallback|Arial Unicode|PingFang|Hiragino|YaHei|Yu Gothic|MS Gothic|Malgun|IPA"
)
_LONGEST = 24
"""Characters of an escaped name, which are wider than most."""


def make_drawable(figure: Figure) -> None:
    """Have every text of `figure` consist of characters that some font of it can draw."""
    from matplotlib.axis import Axis
    from matplotlib.text import Text
    from matplotlib.ticker import FuncFormatter

    texts: list[Any] = figure.findobj(Text)
    shown = {*"".join(text.get_text() for text in texts)}
    lacking = {one for one in shown if one.isprintable() and ord(one) not in _characters(_FONT)}
    if not lacking:
        return
    families = _families(lacking)
    for text in texts:
        is_bold, is_lacking = text.get_fontweight() == "bold", bool(lacking & {*text.get_text()})
        # Few of these fonts are there in bold, and matplotlib complains of each that is not.
        if is_lacking or not is_bold:
            text.set_fontfamily([_FONT, *families])
        if is_lacking and is_bold:
            text.set_fontweight("normal")
    lost = {one for one in lacking if not any(ord(one) in _characters(family) for family in families)}
    for text in texts:
        text.set_text(_escaped(text.get_text(), lost))
    for axis in figure.findobj(Axis):
        formatter: Any = axis.get_major_formatter()
        if isinstance(formatter, FuncFormatter):
            # Named ticks get their names anew whenever the figure is drawn.
            formatter.func = _then_escaped(formatter.func, lost)


def _then_escaped(name: Callable[..., str], lost: set[str]) -> Callable[..., str]:
    return lambda *where: _escaped(name(*where), lost)


def _escaped(text: str, lost: set[str]) -> str:
    if not lost & {*text}:
        return text
    shown = "".join(one.encode("ascii", "backslashreplace").decode() if one in lost else one for one in text)
    return shown if len(shown) <= _LONGEST else f"{shown[: _LONGEST - 1]}…"


def _families(lacking: Iterable[str]) -> list[str]:
    """Return installed fonts that have some of the characters, as few as needed."""
    from matplotlib.font_manager import fontManager

    _look_for_new_fonts()
    left, found = {*lacking}, []
    # Fonts of pictures in colour cannot be drawn.
    for name in sorted({font.name for font in fontManager.ttflist if _WITH_MORE.search(font.name)}):
        has = {one for one in left if ord(one) in _characters(name)} if "Color" not in name and left else set()
        if has:
            found.append(name)
            left -= has
    return found


@lru_cache(maxsize=1)
def _look_for_new_fonts() -> None:
    """Have matplotlib know the fonts that were installed after it listed them, once a process."""
    from matplotlib.font_manager import findSystemFonts, fontManager

    known = {Path(font.fname) for font in fontManager.ttflist}
    for path in map(Path, findSystemFonts()):
        if path not in known:
            # Whatever lies in a folder of fonts is not always one.
            with contextlib.suppress(RuntimeError, OSError, ValueError):
                fontManager.addfont(path)


@lru_cache(maxsize=32)
def _characters(family: str) -> frozenset[int]:
    from matplotlib.font_manager import findfont
    from matplotlib.ft2font import FT2Font

    return frozenset(FT2Font(findfont(family)).get_charmap())
