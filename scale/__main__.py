"""The command: runs the rows, prints a line of JSON for each, and a table in the end. Does not know what they do."""

from __future__ import annotations

import argparse
import os
import re
import resource
import sys
from collections.abc import Sequence

from benchmarks.children import CHILDREN
from benchmarks.running import CORES
from scale.rows import rows
from torture.attempt import attempt
from torture.figures import table


def arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser("python -m scale", description="Says what several processes cost and survive.")
    parser.add_argument("--long", action="store_true", help="more turns and more faults: an hour")
    parser.add_argument("--only", default="", metavar="REGEX", help="rows whose names match; --list shows them")
    parser.add_argument("--list", action="store_true", help="print the names of all rows, and exit")
    parsed = parser.parse_args(argv)
    try:
        re.compile(parsed.only)
    except re.error as error:
        parser.error(f"--only {parsed.only}: {error}")
    if not any(re.search(parsed.only, row.name) for row in rows(parsed.long)):
        parser.error(f"--only {parsed.only}: there is no such row; --list shows them")
    return parsed


def main(argv: Sequence[str] | None = None) -> int:
    """Run the rows.

    :returns: the exit status: 0 when every goal is held, 1 when one is not, 130 when the run was interrupted.
    """
    asked = arguments(argv)
    chosen = [row for row in rows(asked.long) if re.search(asked.only, row.name)]
    if asked.list:
        print("\n".join(row.name for row in chosen))
        return 0
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    os.sched_setaffinity(0, {CORES[-1]})
    CHILDREN.watch_signals()
    outcomes = []
    interrupted = False
    try:
        for row in chosen:
            outcomes.append(attempt(row.name, row.run, "wshost", shared=True))
            print(outcomes[-1].line(), flush=True)
    except KeyboardInterrupt:
        interrupted = True
    finally:
        CHILDREN.end_all()
    print(f"\n{table(outcomes)}")
    if interrupted:
        print("interrupted: later rows are missing", file=sys.stderr)
        return 130
    return 0 if all(outcome.held for outcome in outcomes) else 1


if __name__ == "__main__":
    sys.exit(main())
