"""Makes tables and JSON of results. Knows nothing of how they were measured."""

from __future__ import annotations

import platform
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.cells import BEST_PYTHON, CELLS, TITLES, Cell, Goal
from benchmarks.samples import Result, Sample

SUBJECT = "wshost"


@dataclass(frozen=True)
class Verdict:
    """Whether wshost meets the goal of a cell."""

    goal: str
    #: wshost's figure in the unit of the goal: µs, or a multiple of the best peer's figure.
    reached: float | None
    #: None when there is nothing to compare with.
    met: bool | None

    def __str__(self) -> str:
        if self.reached is None or self.met is None:
            return f"goal {self.goal}: not measured"
        return f"goal {self.goal}: {'met' if self.met else 'NOT met'} ({self.reached:.3g})"


class Report:
    """All results of a run.

    :param servers: the servers' versions to show, by name.
    :param rivals: the languages of the servers that wshost is compared with, by name.
    :param machine: facts about the machine on which the figures depend.
    :param notes: further remarks, such as which server was left out and why.
    """

    def __init__(
        self,
        results: Iterable[Result],
        servers: dict[str, str],
        rivals: dict[str, str],
        machine: dict[str, str],
        notes: Iterable[str] = (),
    ) -> None:
        self.servers = servers
        self.machine = machine
        self.notes = list(notes)
        self._rivals = {name: rivals[name] for name in servers if name in rivals}
        self._results = {(result.cell, result.server): result for result in results}
        #: The cells that have results.
        self.cells = [cell for cell in CELLS if any((cell.name, name) in self._results for name in servers)]

    def value(self, cell: Cell, server: str) -> float | None:
        """Return a server's figure that counts in a cell; None if the server was not measured there."""
        result = self._results.get((cell.name, server))
        found = getattr(result.median, cell.figure) if result else None
        return None if found is None else float(found)

    def result(self, cell: Cell, server: str) -> Result | None:
        """Return all figures of a server in a cell."""
        return self._results.get((cell.name, server))

    def best(self, cell: Cell, *, language: str = "") -> tuple[str, float] | None:
        """Return the name and the figure of the best peer.

        :param language: consider only peers whose handlers are written in it.
        """
        known = [
            (name, value)
            for name, written in self._rivals.items()
            if (value := self.value(cell, name)) is not None and language in ("", written)
        ]
        return min(known, key=lambda item: item[1]) if known else None

    def ratio(self, cell: Cell, server: str) -> float | None:
        """Return a server's figure as a multiple of the best peer's."""
        best = self.best(cell)
        return None if best is None else self.compared(cell, server, best[0])

    def compared(self, cell: Cell, server: str, other: str) -> float | None:
        """Return a server's figure as a multiple of another's: the median of the ratios of their turns in each round.

        Within a round, the machine's speed is nearly the same for both; over a run, it may change by half.
        """
        results = [self.result(cell, one) for one in (server, other)]
        mine, theirs = ([getattr(turn, cell.figure) for turn in one.rounds] if one else [] for one in results)
        if len(mine) == len(theirs) and None not in (*mine, *theirs) and mine:
            return float(median(one / base for one, base in zip(mine, theirs, strict=True)))
        value, base = self.value(cell, server), self.value(cell, other)
        return None if value is None or base is None else value / base

    def leader(self, cell: Cell) -> str | None:
        """Return the server with the best figure in a cell: wshost or a peer, never the limit."""
        best, value = self.best(cell), self.value(cell, SUBJECT)
        if value is not None and (best is None or value <= best[1]):
            return SUBJECT
        return best and best[0]

    def _named(self, cell: Cell, goal: Goal) -> str:
        """Return the server with which a goal compares wshost; empty if none was measured."""
        if goal.times == BEST_PYTHON:
            best = self.best(cell, language="Python")
            return best[0] if best else ""
        return goal.times or goal.above

    def base(self, cell: Cell, goal: Goal) -> float | None:
        """Return the figure with which a goal compares wshost's; None if it was not measured."""
        if goal.cell:
            return self.value(next(one for one in CELLS if one.name == goal.cell), SUBJECT)
        return self.value(cell, self._named(cell, goal))

    def limit(self, cell: Cell, goal: Goal) -> float | None:
        """Return the most that wshost's figure may be; None if that depends on a figure that was not measured."""
        if not (goal.times or goal.above or goal.cell):
            return goal.limit
        base = self.base(cell, goal)
        if base is None:
            return None
        return base + goal.limit if goal.above else base * goal.limit

    def verdicts(self, cell: Cell) -> list[Verdict]:
        """Return whether wshost meets each of a cell's goals."""
        value = self.value(cell, SUBJECT)
        return [self._verdict(cell, goal, value) for goal in cell.goals]

    def _verdict(self, cell: Cell, goal: Goal, value: float | None) -> Verdict:
        unit = TITLES[cell.figure]
        if goal.above:
            said = f"≤ {goal.above} + {goal.limit:g} {unit}"
        elif goal.times or goal.cell:
            said = f"≤ {goal.limit:.2f} × {goal.times or goal.cell}"
        else:
            said = f"≤ {goal.limit:g} {unit}"
        limit = self.limit(cell, goal)
        if value is None or limit is None:
            return Verdict(said, None, None)
        if goal.times:
            named = self._named(cell, goal)
            said += f", {named}" if goal.times == BEST_PYTHON else ""
            times = self.compared(cell, SUBJECT, named)
            return Verdict(said, times, None if times is None else times <= goal.limit)
        base = self.base(cell, goal) if goal.cell else None
        return Verdict(said, value if base is None else value / base, value <= limit)

    def text(self) -> str:
        """Return the tables, one for each group of cells."""
        about = ", ".join(f"{name}: {version}" for name, version in self.servers.items())
        parts = [f"{about}\n{', '.join(f'{key} {value}' for key, value in self.machine.items())}"]
        for group in dict.fromkeys(cell.group for cell in self.cells):
            cells = [cell for cell in self.cells if cell.group == group]
            parts.append("\n".join([group.upper(), *self._summary(cells), "", *self._details(cells)]))
        return "\n\n".join([*parts, *(["\n".join(self.notes)] if self.notes else [])])

    def markdown(self) -> str:
        """Return the figures that count as Markdown tables: a row for each cell, the best figure in bold.

        Where there were several turns, the minimum follows in parentheses.
        """
        parts = []
        for group in dict.fromkeys(cell.group for cell in self.cells):
            cells = [cell for cell in self.cells if cell.group == group]
            shown = [name for name in self.servers if any(self.result(cell, name) for cell in cells)]
            lines = [f"### {group[0].upper()}{group[1:]}", "", f"| cell | {' | '.join(shown)} | goal |"]
            lines.append("|---" * (len(shown) + 2) + "|")
            for cell in cells:
                leader = self.leader(cell)
                row = [f"{cell.name}, {TITLES[cell.figure]}"]
                for name in shown:
                    figure = self._both(cell, name, "–")
                    row.append(f"**{figure}**" if name == leader else figure)
                lines.append(f"| {' | '.join([*row, '; '.join(map(str, self.verdicts(cell)))])} |")
            parts.append("\n".join(lines))
        return "\n\n".join(parts) + "\n"

    def _both(self, cell: Cell, server: str, unknown: str) -> str:
        """Return the median, and the minimum in parentheses if there were several turns."""
        value, result = self.value(cell, server), self.result(cell, server)
        if value is None or result is None:
            return unknown
        if len(result.rounds) == 1:
            return number(value)
        return f"{number(value)} ({number(getattr(result.minimum, cell.figure))})"

    def _summary(self, cells: Sequence[Cell]) -> list[str]:
        """Return a table of the figures that count: a row for each server; a star marks the best figure of a cell."""
        rows = [["", *(f"{cell.name} [{TITLES[cell.figure]}]" for cell in cells)]]
        for server in self.servers:
            row = [server]
            for cell in cells:
                ratio, shown = self.ratio(cell, server), self._both(cell, server, "-")
                star = "*" if server == self.leader(cell) else " "
                row.append(shown if ratio is None else f"{shown} {f'{ratio:.2f}×':>7}{star}")
            if set(row[1:]) != {"-"}:
                rows.append(row)
        return aligned(rows) + [f"  {cell.name}: {verdict}" for cell in cells for verdict in self.verdicts(cell)]

    def _details(self, cells: Sequence[Cell]) -> list[str]:
        """Return a table of all figures: a row for each cell and server."""
        columns = ("CPU µs", "min", "per s", "p50 µs", "p99 µs", "p99.9 µs", "max µs", "busy", "bytes sent")
        heads = ["cell", "server", *columns]
        rows = [heads]
        for cell in cells:
            for server in self.servers:
                result = self.result(cell, server)
                if cell.of or result is None or result.median.cpu_us is None:
                    continue
                it = result.median
                least = result.minimum.cpu_us
                latencies = (it.p50_us, it.p99_us, it.p999_us, it.max_us)
                figures = (it.cpu_us, least, it.per_second, *latencies, it.busy, it.wire_bytes)
                rows.append([cell.name, server, *("-" if one is None else number(one) for one in figures)])
        if all(row[-1] == "-" for row in rows[1:]):
            rows = [row[:-1] for row in rows]
        return aligned(rows) if len(rows) > 1 else []

    def data(self) -> dict[str, Any]:
        """Return the whole report as data for JSON."""
        cells = []
        for cell in self.cells:
            best = self.best(cell)
            cells.append(
                {
                    **asdict(cell),
                    "best_peer": best[0] if best else None,
                    "verdicts": [asdict(verdict) for verdict in self.verdicts(cell)],
                    "servers": {
                        server: {
                            "value": self.value(cell, server),
                            "ratio": self.ratio(cell, server),
                            "median": asdict(result.median),
                            "minimum": asdict(result.minimum),
                            "rounds": [asdict(sample) for sample in result.rounds],
                        }
                        for server in self.servers
                        if (result := self.result(cell, server))
                    },
                }
            )
        return {
            "machine": self.machine,
            "servers": self.servers,
            "rivals": self._rivals,
            "notes": self.notes,
            "cells": cells,
        }

    @classmethod
    def read(cls, data: dict[str, Any]) -> Report:
        """Return the report from the result of `data`."""
        results = [
            Result(cell["name"], server, [Sample(**one) for one in known["rounds"]])
            for cell in data["cells"]
            for server, known in cell["servers"].items()
        ]
        return cls(results, data["servers"], data["rivals"], data["machine"], data["notes"])


def number(value: float) -> str:
    """Return a figure with three digits, all digits from 1,000 on."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Return rows as lines with aligned columns: names to the left, figures to the right."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    words = 2 if rows[0][:2] == ["cell", "server"] else 1
    return [
        "  "
        + "  ".join(
            text.ljust(width) if column < words else text.rjust(width)
            for column, (text, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]


def machine() -> dict[str, str]:
    """Return facts about the machine on which the figures depend."""
    processor = ""
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            processor = line.partition(":")[2].strip()
            break
    return {"python": platform.python_version(), "kernel": platform.release(), "processor": processor}
