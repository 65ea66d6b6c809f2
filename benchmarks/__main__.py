"""The command: reads its arguments, measures cell after cell, and prints the tables."""

from __future__ import annotations

import argparse
import json
import os
import re
import resource
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from benchmarks.building import UnavailableError
from benchmarks.cells import CELLS
from benchmarks.charts import draw
from benchmarks.children import CHILDREN
from benchmarks.importing import brought_in
from benchmarks.measure import ALONE, Pace, measure
from benchmarks.peers import PEERS
from benchmarks.report import Report, machine
from benchmarks.running import CORES
from benchmarks.samples import Result
from benchmarks.turns import impossible, kept_back

#: A quick run has only the servers that are best in some cell, and the limit.
QUICK_SERVERS = ("wshost", "picows", "picows.websockets", "socketify", "aiohttp", "bun", "limit")
QUICK_PACE = Pace(turns=3, warm_up=0.15, rounds=1)


def say(line: str) -> None:
    """Print a line for the user on stderr, apart from the tables."""
    print(line, file=sys.stderr, flush=True)


def arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser("python -m benchmarks", description="Compares wshost with its peers.")
    parser.add_argument("--quick", action="store_true", help="fewer cells, servers and turns: 5 minutes")
    parser.add_argument("--json", type=_file, metavar="FILE", help="write all figures there")
    parser.add_argument("--markdown", type=_file, metavar="FILE", help="write the tables there, as Markdown")
    parser.add_argument("--charts", type=Path, metavar="DIR", help="draw the tables there, as SVG")
    parser.add_argument("--from-json", type=_report, metavar="FILE", help="measure nothing, but show what --json wrote")
    parser.add_argument("--only", default="", metavar="REGEX", help="cells whose names match; --list shows them")
    parser.add_argument("--servers", default="", metavar="A,B,C", help=f"of {', '.join(PEERS)}")
    parser.add_argument("--turns", type=_turns, metavar="N", help="of each server in a cell [10; quick: 3]")
    parser.add_argument("--seconds", type=_seconds, metavar="S", help="of each turn [0.3]")
    parser.add_argument("--list", action="store_true", help="print the names of all cells, and exit")
    parsed = parser.parse_args(argv)
    if unknown := set(filter(None, parsed.servers.split(","))) - PEERS.keys():
        parser.error(f"there is no server {', '.join(sorted(unknown))}; there are {', '.join(PEERS)}")
    try:
        re.compile(parsed.only)
    except re.error as error:
        parser.error(f"--only {parsed.only}: {error}")
    if not any(re.search(parsed.only, cell.name) for cell in CELLS):
        parser.error(f"--only {parsed.only}: there is no such cell; --list shows them")
    return parsed


def _file(text: str) -> Path:
    path = Path(text)
    if not path.parent.is_dir() or path.is_dir():
        raise argparse.ArgumentTypeError(f"{text} can't be written")
    return path


def _report(text: str) -> Report:
    try:
        return Report.read(json.loads(Path(text).read_text()))
    except OSError as error:
        raise argparse.ArgumentTypeError(f"{text}: {error.strerror}") from None
    except (ValueError, KeyError, TypeError):
        raise argparse.ArgumentTypeError(f"{text} is not what --json writes") from None


def _turns(text: str) -> int:
    if not text.isdecimal() or not int(text):
        raise argparse.ArgumentTypeError(f"{text} is no whole number above 0")
    return int(text)


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds <= 60:
        raise argparse.ArgumentTypeError(f"{text} is no number from 0 to 60")
    return seconds


def available(names: Sequence[str], say: Callable[[str], None]) -> dict[str, str]:
    """Return the versions of the servers that can run here; print which can't."""
    versions = {}
    for name in names:
        try:
            versions[name] = PEERS[name].version()
        except UnavailableError as error:
            say(f"{name} is left out: {error}")
    return versions


def run(asked: argparse.Namespace) -> Report:
    """Measure what was asked for."""
    notes: list[str] = []

    def note(line: str) -> None:
        say(line)
        notes.append(line)

    # If cells are named, `--quick` leaves none of them out.
    cells = [
        cell for cell in CELLS if (re.search(asked.only, cell.name) if asked.only else cell.quick or not asked.quick)
    ]
    names = [name for name in PEERS if name in asked.servers.split(",")] or list(PEERS)
    if asked.quick and not asked.servers:
        names = [name for name in names if name in QUICK_SERVERS]
    pace = QUICK_PACE if asked.quick else Pace()
    pace = replace(pace, turns=asked.turns or pace.turns, seconds=asked.seconds or pace.seconds)

    CHILDREN.watch_signals()
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    os.sched_setaffinity(0, {CORES[-1]})
    if len(CORES) == 1:
        note("there is only one core: servers and load share it, and the figures say little")
    if asked.quick:
        note(f"quick: without {', '.join(cell.name for cell in CELLS if cell not in cells)}")
        note(f"quick: without {', '.join(name for name in PEERS if name not in names)}")
    versions = available(names, note)
    peers = [PEERS[name] for name in versions]
    in_python = [cell for cell in cells if kept_back(cell) and not impossible(cell) and cell.kind not in ALONE]
    for why in dict.fromkeys(map(kept_back, in_python)):
        note(
            f"with the load in Python, as {why}: {', '.join(cell.name for cell in in_python if kept_back(cell) == why)}"
        )
    # A cell may show another figure of a cell that is measured already.
    measured: dict[str, list[Result]] = {}
    results: list[Result] = []
    start = time.monotonic()
    try:
        for number, cell in enumerate(cells, 1):
            say(f"[{number}/{len(cells)}, {time.monotonic() - start:.0f} s] {cell.name}")
            source = next((one for one in CELLS if one.name == cell.of), cell)
            if source.name not in measured:
                measured[source.name] = measure(source, peers, pace, note)
            results += [replace(result, cell=cell.name) for result in measured[source.name]]
    except KeyboardInterrupt:
        note("interrupted: cells that were not complete are missing")
    finally:
        CHILDREN.end_all()
    notes.append(f"import wshost brings in {', '.join(brought_in('wshost')) or 'no reactor, no TLS'}")
    rivals = {peer.name: peer.language for peer in peers if peer.rival}
    return Report(results, versions, rivals, machine(), notes)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmarks, or show the figures of an earlier run.

    :returns: the exit status: 0 when there are figures, else 1.
    """
    asked = arguments(argv)
    if asked.list:
        print("\n".join(f"{cell.name:16} {cell.group}" for cell in CELLS))
        return 0
    try:
        report = asked.from_json or run(asked)
    except KeyboardInterrupt:
        say("interrupted: nothing is known")
        return 130
    print(report.text())
    if asked.json:
        asked.json.write_text(json.dumps(report.data(), indent=1, ensure_ascii=False) + "\n")
    if asked.markdown:
        asked.markdown.write_text(report.markdown())
    if asked.charts:
        for path in draw(report, asked.charts):
            say(f"drawn: {path}")
    return 0 if report.cells else 1


if __name__ == "__main__":
    sys.exit(main())
