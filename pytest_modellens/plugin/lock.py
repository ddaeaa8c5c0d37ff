"""One measurement at a time per server, whatever the number of processes."""

from __future__ import annotations

import getpass
import hashlib
import os
import tempfile
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from pytest_modellens.errors import StorageError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pytest_modellens.providers.base import ProviderAdapter

__all__ = ["LOOPBACK", "endpoint_lock", "machine_lock"]

LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})

_MACHINE = "local"


@contextmanager
def endpoint_lock(*providers: ProviderAdapter) -> Iterator[None]:
    """Hold the locks of the providers' servers, waiting for them as long as it takes.

    The servers that we start share one lock: they are several processes, but one machine.

    Raises:
        StorageError: a lock file cannot be made.
    """
    with ExitStack() as held:
        # In one order for everybody: two runs that each hold one of two locks would wait for ever.
        for endpoint in sorted({*map(_endpoint, providers)}):
            held.enter_context(_locked(endpoint))
        yield


@contextmanager
def machine_lock() -> Iterator[None]:
    """Hold the lock of the servers that we start: while one starts, no other is measured.

    Raises:
        StorageError: the lock file cannot be made.
    """
    with _locked(_MACHINE):
        yield


@contextmanager
def _locked(endpoint: str) -> Iterator[None]:
    from filelock import FileLock

    # A number where there are numbers: containers run as users without a name.
    user = os.getuid() if hasattr(os, "getuid") else getpass.getuser()
    folder = Path(tempfile.gettempdir()) / f"pytest-modellens-{user}"
    path = folder / f"{hashlib.sha256(endpoint.encode()).hexdigest()[:16]}.lock"
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        lock = FileLock(path)
        lock.acquire()
    except OSError as exc:
        raise StorageError(f"{path}: cannot lock the server {endpoint} ({exc.strerror or exc}; set TMPDIR)") from exc
    try:
        yield
    finally:
        lock.release()


def _endpoint(provider: ProviderAdapter) -> str:
    """Return what two providers have in common when they measure the same server, whatever they call it."""
    if provider.server_pid is not None or provider.name == "local":
        return _MACHINE
    url = urlsplit(getattr(provider, "base_url", ""))
    if not url.hostname:
        return provider.name
    host = "localhost" if url.hostname in LOOPBACK else url.hostname
    return f"{host}:{url.port or (443 if url.scheme == 'https' else 80)}"
