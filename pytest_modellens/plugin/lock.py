"""One measurement at a time per server, whatever the number of processes."""

from __future__ import annotations

import getpass
import hashlib
import os
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from pytest_modellens.errors import StorageError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pytest_modellens.providers.base import ProviderAdapter

__all__ = ["endpoint_lock"]


@contextmanager
def endpoint_lock(provider: ProviderAdapter) -> Iterator[None]:
    """Hold the lock of the provider's server, waiting for it as long as it takes.

    Local models share one lock: they are several processes, but one processor.

    Raises:
        StorageError: the lock file cannot be made.
    """
    from filelock import FileLock

    url = urlsplit(getattr(provider, "base_url", ""))
    endpoint = "local" if provider.name == "local" else url.netloc.rpartition("@")[2] or provider.name
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
