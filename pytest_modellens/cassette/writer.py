"""A run's cassette while it is written: what each request brought, raw, as soon as it has been decoded."""

from __future__ import annotations

import os
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import msgspec

from pytest_modellens.cassette.entry import Place, Scene, decode_entry, encode_entry, entry_of
from pytest_modellens.cassette.hiding import byte_forms, mask
from pytest_modellens.cassette.replay import exchange_of, replay, request_of
from pytest_modellens.cassette.tape import SUFFIX, TapeWriter, packed
from pytest_modellens.errors import ModelLensError
from pytest_modellens.measure.reply import Kept, Reply
from pytest_modellens.providers.http import HTTPProvider
from pytest_modellens.redaction import HIDDEN

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pytest_modellens.cassette.entry import Entry
    from pytest_modellens.load.reply import LoadReply
    from pytest_modellens.measure.exchange import Exchange
    from pytest_modellens.providers.base import ProviderAdapter, RunRequest
    from pytest_modellens.recording import Origin
    from pytest_modellens.suite.expect import Expect
    from pytest_modellens.suite.slo import Slo

__all__ = ["Cassette", "make_folder", "scene_of", "shown_size"]

_NO_CLIENT = "the adapter has a client of its own, so there are no raw bytes"
_NOT_HERE = "it was given up before its bytes were handed over"
_ECHO = "its answer repeats a secret in a way that cannot be masked"
_A_MASK = mask(6).encode()
"""What every mask begins with."""


def make_folder(cassettes: Path, name: str) -> Path:
    """Return a new folder for the cassette of the run `name`; one made here keeps cassettes out of git.

    Raises:
        OSError: it cannot be made, or not be written.
    """
    if not cassettes.is_dir():
        cassettes.mkdir(parents=True)
        (cassettes / ".gitignore").write_text("*\n!.gitignore\n", encoding="utf-8")
    number = 1
    while True:
        folder = cassettes / (name if number == 1 else f"{name}-{number}")
        try:
            folder.mkdir()
        except FileExistsError:
            number += 1
        else:
            return folder


def shown_size(size: int) -> str:
    """Return a number of bytes as people write it.

    >>> shown_size(1536), shown_size(2**30), shown_size(1023)
    ('1.5 KiB', '1 GiB', '1023 B')
    """
    unit = max(0, (max(size, 1).bit_length() - 1) // 10)
    value = size / 2 ** (10 * unit)
    return f"{value:.{3 if value < 999.5 else 4}g} {('B', 'KiB', 'MiB', 'GiB', 'TiB', 'PiB')[min(unit, 5)]}"


def scene_of(origin: Origin, *, expect: Expect | None = None, slo: Sequence[Slo] = ()) -> Scene:
    """Return what is kept of a cell with each of its requests."""
    checks = (
        {}
        if expect is None
        else {
            field.name: getattr(expect, field.name)
            for field in fields(expect)
            if field.name != "validator" and getattr(expect, field.name) != field.default
        }
    )
    # Through the same types as in the file, so that what cannot be kept is not met request by request.
    plain = {
        **asdict(origin),
        "params": dict(origin.params),
        "load": None if origin.load is None else dict(origin.load),
    }
    bounds = {objective.metric: objective.bound for objective in slo}
    return Scene(cell=uuid4().hex, origin=msgspec.to_builtins(plain), expect=msgspec.to_builtins(checks), slo=bounds)


class Cassette:
    """One process's part of a run's cassette. What cannot be kept is said in the request's record; nothing fails."""

    def __init__(self, folder: Path, name: str, *, limit_bytes: int) -> None:
        """Prepare the part `name`; its file is made with the first entry.

        Args:
            folder: the run's cassette, which exists.
            name: of the file in it, which nobody else writes.
            limit_bytes: how large all files of the folder may become together.
        """
        self.folder = folder
        self.name = name
        self.limit_bytes = limit_bytes
        self._tape: TapeWriter | None = None
        self._is_full = False

    @classmethod
    def in_worker(cls, setup: Mapping[str, Any], worker: int) -> tuple[Cassette, Scene]:
        """Return the part of a load's client process, and the scene, from what `for_workers` returned."""
        part = cls(Path(setup["folder"]), f"{setup['name']}-load{worker}", limit_bytes=setup["limit_bytes"])
        return part, msgspec.convert(setup["scene"], Scene)

    def for_workers(self, scene: Scene) -> dict[str, Any]:
        """Return what the client processes of a load need to keep their own requests."""
        scene_plain = msgspec.to_builtins(scene)
        return {"folder": str(self.folder), "name": self.name, "limit_bytes": self.limit_bytes, "scene": scene_plain}

    def keep(self, provider: ProviderAdapter, request: RunRequest, reply: Reply, scene: Scene, place: Place) -> Reply:
        """Write what `reply` was read from, and return the reply with where that is."""
        return replace(reply, kept=self._kept(provider, request, reply, scene, place))

    def keep_loaded(self, provider: ProviderAdapter, done: LoadReply, scene: Scene) -> LoadReply:
        """As `keep`, for a request of a load; one that a worker has kept is returned as it is."""
        if done.reply.kept is not None:
            return done
        place = Place(
            round=done.index, phase=done.phase, late_ms=done.late_ms, pause_ms=done.pause_ms, worker=done.worker
        )
        return replace(done, reply=self.keep(provider, done.request, done.reply, scene, place))

    def close(self) -> None:
        """Close the file; harmless when called again."""
        if self._tape is not None:
            self._tape.close()
            self._tape = None

    def _kept(self, provider: ProviderAdapter, request: RunRequest, reply: Reply, scene: Scene, place: Place) -> Kept:
        exchange = reply.exchange
        if not isinstance(provider, HTTPProvider):
            return Kept(None, _NO_CLIENT)
        if exchange is None:
            return Kept(None, _NOT_HERE)
        if self._is_full:
            return self._full()
        secrets = provider.secrets(request, exchange, failed=reply.error is not None)
        try:
            entry = entry_of(provider, request, reply, exchange, scene=scene, place=place, secrets=secrets)
            data = encode_entry(entry)
        except (TypeError, ValueError, OverflowError) as exc:
            return Kept(None, f"the request cannot be written down ({type(exc).__name__}: {exc})")
        if _may_echo(entry, exchange, reply, secrets) and not _is_safe(data, reply, secrets):
            return Kept(None, _ECHO)
        try:
            return self._written(packed(data))
        except OSError as exc:
            return Kept(None, f"the cassette could not be written ({exc.strerror})")

    def _written(self, entry: bytes) -> Kept:
        # Other processes write here too; each looks at what all have written.
        used = sum(file.stat().st_size for file in os.scandir(self.folder))
        if used + len(entry) > self.limit_bytes:
            self._is_full = True
            return self._full()
        if self._tape is None:
            self._tape = TapeWriter(self.folder / f"{self.name}{SUFFIX}")
        return Kept(f"{self.name}{SUFFIX}:{self._tape.append(entry)}", None)

    def _full(self) -> Kept:
        limit = shown_size(self.limit_bytes)
        return Kept(None, f"the cassette has reached its limit of {limit} (raise --modellens-cassette-limit)")


def _may_echo(entry: Entry, exchange: Exchange, reply: Reply, secrets: Sequence[str]) -> bool:
    """Return whether a secret seems to have come back, or a mask stands in what is decoded."""
    body = b"".join(piece for _, piece in exchange.parser.pieces)
    texts = (reply.content, reply.reasoning, reply.received or "", str(reply.error or ""))
    return (
        _A_MASK in entry.data
        or _A_MASK in entry.request
        or any(form in body for form in byte_forms(secrets))
        or any(HIDDEN in text for text in texts)
    )


def _is_safe(data: bytes, reply: Reply, secrets: Sequence[str]) -> bool:
    """Return whether what is to be kept holds no secret, not even in pieces, and still means the same."""
    try:
        entry = decode_entry(data)
        exchange = exchange_of(entry)
        again = replay(entry, request_of(entry), exchange)
    except (ModelLensError, msgspec.MsgspecError, TypeError, ValueError, LookupError):
        return False
    body = b"".join(piece for _, piece in exchange.parser.pieces)
    if any(form in body for form in byte_forms(secrets)):
        return False
    plain, plain_again = (replace(each, error=None, kept=None) for each in (reply, again))
    return plain == plain_again and (type(reply.error), str(reply.error)) == (type(again.error), str(again.error))
