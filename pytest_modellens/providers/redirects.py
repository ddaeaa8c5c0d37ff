"""Redirects of the control plane, which a server in front of the one that was meant may send anywhere."""

from __future__ import annotations

from typing import TYPE_CHECKING

from requests import Session

if TYPE_CHECKING:
    from collections.abc import Mapping

    from requests import PreparedRequest, Response

__all__ = ["OwnHeadersSession"]


class OwnHeadersSession(Session):
    """A session whose `headers` go to the server that they are meant for, and to no other.

    requests takes only `Authorization` off a request that is redirected elsewhere, curl `Cookie` too; but a key goes by
    any name (`X-Api-Key`, `Ocp-Apim-Subscription-Key`), and who set a header had one server in mind. Elsewhere is, as
    requests has it, another host, scheme or port, but for the same host from http to https on their usual ports.
    """

    def __init__(self, headers: Mapping[str, str]) -> None:
        super().__init__()
        self._own = tuple(headers)
        self.headers.update(headers)

    def rebuild_auth(self, prepared_request: PreparedRequest, response: Response) -> None:
        """Take off what must not go along; called for every redirect, with the request that follows it."""
        before, url = response.request.url, prepared_request.url
        if before is None or url is None or self.should_strip_auth(before, url):  # type: ignore[no-untyped-call]
            for name in self._own:
                prepared_request.headers.pop(name, None)
        super().rebuild_auth(prepared_request, response)  # type: ignore[no-untyped-call]
