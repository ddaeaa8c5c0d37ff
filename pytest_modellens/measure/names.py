"""Host names to addresses, within a time that the system's own look-up does not promise."""

from __future__ import annotations

import socket
import threading

from pytest_modellens.errors import ConnectError

__all__ = ["Addresses", "look_up"]

Addresses = list[tuple[int, tuple[object, ...]]]
"""(address family, socket address), in the order in which they are to be tried."""


def look_up(host: str, port: int, *, timeout_s: float) -> Addresses:
    """Return where `host` is.

    Raises:
        ConnectError: nobody knows the name, or nobody has answered after `timeout_s`.
    """
    found: list[Addresses | OSError | UnicodeError] = []

    def ask() -> None:
        try:
            answers = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
            found.append([(family, tuple(address)) for family, _, _, _, address in answers])
        except (OSError, UnicodeError) as exc:
            found.append(exc)

    # A look-up cannot be broken off; one that is given up ends by itself, unread.
    asking = threading.Thread(target=ask, name="modellens-look-up", daemon=True)
    asking.start()
    asking.join(timeout_s)
    if not found:
        raise ConnectError(f"host {host!r}: no answer from the name server within {timeout_s:g} s")
    answer = found[0]
    if isinstance(answer, Exception):
        reason = answer.strerror if isinstance(answer, OSError) else str(answer)
        raise ConnectError(f"host {host!r} is unknown ({reason})") from answer
    return answer
