"""Projects that do not use the plugin do not notice it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.plugin.conftest import Project
    from tests.plugin.fake_server import FakeServer


@pytest.mark.parametrize(
    "text",
    [
        "jobs: [build]\n",
        "cases: [1, 2]\n",
        "cases:\n- {input: 1, output: 2}\n",
        "prompt: x\n",
        "\tnot: [yaml\n",
        "",
    ],
)
def test_yaml_of_somebody_else_is_left_alone(project: Project, text: str) -> None:
    project.suite(text)
    project.write("test_own.py", "def test_own(): pass\n")
    result = project.run(None, "-W", "error")
    result.assert_outcomes(passed=1)
    said = [line for line in result.outlines if not line.startswith(("plugins:", "rootdir:"))]
    assert "modellens" not in "".join(said)
    assert not (project.path / "results").exists()


def test_unreadable_yaml_is_left_alone(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    project.suite().unlink()
    (project.path / "suites" / "chat.yaml").symlink_to("nowhere")
    project.write("test_own.py", "def test_own(): pass\n")
    project.run(None).assert_outcomes(passed=1)


def test_fixtures_of_the_same_names_are_the_projects_own(project: Project) -> None:
    project.write(
        "test_own.py",
        """
        import pytest

        @pytest.fixture(params=[1, 2])
        def provider(request):
            return request.param

        @pytest.fixture
        def model(): return "mine"

        @pytest.fixture
        def cell(): return "mine"

        def test_own(provider, model, cell):
            assert (model, cell) == ("mine", "mine")
        """,
    )
    result = project.run(None, "-W", "error", "--strict-markers")
    result.assert_outcomes(passed=2)
    assert not (project.path / "results").exists()


def test_argument_that_a_test_parametrizes_itself_is_its_own(project: Project, server: FakeServer) -> None:
    project.write(
        "test_own.py",
        """
        import pytest

        @pytest.mark.parametrize("provider, n", [("x", 1), ("y", 2)])
        def test_text(provider, n): assert provider in "xy"

        @pytest.mark.parametrize(argnames=["provider"], argvalues=[("z",)])
        def test_list(provider): assert provider == "z"

        @pytest.mark.parametrize("other", ["z"])
        def test_other(provider, other): assert provider.name == "llamacpp"
        """,
    )
    project.run(server).assert_outcomes(passed=4)
    project.run(None).assert_outcomes(passed=3, skipped=1)


def test_suite_without_a_provider_is_skipped_with_the_way_to_run_it(project: Project) -> None:
    project.suite()
    result = project.run(None, "-rs", "-v")
    result.assert_outcomes(skipped=3)
    result.stdout.fnmatch_lines(
        [
            "suites/chat.yaml::capital[[]no-provider] SKIPPED*",
            "*no provider was asked for (give --provider NAME; known:*",
        ]
    )
    assert not (project.path / "results").exists()


def test_mistake_in_a_suite_is_told_without_a_provider_too(project: Project) -> None:
    project.suite("cases:\n- {name: a, prompt: hi, tempratur: 0}\n")
    result = project.run(None, "--collect-only")
    assert result.ret == pytest.ExitCode.INTERRUPTED
    result.stdout.fnmatch_lines(
        ["suites/chat.yaml:2: unknown key 'tempratur' in case 'a' (did you mean 'temperature'?)"]
    )
