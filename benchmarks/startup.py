"""What the plugin costs a test session: at every start, and when large suites are collected.

    python benchmarks/startup.py [--quick]

Start: `pytest -VV` with the plugin and without it (`-p no:modellens`), in turn; a plain `--version` loads no plugin in
new versions of pytest, and costs nothing. Collection: 10,000 cases in one suite and as 100 suites of 100, beside Python
files of as many tests, which show pytest's own share. CPU time, because other work on the machine stretches wall time.
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

_PROBE = """
import sys, time, pytest
pytest.main(["-VV", *sys.argv[1:]])
loaded = set(sys.modules)
began = time.perf_counter()
import pytest_modellens.plugin, pytest_modellens.plugin.hookspec
print("PROBE", 1e3 * (time.perf_counter() - began), *loaded)
"""
"""Says how long the plugin's import takes where pytest has already started, and what was loaded before it."""
_OWN = ("pytest", "_pytest", "pytest_modellens", "py", "pluggy", "iniconfig", "packaging", "pygments")
"""Packages that are ours, pytest's, or what pytest itself imports."""


def plugin_options() -> list[str]:
    """Return what tells pytest of the plugin, in a checkout that is not installed."""
    return [] if entry_points(group="pytest11", name="modellens") else ["-p", "pytest_modellens.plugin"]


def pytest_command(*options: str) -> list[str]:
    """Return the command line of a pytest that has our plugin, unless `options` leave it out."""
    plugin = [] if "no:modellens" in options else plugin_options()
    return [sys.executable, "-m", "pytest", *plugin, "-p", "no:cacheprovider", *options]


def child_environment(pycache: Path) -> dict[str, str]:
    """Return the environment of a process that finds this checkout, and compiled modules as after an installation."""
    path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    environment = {**os.environ, "PYTHONPATH": path, "PYTHONPYCACHEPREFIX": str(pycache), "NO_PROXY": "127.0.0.1"}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    return environment


def run(command: list[str], folder: Path) -> tuple[float, str]:
    """Return the CPU time that a command took, in seconds, and what it said."""
    environment = child_environment(folder.parent / "pycache")
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(
        command,
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=300,
        check=False,
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    elapsed = after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime
    if done.returncode != 0:
        sys.exit(f"{' '.join(command)}: failed\n{done.stdout[-3000:]}")
    return elapsed, done.stdout


def probe(folder: Path, *options: str) -> tuple[float, set[str]]:
    """Return how many ms the plugin's import takes after a start with `options`, and the modules of that start."""
    _, said = run([sys.executable, "-c", _PROBE, *options], folder)
    took, *modules = said.rpartition("PROBE")[2].split()
    return float(took), set(modules)


def print_start(folder: Path, repeats: int) -> None:
    """Print what the plugin adds to a start."""
    probe(folder, *plugin_options())  # writes the byte code
    import_ms: list[float] = []
    extra_s: list[float] = []
    without_s: list[float] = []
    for _ in range(repeats):
        import_ms.append(probe(folder, "-p", "no:modellens")[0])
        plain, _ = run(pytest_command("-VV", "-p", "no:modellens"), folder)
        ours, _ = run(pytest_command("-VV"), folder)
        without_s.append(plain)
        extra_s.append(ours - plain)
    added = probe(folder, *plugin_options())[1] - probe(folder, "-p", "no:modellens")[1]
    foreign = sorted(name for name in added if name.partition(".")[0] not in {*_OWN, *sys.stdlib_module_names})
    print(f"pytest -VV without the plugin: {1e3 * statistics.median(without_s):.0f} ms (median of {repeats})")
    print(f"importing the plugin, pytest being there: {statistics.median(import_ms):.1f} ms")
    print(f"CPU time that it adds: {1e3 * statistics.median(extra_s):.0f} ms")
    print(f"modules that it adds: {len(added)}; from outside pytest and the standard library: {foreign or 'none'}")


def suite(first: int, cases: int) -> str:
    """Return a suite of so many cases."""
    case = "  - name: case-{0}\n    prompt: Name the number {0}.\n    max_tokens: 8\n"
    return "cases:\n" + "".join(case.format(number) for number in range(first, first + cases))


def written(folder: Path, files: dict[str, str]) -> Path:
    """Return a new root folder that holds `files`."""
    folder.mkdir()
    for name, text in {"pytest.ini": "[pytest]\n", **files}.items():
        (folder / name).write_text(text)
    return folder


def print_collection(folder: Path, cases: int, repeats: int) -> None:
    """Print how long collecting takes, and what it is made of."""
    functions = "".join(f"def test_case_{n}(provider):\n    pass\n" for n in range(cases))
    given = "import pytest\n@pytest.fixture(scope='session', params=['one'])\ndef provider(request):\n    pass\n"
    parametrized = f"import pytest\n@pytest.mark.parametrize('n', range({cases}))\ndef test_case(n):\n    pass\n"
    part = cases // 100
    roots = {
        "1 suite": written(folder / "one", {"all.suite.yaml": suite(0, cases)}),
        "100 suites": written(folder / "many", {f"part-{n}.suite.yaml": suite(n * part, part) for n in range(100)}),
        "1 Python file, a function per test": written(folder / "functions", {"test_all.py": given + functions}),
        "1 Python file, one parametrized function": written(folder / "parameters", {"test_all.py": parametrized}),
    }
    taken: dict[str, list[float]] = {title: [] for title in roots}
    for _ in range(repeats):
        for title, root in roots.items():
            ours = "suite" in title
            options = ("--provider", "local") if ours else ("-p", "no:modellens")
            elapsed, said = run(pytest_command("--collect-only", "-q", *options), root)
            if f"{cases} tests collected" not in said:
                sys.exit(f"{title}: not {cases} tests\n{said[-500:]}")
            taken[title].append(elapsed)
    print(f"\ncollecting {cases:,} tests, the whole command, seconds of CPU time (median of {repeats})")
    for title, times in taken.items():
        print(f"  {title:42} {statistics.median(times):6.2f}")
    print_parts(roots["1 suite"] / "all.suite.yaml", repeats)


def print_parts(path: Path, repeats: int) -> None:
    """Print what loading one suite file is made of."""
    from pytest_modellens.suite.case import suite_hash
    from pytest_modellens.suite.files import read_text
    from pytest_modellens.suite.loader import load_suite
    from pytest_modellens.suite.yamltext import parse_yaml

    def ignore(_line: int, _sentence: str) -> None:
        pass

    text = read_text(path)
    cases = load_suite(path).cases
    total = median_s(lambda: load_suite(path), repeats)
    yaml = median_s(lambda: parse_yaml(text, ignore), repeats)
    hashing = median_s(lambda: suite_hash(cases), repeats)
    print("  of the suite: reading YAML, checking it, hashing the cases")
    print(f"  {'':42} {yaml:6.2f} {total - yaml - hashing:6.2f} {hashing:6.2f}")


def median_s(action: Callable[[], object], repeats: int) -> float:
    """Return the median time of `action` in seconds."""
    times = []
    for _ in range(repeats):
        began = time.perf_counter()
        action()
        times.append(time.perf_counter() - began)
    return statistics.median(times)


def main() -> None:
    """Measure both and print them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="few runs and few cases, to see that it works")
    quick = parser.parse_args().quick
    with tempfile.TemporaryDirectory() as name:
        print_start(written(Path(name) / "empty", {}), 3 if quick else 25)
        print_collection(Path(name), 1000 if quick else 10_000, 1 if quick else 5)


if __name__ == "__main__":
    main()
