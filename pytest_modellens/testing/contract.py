"""The conformance kit's one class: everything that the provider contract promises, as tests."""

from __future__ import annotations

from typing import Any, ClassVar

from pytest_modellens.testing.answers import AnswerChecks
from pytest_modellens.testing.control import ServerChecks
from pytest_modellens.testing.events import EventChecks
from pytest_modellens.testing.failures import FailureChecks
from pytest_modellens.testing.manners import MannersChecks

__all__ = ["ProviderContract"]


class ProviderContract(ServerChecks, AnswerChecks, FailureChecks, EventChecks, MannersChecks):
    """Subclass it in a test file, say which provider is meant, and run pytest.

    ::

        class TestAcme(ProviderContract):
            provider_class = Acme

    As it stands the provider is checked against a scripted server of the kit, which speaks OpenAI's API or Ollama's
    (`dialect`). To check it against a running server as well, override the fixture `base_url`, and `model` where not
    the first listed model is meant; faults, which no good server can be asked for, still come from the scripted one.
    A provider that is made in another way than `Acme(base_url=…)` overrides `make_provider`. What does not apply is
    named in `opted_out`, each with its reason, which is shown at the end of the run.
    """

    __test__: ClassVar[bool] = False
    """Not collected itself, whatever a project's `python_classes` says."""

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        cls.__test__ = cls.__dict__.get("__test__", True)
