"""What a project's own hooks make of records and of run.json before they are written."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pytest_modellens.report.cell_key import cell_key
from pytest_modellens.report.columns import KEY
from pytest_modellens.storage.lines import there_and_back

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    import pytest

    from pytest_modellens.report.cell_key import CellKey

__all__ = ["UpdatedCells", "updated_run"]


class UpdatedCells:
    """The cells of one item's records: a hook may add to the fields that name them, and what else is known follows."""

    def __init__(self, config: pytest.Config, *, is_updated: bool = False) -> None:
        """Begin with none; the hook has had its turn with records that are `is_updated`."""
        self._config, self._hook = config, config.hook.pytest_modellens_update_record
        self._calls = bool(self._hook.get_hookimpls()) and not is_updated
        self._became: dict[CellKey, dict[CellKey, None]] = {}
        self.names: dict[CellKey, dict[str, Any]] = {}
        """The fields that name each cell, as its records have them now."""

    def updated(self, record: dict[str, Any]) -> dict[str, Any]:
        """Return `record`, or a plain copy that the hook has changed."""
        before = now = cell_key(record)
        if self._calls:
            record = there_and_back(record)
            before = cell_key(record)
            self._hook(config=self._config, record=record)
            now = cell_key(record)
        self._became.setdefault(before, {})[now] = None
        if now not in self.names:
            self.names[now] = there_and_back({name: record[name] for name in KEY})
        return record

    def follow(self, rows: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
        """Return rows about cells under the names that their records have now; under each, where these are several."""
        found = []
        for row in rows:
            key = cell_key(row)
            found += [row | self.names.get(now, {}) for now in self._became.get(key, (key,))]
        return found


def updated_run(config: pytest.Config, meta: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return what run.json is to say, of all that is known of the run."""
    hook = config.hook.pytest_modellens_update_run
    if not hook.get_hookimpls():
        return meta
    run: dict[str, Any] = there_and_back(meta)
    hook(config=config, run=run)
    return run
