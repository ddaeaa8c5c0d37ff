"""For authors of providers: a test class to subclass, which checks all that the provider contract promises.

>>> class TestAcme(ProviderContract):
...     provider_class = Acme
"""

from __future__ import annotations

from pytest_modellens.testing.contract import ProviderContract
from pytest_modellens.testing.scripted import ScriptedServer

__all__ = ["ProviderContract", "ScriptedServer"]
