"""The behaviour tests that amplifier_core ships; its plugin mounts the provider that `--module-path` names."""

from __future__ import annotations

from amplifier_core.validation.behavioral import ProviderBehaviorTests


class TestShippedBehaviour(ProviderBehaviorTests):
    """Nothing of ours: it is theirs that counts."""
