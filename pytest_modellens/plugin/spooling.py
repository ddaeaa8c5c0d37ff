"""Records of loads in a pytest session: written by the process that measures, adopted by the one that records."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_modellens.plugin.stash import RUN_FOLDER, new_evidence

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    import pytest

    from pytest_modellens.plugin.stash import Evidence
    from pytest_modellens.record import Record
    from pytest_modellens.storage import RunFolder
    from pytest_modellens.storage.spool import Spool
    from pytest_modellens.suite.case import Cell

__all__ = ["adopt", "hand_over", "of_killed_workers", "spool_of"]

_LISTS = {"itl_ms", "inter_chunk_ms"}


def spool_of(config: pytest.Config, cell: Cell) -> Spool | None:
    """Return where the records of `cell` go while it is measured; None: they stay in memory.

    They do in a cell without a load, where there is no folder or its disk is full, and where a project changes records
    before they are written: nothing may be on disk that it has not seen.
    """
    from pytest_modellens.errors import StorageError
    from pytest_modellens.storage.spool import Spool

    folder = config.stash.get(RUN_FOLDER, None)
    if cell.case.load is None or folder is None or config.hook.pytest_modellens_update_record.get_hookimpls():
        return None
    worker: dict[str, Any] = getattr(config, "workerinput", {})
    limited = {limit.metric for limit in cell.case.limits}
    try:
        return Spool(Path(folder), worker.get("workerid", "main"), keeping=frozenset(_LISTS & limited))
    except (StorageError, OSError):
        return None


def hand_over(evidence: Evidence, spool: Spool, records: Sequence[Record], shared: Mapping[str, Any]) -> None:
    """Add a load's records to what its test measured: where they are, or themselves where the disk was full.

    Args:
        evidence: of the test.
        spool: what holds the records.
        records: what of them stayed in memory, as they were judged.
        shared: fields that are the same in all of them.
    """
    from msgspec.structs import asdict

    from pytest_modellens.storage.spool import Judged

    judged = Judged(spool, records)
    spool.close()
    if spool.is_on_disk and len(spool):
        evidence["spools"].append({"file": spool.path.name, "changes": judged.changes(), "shared": shared})
        return
    evidence["records"] += [{**asdict(record), **shared} for record in judged]
    spool.remove()


def adopt(
    folder: RunFolder,
    spooled: Mapping[str, Any],
    updated: Callable[[Iterable[dict[str, Any]]], Iterable[dict[str, Any]]],
) -> None:
    """Write a load's records to requests.jsonl, `updated` by the session's hooks. Ctrl-C waits until it is done.

    Raises:
        StorageError: they cannot be read, or not all be written now; they are kept and written with what comes next.
    """
    from pytest_modellens.errors import StorageError
    from pytest_modellens.load.interrupt import deferred_interrupt
    from pytest_modellens.storage.spool import judged_rows

    path = folder.path / spooled["file"]
    # Whoever reads the run after a kill knows by the name where in requests.jsonl these records begin.
    begun = path.with_name(f"{path.stem}@{folder.size}.jsonl")
    with deferred_interrupt() as interrupt:
        try:
            path.rename(begun)
            with suppress(StorageError):
                folder.append(updated(judged_rows(begun, spooled["changes"], spooled["shared"])))
            begun.unlink()
        except OSError as exc:
            raise StorageError(f"{path}: the records of a load cannot be read ({exc.strerror})") from exc
        folder.append([])  # where the disk was full, there is room again for what the file held
    interrupt.check()


def of_killed_workers(folder: Path) -> Iterator[Evidence]:
    """Yield what is left of loads whose processes were killed: nobody has judged them, and their records say so."""
    from pytest_modellens.storage.spool import left_spools

    for path, begins in left_spools(folder):
        if begins is None:
            yield {**new_evidence(), "spools": [{"file": path.name, "changes": None, "shared": {}}]}
