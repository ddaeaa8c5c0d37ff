"""`--provider auto`: the server is looked for once a run, before anything is collected, and never when nothing runs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_modellens.plugin.options import AUTO

if TYPE_CHECKING:
    from pytest_modellens.plugin.options import ProviderSpec, Settings

__all__ = ["look_for_servers", "resolved"]


def look_for_servers(settings: Settings) -> dict[str, dict[str, str]]:
    """Return, for each `auto` of the command line, the server that was found or why there is none."""
    from pytest_modellens.providers.discovery import find_servers
    from pytest_modellens.report.providers_table import why_found, why_none

    found: dict[str, dict[str, str]] = {}
    for spec in settings.servers:
        if spec.name != AUTO or spec.serve:
            continue
        search = find_servers(spec.base_url)
        best = search.best
        if best is None:
            found[spec.label] = {"why": why_none(search)}
        else:
            found[spec.label] = {"name": best.name, "base_url": best.base_url, "why": why_found(search)}
    return found


def resolved(spec: ProviderSpec, settings: Settings, found: dict[str, dict[str, str]]) -> ProviderSpec | str:
    """Return `spec` with the server that was found in the place of `auto`, or why there is none."""
    if spec.name != AUTO or spec.serve:
        return spec
    server = found[spec.label]
    if "name" not in server:
        return f"{AUTO}: {server['why']}"
    name = server["name"]
    # Records name what was measured: they are to be compared with runs that asked for it by name.
    is_free = all(other.label != name for other in settings.servers)
    label = name if spec.label == AUTO and is_free else spec.label
    return spec._replace(label=label, name=name, base_url=server["base_url"])
