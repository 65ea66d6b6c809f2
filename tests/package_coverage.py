"""The tests of a package cover it wholly, lines and branches, alone: run after pytest, on its measurements.

`pytest --cov --cov-context=test` notes which test ran which line. What ran outside of any test, at import, counts for
everybody.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path

from coverage import Coverage
from coverage.exceptions import CoverageException

ROOT = Path(__file__).parent.parent


def package(module: Path) -> Path:
    """The directory of a module's package, from the root: ``wshost/topics``."""
    return module.relative_to(ROOT).parent


def modules() -> list[Path]:
    """Every module of ours."""
    return sorted(ROOT.glob("wshost/**/*.py"))


def tests_of(package: Path) -> str:
    """A pattern for the contexts of a package's own tests: those in the directory of its name, and not below it."""
    directory = Path("tests", *package.parts[1:]).as_posix()
    return rf"^{re.escape(directory)}/test_\w+\.py::"


def uncovered(measured: Coverage, module: Path) -> str:
    """What of a module the tests of its package do not cover: lines, and lines that leave in too few ways."""
    measured.get_data().set_query_contexts([f"^$|{tests_of(package(module))}"])
    path = str(module)
    _, _, _, missing, ranges = measured.analysis2(path)
    branches = measured.branch_stats(path).items()
    partial = [f"{line}→" for line, (ways, taken) in sorted(branches) if taken < ways and line not in missing]
    return ", ".join(filter(None, [ranges, *partial]))


def offenders() -> Iterator[tuple[str, str]]:
    """Each module that is not covered, and where."""
    measured = Coverage()
    measured.load()
    if not measured.get_data().measured_contexts() - {""}:
        raise CoverageException("nothing is known of what each test covers: run pytest --cov --cov-context=test")
    for module in modules():
        if lines := uncovered(measured, module):
            yield module.relative_to(ROOT).as_posix(), lines


def main() -> int:
    """Print a table of all offenders.

    :returns: the exit status.
    """
    try:
        found = list(offenders())
    except CoverageException as error:
        sys.exit(f"package_coverage: {error}")
    if not found:
        print(f"package_coverage: {len(modules())} modules are covered by the tests of their packages")
        return 0
    width = max(len(module) for module, _ in found)
    print("package_coverage: not covered by their packages' tests (a number is a line; an arrow: not every way out)")
    for module, lines in found:
        print(f"  {module:{width}}  {lines}")
    return 1


if __name__ == "__main__":
    sys.exit(main())
