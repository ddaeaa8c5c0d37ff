"""What a user sees of servers that are not what they seem: other kinds, other models, models that are not there yet."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from tests.plugin.fake_server import Chat, FakeServer, fake_server, stream

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.plugin.conftest import Project

NOT_LOADED = {"data": [{"id": "fake", "type": "llm", "state": "not-loaded", "max_context_length": 4096}]}
NAMES = [
    "org/model-7B",
    "two words",
    "modèle–日本語",
    "a:b@q4_k_m",
    "../../etc/passwd",
    "semi;colon&amp=1?x#y",
    "[b]x\x1b[31m",
]


def test_warm_up_absorbs_the_loading_of_a_model_and_says_so(project: Project) -> None:
    project.case(defaults="rounds: 2, warmup: 1")
    with fake_server(stream("a", "b")) as server:
        server.more_pages = {"/api/v0/models": NOT_LOADED}
        result = project.run(server, name="lmstudio")
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["*a, lmstudio: the model was not loaded: the server loaded it during the*"])
    warm, *measured = project.result.records
    assert warm["notes"] == ["the model was not loaded: the server loaded it during the warm-up"]
    assert [record["notes"] for record in measured] == [[], []]


def test_without_a_warm_up_the_request_that_waited_is_no_measurement(project: Project) -> None:
    project.case(defaults="rounds: 2, warmup: 0")
    with fake_server(stream("a", "b")) as server:
        server.more_pages = {"/api/v0/models": NOT_LOADED}
        result = project.run(server, name="lmstudio")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        ["*not a valid measurement: the server loaded the model during this request (give the case a warm-up, *"]
    )
    assert [record["invalid"] is None for record in project.result.records] == [False, True]


def lines(*objects: dict[str, Any]) -> Callable[[Chat], None]:
    """Return an answerer that streams `objects` as Ollama does."""

    def answer(chat: Chat) -> None:
        body = b"".join(json.dumps(line).encode() + b"\n" for line in objects)
        chat.send_response(200)
        chat.send_header("Content-Type", "application/x-ndjson")
        chat.send_header("Content-Length", str(len(body)))
        chat.end_headers()
        chat.wfile.write(body)

    return answer


def ollama(server: FakeServer, *, context: int = 64) -> str:
    entry = {"name": "fake", "model": "fake", "size": 5, "context_length": context}
    server.more_pages = {
        "/api/version": {"version": "0.31.1"},
        "/api/tags": {"models": [entry]},
        "/api/ps": {"models": [entry]},
    }
    return server.url.replace("/v1", "")


SAID = {"model": "fake", "message": {"role": "assistant", "content": "hi"}, "done": False}


def test_error_line_of_ollama_under_status_200_fails_the_test(project: Project) -> None:
    project.case(defaults="rounds: 2, warmup: 0")
    with fake_server(lines(SAID, {"error": "llama runner process has terminated"})) as server:
        result = project.run(ollama(server), name="ollama")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        [
            "*2 of 2 requests failed (2 × server_error_in_stream)",
            "*the server reported an error in the stream: llama runner process has terminated",
        ]
    )
    assert {record["ttft_ms"] is None for record in project.result.records} == {False}
    assert {record["total_time_ms"] for record in project.result.records} == {None}


def test_conversation_that_ollama_cut_fails_the_test(project: Project) -> None:
    project.suite(f"cases:\n- {{name: a, rounds: 1, warmup: 0, prompt: '{'word ' * 100}'}}\n")
    end = {**SAID, "done": True, "done_reason": "stop", "prompt_eval_count": 60, "eval_count": 1}
    with fake_server(lines(SAID, end)) as server:
        result = project.run(ollama(server), name="ollama")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        ["*not a valid measurement: Ollama cut the conversation to fit its context of 64 tokens: 100 words were sent*"]
    )


def test_counts_that_ollama_leaves_out_are_not_zero(project: Project) -> None:
    project.case(defaults="rounds: 1, warmup: 0")
    with fake_server(lines(SAID, {**SAID, "done": True, "eval_count": 2})) as server:
        project.run(ollama(server), name="ollama").assert_outcomes(passed=1)
    (record,) = project.result.records
    assert (record["prompt_tokens"], record["total_tokens"], record["cached_tokens"]) == (None, None, None)
    assert (record["completion_tokens"], record["server_timings"]) == (2, {})


@pytest.mark.parametrize("name", NAMES)
def test_any_name_of_a_model_is_sent_kept_and_shown(project: Project, name: str) -> None:
    project.case(defaults="rounds: 1, warmup: 0")
    with fake_server(stream("a", "b")) as server:
        server.models = [name]
        result = project.run(server)
    result.assert_outcomes(passed=1)
    assert server.chats[0]["model"] == name
    assert project.result.records[0]["model"] == name
    assert "\x1b[31m" not in result.stdout.str()
    assert not list(project.path.rglob("passwd*"))
    (folder,) = project.folders
    assert folder.parent == project.path / "results"


def test_any_name_of_a_model_can_be_a_point_of_a_matrix(project: Project) -> None:
    case = {"name": "a", "prompt": "hi", "rounds": 1, "warmup": 0, "matrix": {"model": NAMES[:4]}}
    project.suite(json.dumps({"cases": [case]}))
    with fake_server(stream("a", "b")) as server:
        server.models = NAMES[:4]
        result = project.run(server, "-v", "--junitxml=junit.xml")
    result.assert_outcomes(passed=4)
    assert [chat["model"] for chat in server.chats] == NAMES[:4]
    assert [record["model"] for record in project.result.records] == NAMES[:4]
    assert (project.path / "junit.xml").read_text(encoding="utf-8").count("<testcase") == 4


@pytest.mark.parametrize("name", NAMES[:4])
def test_any_name_of_a_model_can_be_asked_for(project: Project, name: str) -> None:
    project.case(defaults="rounds: 1, warmup: 0")
    with fake_server(stream("a", "b")) as server:
        server.models = ["other", name]
        project.run(server, f"--modellens-model={name}").assert_outcomes(passed=1)
    assert server.chats[0]["model"] == name


def test_list_of_ten_thousand_models_is_no_burden(project: Project) -> None:
    project.case(defaults="rounds: 1, warmup: 0")
    with fake_server(stream("a", "b")) as server:
        server.models = [f"org/model-{number}" for number in range(10_000)]
        result = project.run(server)
        asked = server.pages.count("/v1/models")
    result.assert_outcomes(passed=1)
    assert server.chats[0]["model"] == "org/model-0"
    assert asked <= 3
    assert max(map(len, result.outlines)) < 200
    assert not any("model-9999" in line for line in result.outlines)
    assert len(project.result.meta["servers"]["llamacpp"]["models"]) == 10_000


def test_server_that_changed_its_model_since_it_was_asked_is_found_out(project: Project) -> None:
    project.case(defaults="rounds: 2, warmup: 0")

    def changed(chat: Chat) -> None:
        chat.server.models = ["new"]
        stream("a", model="new")(chat)

    with fake_server(changed) as server:
        result = project.run(server)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        ["*asked for model 'fake', answered by 'new' (the server serves only that one)", "*every further request*"]
    )


@pytest.mark.parametrize("page", [{"status": "ok"}, {"status": True}])
def test_health_page_that_lies_is_believed_only_until_a_request_fails(project: Project, page: Any) -> None:
    project.case(defaults="rounds: 2, warmup: 0")
    with fake_server(lambda chat: chat.json({"detail": "engine dead"}, status=500)) as server:
        server.more_pages = {"/health": page}
        result = project.run(server)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*2 of 2 requests failed (2 × http_5xx)", "*HTTP 500: engine dead"])


def test_server_without_a_health_page_is_measured_all_the_same(project: Project) -> None:
    project.case(defaults="rounds: 1, warmup: 0")
    with fake_server(stream("a", "b")) as server:
        project.run(server, name="jan").assert_outcomes(passed=1)
        project.run(server, name="tgi").assert_outcomes(passed=1)


def test_provider_that_is_pointed_at_a_server_of_another_kind_says_which(project: Project) -> None:
    project.case(defaults="rounds: 1, warmup: 0")
    with fake_server(stream("a", "b")) as server:
        ollama(server)
        server.more_pages |= {"/health": None, "/props": None}
        result = project.run(server, name="vllm")
        assert server.chats == []
        project.run(server, name="openai").assert_outcomes(passed=1)  # which takes whatever speaks its API
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(
        [f"vllm: the server at {server.url} is not well, and looks like ollama (/api/version and /api/tags *"]
    )
    result.stdout.no_fnmatch_line("*Traceback*")


@pytest.mark.parametrize("options", [[], ["-W", "error"], ["-n", "1"]])
def test_server_of_another_kind_that_answers_is_measured_and_named(project: Project, options: list[str]) -> None:
    project.case(defaults="rounds: 1, warmup: 0")
    with fake_server(stream("a", "b")) as server:
        server.more_pages = {"/health": {"status": "ok"}, "/props": {"build_info": "b9"}}
        result = project.run(server, *options, name="vllm")
    result.assert_outcomes(passed=1, warnings=1)
    said = "looks like llamacpp (/props names a build_info), and is called vllm in all records (use --provider llamacpp"
    result.stdout.fnmatch_lines([f"*ModelLensWarning: vllm: the server at {server.url}* {said}=URL)"])
    assert project.result.meta["servers"]["vllm"]["looks_like"] == "llamacpp (/props names a build_info)"


@pytest.mark.parametrize("name", ["llamacpp", "openai"])
def test_server_that_is_or_may_be_what_it_was_called_is_not_doubted(project: Project, name: str) -> None:
    project.case(defaults="rounds: 1, warmup: 0")
    with fake_server(stream("a", "b")) as server:
        server.more_pages = {"/health": {"status": "ok"}, "/props": {"build_info": "b9"}}
        result = project.run(server, name=name)
    result.assert_outcomes(passed=1, warnings=0)
    assert "looks_like" not in project.result.meta["servers"][name]


def test_two_providers_on_one_port_are_measured_one_after_another_and_the_wrong_one_is_named(project: Project) -> None:
    project.case(defaults="rounds: 2, warmup: 0")
    with fake_server(stream("a", "b")) as server:
        server.more_pages = {"/health": {"status": "ok"}, "/props": {"build_info": "b9"}}
        result = project.run(None, f"--provider=llamacpp={server.url}", f"--provider=transformers={server.url}", "-v")
        assert len(server.chats) == 4
    result.assert_outcomes(passed=2, warnings=1)
    result.stdout.fnmatch_lines(["*a[[]llamacpp] PASSED*", "*a[[]transformers] PASSED*"])
    result.stdout.fnmatch_lines(["*transformers: the server at * looks like llamacpp *"])
    assert {record["provider"] for record in project.result.records} == {"llamacpp", "transformers"}
