"""What stands around the text of an event: where the next one has the same bytes there, only its text is decoded."""

from __future__ import annotations

import msgspec

__all__ = ["Frame"]

_decode_text = msgspec.json.Decoder(str).decode


class Frame(msgspec.Struct, frozen=True, gc=False):
    """The JSON of an event before and after one string of it.

    JSON has no context: with any other string in the same place it is the same value but for that string.
    """

    before: bytes
    after: bytes
    place: slice

    @classmethod
    def around(cls, text: str, data: bytes) -> Frame:
        """Return what is around the first `text` in the event `data`; all of it where that is written otherwise."""
        before, _, after = data.partition(msgspec.json.encode(text))
        return cls(before, after, slice(len(before), -len(after) or None))

    def holding(self, text: str) -> bytes:
        """Return the event with `text` in its place."""
        return self.before + msgspec.json.encode(text) + self.after

    def text_in(self, data: bytes) -> str | None:
        """Return the text of the event `data`; None where there is not exactly a string in its place."""
        if not (data.startswith(self.before) and data.endswith(self.after)):
            return None
        try:
            return _decode_text(data[self.place])
        except (msgspec.DecodeError, UnicodeDecodeError):
            return None
