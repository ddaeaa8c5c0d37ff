"""Runs on disk: one folder each, appended to while it runs, readable after any crash.

results/20261121T203000Z-smoke/
    run.json         what was run, where and with which options; replaced as a whole
    requests.jsonl   one record a line, append-only
    hardware.jsonl   one hardware series a line, append-only
    server.jsonl     one series of the server's own metrics a line, append-only; only where there were any
    .requests.parquet  a cache of requests.jsonl by column, of a large run that a report was made of
"""

from pytest_modellens.storage.folder import HARDWARE, REQUESTS, SERVER, RunFolder
from pytest_modellens.storage.reading import (
    Run,
    RunInfo,
    find_run,
    iter_requests,
    iter_rows,
    list_runs,
    read_meta,
    read_run,
)

__all__ = [
    "HARDWARE",
    "REQUESTS",
    "SERVER",
    "Run",
    "RunFolder",
    "RunInfo",
    "find_run",
    "iter_requests",
    "iter_rows",
    "list_runs",
    "read_meta",
    "read_run",
]
