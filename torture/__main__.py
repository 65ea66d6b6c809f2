"""The command: runs the tests, prints a line of JSON for each, and a table in the end. Does not know what they do."""

from __future__ import annotations

import argparse
import os
import re
import resource
import sys
from collections.abc import Sequence

from benchmarks.children import CHILDREN
from benchmarks.running import CORES
from torture.attempt import attempt
from torture.figures import table
from torture.tests import PEERS, tests


def arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser("python -m torture", description="Attacks wshost, and says what it survives.")
    parser.add_argument("--long", action="store_true", help="an hour of soak, ten million random inputs: hours")
    parser.add_argument("--only", default="", metavar="REGEX", help="tests whose names match; --list shows them")
    parser.add_argument("--peers", action="store_true", help=f"attack {', '.join(PEERS)}, too, where that is fair")
    parser.add_argument("--list", action="store_true", help="print the names of all tests, and exit")
    parsed = parser.parse_args(argv)
    try:
        re.compile(parsed.only)
    except re.error as error:
        parser.error(f"--only {parsed.only}: {error}")
    if not any(re.search(parsed.only, test.name) for test in tests(parsed.long)):
        parser.error(f"--only {parsed.only}: there is no such test; --list shows them")
    return parsed


def main(argv: Sequence[str] | None = None) -> int:
    """Run the tests.

    :returns: the exit status: 0 when wshost has held every goal, 1 when it has not, 130 when the run was interrupted.
    """
    asked = arguments(argv)
    chosen = [test for test in tests(asked.long) if re.search(asked.only, test.name)]
    if asked.list:
        print("\n".join(test.name for test in chosen))
        return 0
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    os.sched_setaffinity(0, {CORES[-1]})
    CHILDREN.watch_signals()
    outcomes = []
    interrupted = False
    try:
        for test in chosen:
            for server in ("wshost", *(PEERS if asked.peers and test.peers else ())):
                outcomes.append(attempt(test.name, test.run, server))
                print(outcomes[-1].line(), flush=True)
    except KeyboardInterrupt:
        interrupted = True
    finally:
        CHILDREN.end_all()
    print(f"\n{table(outcomes)}")
    if interrupted:
        print("interrupted: later tests are missing", file=sys.stderr)
        return 130
    return 0 if all(outcome.held for outcome in outcomes if outcome.judged) else 1


if __name__ == "__main__":
    sys.exit(main())
