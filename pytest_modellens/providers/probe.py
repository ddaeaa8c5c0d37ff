"""What a server says of itself at its public pages, and what that makes of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Fact", "Page", "Pages"]


class Fact(NamedTuple):
    """Why a server is taken for one of a kind."""

    text: str
    """What was seen and where, such as "/props names a build_info"."""
    is_own: bool = True
    """False for what servers of other kinds say as well; such a fact yields to one that only its kind has."""


class Page(NamedTuple):
    """The answer to one GET."""

    status: int
    json: Any
    """None for what is no JSON, and for an error status."""


class Pages:
    """The pages of one server that were asked for and answered in time."""

    def __init__(self, port: int, pages: Mapping[str, Page]) -> None:
        self.port = port
        """Where the server listens."""
        self._pages = pages

    def status(self, path: str) -> int | None:
        """Return the HTTP status of the page; None when it did not answer."""
        return self._pages[path].status if path in self._pages else None

    def object(self, path: str) -> dict[str, Any]:
        """Return the JSON object at `path`; an empty one when there is none."""
        found = self._pages[path].json if path in self._pages else None
        return found if isinstance(found, dict) else {}

    def entries(self, path: str, key: str = "data") -> list[dict[str, Any]]:
        """Return the objects in the list that the object at `path` has under `key`; an empty list without one."""
        found = self.object(path).get(key)
        return [entry for entry in found if isinstance(entry, dict)] if isinstance(found, list) else []

    def owners(self, path: str = "/v1/models") -> set[str]:
        """Return who owns the models of an OpenAI-compatible list (`owned_by`)."""
        return {owner for entry in self.entries(path) if isinstance(owner := entry.get("owned_by"), str)}
