"""What a run says of its tests and of the gate, in JUnit and in the terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING
from xml.etree import ElementTree

if TYPE_CHECKING:
    import pytest

    from tests.plugin.conftest import Project

__all__ = ["failures", "gate_fits"]


def failures(project: Project) -> dict[str, set[str]]:
    """Return the names of the tests in junit.xml, by what went wrong; it counts them alike."""
    suite = ElementTree.parse(project.path / "junit.xml").getroot()[0]
    found: dict[str, set[str]] = {"failure": set(), "error": set(), "passed": set()}
    for case in suite.iter("testcase"):
        kind = next((child.tag for child in case if child.tag in found), "passed")
        found[kind].add(str(case.get("name")))
    counts = {name: int(suite.get(name, "")) for name in ("tests", "failures", "errors")}
    assert counts == {
        "tests": len([*suite.iter("testcase")]),
        "failures": len(found["failure"]),
        "errors": len(found["error"]),
    }
    return found


def gate_fits(result: pytest.RunResult) -> bool:
    """Return whether what the gate says, and all below it, fits a terminal of 80 columns."""
    begins = next(at for at, line in enumerate(result.outlines) if "modellens gate" in line)
    return all(len(line) <= 80 for line in result.outlines[begins:])
