"""One measured figure and its goal; the lines and the table that show them. Does not know how they were measured."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

#: The most characters of a failure that the table shows.
_WIDEST = 80


@dataclass(frozen=True)
class Figure:
    """One figure.

    :param what: in words.
    :param value: the measured value.
    :param unit: of the value; empty for a number of things.
    :param goal: the most that it may be; None: there is no goal.
    """

    what: str
    value: float
    unit: str = ""
    goal: float | None = None

    @property
    def held(self) -> bool:
        """Whether the goal is met."""
        return self.goal is None or self.value <= self.goal

    def data(self) -> dict[str, Any]:
        """Return it as JSON has it."""
        return {
            "what": self.what,
            "value": round(self.value, 3),
            "unit": self.unit,
            "goal": self.goal,
            "held": self.held,
        }


@dataclass(frozen=True)
class Outcome:
    """What one test has found about one server.

    :param failure: in words, why the test broke off; empty if it did not.
    :param left_out: in words, why it can't run on this machine; empty if it can.
    :param judged: whether the goals are for this server: they are wshost's.
    """

    test: str
    server: str
    figures: Sequence[Figure]
    seconds: float
    failure: str = ""
    left_out: str = ""
    judged: bool = True

    @property
    def held(self) -> bool:
        """Whether all goals are met."""
        return not self.failure and all(figure.held for figure in self.figures)

    def line(self) -> str:
        """Return it as one line of JSON."""
        data = {
            "test": self.test,
            "server": self.server,
            "seconds": round(self.seconds, 1),
            "held": self.held,
            "figures": [figure.data() for figure in self.figures],
        }
        if self.failure:
            data["failure"] = self.failure
        if self.left_out:
            data["left_out"] = self.left_out
        return json.dumps(data, ensure_ascii=False)


def table(outcomes: Iterable[Outcome]) -> str:
    """Return all figures as a table in Markdown."""
    rows = [("test", "server", "figure", "value", "goal", "")]
    for outcome in outcomes:
        if outcome.left_out:
            rows.append((outcome.test, outcome.server, outcome.left_out, "", "", "left out"))
        if outcome.failure:
            # The line of JSON has all of it.
            brief = " ".join(outcome.failure.split())
            rows.append((outcome.test, outcome.server, brief[:_WIDEST].replace("|", "/"), "", "", "FAILED"))
        for figure in outcome.figures:
            goal = "" if figure.goal is None else f"≤ {_shown(figure.goal)} {figure.unit}".rstrip()
            verdict = "" if figure.goal is None or not outcome.judged else "held" if figure.held else "NOT HELD"
            value = f"{_shown(figure.value)} {figure.unit}".rstrip()
            rows.append((outcome.test, outcome.server, figure.what, value, goal, verdict))
    widths = [max(len(row[column]) for row in rows) for column in range(6)]
    lines = [f"| {' | '.join(map(str.ljust, row, widths))} |" for row in rows]
    return "\n".join([lines[0], "|" + "|".join("-" * (width + 2) for width in widths) + "|", *lines[1:]])


def _shown(value: float) -> str:
    return f"{value:,.0f}" if value == int(value) or abs(value) >= 1_000 else f"{value:.3g}"
