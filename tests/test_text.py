from __future__ import annotations

import pytest

from pytest_modellens.text import printable


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain text, ünïcode ✓ 日本", "plain text, ünïcode ✓ 日本"),
        ("\x1b[31mred", "\\x1b[31mred"),
        ("a\nb\r\tc", "a\\nb\\r\\tc"),
        ("\x00\x7f\x9b31m", "\\x00\\x7f\\x9b31m"),
        ("\u202eabc\u2066\u200f", "\\u202eabc\\u2066\\u200f"),
        ("a\u2028b\ufeff", "a\\u2028b\\ufeff"),
        ("\ud800", "\\ud800"),
        ("ad\u200bmin\u2060\u00ad\u3164", "ad\\u200bmin\\u2060\\xad\\u3164"),
        ("hi\U000e0041\U000e0042", "hi\\U000e0041\\U000e0042"),
        ("mo\u200ddel \u200c日\u200d", "mo\\u200ddel \\u200c日\\u200d"),
        ("日\u200d\u200d本", "日\\u200d\\u200d本"),
        ("\U0001f469\u200d\U0001f4bb \u0645\u06cc\u200c\u062e", "\U0001f469\u200d\U0001f4bb \u0645\u06cc\u200c\u062e"),
    ],
)
def test_printable_escapes_what_steers_a_terminal(text: str, shown: str) -> None:
    assert printable(text) == shown


def test_printable_cuts_long_text_and_says_so() -> None:
    assert printable("x" * 1234, 5) == "xxxxx… (1,234 characters)"


def test_printable_keeps_text_of_the_limit_whole() -> None:
    assert printable("x" * 5, 5) == "xxxxx"


def test_printable_of_every_character_can_be_printed() -> None:
    shown = printable("".join(map(chr, range(0x3000))), 0x3000)
    shown.encode()
    assert not {character for character in shown if ord(character) < 32 or 0x7F <= ord(character) < 0xA0}
