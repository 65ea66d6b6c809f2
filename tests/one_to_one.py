"""Each module has a test file of its own that alone covers it, branches too: run after pytest, on its measurements.

`pytest --cov --cov-context=test` notes which test ran which line; what ran outside of any test, at import, counts for
everybody.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path

from coverage import Coverage
from coverage.exceptions import CoverageException

ROOT = Path(__file__).parent.parent

#: Tests of no one module.
CROSS_CUTTING = {"tests/test_docs.py", "tests/test_layers.py", "tests/test_packaging.py"}
CROSS_CUTTING_DIRECTORIES = {"tests/benchmarks", "tests/integration", "tests/regressions"}
#: Test files that aren't named after their module.
NAMED_OTHERWISE = {"wshost/__init__.py": "tests/test_exports.py"}


def has_code(module: Path) -> bool:
    """Whether there is more in a module than its docstring."""
    return len(ast.parse(module.read_text()).body) > 1


def pairs() -> dict[str, str]:
    """The test file of each module that has code, existing or not."""
    modules = (path for path in sorted(ROOT.glob("wshost/**/*.py")) if has_code(path))
    names = [path.relative_to(ROOT).as_posix() for path in modules]
    return {name: NAMED_OTHERWISE.get(name) or re.sub(r"^wshost/(.*/)?", r"tests/\1test_", name) for name in names}


def strangers(expected: set[str]) -> Iterator[str]:
    """The test files that belong to no module."""
    for path in sorted(ROOT.glob("tests/**/test_*.py")):
        name = path.relative_to(ROOT).as_posix()
        if name in expected | CROSS_CUTTING or CROSS_CUTTING_DIRECTORIES & {p.as_posix() for p in Path(name).parents}:
            continue
        yield name


def uncovered(measured: Coverage, module: str, test: str) -> str:
    """What of a module its test file does not cover: lines, and lines that leave in too few ways; empty at 100 %."""
    measured.get_data().set_query_contexts([f"^$|^{re.escape(test)}::"])
    path = str(ROOT / module)
    _, _, _, missing, ranges = measured.analysis2(path)
    branches = measured.branch_stats(path).items()
    partial = [f"{line}→" for line, (ways, taken) in sorted(branches) if taken < ways and line not in missing]
    return ", ".join(filter(None, [ranges, *partial]))


def offenders() -> Iterator[tuple[str, str, str]]:
    """Module, test file, and what is wrong between the two."""
    measured = Coverage()
    measured.load()
    if not measured.get_data().measured_contexts() - {""}:
        raise CoverageException("nothing is known of what each test covers: run pytest --cov --cov-context=test")
    expected = pairs()
    for module, test in expected.items():
        if not (ROOT / test).exists():
            yield module, test, "does not exist"
        elif lines := uncovered(measured, module, test):
            yield module, test, f"does not cover {lines}"
    for test in strangers(set(expected.values())):
        yield "-", test, "belongs to no module"


def main() -> int:
    """Print a table of all offenders.

    :returns: the exit status.
    """
    try:
        found = list(offenders())
    except CoverageException as error:
        sys.exit(f"one_to_one: {error}")
    if not found:
        print(f"one_to_one: each of {len(pairs())} modules is covered by its own test file")
        return 0
    widths = [max(len(row[column]) for row in found) for column in (0, 1)]
    print(f"one_to_one: {len(found)} offenders (a number is a line; with an arrow, not every way out of it was taken)")
    for module, test, fault in found:
        print(f"  {module:{widths[0]}}  {test:{widths[1]}}  {fault}")
    return 1


if __name__ == "__main__":
    sys.exit(main())
