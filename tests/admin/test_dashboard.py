"""The dashboard and the alerts of the documentation ask for what the endpoint exports, and nothing else."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest

from tests.metrics import OURS, exported

EXAMPLES = Path(__file__).parents[2] / "docs" / "examples"
DASHBOARD = json.loads((EXAMPLES / "grafana-dashboard.json").read_text())
PANELS = DASHBOARD["panels"]
ALERTS = (EXAMPLES / "alerts.yml").read_text()

#: What PromQL itself has, of what is used.
WORDS = {"and", "count", "histogram_quantile", "rate", "sum"}
#: Labels that Prometheus adds to what it has scraped, and that of a histogram's classes.
OTHER_LABELS = {"job", "instance", "le"}

_LABELS = re.compile(r"\{([^}]*)\}|\b(?:by|on|without) \(([^)]*)\)")
_NAME = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*")


def read(expression: str) -> tuple[set[str], set[str]]:
    """The names of metrics and those of labels in an expression."""
    text = re.sub(r'"[^"]*"', "", expression)
    labels = {name for found in _LABELS.findall(text) for part in found for name in _NAME.findall(part)}
    rest = re.sub(r"\[[^\]]*\]|\b\d[\d.e]*", "", _LABELS.sub("", text))
    return set(_NAME.findall(rest)) - WORDS, labels


def expressions() -> Iterator[str]:
    """All of the dashboard and of the alerts."""
    for panel in PANELS:
        yield from (target["expr"] for target in panel["targets"])
    yield from re.findall(r"^ +expr: (.+)$", ALERTS, re.MULTILINE)


def test_names_are_read_from_an_expression() -> None:
    expression = 'sum by (a, le) (rate(wshost_x_total{b=~"c|d", e!="f"}[5m])) / wshost_y > 500e6'
    assert read(expression) == ({"wshost_x_total", "wshost_y"}, {"a", "le", "b", "e"})


@pytest.mark.parametrize("expression", sorted(set(expressions())))
def test_an_expression_uses_metrics_and_labels_that_are_exported(expression: str) -> None:
    """Those of a histogram have names of their own."""
    names, labels = read(expression)
    by_sample = {sample: metric for metric in exported() for sample in metric.samples}
    assert names
    assert names <= by_sample.keys()
    assert labels <= OTHER_LABELS.union(*(by_sample[name].labels for name in names))
    assert expression.count("(") == expression.count(")")


def test_a_counter_is_only_shown_as_a_rate() -> None:
    counters = {metric.name for metric in exported() if metric.kind == "counter"}
    for expression in expressions():
        rated = set(re.findall(r"rate\(([a-z_]+)", expression))
        assert read(expression)[0] & counters <= rated


class TestDashboard:
    def test_every_metric_has_a_panel(self) -> None:
        shown = {name for panel in PANELS for target in panel["targets"] for name in read(target["expr"])[0]}
        assert [metric.name for metric in OURS if not shown & metric.samples] == []

    def test_it_asks_for_its_data_source_and_servers(self) -> None:
        variables = {one["name"]: one for one in DASHBOARD["templating"]["list"]}
        assert list(variables) == ["datasource", "job", "instance"]
        assert (variables["datasource"]["type"], variables["datasource"]["query"]) == ("datasource", "prometheus")
        for source in [*PANELS, *(target for panel in PANELS for target in panel["targets"]), variables["job"]]:
            assert source["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
        used = {name for text in expressions() for name in re.findall(r"\$(\w+)", text)}
        assert used == {"job", "instance", "__rate_interval"}

    def test_grafana_can_load_it(self) -> None:
        """It has no id of a database, and each panel and query is told apart."""
        assert "id" not in DASHBOARD
        assert DASHBOARD["schemaVersion"] >= 39
        assert len({panel["id"] for panel in PANELS}) == len(PANELS)
        for panel in PANELS:
            assert panel["type"] in {"stat", "timeseries", "table"}
            assert panel["title"]
            queries = [target["refId"] for target in panel["targets"]]
            assert queries == sorted(set(queries))

    def test_no_panel_lies_on_another(self) -> None:
        def cells(panel: Any) -> set[tuple[int, int]]:
            place = panel["gridPos"]
            columns, rows = range(place["x"], place["x"] + place["w"]), range(place["y"], place["y"] + place["h"])
            assert columns.stop <= 24
            return {(column, row) for column in columns for row in rows}

        assert [(a["title"], b["title"]) for a, b in combinations(PANELS, 2) if cells(a) & cells(b)] == []


class TestAlerts:
    def test_each_alert_has_all_it_needs(self) -> None:
        rules = ALERTS.split("      - alert: ")[1:]
        assert len(rules) == 11
        for rule in rules:
            assert re.fullmatch(
                r"Wshost\w+\n +expr: .+\n +for: \d+m\n +labels: \{ severity: (page|warning) \}\n"
                r' +annotations:\n +summary: ".+"\n',
                rule,
            ), rule

    def test_an_alert_tells_by_labels_that_its_metrics_have(self) -> None:
        by_sample = {sample: metric for metric in exported() for sample in metric.samples}
        for rule in ALERTS.split("      - alert: ")[1:]:
            names, _ = read(rule.partition("expr: ")[2].partition("\n")[0])
            told = set(re.findall(r"\$labels\.(\w+)", rule))
            assert told <= {"instance"}.union(*(by_sample[name].labels for name in names))
