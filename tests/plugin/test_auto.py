"""`--provider auto`: a server is found before anything is collected, and by nobody who only collects."""

from __future__ import annotations

import importlib.metadata
import json
import re
from importlib import import_module
from importlib.metadata import EntryPoint
from typing import TYPE_CHECKING, Any

import pytest

from pytest_modellens.cli import main
from pytest_modellens.embedded import weights
from pytest_modellens.errors import WeightsError
from pytest_modellens.providers import discovery, registry
from pytest_modellens.providers.llamacpp import LlamaCppProvider
from tests.plugin.fake_server import FakeServer, fake_server, stream

if TYPE_CHECKING:
    from pathlib import Path

    from tests.plugin.conftest import Project

import_module("pytest_modellens.plugin.auto")


@pytest.fixture(autouse=True)
def _patience(monkeypatch: pytest.MonkeyPatch) -> None:
    # On a machine whose cores are all taken a page may need longer than the promised two seconds.
    monkeypatch.setitem(discovery.find_servers.__kwdefaults__ or {}, "deadline_s", 30.0)


def usual(monkeypatch: pytest.MonkeyPatch, port: int) -> None:
    """Make `port` the one that llama.cpp's servers are looked for at, and look for no others."""
    cls = type("Usual", (LlamaCppProvider,), {"default_port": port})
    monkeypatch.setattr(discovery, "probed_classes", lambda _broken=None: [cls])


def test_real_server_is_found_measured_and_recorded_under_its_own_name(
    project: Project, llama_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    usual(monkeypatch, int(llama_url.rpartition(":")[2].partition("/")[0]))
    project.suite()
    result = project.run(None, "--provider", "auto", "-v")
    result.assert_outcomes(passed=3)
    result.stdout.fnmatch_lines(
        [
            "modellens: auto",
            f"auto: llamacpp at {llama_url} (/props names a build_info)",
            "suites/chat.yaml::capital[[]auto] PASSED*",
        ]
    )
    assert {record["provider"] for record in project.result.records} == {"llamacpp"}
    assert {*project.result.meta["servers"]} == {"llamacpp"}


def test_found_server_beside_one_of_its_name_is_called_auto(project: Project, server: FakeServer) -> None:
    project.case()
    result = project.run(None, f"--provider=auto={server.url}", f"--provider=llamacpp={server.url}", "-v")
    result.stdout.fnmatch_lines(["*a[[]auto] PASSED*", "*a[[]llamacpp] PASSED*"])
    assert {record["provider"] for record in project.result.records} == {"auto", "llamacpp"}


def test_found_server_with_a_name_keeps_it(project: Project, server: FakeServer) -> None:
    project.case()
    result = project.run(None, f"--provider=mine:auto={server.url}", "-v")
    result.stdout.fnmatch_lines([f"mine: llamacpp at {server.url} *", "*a[[]mine] PASSED*"])
    assert {record["provider"] for record in project.result.records} == {"mine"}


def test_collecting_contacts_nobody_and_names_items_as_a_run_does(
    project: Project, server: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    usual(monkeypatch, server.server_address[1])
    project.suite()
    result = project.run(None, "--provider=auto", "--collect-only", "-q")
    assert server.connections == 0
    assert result.outlines[0] == "suites/chat.yaml::capital[auto]"
    assert project.folders == []


def test_workers_measure_the_server_that_was_found_once(project: Project, server: FakeServer) -> None:
    pytest.importorskip("xdist")
    project.suite()
    result = project.run(None, f"--provider=auto={server.url}", "-n2")
    result.assert_outcomes(passed=3)
    result.stdout.fnmatch_lines([f"auto: llamacpp at {server.url} *"])
    assert {record["worker"] for record in project.result.records} == {"gw0", "gw1"}


@pytest.mark.parametrize("strict", [False, True])
def test_nothing_found_says_what_was_tried_and_what_to_do(
    project: Project, closed_port: int, monkeypatch: pytest.MonkeyPatch, strict: bool
) -> None:
    usual(monkeypatch, closed_port)
    project.case()
    result = project.run(None, "--provider=auto", "-rsE", *(["--modellens-strict"] if strict else []))
    result.assert_outcomes(**({"errors": 1} if strict else {"skipped": 1}))
    reason = f"auto: no server of llamacpp found (nothing listens at 127.0.0.1:{closed_port}; start one, or *"
    result.stdout.fnmatch_lines([f"*{reason}--provider local*"])
    assert project.folders == []


def test_base_url_of_the_options_is_where_it_is_looked(project: Project, server: FakeServer) -> None:
    project.case()
    project.run(server, name="auto").assert_outcomes(passed=1)


def test_server_that_changes_its_model_after_it_was_found_is_asked_for_the_new_one(project: Project) -> None:
    asked: list[str] = []

    class Changing(list[str]):
        """The model list: another model at each look."""

        def __iter__(self) -> Any:
            asked.append("look")
            return iter([f"model-{len(asked)}"])

    with fake_server(stream("a", "b")) as server:
        server.models = Changing()
        project.case()
        project.run(server, name="auto").assert_outcomes(passed=1)
    models = {record["model"] for record in project.result.records}
    assert len(models) == 1
    assert models != {"model-1"}
    assert {chat["model"] for chat in server.chats} == models


def test_server_that_changes_its_model_while_it_is_measured_fails_as_such(project: Project) -> None:
    with fake_server(stream("a", "b", model="another")) as server:
        project.case()
        result = project.run(server, name="auto")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*asked for model 'fake', answered by 'another' (the server serves only that one)"])
    assert {record["error_class"] for record in project.result.records} == {"wrong_model"}


@pytest.fixture
def closed_port() -> int:
    with fake_server(stream("a")) as server:
        return int(server.server_address[1])


def test_command_lists_what_was_found_and_what_was_not(
    server: FakeServer, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tiny_model: Path
) -> None:
    usual(monkeypatch, server.server_address[1])
    monkeypatch.setattr(weights, "find_weights", lambda: weights.Weights(tiny_model, "tiny", "path"))
    server.models = [f"org/a model {number} é" for number in range(10_000)]
    assert main(["providers"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["provider", "found", "URL", "version", "models"]
    assert lines[1].split()[:4] == ["llamacpp", "yes", server.url, "b1-fake"]
    assert "10,000" in lines[1]
    assert re.match(r"local +ready \(a child process\)", lines[2])
    assert lines[3].startswith("openai   –")
    assert lines[4] == "  llamacpp: /props names a build_info"
    assert max(map(len, lines)) < 80


@pytest.mark.parametrize("missing", ["weights", "xllamacpp"])
def test_command_says_what_the_local_model_needs(
    closed_port: int,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tiny_model: Path,
    missing: str,
) -> None:
    def find() -> weights.Weights:
        if missing == "weights":
            raise WeightsError("no weights (run: modellens fetch)")
        return weights.Weights(tiny_model, "tiny", "path")

    def version(name: str) -> str:
        raise importlib.metadata.PackageNotFoundError(name)

    usual(monkeypatch, closed_port)
    monkeypatch.setattr(weights, "find_weights", find)
    if missing == "xllamacpp":
        monkeypatch.setattr(importlib.metadata, "version", version)
    assert main(["providers"]) == 0
    output = capsys.readouterr().out
    assert f"llamacpp –     http://127.0.0.1:{closed_port}\n" in output
    note = "no weights (run: modellens fetch)" if missing == "weights" else "not installed: pip install '"
    assert f"  local: {note}" in output


def test_command_looks_at_one_address(server: FakeServer, capsys: pytest.CaptureFixture[str], closed_port: int) -> None:
    assert main(["providers", f"{server.url}/"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3
    assert lines[1].startswith(f"llamacpp yes   {server.url}")
    assert main(["providers", f"http://127.0.0.1:{closed_port}"]) == 1
    assert f"(nothing listens at 127.0.0.1:{closed_port}; start one" in capsys.readouterr().out
    assert main(["providers", "nonsense"]) == 1
    assert capsys.readouterr().err.startswith("modellens: base URL: must start with http:// or https://")


def test_command_tells_of_a_port_with_something_else_and_of_broken_packages(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    point = EntryPoint("theirs", "no_such_package:X", registry.GROUP)
    monkeypatch.setattr(registry, "entry_points", lambda group: [point] if group == registry.GROUP else [])
    with fake_server(stream("a")) as server:
        cls = type("Other", (LlamaCppProvider,), {"default_port": server.server_address[1], "recognise": _nobody})
        monkeypatch.setattr(registry, "_OURS", {})
        assert main(["providers"]) == 0
        assert "note: provider 'theirs': no_such_package:X cannot be loaded" in capsys.readouterr().out
        monkeypatch.setattr(discovery, "probed_classes", lambda _broken=None: [cls])
        assert main(["providers"]) == 0
    assert "  llamacpp: answers, but like no server known here\n" in capsys.readouterr().out


def _nobody(_pages: Any) -> None:
    return None


def test_found_server_is_plain_data_for_the_workers() -> None:
    from pytest_modellens.plugin.auto import look_for_servers
    from pytest_modellens.plugin.options import ProviderSpec, Settings

    with fake_server(stream("a")) as server:
        settings = Settings((ProviderSpec("x", "auto", server.url), ProviderSpec("vllm", "vllm")), (), strict=False)
        found = look_for_servers(settings)
    assert json.loads(json.dumps(found)) == found
    assert found.keys() == {"x"}
