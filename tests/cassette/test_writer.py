"""What each request brought is kept as soon as it was decoded, or it is said why not."""

from __future__ import annotations

import errno
import gc
import os
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from pytest_modellens.cassette.entry import Place, decode_entry, encode_entry
from pytest_modellens.cassette.replay import exchange_of, replay, request_of
from pytest_modellens.cassette.tape import TapeReader
from pytest_modellens.cassette.writer import Cassette, make_folder, scene_of, shown_size
from pytest_modellens.errors import StorageError
from pytest_modellens.measure.exchange import Exchange
from pytest_modellens.measure.reply import Reply
from pytest_modellens.models import RunRequest
from pytest_modellens.providers.llamacpp import LlamaCppProvider
from pytest_modellens.recording import Origin
from pytest_modellens.runner import CellRun
from pytest_modellens.suite.expect import Expect
from pytest_modellens.suite.loader import load_suite
from tests.fault_server import SSE, FaultServer, Read, Step, chunk, response, sse
from tests.plugin.fake_server import fake_server, stream

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from pytest_modellens.cassette.entry import Entry
    from pytest_modellens.record import Record

KEY = "sk-hunter22-abcdefghij"
ORIGIN = Origin(suite="s", case="c", provider="p", model="m")
PLACE = Place(round=0, phase="measured")


@pytest.fixture
def cassette(tmp_path: Path) -> Iterator[Cassette]:
    """A cassette without a limit that matters."""
    folder = make_folder(tmp_path / "cassettes", "run")
    part = Cassette(folder, "main", limit_bytes=2**30)
    yield part
    part.close()
    part.close()


def entries(cassette: Cassette) -> list[Entry]:
    found = []
    for path in sorted(cassette.folder.glob("*.cassette")):
        with TapeReader(path) as tape:
            found += [decode_entry(tape.read(at)) for at in tape.positions]
    return found


def asked(cassette: Cassette, steps: list[Step], request: RunRequest | None = None) -> Reply:
    """Send one request to a server of `steps`, and return what was kept of it."""
    request = request or RunRequest("hi", "m", stream=True)
    with FaultServer(steps) as server:
        provider = LlamaCppProvider(f"{server.url}/v1", api_key=KEY)
        reply = provider.measure(request)
        provider.close()
    return cassette.keep(provider, request, reply, scene_of(ORIGIN), PLACE)


@pytest.mark.parametrize(
    ("size", "shown"),
    [(0, "0 B"), (999, "999 B"), (1023, "1023 B"), (1536, "1.5 KiB"), (2**30, "1 GiB"), (2**52, "4 PiB")],
)
def test_sizes_are_shown_as_people_write_them(size: int, shown: str) -> None:
    assert shown_size(size) == shown


def test_folder_of_a_run_is_its_own_and_stays_out_of_git(tmp_path: Path) -> None:
    folders = [make_folder(tmp_path / "a" / "b", "run").name for _ in range(3)]
    assert folders == ["run", "run-2", "run-3"]
    assert (tmp_path / "a" / "b" / ".gitignore").read_text() == "*\n!.gitignore\n"
    (tmp_path / "mine").mkdir()
    make_folder(tmp_path / "mine", "run")
    assert not (tmp_path / "mine" / ".gitignore").exists()


@pytest.mark.parametrize(
    "keys",
    [
        "rounds: 4, warmup: 2",
        "rounds: 6, warmup: 1, concurrency: 3",
        "load: {concurrency: 3, requests: 20, warmup: 2}",
    ],
)
def test_every_request_of_a_cell_is_kept_with_what_was_asked(tmp_path: Path, cassette: Cassette, keys: str) -> None:
    (tmp_path / "prompts.jsonl").write_text("".join(f'{{"prompt": "hi {n}"}}\n' for n in range(30)))
    path = tmp_path / "s.yaml"
    path.write_text(f"cases:\n- {{name: a, dataset: {{file: prompts.jsonl}}, expect: {{contains: Paris}}, {keys}}}\n")
    (cell,) = load_suite(path).cells()
    with fake_server(stream("Par", "is")) as server:
        provider = LlamaCppProvider(server.url)
        run = CellRun(provider, cell, suite="s.yaml", model="m", cassette=cassette)
        run.run()
        provider.close()
    kept = entries(cassette)
    assert len(kept) == len(run.records) == len({record.cassette for record in run.records})
    for entry, record in zip(kept, run.records, strict=True):
        request = request_of(entry)
        assert request.prompt.encode() in entry.body
        reply = replay(entry, request, exchange_of(entry))
        assert (reply.content, entry.place.phase == "warmup") == ("Paris", record.phase == "warmup")
    assert {request_of(entry).prompt for entry in kept} == {chat["messages"][0]["content"] for chat in server.chats}
    assert {entry.scene.cell for entry in kept} == {kept[0].scene.cell}
    assert msgspec.convert(kept[0].scene.expect, Expect) == replace(cell.case.expect, validator=None)


def test_exchanges_are_not_held(tmp_path: Path, cassette: Cassette) -> None:
    path = tmp_path / "s.yaml"
    path.write_text("cases:\n- {name: a, prompt: hi, load: {concurrency: 4, requests: 300}}\n")
    (cell,) = load_suite(path).cells()
    most = 0

    def look(record: Record) -> Record:
        nonlocal most
        if record.round % 50 == 49:
            gc.collect()
            most = max(most, sum(isinstance(each, Exchange) for each in gc.get_objects()))
        return record

    with fake_server(stream("hi")) as server:
        provider = LlamaCppProvider(server.url)
        CellRun(provider, cell, suite="s", model="m", cassette=cassette, keep=look).run()
        provider.close()
    assert len(entries(cassette)) == 300
    assert 0 < most < 100


def test_reply_that_never_got_here_is_said_not_to_be_kept(cassette: Cassette) -> None:
    reply = Reply(started_at=datetime.now(UTC))
    kept = cassette.keep(LlamaCppProvider(), RunRequest("hi", "m"), reply, scene_of(ORIGIN), PLACE).kept
    assert kept == (None, "it was given up before its bytes were handed over")


def test_request_that_cannot_be_written_down_is_said_not_to_be_kept(cassette: Cassette) -> None:
    class Lenient(LlamaCppProvider):
        def body(self, request: RunRequest) -> dict[str, Any]:
            return {"model": request.model}

        def encode(self, request: RunRequest) -> Any:
            return super().encode(replace(request, extra={}))

    request = RunRequest("hi", "m", extra={"odd": object()})
    with FaultServer([Read(), response(b"{}")]) as server:
        provider = Lenient(f"{server.url}/v1")
        reply = provider.measure(request)
        provider.close()
    kept = cassette.keep(provider, request, reply, scene_of(ORIGIN), PLACE).kept
    assert kept is not None
    assert kept.link is None
    assert (kept.note or "").startswith("the request cannot be written down (TypeError: ")


def test_limit_is_shared_by_all_that_write_into_the_folder(tmp_path: Path) -> None:
    folder = make_folder(tmp_path, "run")
    parts = [Cassette(folder, name, limit_bytes=2500) for name in ("one", "two")]
    kept = [asked(parts[number % 2], [Read(), response(b"{}")]).kept for number in range(10)]
    notes = [reply.note for reply in kept if reply is not None and reply.link is None]
    assert 0 < len(notes) < 10
    assert {*notes} == {"the cassette has reached its limit of 2.44 KiB (raise --modellens-cassette-limit)"}
    assert sum(path.stat().st_size for path in folder.iterdir()) <= 2500
    for part in parts:
        part.close()


def test_disk_that_refuses_is_said_and_may_take_the_next(cassette: Cassette, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr("pytest_modellens.cassette.writer.os.scandir", full)
        kept = asked(cassette, [Read(), response(b"{}")]).kept
    assert kept == (None, "the cassette could not be written (No space left on device)")
    assert asked(cassette, [Read(), response(b"{}")]).kept == ("main.cassette:21", None)


PIECES = [f'{{"choices": [{{"delta": {{"content": "{text}"}}}}]}}' for text in (KEY[:9], KEY[9:])]


@pytest.mark.parametrize(
    ("steps", "is_kept"),
    [
        ([Read(), response(f'{{"error": "no {KEY}"}}'.encode(), "401 Unauthorized")], True),
        ([Read(), response(f'{{"error": "no {KEY[:9]}{KEY[9:]}"}}'.encode(), "401 Unauthorized")], True),
        ([Read(), SSE, chunk(b'data: {"error": "no ' + KEY[:9].encode()), chunk(f'{KEY[9:]}"}}\n\n'.encode())], False),
        ([Read(), SSE, *map(chunk, sse(*PIECES, "[DONE]")), b"0\r\n\r\n"], False),
        (
            [Read(), SSE, *map(chunk, sse('{"choices": [{"delta": {"content": "a *** b"}}]}', "[DONE]")), b"0\r\n\r\n"],
            True,
        ),
    ],
    ids=["whole", "in one text", "by chunks", "by events", "stars of its own"],
)
def test_secret_is_masked_or_the_answer_is_not_kept(cassette: Cassette, steps: list[Step], is_kept: bool) -> None:
    reply = asked(cassette, steps)
    assert reply.kept is not None
    assert (reply.kept.link is not None) == is_kept
    assert is_kept or reply.kept.note == "its answer repeats a secret in a way that cannot be masked"
    for entry in entries(cassette):
        assert b"hunter22" not in encode_entry(entry)
        again = replay(entry, request_of(entry), exchange_of(entry))
        assert (again.content, str(again.error), again.received) == (reply.content, str(reply.error), reply.received)


def test_header_that_breaks_the_answer_when_masked_is_no_reason_to_keep_it_broken(cassette: Cassette) -> None:
    request = RunRequest("hi", "m", headers={"X-Mode": "message"})
    reply = asked(cassette, [Read(), response(b'{"error": {"message": "no such model"}}', "404 Not Found")], request)
    assert reply.kept is not None
    for entry in entries(cassette):
        again = replay(entry, request_of(entry), exchange_of(entry))
        assert str(again.error) == str(reply.error)


def test_class_that_is_gone_is_told(cassette: Cassette) -> None:
    asked(cassette, [Read(), response(b"{}")])
    (entry,) = entries(cassette)
    entry = msgspec.structs.replace(entry, class_="Gone")
    with pytest.raises(StorageError, match=r"llamacpp:Gone cannot be imported \(AttributeError: .*; install the"):
        replay(entry, request_of(entry), exchange_of(entry))
    entry = msgspec.structs.replace(entry, module="json", class_="JSONDecoder")
    with pytest.raises(StorageError, match="json:JSONDecoder is no provider that is reached over HTTP any more"):
        replay(entry, request_of(entry), exchange_of(entry))
