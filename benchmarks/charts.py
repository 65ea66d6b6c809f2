"""Draws a report as SVG files, one for each group of cells, for light and dark pages. Measures nothing."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape
from pathlib import Path

from benchmarks.cells import TITLES, Cell
from benchmarks.report import SUBJECT, Report, number

_ROW, _BAR, _NAMES, _BARS, _FIGURES, _GAP, _TITLE = 20, 13, 130, 200, 70, 24, 44
_PANEL = _NAMES + _BARS + _FIGURES
#: The number of panels in a row.
_COLUMNS = 2

#: Bars longer than so many times the best peer's are cut. Otherwise one slow server would hide the others' differences.
_CUT = 6.0

_STYLE = """
text { font: 12px system-ui, sans-serif; fill: #24292f; }
.title { font-weight: 600; font-size: 13px; }
.note { fill: #57606a; }
.bar { fill: #8c959f; }
.subject { fill: #0969da; }
.limit { fill: #d0d7de; }
.goal { stroke: #cf222e; stroke-width: 1.5; stroke-dasharray: 4 3; }
.goal-note { fill: #cf222e; font-size: 11px; }
@media (prefers-color-scheme: dark) {
  text { fill: #e6edf3; }
  .note { fill: #9198a1; }
  .bar { fill: #6e7681; }
  .subject { fill: #4493f8; }
  .limit { fill: #3d444d; }
  .goal { stroke: #f85149; }
  .goal-note { fill: #f85149; }
}
"""


def draw(report: Report, directory: Path) -> list[Path]:
    """Write a file for each group of cells that has figures.

    :returns: the files.
    """
    directory.mkdir(parents=True, exist_ok=True)
    written = []
    for group in dict.fromkeys(cell.group for cell in report.cells):
        path = directory / (file_name(group) + ".svg")
        path.write_text(chart(report, group))
        written.append(path)
    return written


def file_name(group: str) -> str:
    """Return the file name for a group."""
    return "-".join("".join(letter if letter.isalnum() else " " for letter in group.lower()).replace(",", "").split())


def chart(report: Report, group: str) -> str:
    """Return the SVG of a group: a panel for each cell, the fastest server on top."""
    cells = [cell for cell in report.cells if cell.group == group]
    panels = []
    top = 0
    for at in range(0, len(cells), _COLUMNS):
        row = cells[at : at + _COLUMNS]
        panels += [
            f'<g transform="translate({column * (_PANEL + _GAP)} {top})">{"".join(_panel(report, cell))}</g>'
            for column, cell in enumerate(row)
        ]
        top += _TITLE + _ROW * max(len(_ranked(report, cell)) for cell in row) + _GAP
    width = min(len(cells), _COLUMNS) * (_PANEL + _GAP)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" role="img" '
        f'width="{width}" height="{top}" viewBox="0 0 {width} {top}">'
        f"<title>{escape(group)}</title><style>{_STYLE}</style>{''.join(panels)}</svg>\n"
    )


def _ranked(report: Report, cell: Cell) -> list[tuple[str, float]]:
    """Return the servers and their figures, the best first."""
    known = [(server, value) for server in report.servers if (value := report.value(cell, server)) is not None]
    return sorted(known, key=lambda item: item[1])


def goal_value(report: Report, cell: Cell) -> float | None:
    """Return the lowest goal as a figure that the chart can show; None without a goal, or without its peer's figure."""
    return min((limit for goal in cell.goals if (limit := report.limit(cell, goal)) is not None), default=None)


def scale(figures: list[float], best: float | None) -> float:
    """Return the figure that a bar of full length stands for."""
    return min(max(figures), best * _CUT) if best is not None else max(figures)


def _panel(report: Report, cell: Cell) -> Iterator[str]:
    ranked = _ranked(report, cell)
    best, goal = report.best(cell), goal_value(report, cell)
    full = scale([value for _, value in ranked], best[1] if best else None)
    yield f'<text class="title" x="0" y="16">{escape(title(cell))}</text>'
    yield f'<text class="note" x="0" y="33">{escape(TITLES[cell.figure])}, less is better</text>'
    for place, (server, value) in enumerate(ranked):
        y = _TITLE + place * _ROW
        kind = "subject" if server == SUBJECT else "limit" if server == "limit" else "bar"
        length = max(1.0, min(value / full, 1.0) * _BARS) if full else 1.0
        yield f'<text x="{_NAMES - 8}" y="{y + 11}" text-anchor="end">{escape(server)}</text>'
        yield f'<rect class="{kind}" x="{_NAMES}" y="{y}" width="{length:.1f}" height="{_BAR}" rx="2"/>'
        # Mark a bar that is cut.
        cut = " »" if value > full else ""
        yield f'<text class="note" x="{_NAMES + length + 6:.1f}" y="{y + 11}">{number(value)}{cut}</text>'
    if goal is not None and goal <= full:
        x = _NAMES + goal / full * _BARS
        bottom = _TITLE + len(ranked) * _ROW
        yield f'<line class="goal" x1="{x:.1f}" x2="{x:.1f}" y1="{_TITLE - 6}" y2="{bottom}"/>'
        yield f'<text class="goal-note" x="{x:.1f}" y="{_TITLE - 9}" text-anchor="middle">goal</text>'


def title(cell: Cell) -> str:
    """Return what a cell measures, in words."""
    sizes = {64: "64 B", 130: "130 B", 200: "200 B"}
    size = sizes.get(cell.size) or (f"{cell.size >> 10} KiB" if cell.size < 1 << 20 else f"{cell.size >> 20} MiB")
    many = f"{cell.connections:,} connection{'s' if cell.connections != 1 else ''}"
    words = {
        "connect": f"new connection{', TLS' if cell.tls else ''}, {cell.connections} at one time",
        "storm": f"{cell.connections:,} connect at one time{', polite peers' if cell.of else ''}",
        "rate": f"{cell.rate:,} messages a second over {many}",
        "memory": f"memory per idle connection{', TLS' if cell.tls else ''}",
        "start": "start to listening",
        "import": "import",
        "flood": f"beside a flood: {cell.flood}" if cell.flood else "alone",
    }
    handler = f"{cell.style} handler, " if cell.style else ""
    return words.get(cell.kind) or f"{handler}{many} × {size}, {cell.in_flight} in flight"
