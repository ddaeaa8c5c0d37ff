"""Starting servers for a pytest session: with progress, with their logs in the run's folder, one at a time."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import pytest

from pytest_modellens.bridge.surroundings import as_it_was
from pytest_modellens.plugin.lock import machine_lock
from pytest_modellens.plugin.progress import Progress
from pytest_modellens.plugin.stash import RUN_FOLDER
from pytest_modellens.served.server import START_TIMEOUT_S, ModelServer

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pytest_modellens.served.readiness import FirstToken

__all__ = ["fail_for", "log_path", "start_server"]


def start_server(
    config: pytest.Config,
    command: str | Sequence[str],
    how: FirstToken,
    *,
    env: Mapping[str, str] | None = None,
    timeout_s: float | None = None,
) -> ModelServer:
    """Return a server that has given its first token; its log goes to the folder of the run. See `ModelServer`."""
    shown = f"starting {how.name or 'the server'}"
    with Progress(config, shown) as progress, as_it_was():
        server = ModelServer(
            command,
            how,
            env=env,
            log_path=log_path(how.name or "started", config),
            start_timeout_s=timeout_s or START_TIMEOUT_S,
            on_wait=lambda line: progress.say(f"{shown} · {line[:50]}" if line else shown),
        )
        progress.say(f"{shown} · waiting for other measurements")
        with machine_lock():
            progress.say(shown)
            return server.start()


def log_path(label: str, config: pytest.Config) -> Path | None:
    """Return where the log of a server goes; None where the run is not written."""
    folder = config.stash.get(RUN_FOLDER, None)
    worker = os.environ.get("PYTEST_XDIST_WORKER")
    name = f"server-{re.sub(r'[^A-Za-z0-9._-]+', '-', label)}{f'-{worker}' if worker else ''}.log"
    return Path(folder) / name if folder else None


def fail_for(exc: Exception) -> NoReturn:
    """Fail the test with the message alone."""
    raise pytest.fail.Exception(str(exc), pytrace=False) from None
