"""`modellens recompute`: newer definitions, damaged and missing cassettes, secrets."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import pytest_modellens
from pytest_modellens.cassette.tape import TapeReader
from pytest_modellens.cli import main
from pytest_modellens.storage import read_run
from tests.disks import fill_disk
from tests.fault_server import SSE, FaultServer, Read, Step, Wait, chunk, response, sse
from tests.plugin.fake_server import fake_server, stream

if TYPE_CHECKING:
    from tests.plugin.conftest import Project
    from tests.plugin.fake_server import FakeServer

CASSETTE = "--modellens-cassette=cassettes"


@pytest.fixture
def kept(project: Project, server: FakeServer) -> Path:
    """The cassette of a run of three requests, and the run in `project.result`."""
    project.case("rounds: 3")
    project.run(server, CASSETTE).assert_outcomes(passed=1)
    (folder,) = project.path.glob("cassettes/2*")
    return folder


def refused(project: Project, capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """Return the message of a recompute that fails and writes nothing."""
    folders = project.folders
    capsys.readouterr()
    assert main(["recompute", *(arguments or [str(folders[0])]), "--results", str(project.path / "results")]) == 1
    assert project.folders == folders
    said = capsys.readouterr()
    assert said.out == ""
    return said.err


NEWER = {
    "record.py": [("METRIC_DEFINITIONS = 1", "METRIC_DEFINITIONS = 2")],
    "measure/metrics.py": [
        (
            "return _ms(timeline.first_token_ns, timeline.sent_ns) if",
            "return _ms(timeline.first_token_ns, timeline.sent_ns - 1_000_000) if",
        )
    ],
}
"""A version of this package in which the time to first token begins a millisecond earlier."""


def newer_version(folder: Path) -> Path:
    """Copy this package into `folder` with other definitions."""
    package = Path(pytest_modellens.__file__).parent
    shutil.copytree(package, folder / package.name, ignore=shutil.ignore_patterns("__pycache__"))
    for name, changes in NEWER.items():
        path = folder / package.name / name
        text = path.read_text(encoding="utf-8")
        for before, after in changes:
            assert text.count(before) == 1
            text = text.replace(before, after)
        path.write_text(text, encoding="utf-8")
    return folder


def recomputed_by(version: Path, run: Path) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "pytest_modellens.cli", "recompute", str(run)],
        env={**os.environ, "PYTHONPATH": str(version)},
        cwd=run.parent,
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def test_newer_definition_gives_new_numbers(project: Project, server: FakeServer, tmp_path: Path) -> None:
    project.suite(
        "cases:\n- {name: a, prompt: hi, rounds: 3, warmup: 0}\n"
        "- {name: b, prompt: hi, slo: {ttft_ms: 1000}, load: {concurrency: 2, requests: 6}}\n"
    )
    project.run(server, CASSETTE)
    before = project.result
    said = recomputed_by(newer_version(tmp_path / "newer"), before.folder)
    after = read_run(next(folder for folder in project.folders if folder != before.folder))
    assert {record["metric_definitions"] for record in before.records} == {1}
    assert {record["metric_definitions"] for record in after.records} == {2}
    for old, new in zip(before.records, after.records, strict=True):
        assert new["ttft_ms"] == pytest.approx(old["ttft_ms"] + 1)
        changed = {key for key in new if new[key] != old[key]}
        assert changed <= {"metric_definitions", "ttft_ms", "phase", "round"}
    assert f"{before.folder.name}: 9 records derived again (metric definitions 1 → 2)\n" in said
    row = next(line for line in said.splitlines() if line.startswith("ttft_ms "))
    assert row.split()[1:4] == ["9", "of", "9"]
    assert max(map(len, said.partition("results:")[0].splitlines())) <= 80
    assert "results: " in said


def test_newer_definition_leaves_out_what_has_no_raw_bytes(
    project: Project, server: FakeServer, tmp_path: Path
) -> None:
    project.case("rounds: 8")
    project.run(server, CASSETTE, "--modellens-cassette-limit=3kB")
    before = project.result
    recomputed_by(newer_version(tmp_path / "newer"), before.folder)
    after = read_run(next(folder for folder in project.folders if folder != before.folder))
    assert {
        (record["cassette"] is None, record["metric_definitions"], record["invalid"]) for record in after.records
    } == {
        (False, 2, None),
        (True, 1, "of metric definitions 1, and without raw bytes to recompute it from"),
    }


def test_recomputed_run_can_be_shown_and_recomputed(
    project: Project, kept: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(project.path)
    for _ in range(2):
        assert main(["recompute", "latest"]) == 0
        assert "nothing differs" in capsys.readouterr().out
    assert len(project.folders) == 3
    assert main(["show", "latest"]) == 0
    assert "a  " in capsys.readouterr().out
    assert [folder.name.partition("-")[2] for folder in project.folders] == [
        "llamacpp",
        "llamacpp-recomputed",
        "llamacpp-recomputed-recomputed",
    ]
    measured_in, *again = project.folders
    assert [read_run(folder).meta["recomputed"]["from"] for folder in again] == [measured_in.name] * 2
    assert kept.is_dir()


@pytest.mark.parametrize("whose", ["parent", "itself"])
def test_cassette_that_was_moved_is_found_where_it_is_said_to_be(
    project: Project, kept: Path, capsys: pytest.CaptureFixture[str], whose: str
) -> None:
    (project.path / "elsewhere").mkdir()
    moved = kept.rename(project.path / "elsewhere" / kept.name)
    assert f"{kept}: the cassette is not there any more (say where it is with --cassette DIR)" in refused(
        project, capsys
    )
    given = moved if whose == "itself" else moved.parent
    assert main(["recompute", str(project.folders[0]), "--cassette", str(given)]) == 0
    assert "nothing differs" in capsys.readouterr().out
    meta = json.loads((project.folders[1] / "run.json").read_text())
    assert meta["cassette"]["folder"] == str(moved)


def test_folder_without_the_cassette_is_told(project: Project, kept: Path, capsys: pytest.CaptureFixture[str]) -> None:
    message = refused(project, capsys, str(project.folders[0]), "--cassette", str(project.path))
    assert message == (
        f"modellens: {project.path}: holds no cassette of {kept.name} (looked for *.cassette in it and below)\n"
    )


def test_run_without_a_cassette_is_told(
    project: Project, server: FakeServer, capsys: pytest.CaptureFixture[str]
) -> None:
    project.case()
    project.run(server)
    assert refused(project, capsys) == (
        f"modellens: {project.folders[0]}: was recorded without a cassette (record with pytest --modellens-cassette "
        "DIR, or say where it is with --cassette DIR)\n"
    )


def test_run_that_does_not_exist_names_the_nearest(
    project: Project, kept: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = kept.name.replace("llamacpp", "lamacpp")
    assert f"no run '{asked}' (nearest: {kept.name})" in refused(project, capsys, asked)


def test_damaged_entry_is_left_out_and_said(project: Project, kept: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tape = kept / "main.cassette"
    with TapeReader(tape) as reader:
        _, second, _ = reader.positions
    data = bytearray(tape.read_bytes())
    data[second + 40] ^= 0xFF
    tape.write_bytes(data)
    assert main(["recompute", str(project.folders[0])]) == 0
    said = capsys.readouterr().out
    assert ": 2 records derived again (metric definitions 1)\n1 records have no raw bytes; carried over as" in said
    assert f"note: {tape}: the entry at byte {second} is damaged; left out" in said
    assert f"main.cassette:{second} is not among its whole entries" in said
    assert read_run(project.folders[1]).records == read_run(project.folders[0]).records


def test_cassette_of_a_newer_version_is_told(project: Project, kept: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tape = kept / "main.cassette"
    tape.write_bytes(tape.read_bytes().replace(b"modellens-cassette 1\n", b"modellens-cassette 2\n"))
    assert refused(project, capsys) == (
        f"modellens: {tape}: written by a newer pytest-modellens (cassette format 2, this one reads up to 1; "
        "upgrade it)\n"
    )


def test_file_that_is_no_cassette_is_told(project: Project, kept: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tape = kept / "main.cassette"
    tape.write_bytes(b"a tape of songs")
    assert f"{tape}: is no cassette (it does not begin with 'modellens-cassette')" in refused(project, capsys)


PROVIDER = """
from pytest_modellens.providers.openai_compatible import OpenAICompatibleProvider

class Mine(OpenAICompatibleProvider):
    name = "mine"

    def __init__(self, base_url=None, **more):
        super().__init__(base_url, **more)
        self.factor = 1
{more}
"""


def mine(project: Project, monkeypatch: pytest.MonkeyPatch, server: FakeServer, module: str, more: str = "") -> None:
    """Measure with a provider of another package, which is not there afterwards."""
    project.write(f"{module}.py", PROVIDER.replace("{more}", more))
    project.write(f"{module}-1.dist-info/METADATA", f"Metadata-Version: 2.1\nName: {module}\nVersion: 1\n")
    project.write(f"{module}-1.dist-info/entry_points.txt", f"[pytest_modellens.providers]\nmine = {module}:Mine\n")
    project.case()
    with monkeypatch.context() as patch:
        patch.syspath_prepend(str(project.path))
        project.run(server, CASSETTE, name="mine").assert_outcomes(passed=1)


def test_provider_of_another_package_is_not_made_anew(
    project: Project, server: FakeServer, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    mine(project, monkeypatch, server, "mine_kept")
    monkeypatch.syspath_prepend(str(project.path))
    assert main(["recompute", str(project.folders[0])]) == 0
    assert "nothing differs" in capsys.readouterr().out


def test_provider_that_is_no_longer_installed_is_told(
    project: Project, server: FakeServer, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    mine(project, monkeypatch, server, "mine_gone")
    monkeypatch.delitem(sys.modules, "mine_gone", raising=False)
    assert refused(project, capsys) == (
        "modellens: provider 'mine': mine_gone:Mine cannot be imported (ModuleNotFoundError: No module named "
        "'mine_gone'; install the package that brings it)\n"
    )


def test_provider_that_is_something_else_now_is_told(
    project: Project, server: FakeServer, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    mine(project, monkeypatch, server, "mine_other")
    monkeypatch.delitem(sys.modules, "mine_other", raising=False)
    project.write("mine_other.py", "Mine = 7\n")
    monkeypatch.syspath_prepend(str(project.path))
    assert "mine_other:Mine is no provider that is reached over HTTP any more (it is 7)" in refused(project, capsys)


def test_provider_that_cannot_decode_without_its_constructor_is_told(
    project: Project, server: FakeServer, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    more = """
    def decode_body(self, exchange):
        self.factor *= 2
        return super().decode_body(exchange)
"""
    mine(project, monkeypatch, server, "mine_state", more)
    monkeypatch.syspath_prepend(str(project.path))
    assert (
        "provider 'mine': mine_state:Mine cannot decode this any more (AttributeError: 'Mine' object has no attribute"
    ) in refused(project, capsys)


def test_disk_without_room_for_the_new_run_is_told(
    project: Project, kept: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    fill_disk(monkeypatch)
    assert main(["recompute", str(project.folders[0])]) == 1
    assert "requests.jsonl: 3 lines " in capsys.readouterr().err
    assert kept.is_dir()


KEY = "sk-hunter22-abcdefghij"
CASES = """
cases:
- name: a
  prompt: hi
  rounds: 1
  warmup: 0
  headers: {X-Team-Token: team-hunter22, Cookie: crumb=hunter22, X-Tenant: tenant-hunter22}
  extra_body: {api_key: body-hunter22, tools: [{password: deep-hunter22}]}
"""
SAID = f"key {KEY} Bearer {KEY} team-hunter22 crumb=hunter22 tenant-hunter22 body-hunter22 deep-hunter22 url-hunter22"
SPLIT = chunk(sse(f'{{"error": {{"message": "no {KEY}"}}}}')[0]) + b"0\r\n\r\n"
ECHOES: dict[str, list[Step]] = {
    "refused": [Read(), response(f'{{"error": {{"message": "{SAID}"}}}}'.encode(), "401 Unauthorized")],
    "cookie": [
        Read(),
        response(
            b'{"choices": [{"message": {"content": "hi"}}]}',
            headers="Set-Cookie: session=set-hunter22; Path=/\r\n"
            "Set-Cookie: b=set-hunter22; Expires=Wed, 01 Jan 2031\r\n",
        ),
    ],
    "cut head": [Read(), b"HTTP/1.1 200 OK\r\nSet-Cookie: session=set-hunter22\r\n"],
    "content": [
        Read(),
        SSE,
        *map(chunk, sse(json.dumps({"choices": [{"delta": {"content": f"You sent {KEY}."}}]}), "[DONE]")),
        b"0\r\n\r\n",
    ],
    "split by reads": [
        Read(),
        SSE,
        SPLIT[: SPLIT.index(b"hunter22") + 4],
        Wait(0.05),
        SPLIT[SPLIT.index(b"hunter22") + 4 :],
    ],
}


def everything(project: Project) -> bytes:
    """Return what the run has left on disk, cassettes unpacked."""
    found = b""
    for path in (*project.path.glob("results/**/*"), *project.path.glob("cassettes/**/*")):
        if path.suffix == ".cassette":
            with TapeReader(path) as tape:
                found += b"".join(map(tape.read, tape.positions))
        elif path.is_file():
            found += path.read_bytes()
    return found


@pytest.mark.parametrize("name", ECHOES)
def test_secrets_are_in_no_file_and_their_records_come_out_the_same(
    project: Project, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    project.suite(CASES)
    with FaultServer(ECHOES[name]) as server:
        url = server.url.replace("http://", "http://user:url-hunter22@")
        project.run(f"{url}/v1", CASSETTE, "--modellens-model=m", name="openai")
    monkeypatch.delenv("OPENAI_API_KEY")
    assert main(["recompute", str(project.folders[0])]) == 0
    assert "1 records derived again (metric definitions 1)\nnothing differs" in capsys.readouterr().out
    found = everything(project)
    assert b"hunter22" not in found
    assert b"HTTP/1.1" in found
    assert b"Authorization" in found


PIECES: dict[str, list[Step]] = {
    "by chunks": [
        Read(),
        SSE,
        chunk(b'data: {"error": "no key sk-hun'),
        chunk(b'ter22-abcdefghij"}\n\n'),
        b"0\r\n\r\n",
    ],
    "by events": [
        Read(),
        SSE,
        *map(
            chunk,
            sse(*(json.dumps({"choices": [{"delta": {"content": text}}]}) for text in (KEY[:9], KEY[9:])), "[DONE]"),
        ),
        b"0\r\n\r\n",
    ],
}


@pytest.mark.parametrize("name", PIECES)
def test_answer_that_repeats_a_secret_in_pieces_is_not_kept(
    project: Project, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    project.suite("cases:\n- {name: a, prompt: hi, rounds: 1, warmup: 0}\n")
    with FaultServer(PIECES[name]) as server:
        project.run(f"{server.url}/v1", CASSETTE, "--modellens-model=m", name="openai")
    (record,) = project.result.records
    assert record["cassette"] is None
    assert record["cassette_note"] == "its answer repeats a secret in a way that cannot be masked"
    for part in (b"hunter22", b"ter22-abcdefghij"):
        assert part not in everything(project)


def test_header_that_is_also_a_word_of_the_answer_does_no_harm(
    project: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    project.suite("cases:\n- {name: a, prompt: hi, rounds: 1, warmup: 0, headers: {X-Mode: content}}\n")
    with fake_server(stream("content", " is here")) as server:
        project.run(server, CASSETTE)
    assert project.result.records[0]["response"] == "content is here"
    assert main(["recompute", str(project.folders[0])]) == 0
    assert "nothing differs" in capsys.readouterr().out
