"""Ratios, verdicts, tables and charts, of figures that are given."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from pathlib import Path

from benchmarks.cells import CELLS, Cell
from benchmarks.charts import chart, draw, goal_value, scale
from benchmarks.measure import Result, Sample
from benchmarks.report import Report, Verdict, number

SERVERS = {"wshost": "wshost 1", "quick": "quick 2", "slow": "slow 3", "limit": "C"}


def cell(name: str) -> Cell:
    return next(one for one in CELLS if one.name == name)


def result(cell: str, server: str, **figures: float) -> Result:
    sample = Sample(**figures)
    return Result(cell, server, sample, [sample])


def report(*results: Result) -> Report:
    return Report(results, SERVERS, {"quick", "slow"}, {"kernel": "7"}, ["a note"])


ECHOES = report(
    result("echo-64-1", "wshost", cpu_us=7.7, per_second=1.0),
    result("echo-64-1", "quick", cpu_us=7.0),
    result("echo-64-1", "slow", cpu_us=70.0),
    result("echo-64-1", "limit", cpu_us=6.0),
    result("echo-64-16", "wshost", cpu_us=0.9),
    result("connect", "wshost", per_second=900.0),
    result("connect", "slow", per_second=1_000.0),
    result("many-10", "wshost", cpu_us=10.0),
    result("many-10000", "wshost", cpu_us=12.0),
)


class TestVerdicts:
    def test_the_best_peer_is_neither_we_nor_the_limit(self) -> None:
        assert ECHOES.best(cell("echo-64-1")) == ("quick", 7.0)
        assert ECHOES.best(cell("connect")) == ("slow", 1_000.0)
        assert ECHOES.best(cell("echo-64-16")) is None

    def test_a_figure_is_judged_by_its_ratio_to_the_best_peers(self) -> None:
        assert ECHOES.verdict(cell("echo-64-1")) == Verdict("≤ 1.00 × best peer", 7.7 / 7.0, met=False)

    def test_more_connections_per_second_are_better(self) -> None:
        assert ECHOES.verdict(cell("connect")) == Verdict("≥ 1.00 × best peer that sleeps, slow", 0.9, met=False)

    def test_a_peer_that_never_sleeps_is_no_goal_for_latency(self) -> None:
        polled = report(
            result("latency-64", "wshost", p50_us=70.0, busy=0.4),
            result("latency-64", "quick", p50_us=40.0, busy=1.0),
            result("latency-64", "slow", p50_us=80.0, busy=0.3),
        )
        latency = cell("latency-64")
        assert polled.best(latency) == ("quick", 40.0)
        assert polled.ratio(latency, "wshost") == 70.0 / 40.0
        assert polled.verdict(latency) == Verdict("≤ 1.00 × best peer that sleeps, slow", 70.0 / 80.0, met=True)
        alone = report(result("latency-64", "wshost", p50_us=70.0))
        assert alone.verdict(latency) == Verdict("≤ 1.00 × best peer", None, met=None)

    def test_an_absolute_goal_needs_no_peer(self) -> None:
        assert ECHOES.verdict(cell("echo-64-16")) == Verdict("≤ 1 CPU µs", 0.9, met=True)

    def test_growth_is_judged_by_the_smaller_cell(self) -> None:
        assert ECHOES.verdict(cell("many-10000")) == Verdict("≤ 1.3 × many-10", 1.2, met=True)

    def test_a_cell_without_a_goal_has_no_verdict(self) -> None:
        assert ECHOES.verdict(cell("many-10")) is None

    def test_a_goal_without_a_peer_is_not_measured(self) -> None:
        alone = report(result("echo-64-1", "wshost", cpu_us=1.0))
        verdict = alone.verdict(cell("echo-64-1"))
        assert verdict == Verdict("≤ 1.00 × best peer", None, met=None)
        assert str(verdict) == "goal ≤ 1.00 × best peer: not measured"


class TestText:
    def test_the_text_has_figures_ratios_and_goals(self) -> None:
        lines = ECHOES.text().splitlines()
        assert [line for line in lines if line.startswith(("  wshost  ", "  quick", "  slow"))][:3] == [
            "  wshost         7.7   1.10×                  0.9",
            "  quick            7   1.00×                    -",
            "  slow            70  10.00×                    -",
        ]
        assert "  echo-64-1: goal ≤ 1.00 × best peer: NOT met (1.1); best peer: quick" in lines

    def test_the_notes_are_the_texts_last_lines(self) -> None:
        assert ECHOES.text().endswith("\n\na note")

    def test_a_number_is_rounded_to_three_digits_or_to_a_whole_one(self) -> None:
        assert [number(value) for value in (0.3912, 7.04, 42.0, 128_311.4)] == ["0.391", "7.04", "42", "128,311"]


class TestMarkdown:
    def test_the_markdown_has_a_row_for_each_cell(self) -> None:
        lines = ECHOES.markdown().splitlines()
        assert lines[:5] == [
            "### Echo",
            "",
            "| cell | wshost | quick | slow | limit | goal |",
            "|---|---|---|---|---|---|",
            "| echo-64-1, CPU µs | 7.7 | **7** | 70 | 6 | goal ≤ 1.00 × best peer: NOT met (1.1) |",
        ]
        assert lines[5] == "| echo-64-16, CPU µs | 0.9 | – | – | – | goal ≤ 1 CPU µs: met (0.9) |"
        assert "| many-10, CPU µs | 10 |  |" in lines


class TestData:
    def test_a_report_that_was_written_can_be_read_again(self) -> None:
        again = Report.read(json.loads(json.dumps(ECHOES.data())))
        assert again.data() == ECHOES.data()
        assert again.text() == ECHOES.text()

    def test_the_data_have_the_best_peer_the_ratios_and_each_round(self) -> None:
        data = ECHOES.data()["cells"][0]
        assert (data["name"], data["best_peer"], data["size"]) == ("echo-64-1", "quick", 64)
        assert data["servers"]["slow"]["ratio"] == 10.0
        assert data["servers"]["slow"]["rounds"][0]["cpu_us"] == 70.0


class TestCells:
    def test_no_two_cells_have_the_same_name(self) -> None:
        assert len({one.name for one in CELLS}) == len(CELLS)

    def test_growth_is_compared_with_an_earlier_cell(self) -> None:
        names = [one.name for one in CELLS]
        grown = [one for one in CELLS if one.growth]
        assert grown
        for one in grown:
            assert one.growth
            assert names.index(one.growth[0]) < names.index(one.name)


class TestCharts:
    def test_each_group_has_a_chart_that_is_xml(self, tmp_path: Path) -> None:
        files = draw(ECHOES, tmp_path / "charts")
        assert [path.name for path in files] == [
            "echo.svg",
            "echo-many-connections.svg",
            "connections-memory-start.svg",
        ]
        for path in files:
            assert ET.fromstring(path.read_text()).tag.endswith("svg")

    def test_the_best_bar_is_on_top_and_one_that_is_cut_is_marked(self) -> None:
        texts = [node.text for node in ET.fromstring(chart(ECHOES, "echo")).iter("{http://www.w3.org/2000/svg}text")]
        assert texts[2:10] == ["limit", "6", "quick", "7", "wshost", "7.7", "slow", "70 »"]

    def test_the_scale_ends_at_six_times_the_best_peers_figure_where_less_is_better(self) -> None:
        assert scale([1.0, 100.0], 2.0, more_is_better=False) == 12.0
        assert scale([1.0, 3.0], 2.0, more_is_better=False) == 3.0
        assert scale([1.0, 100.0], 2.0, more_is_better=True) == 100.0
        assert scale([1.0, 100.0], None, more_is_better=False) == 100.0

    def test_a_chart_draws_a_goal_at_the_best_peers_or_its_own_figure(self) -> None:
        assert goal_value(ECHOES, cell("echo-64-1")) == 7.0
        assert goal_value(ECHOES, cell("echo-64-16")) == 1.0
        assert goal_value(ECHOES, cell("many-10000")) is None
