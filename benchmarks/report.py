"""Makes tables and JSON of results. Knows nothing of how they were measured."""

from __future__ import annotations

import platform
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.cells import CELLS, TITLES, Cell
from benchmarks.measure import Result, Sample

SUBJECT = "wshost"

#: A server that is on its core for such a part of the time, under a load of one message at a time, polls.
NEVER_ASLEEP = 0.98


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
    :param rivals: the names of the servers that wshost is compared with.
    :param machine: facts about the machine on which the figures depend.
    :param notes: further remarks, such as which server was left out and why.
    """

    def __init__(
        self,
        results: Iterable[Result],
        servers: dict[str, str],
        rivals: Iterable[str],
        machine: dict[str, str],
        notes: Iterable[str] = (),
    ) -> None:
        self.servers = servers
        self.machine = machine
        self.notes = list(notes)
        self._rivals = [name for name in servers if name in set(rivals)]
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

    def best(self, cell: Cell, *, sleeping: bool = False) -> tuple[str, float] | None:
        """Return the name and the figure of the best peer.

        :param sleeping: consider only peers that sleep while there is nothing to do.
        """
        known = [
            (name, value)
            for name in self._rivals
            if (value := self.value(cell, name)) is not None and not (sleeping and self._polls(cell, name))
        ]
        if not known:
            return None
        return (max if cell.more_is_better else min)(known, key=lambda item: item[1])

    def _polls(self, cell: Cell, server: str) -> bool:
        busy = self._results[cell.name, server].median.busy
        return busy is not None and busy >= NEVER_ASLEEP

    def ratio(self, cell: Cell, server: str) -> float | None:
        """Return a server's figure as a multiple of the best peer's."""
        best, value = self.best(cell), self.value(cell, server)
        return None if best is None or value is None else value / best[1]

    def verdict(self, cell: Cell) -> Verdict | None:
        """Return whether wshost meets a cell's goal; None for a cell without a goal."""
        value = self.value(cell, SUBJECT)
        if cell.ratio is not None:
            best = self.best(cell, sleeping=cell.sleeping)
            reached = None if best is None or value is None else value / best[1]
            sign = "≥" if cell.more_is_better else "≤"
            that = f" that sleeps, {best[0]}" if best and cell.sleeping else ""
            goal, limit = f"{sign} {cell.ratio:.2f} × best peer{that}", cell.ratio
        elif cell.absolute is not None:
            reached, goal, limit = value, f"≤ {cell.absolute:g} {TITLES[cell.figure]}", cell.absolute
        elif cell.growth is not None:
            other = next(one for one in CELLS if cell.growth[0] == one.name)
            before = self.value(other, SUBJECT)
            reached = None if before is None or value is None else value / before
            goal, limit = f"≤ {cell.growth[1]:g} × {other.name}", cell.growth[1]
        else:
            return None
        met = None
        if reached is not None:
            met = reached >= limit if cell.more_is_better else reached <= limit
        return Verdict(goal, reached, met)

    def text(self) -> str:
        """Return the tables, one for each group of cells."""
        about = ", ".join(f"{name}: {version}" for name, version in self.servers.items())
        parts = [f"{about}\n{', '.join(f'{key} {value}' for key, value in self.machine.items())}"]
        for group in dict.fromkeys(cell.group for cell in self.cells):
            cells = [cell for cell in self.cells if cell.group == group]
            parts.append("\n".join([group.upper(), *self._summary(cells), "", *self._details(cells)]))
        return "\n\n".join([*parts, *(["\n".join(self.notes)] if self.notes else [])])

    def markdown(self) -> str:
        """Return the figures that count as Markdown tables: a row for each cell, the best peer's figure in bold."""
        parts = []
        for group in dict.fromkeys(cell.group for cell in self.cells):
            cells = [cell for cell in self.cells if cell.group == group]
            shown = [name for name in self.servers if any(self.result(cell, name) for cell in cells)]
            lines = [f"### {group[0].upper()}{group[1:]}", "", f"| cell | {' | '.join(shown)} | goal |"]
            lines.append("|---" * (len(shown) + 2) + "|")
            for cell in cells:
                best, verdict = self.best(cell), self.verdict(cell)
                row = [f"{cell.name}, {TITLES[cell.figure]}"]
                for name in shown:
                    value = self.value(cell, name)
                    figure = "–" if value is None else number(value)
                    row.append(f"**{figure}**" if best and best[0] == name else figure)
                lines.append(f"| {' | '.join([*row, '' if verdict is None else str(verdict)])} |")
            parts.append("\n".join(lines))
        return "\n\n".join(parts) + "\n"

    def _summary(self, cells: Sequence[Cell]) -> list[str]:
        """Return a table of the figures that count: a row for each server."""
        rows = [["", *(f"{cell.name} [{TITLES[cell.figure]}]" for cell in cells)]]
        for server in self.servers:
            row = [server]
            for cell in cells:
                value, ratio = self.value(cell, server), self.ratio(cell, server)
                shown = "-" if value is None else number(value)
                row.append(shown if ratio is None else f"{shown} {f'{ratio:.2f}×':>7}")
            if set(row[1:]) != {"-"}:
                rows.append(row)
        lines = aligned(rows)
        for cell in cells:
            best, verdict = self.best(cell), self.verdict(cell)
            if verdict:
                lines.append(f"  {cell.name}: {verdict}{f'; best peer: {best[0]}' if best else ''}")
        return lines

    def _details(self, cells: Sequence[Cell]) -> list[str]:
        """Return a table of all figures: a row for each cell and server."""
        heads = ["cell", "server", "CPU µs", "per s", "p50 µs", "p99 µs", "busy", "bytes sent"]
        rows = [heads]
        for cell in cells:
            for server in self.servers:
                result = self.result(cell, server)
                if result is None or result.median.cpu_us is None:
                    continue
                it = result.median
                figures = (it.cpu_us, it.per_second, it.p50_us, it.p99_us, it.busy, it.wire_bytes)
                rows.append([cell.name, server, *("-" if one is None else number(one) for one in figures)])
        if all(row[-1] == "-" for row in rows[1:]):
            rows = [row[:-1] for row in rows]
        return aligned(rows) if len(rows) > 1 else []

    def data(self) -> dict[str, Any]:
        """Return the whole report as data for JSON."""
        cells = []
        for cell in self.cells:
            best, verdict = self.best(cell), self.verdict(cell)
            cells.append(
                {
                    **asdict(cell),
                    "best_peer": best[0] if best else None,
                    "verdict": asdict(verdict) if verdict else None,
                    "servers": {
                        server: {
                            "value": self.value(cell, server),
                            "ratio": self.ratio(cell, server),
                            "median": asdict(result.median),
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
            Result(cell["name"], server, Sample(**known["median"]), [Sample(**one) for one in known["rounds"]])
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
