"""Servers by name: on the command line, and in pyproject.toml."""

from __future__ import annotations

from importlib import import_module
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from pytest_modellens.errors import ConfigError
from pytest_modellens.plugin.options import SETTINGS, HeaderVariable, ProviderSpec, Settings
from pytest_modellens.plugin.pyproject import named_providers
from tests.plugin.fake_server import FakeServer, fake_server, stream

if TYPE_CHECKING:
    from pathlib import Path

    from tests.plugin.conftest import Project

for _name in ("specs", "pyproject"):
    import_module(f"pytest_modellens.plugin.{_name}")

ENTRY = "[tool.modellens.providers.fast]\n"


def settings(project: Project, *arguments: str) -> Settings:
    return project.pytester.parseconfigure(*arguments).stash[SETTINGS]


def only(project: Project, *arguments: str) -> ProviderSpec:
    (spec,) = settings(project, *arguments).providers
    return spec


@pytest.mark.parametrize(
    ("given", "label", "name", "url"),
    [
        ("vllm", "vllm", "vllm", None),
        ("vllm=http://h:1/v1/", "vllm", "vllm", "http://h:1/v1"),
        ("fast:vllm", "fast", "vllm", None),
        ("fast.2_x-y:vllm=http://h:1/v1", "fast.2_x-y", "vllm", "http://h:1/v1"),
        ("fast:vllm=http://h:1/a=b:c", "fast", "vllm", "http://h:1/a=b:c"),
        ("auto", "auto", "auto", None),
        ("mine:auto=http://h:1", "mine", "auto", "http://h:1"),
    ],
)
def test_provider_is_a_name_a_kind_and_an_address(
    project: Project, given: str, label: str, name: str, url: str | None
) -> None:
    spec = only(project, f"--provider={given}")
    assert (spec.label, spec.name, spec.base_url) == (label, name, url)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["f/x:vllm"], "the name 'f/x' must be of letters, digits, '.', '_' and '-', 40 at most"),
        (["-f:vllm"], "the name '-f' must be of *"),
        ([f"{'f' * 41}:vllm"], "the name 'f*' must be of *"),
        ([":vllm"], "the name '' must be of *"),
        (["openai:vllm"], "the name 'openai' is a provider's own (choose another)"),
        (["auto:vllm"], "the name 'auto' is a provider's own (choose another)"),
        (["fast:"], "unknown provider 'fast:' (known: *"),
        (["fast:vlm=http://h"], "unknown provider 'vlm' (did you mean 'vllm'? known: *"),
        (["f:vllm", "f:openai"], "f:openai: two are called 'f' (give each its own name: OTHER:openai=URL)"),
        (["f:vllm=http://a", "f:vllm=http://b"], "f:vllm=http://b: two are called 'f' (give each *OTHER:vllm=URL)"),
        (["f:vllm=http://u:secret@a", "f:vllm=http://u:secret@b"], "f:vllm=http://b: two are called 'f' *"),
    ],
)
def test_provider_that_cannot_be_named_so_is_a_usage_error(project: Project, given: list[str], message: str) -> None:
    result = project.run(None, *(f"--provider={text}" for text in given))
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"ERROR: --provider: {message}"])


def test_source_of_a_wrong_provider_is_named(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    project.pytester.makeini("[pytest]\nmodellens_provider = nope\n")
    assert project.run(None).errlines[0].startswith("ERROR: modellens_provider: unknown provider 'nope'")
    monkeypatch.setenv("MODELLENS_PROVIDER", "nope2")
    assert project.run(None).errlines[0].startswith("ERROR: MODELLENS_PROVIDER: unknown provider 'nope2'")


def test_same_provider_twice_is_two_servers_side_by_side(project: Project, server: FakeServer) -> None:
    project.case()
    with fake_server(stream("x", "y", "z")) as other:
        result = project.run(
            None, f"--provider=fast:vllm={server.url}", f"--provider=slow:vllm={other.url}", "-v", "--junitxml=j.xml"
        )
        assert (len(server.chats), len(other.chats)) == (2, 2)
    result.stdout.fnmatch_lines(
        [
            f"modellens: fast:vllm={server.url}, slow:vllm={other.url}",
            "suites/chat.yaml::a[[]fast] PASSED*",
            "suites/chat.yaml::a[[]slow] PASSED*",
            "case * provider *",
            "a * fast *",
            "a * slow *",
        ]
    )
    run = project.result
    assert {(r["provider"], r["provider_kind"]) for r in run.records} == {("fast", "vllm"), ("slow", "vllm")}
    assert {label: about["base_url"] for label, about in run.meta["servers"].items()} == {
        "fast": server.url,
        "slow": other.url,
    }
    (folder,) = project.folders
    rows = (folder / "summary.csv").read_text(encoding="utf-8").splitlines()
    assert [",fast," in rows[1], ",slow," in rows[2]] == [True, True]
    report = (project.path / "j.xml").read_text(encoding="utf-8")
    assert 'name="a[fast]"' in report
    assert '<property name="modellens_provider" value="slow" />' in report
    assert '<property name="modellens_provider_kind" value="vllm" />' in report


def test_one_base_url_for_several_says_what_to_write_instead(project: Project) -> None:
    result = project.run(None, "--provider=f:vllm", "--provider=openai", "--modellens-base-url=http://h/v1")
    assert result.errlines[0] == (
        "ERROR: --modellens-base-url: is for one provider "
        "(give each its own: --provider f:vllm=URL --provider openai=URL)"
    )


def test_everything_that_pyproject_says_of_a_server_is_used(
    project: Project, server: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAST_KEY", "key-of-the-fast")
    monkeypatch.setenv("GATEWAY", "gateway-secret")
    project.write(
        "pyproject.toml",
        f"""
        {ENTRY}
        provider = "vllm"
        base_url = "{server.url}/"
        api_key_env = "FAST_KEY"
        model = "mine"
        timeout = "90s"
        headers = {{X-Team = "search", X-Gateway-Key = {{env = "GATEWAY"}}}}
        """,
    )
    project.case()
    result = project.run(None, "--provider=fast", "-v", "--setup-show")
    result.stdout.fnmatch_lines([f"modellens: fast:vllm={server.url}", "*a[[]fast]*"])
    assert {chat["model"] for chat in server.chats} == {"mine"}
    headers = server.headers[-1]
    assert headers["Authorization"] == "Bearer key-of-the-fast"
    assert (headers["X-Team"], headers["X-Gateway-Key"]) == ("search", "gateway-secret")
    assert server.page_headers["/health"]["X-Gateway-Key"] == "gateway-secret"
    (folder,) = project.folders
    for path in folder.iterdir():
        assert "gateway-secret" not in path.read_text(encoding="utf-8")
    assert settings(project, "--provider=fast").providers[0] == ProviderSpec(
        "fast",
        "vllm",
        server.url,
        "mine",
        "FAST_KEY",
        {"X-Team": "search", "X-Gateway-Key": HeaderVariable("GATEWAY")},
        90.0,
    )


def test_command_line_wins_over_pyproject_and_pyproject_over_ini(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    project.write(
        "pyproject.toml", ENTRY + 'provider = "vllm"\nmodel = "table"\nbase_url = "http://table"\ntimeout = 3'
    )
    assert only(project, "--provider=fast").model == "table"
    project.pytester.makeini("[pytest]\nmodellens_model = ini\nmodellens_timeout = 7s\n")
    assert (only(project, "--provider=fast").model, only(project, "--provider=fast").timeout) == ("table", 3.0)
    assert only(project, "--provider=vllm").model == "ini"
    monkeypatch.setenv("MODELLENS_MODEL", "environment")
    assert only(project, "--provider=fast").model == "environment"
    assert only(project, "--provider=fast", "--modellens-model=option").model == "option"
    assert only(project, "--provider=fast=http://other").base_url == "http://other"


def test_provider_under_its_own_name_gets_other_defaults(project: Project) -> None:
    project.write("pyproject.toml", '[tool.modellens.providers.vllm]\nbase_url = "http://gpu-1:8000/v1"\n')
    assert only(project, "--provider=vllm").base_url == "http://gpu-1:8000/v1"
    assert only(project, "--provider=again:vllm")[:3] == ("again", "vllm", "http://gpu-1:8000/v1")


@pytest.mark.parametrize("text", ["", "[tool.other]\nx = 1", "[tool.modellens]"])
def test_pyproject_without_the_table_says_nothing(project: Project, text: str) -> None:
    project.write("pyproject.toml", text)
    assert only(project, "--provider=vllm") == ProviderSpec("vllm", "vllm")


WHERE = "pyproject.toml: [tool.modellens.providers.fast]"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "[tool]\nmodellens = 1",
            "pyproject.toml: [tool.modellens]: must be a table with the table 'providers' (got 1)",
        ),
        (
            "[tool.modellens]\nrounds = 3",
            (
                "pyproject.toml: [tool.modellens]: unknown key 'rounds' (known: prices, providers; "
                "options are pytest's: "
                "modellens_rounds)"
            ),
        ),
        (
            "[tool.modellens]\nproviders = 3",
            "pyproject.toml: [tool.modellens]: must be a table with the table 'providers' (got {'providers': 3})",
        ),
        (
            "[tool.modellens.providers]\nfast = 1",
            f'{WHERE}: must be a table such as {{provider = "vllm", base_url = "URL"}} (got 1)',
        ),
        (ENTRY, f"{WHERE}: unknown provider 'fast' (known: auto, *"),
        (ENTRY + "provider = 7", f"{WHERE}: provider: must be text (got 7)"),
        (ENTRY + 'provider = "vlm"', f"{WHERE}: unknown provider 'vlm' (did you mean 'vllm'? *"),
        (
            '[tool.modellens.providers."a b"]\nprovider = "vllm"',
            "pyproject.toml: [tool.modellens.providers.a b]: the name 'a b' must be of *",
        ),
        (
            '[tool.modellens.providers.vllm]\nprovider = "openai"',
            "*: provider: 'vllm' is a provider's own name (got 'openai'; choose another name)",
        ),
        (
            ENTRY + 'provider = "vllm"\nbaseurl = "http://h"',
            f"{WHERE}: unknown key 'baseurl' (did you mean 'base_url'? known: provider, base_url, api_key_env, *",
        ),
        (
            ENTRY + 'provider = "vllm"\napi_key = "sk-verysecret"',
            (
                f"{WHERE}: api_key: a secret does not belong into this file (put it into an environment variable, and "
                'its name here: api_key_env = "NAME")'
            ),
        ),
        (
            ENTRY + 'provider = "vllm"\napi_key_env = "sk-verysecret"',
            (
                f"{WHERE}: api_key_env: must be the name of an environment variable, such as VLLM_API_KEY (got str of "
                "13 characters)"
            ),
        ),
        (ENTRY + 'provider = "vllm"\napi_key_env = 7', f"{WHERE}: api_key_env: must be text that is not empty (got 7)"),
        (
            ENTRY + 'provider = "vllm"\nbase_url = "http://u:sk-verysecret@h"',
            f"{WHERE}: base_url: holds a user and a password (put it *",
        ),
        (
            ENTRY + 'provider = "vllm"\nbase_url = "host:8000"',
            f"{WHERE}: base_url: must be a URL such as http://127.0.0.1:8000/v1 (got 'host:8000')",
        ),
        (ENTRY + 'provider = "vllm"\nmodel = ""', f"{WHERE}: model: must be text that is not empty (got '')"),
        (
            ENTRY + 'provider = "vllm"\ntimeout = "soon"',
            f"{WHERE}: timeout: must be a duration such as 60s, 2m or 500ms (got 'soon')",
        ),
        (ENTRY + 'provider = "vllm"\ntimeout = true', f"{WHERE}: timeout: must be text that is not empty (got True)"),
        (ENTRY + 'provider = "vllm"\ntimeout = -1', f"{WHERE}: timeout: must be a duration *(got -1)"),
        (
            ENTRY + 'provider = "vllm"\nheaders = 7',
            f'{WHERE}: headers: must be a table such as {{X-Team = "search"}} *',
        ),
        (
            ENTRY + 'provider = "vllm"\nheaders = {X-Team = 7}',
            f"{WHERE}: headers: 'X-Team' must be text or {{env = \"NAME\"}} (got 7)",
        ),
        (
            ENTRY + 'provider = "vllm"\nheaders = {X-Team = "a\\nb"}',
            f"{WHERE}: headers: 'X-Team' must be text or {{env = \"NAME\"}} (got str of 3 characters)",
        ),
        (
            ENTRY + 'provider = "vllm"\nheaders = {Authorization = "Bearer verysecret"}',
            f'{WHERE}: headers: Authorization holds a secret (put it *: Authorization = {{env = "NAME"}})',
        ),
        (
            ENTRY + 'provider = "vllm"\nheaders = {X-Other = "sk-verysecret"}',
            f"{WHERE}: headers: X-Other holds a secret (put it *",
        ),
    ],
)
def test_table_that_cannot_be_used_is_a_usage_error(project: Project, text: str, message: str) -> None:
    project.write("pyproject.toml", text)
    result = project.run(None, "--provider=vllm")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert "verysecret" not in result.stderr.str()
    result.stderr.fnmatch_lines([f"ERROR: {message}".replace("[", "[[]")])
    assert project.run(None, "--collect-only").ret == pytest.ExitCode.NO_TESTS_COLLECTED


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\xff\xfe", "pyproject.toml: cannot be read ("),
        (b"[tool", "pyproject.toml: is no TOML ("),
        (b"tool = 1", None),
    ],
)
def test_file_that_is_no_toml_is_told(tmp_path: Path, content: bytes, message: str | None) -> None:
    # pytest reads the file too, and most versions of it fail on these before the plugin is asked.
    (tmp_path / "pyproject.toml").write_bytes(content)
    config: Any = SimpleNamespace(rootpath=tmp_path)
    if message is None:
        assert named_providers(config) == {}
        return
    with pytest.raises(ConfigError) as caught:
        named_providers(config)
    assert str(caught.value).startswith(message)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("", "the variable GATEWAY is not set (export GATEWAY=…)"),
        ("a\nb", "the variable GATEWAY holds characters that no header can carry"),
    ],
)
def test_variable_of_a_header_that_cannot_be_sent_is_told(
    project: Project, server: FakeServer, monkeypatch: pytest.MonkeyPatch, value: str, message: str
) -> None:
    monkeypatch.setenv("GATEWAY", value)
    header = 'headers = {X-Key = {env = "GATEWAY"}}'
    project.write("pyproject.toml", f'{ENTRY}provider = "vllm"\nbase_url = "{server.url}"\n{header}\n')
    project.case()
    result = project.run(None, "--provider=fast")
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines([f"*fast: headers.X-Key: {message}"])


def test_server_that_is_not_there_is_named_as_the_user_did(project: Project) -> None:
    project.case()
    result = project.run(None, "--provider=fast:vllm=http://127.0.0.1:9/v1", "-rs")
    result.stdout.fnmatch_lines(["SKIPPED * fast (vllm): no server at http://127.0.0.1:9/v1 (start it: vllm serve *"])


def test_settings_hold_no_secret(project: Project) -> None:
    spec: Any = only(project, "--provider=fast:vllm=http://joe:secret@h")
    assert repr(spec) == "fast"
