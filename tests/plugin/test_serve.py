"""Servers that a run starts: by --modellens-serve, by pyproject.toml, and by the fixture."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest

from pytest_modellens.embedded import child
from pytest_modellens.plugin.options import SETTINGS, ProviderSpec
from tests.served.patience import up_after_the_words

if TYPE_CHECKING:
    from tests.plugin.conftest import Project

for _name in ("pytest_modellens.plugin.specs", "pytest_modellens.plugin.serving", "pytest_modellens.served.server"):
    import_module(_name)

SCRIPTED = Path(__file__).parents[1] / "served" / "scripted.py"
CMD = "llama-server --port {port}"


def scripted(behaviour: str = "ok") -> str:
    return f"{shlex.join([sys.executable, str(SCRIPTED), behaviour])} {{port}}"


def llama(model: Path, threads: int = 1) -> str:
    words = [sys.executable, child.__file__, "--weights", str(model), "--name", "tiny", "--threads", str(threads)]
    # The child ends when its standard input does.
    return f"sh -c {shlex.quote('sleep 1000 | ' + shlex.join(words) + ' --port {port}')}"


@pytest.fixture(autouse=True)
def _own_locks(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    # Starting waits for whatever else is measured on this machine.
    folder = str(tmp_path_factory.mktemp("locks"))
    monkeypatch.setattr(tempfile, "tempdir", folder)
    monkeypatch.setenv("TMPDIR", folder)


def specs(project: Project, *arguments: str) -> list[tuple[str, str, str | None]]:
    settings = project.pytester.parseconfigure(*arguments).stash[SETTINGS]
    return [(spec.label, spec.name, spec.serve) for spec in settings.providers]


def test_two_configurations_of_a_real_server_stand_side_by_side(project: Project, tiny_model: Path) -> None:
    project.case("max_tokens: 4")
    result = project.run_apart(
        None,
        f"--modellens-serve=one:llamacpp={llama(tiny_model)}",
        f"--modellens-serve=two={llama(tiny_model, 2)}",
        "-v",
    )
    result.assert_outcomes(passed=2)
    result.stdout.fnmatch_lines(
        [
            "modellens: one:llamacpp (to be started), two (to be started)",
            "suites/chat.yaml::a[[]one] PASSED*",
            "suites/chat.yaml::a[[]two] PASSED*",
        ]
    )
    run = project.result
    assert {(r["provider"], r["provider_kind"]) for r in run.records} == {("one", "llamacpp"), ("two", "llamacpp")}
    assert all(record["cold_start_s"] > 0 for record in run.records)
    # The whole tree is looked at: the shell, and the server that it waits for.
    assert all(record["hardware"]["process_rss_mb_peak"] > 20 for record in run.records)
    servers = run.meta["servers"]
    assert servers["one"]["command"][:2] == ["sh", "-c"]
    assert servers["one"]["cold_start_s"] == next(r["cold_start_s"] for r in run.records if r["provider"] == "one")
    assert "--threads 2" in servers["two"]["command"][2]
    (folder,) = project.folders
    for name in ("one", "two"):
        assert "model loaded" in (folder / f"server-{name}.log").read_text(encoding="utf-8")


def test_server_without_a_name_is_called_served(project: Project) -> None:
    project.case()
    result = project.run(None, f"--modellens-serve={scripted()}", "-v")
    result.stdout.fnmatch_lines(["modellens: served (to be started)", "suites/chat.yaml::a[[]served] PASSED*"])
    assert {(r["provider"], r["provider_kind"]) for r in project.result.records} == {("served", "openai")}


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--provider=vllm", f"--modellens-serve={CMD}"], [("vllm", "vllm", CMD)]),
        (["--provider=auto", f"--modellens-serve={CMD}"], [("auto", "auto", CMD)]),
        (["--provider=fast:vllm", f"--modellens-serve=fast={CMD}"], [("fast", "vllm", CMD)]),
        ([f"--modellens-serve=vllm={CMD}"], [("vllm", "vllm", CMD)]),
        (
            [f"--modellens-serve=q4:vllm={CMD}", f"--modellens-serve=q8={CMD}"],
            [("q4", "vllm", CMD), ("q8", "auto", CMD)],
        ),
        (
            ["--provider=openai=http://h", f"--modellens-serve=q4={CMD}"],
            [("openai", "openai", None), ("q4", "auto", CMD)],
        ),
        (["--modellens-serve=./serve --a=b --port={port}"], [("served", "auto", "./serve --a=b --port={port}")]),
        (["--modellens-serve=/opt/a=b/serve {port}"], [("served", "auto", "/opt/a=b/serve {port}")]),
    ],
)
def test_command_belongs_to_the_server_that_it_names(
    project: Project, arguments: list[str], expected: list[tuple[str, str, str | None]]
) -> None:
    assert specs(project, *arguments) == expected


def test_command_comes_from_command_line_environment_ini_or_pyproject(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    project.write("pyproject.toml", f'[tool.modellens.providers.q4]\nprovider = "vllm"\nserve = "{CMD} -m q4"\n')
    assert specs(project, "--provider=q4") == [("q4", "vllm", f"{CMD} -m q4")]
    assert specs(project, "--provider=q4=http://h") == [("q4", "vllm", None)]
    project.pytester.makeini(f"[pytest]\nmodellens_serve =\n  a={CMD} -x\n  b={CMD}\n")
    assert specs(project) == [("a", "auto", f"{CMD} -x"), ("b", "auto", CMD)]
    monkeypatch.setenv("MODELLENS_SERVE", f"c={CMD} -x\n\nd={CMD}\n")
    assert specs(project) == [("c", "auto", f"{CMD} -x"), ("d", "auto", CMD)]
    assert specs(project, f"--modellens-serve=e={CMD}") == [("e", "auto", CMD)]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--modellens-serve=llama-server"], "server command: must say where its port goes with {port}, such as *"),
        (["--modellens-serve="], "server command: must not be empty *"),
        (["--modellens-serve=q4="], "server command: must not be empty *"),
        (["--provider=local", f"--modellens-serve={CMD}"], "local: starts a server of its own (give no command, or *"),
        (["--provider=vllm=http://h", f"--modellens-serve={CMD}"], "vllm: has an address and a command (give one *"),
        (
            [f"--modellens-serve={CMD}", f"--modellens-serve={CMD}"],
            "llama-server …: which server is it? (write NAME=COMMAND, NAME one of served)",
        ),
        (
            ["--provider=vllm", "--provider=openai", f"--modellens-serve={CMD}"],
            "llama-server …: which server is it? (write NAME=COMMAND, NAME one of vllm, openai)",
        ),
        ([f"--modellens-serve=q4={CMD}", f"--modellens-serve=q4={CMD}"], "q4: has two commands (give each server a *"),
        (["--provider=q:vllm", f"--modellens-serve=q:openai={CMD}"], "q:openai: two are called 'q' (give each its *"),
        (
            ["--modellens-serve=CUDA_VISIBLE_DEVICES=0 vllm serve m --port {port}"],
            "CUDA_VISIBLE_DEVICES=…: looks like an environment variable (write: env CUDA_VISIBLE_DEVICES=VALUE *",
        ),
        ([f"--modellens-serve=q4:vlm={CMD}"], "unknown provider 'vlm' (did you mean 'vllm'? *"),
    ],
)
def test_command_that_cannot_be_used_is_a_usage_error(project: Project, arguments: list[str], message: str) -> None:
    result = project.run(None, *arguments)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"ERROR: --modellens-serve: {message}"])


def test_base_url_and_command_exclude_each_other(project: Project) -> None:
    result = project.run("http://h/v1", f"--modellens-serve={CMD}")
    assert result.errlines[0] == "ERROR: --modellens-base-url: is for a server that runs already (leave it out)"


def test_secret_in_a_command_of_pyproject_is_refused(project: Project) -> None:
    text = f'[tool.modellens.providers.q4]\nprovider = "vllm"\nserve = "{CMD} --api-key hunter2hunter2"\n'
    project.write("pyproject.toml", text)
    result = project.run(None, "--provider=q4")
    result.stderr.fnmatch_lines(
        ["ERROR: pyproject.toml: *serve: holds a secret (put it into an environment variable, *"]
    )
    assert "hunter2" not in result.stderr.str()


def test_collecting_starts_nothing(project: Project) -> None:
    project.case()
    result = project.run(None, "--modellens-serve=no-such-server {port}", "--collect-only", "-q")
    assert result.outlines[0] == "suites/chat.yaml::a[served]"


def test_server_that_does_not_start_fails_every_test_of_it_and_says_why(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SERVER_SECRET", "correct-horse-battery")
    project.suite()
    command = f"{scripted('rude+exits')} --api-key hunter2hunter2"
    result = project.run(None, f"--modellens-serve=q4={command}")
    result.assert_outcomes(errors=3)
    result.stdout.fnmatch_lines(
        ["q4: ended with exit status 3 before the first token (*", "red  api_key=[*][*][*] [*][*][*]"]
    )
    result.stdout.no_fnmatch_line("*Traceback*")
    (folder,) = project.folders
    texts = [path.read_text(encoding="utf-8") for path in folder.iterdir()] + [result.stdout.str()]
    assert not [text for text in texts if "hunter2" in text or "correct-horse" in text]
    assert "red  api_key=*** ***" in (folder / "server-q4.log").read_text(encoding="utf-8")


def test_serve_timeout_is_how_long_is_waited(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    up_after_the_words("still loading", monkeypatch)
    project.case()
    result = project.run(None, f"--modellens-serve={scripted('deaf')}", "--modellens-serve-timeout=90s")
    result.stdout.fnmatch_lines(
        ["served: no token within 90 s; at last: nothing listens on the port (*", "still loading"]
    )


def test_key_and_headers_of_the_server_are_sent(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KEY", "correct-horse-battery")
    project.case()
    result = project.run(None, f"--modellens-serve=vllm={scripted('refuses')}", "--modellens-api-key-env=KEY")
    result.stdout.fnmatch_lines(["vllm: *HTTP 401: bad key [*][*][*]*"])
    result = project.run(None, f"--modellens-serve=vllm={scripted()}", "--modellens-api-key-env=NO_KEY")
    result.stdout.fnmatch_lines(["*vllm: API key: the variable NO_KEY is not set*"])


def test_each_worker_has_a_server_and_none_is_left(project: Project) -> None:
    pytest.importorskip("xdist")
    project.suite()
    result = project.run_apart(None, f"--modellens-serve=q4={scripted()}", "-n2")
    result.assert_outcomes(passed=3)
    (folder,) = project.folders
    assert {path.name for path in folder.glob("*.log")} == {"server-q4-gw0.log", "server-q4-gw1.log"}
    urls = {record["worker"] for record in project.result.records}
    assert urls == {"gw0", "gw1"}


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_server_is_gone_when_the_run_is_ended(project: Project, how: signal.Signals) -> None:
    pids = project.path / "pids"
    project.case("max_tokens: 4", defaults="rounds: 100000, warmup: 0")
    with subprocess.Popen(
        [sys.executable, "-m", "pytest", f"--modellens-serve={scripted('family')}"],
        cwd=project.path,
        env={**os.environ, "PIDS": str(pids)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        preexec_fn=_hears_ctrl_c,  # noqa: PLW1509  # no other threads hold locks here
    ) as process:
        until(
            lambda: (
                any(path.stat().st_size for path in project.path.glob("results/*/requests.jsonl")) or _is_begun(pids)
            )
        )
        process.send_signal(how)
        process.wait(60)
    family = [int(pid) for pid in pids.read_text(encoding="utf-8").split()]
    assert len(family) == 2
    until(lambda: not [pid for pid in family if psutil.pid_exists(pid)])


def _hears_ctrl_c() -> None:
    # What runs in the background of a shell does not.
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def _is_begun(pids: Path) -> bool:
    return pids.exists() and len(pids.read_text(encoding="utf-8").split()) == 2


def until(condition: object) -> None:
    assert callable(condition)
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


DOCUMENTED = """
import pytest

@pytest.fixture(scope="session")
def provider(request, model_server):
    with model_server({command}, ready="llamacpp", name=f"threads-{{request.param}}") as server:
        yield server.provider

@pytest.mark.parametrize("provider", [1, 2], indirect=True)
@pytest.mark.modellens_suite("suites/chat.yaml")
def test_threads(provider, cell, modellens):
    modellens.run_cell(cell)
"""


def test_fixture_compares_configurations_in_one_run(project: Project, tiny_model: Path) -> None:
    project.case("max_tokens: 4")
    command = llama(tiny_model).replace("--threads 1", "--threads THREADS")
    project.write("test_threads.py", DOCUMENTED.format(command=f"{command!r}.replace('THREADS', str(request.param))"))
    result = project.run_apart(None, "test_threads.py", "-v")
    result.assert_outcomes(passed=2)
    run = project.result
    assert {(r["provider"], r["provider_kind"]) for r in run.records} == {
        ("threads-1", "llamacpp"),
        ("threads-2", "llamacpp"),
    }
    assert all(record["cold_start_s"] > 0 for record in run.records)
    result.stdout.fnmatch_lines(["a * threads-1 *", "a * threads-2 *", "results: results/*"])
    (folder,) = project.folders
    assert {path.name for path in folder.glob("*.log")} == {"server-threads-1.log", "server-threads-2.log"}


def test_fixture_ends_what_no_with_ends_and_says_what_is_wrong(project: Project) -> None:
    project.write(
        "test_mine.py",
        f"""
        import json, os

        def test_ready(model_server, tmp_path):
            server = model_server({scripted("family")!r}, "vllm", {{"PIDS": {str(project.path / "pids")!r}}})
            assert server.provider.list_models()[0].id == "scripted"

        def test_function(model_server):
            asked = []
            server = model_server({scripted()!r}, lambda root: asked.append(root) or len(asked) > 1)
            assert asked == [server.url] * 2

        def test_wrong(model_server):
            model_server({scripted("exits")!r}, timeout_s=60)

        def test_nonsense(model_server):
            model_server("llama-server")
        """,
    )
    result = project.run(None, "test_mine.py")
    result.assert_outcomes(passed=2, failed=2)
    result.stdout.fnmatch_lines(
        ["*ended with exit status 3 before the first token (*", "server command: must say where *"]
    )
    result.stdout.no_fnmatch_line("*Traceback*")
    family = [int(pid) for pid in (project.path / "pids").read_text(encoding="utf-8").split()]
    assert not [pid for pid in family if psutil.pid_exists(pid)]


def test_specs_of_servers_are_plain_data_in_the_run(project: Project) -> None:
    project.case()
    project.run(None, f"--modellens-serve=q4={scripted()}").assert_outcomes(passed=1)
    options = project.result.meta["environment"]["options"]
    assert json.loads(json.dumps(options)) == options
    assert ProviderSpec("q4", "auto").shown == "q4:auto"
