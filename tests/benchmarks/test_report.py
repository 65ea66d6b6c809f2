"""Ratios, verdicts, tables and charts, of figures that are given."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from dataclasses import replace
from pathlib import Path

from benchmarks.cells import BEST_PYTHON, CELLS, Cell
from benchmarks.charts import chart, draw, goal_value, scale
from benchmarks.peers import PEERS
from benchmarks.report import Report, Verdict, number
from benchmarks.samples import Result, Sample

SERVERS = {"wshost": "wshost 1", "picows": "picows 2", "slow": "slow 3", "bun": "bun 4", "limit": "C"}


def cell(name: str) -> Cell:
    return next(one for one in CELLS if one.name == name)


def result(cell: str, server: str, *turns: float, **figures: float) -> Result:
    """Turns of CPU time, or one turn of other figures."""
    return Result(cell, server, [Sample(cpu_us=one) for one in turns] or [Sample(**figures)])


def report(*results: Result) -> Report:
    rivals = {"picows": "Python", "slow": "Python", "bun": "JavaScript"}
    return Report(results, SERVERS, rivals, {"kernel": "7"}, ["a note"])


ECHOES = report(
    result("echo-64-1", "wshost", 7.7, 7.0, 9.0),
    result("echo-64-1", "picows", 7.0),
    result("echo-64-1", "slow", 70.0),
    result("echo-64-1", "limit", 6.0),
    result("echo-64-16", "wshost", 0.9),
    result("echo-1k-1", "wshost", 8.0),
    result("echo-1k-1", "slow", 10.0),
    result("echo-1k-1", "bun", 5.0),
    result("latency", "wshost", p50_us=53.0),
    result("latency", "limit", p50_us=50.0),
    result("many-10", "wshost", 10.0),
    result("many-10000", "wshost", 12.0),
    result("tls-64-1", "wshost", 12.0),
    result("tls-64-1", "picows", 12.0),
    result("tls-64-1", "bun", 10.0),
)


class TestVerdicts:
    def test_the_best_peer_is_neither_we_nor_the_limit(self) -> None:
        assert ECHOES.best(cell("echo-64-1")) == ("picows", 7.0)
        assert ECHOES.best(cell("echo-1k-1")) == ("bun", 5.0)
        assert ECHOES.best(cell("echo-64-16")) is None

    def test_a_figure_is_judged_by_its_ratio_to_a_servers(self) -> None:
        assert ECHOES.verdicts(cell("echo-64-1")) == [Verdict("≤ 1.00 × picows", 7.7 / 7.0, met=False)]

    def test_a_ratio_is_that_of_turns_in_the_same_round(self) -> None:
        """The machine was fast for a turn of the one server, and for another turn of the other."""
        shaky = report(
            result("echo-64-1", "wshost", 10.0, 20.0, 30.0, 11.0), result("echo-64-1", "picows", 11.0, 22.0, 30.0, 20.0)
        )
        (verdict,) = shaky.verdicts(cell("echo-64-1"))
        assert str(verdict) == "goal ≤ 1.00 × picows: met (0.909)"
        assert shaky.compared(cell("echo-64-1"), "wshost", "slow") is None

    def test_the_best_python_peer_is_one_whose_handlers_are_in_python(self) -> None:
        assert ECHOES.verdicts(cell("echo-1k-1")) == [Verdict("≤ 1.00 × best Python peer, slow", 0.8, met=True)]

    def test_each_goal_of_a_cell_has_a_verdict(self) -> None:
        assert ECHOES.verdicts(cell("tls-64-1")) == [
            Verdict("≤ 0.90 × picows", 1.0, met=False),
            Verdict("≤ 1.30 × bun", 1.2, met=True),
        ]

    def test_an_absolute_goal_needs_no_peer(self) -> None:
        assert ECHOES.verdicts(cell("echo-64-16")) == [Verdict("≤ 0.7 CPU µs", 0.9, met=False)]

    def test_a_figure_is_judged_by_its_distance_from_a_servers(self) -> None:
        assert ECHOES.verdicts(cell("latency")) == [Verdict("≤ limit + 4 p50 µs", 53.0, met=True)]

    def test_growth_is_judged_by_the_smaller_cell(self) -> None:
        assert ECHOES.verdicts(cell("many-10000")) == [Verdict("≤ 1.30 × many-10", 1.2, met=True)]

    def test_a_cell_without_a_goal_has_no_verdict(self) -> None:
        assert ECHOES.verdicts(cell("many-10")) == []

    def test_a_goal_without_a_peer_is_not_measured(self) -> None:
        alone = report(result("echo-64-1", "wshost", 1.0), result("echo-1k-1", "wshost", 1.0))
        (verdict,) = alone.verdicts(cell("echo-64-1"))
        assert verdict == Verdict("≤ 1.00 × picows", None, met=None)
        assert str(verdict) == "goal ≤ 1.00 × picows: not measured"
        (verdict,) = alone.verdicts(cell("echo-1k-1"))
        assert verdict == Verdict("≤ 1.00 × best Python peer", None, met=None)


class TestText:
    def test_the_text_has_figures_ratios_and_goals(self) -> None:
        lines = ECHOES.text().splitlines()
        assert [line for line in lines if line.startswith(("  wshost  ", "  picows", "  slow"))][:3] == [
            "  wshost    7.7 (7)   1.10×                   0.9          8   1.60×",
            "  picows          7   1.00×*                    -                   -",
            "  slow           70  10.00×                     -         10   2.00×",
        ]
        assert "  echo-64-1: goal ≤ 1.00 × picows: NOT met (1.1)" in lines

    def test_the_details_have_the_minimum_beside_the_median(self) -> None:
        lines = [line.split() for line in ECHOES.text().splitlines()]
        assert ["echo-64-1", "wshost", "7.7", "7", "-", "-", "-", "-", "-", "-"] in lines

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
            "| cell | wshost | picows | slow | bun | limit | goal |",
            "|---|---|---|---|---|---|---|",
            "| echo-64-1, CPU µs | 7.7 (7) | **7** | 70 | – | 6 | goal ≤ 1.00 × picows: NOT met (1.1) |",
        ]
        assert lines[5] == "| echo-64-16, CPU µs | **0.9** | – | – | – | – | goal ≤ 0.7 CPU µs: NOT met (0.9) |"
        assert "| many-10, CPU µs | **10** |  |" in lines

    def test_the_best_figure_is_bold_ours_too_but_never_the_limit(self) -> None:
        assert ECHOES.leader(cell("echo-64-1")) == "picows"
        assert ECHOES.leader(cell("echo-64-16")) == "wshost"
        assert ECHOES.leader(cell("latency")) == "wshost"
        assert ECHOES.leader(cell("echo-1m")) is None


class TestData:
    def test_a_report_that_was_written_can_be_read_again(self) -> None:
        again = Report.read(json.loads(json.dumps(ECHOES.data())))
        assert again.data() == ECHOES.data()
        assert again.text() == ECHOES.text()

    def test_the_data_have_the_best_peer_the_ratios_and_each_round(self) -> None:
        data = ECHOES.data()["cells"][0]
        assert (data["name"], data["best_peer"], data["size"]) == ("echo-64-1", "picows", 64)
        assert data["servers"]["slow"]["ratio"] == 10.0
        assert data["servers"]["slow"]["rounds"][0]["cpu_us"] == 70.0
        assert data["servers"]["wshost"]["median"]["cpu_us"] == 7.7
        assert data["servers"]["wshost"]["minimum"]["cpu_us"] == 7.0
        assert data["verdicts"] == [{"goal": "≤ 1.00 × picows", "reached": 1.1, "met": False}]


class TestCells:
    def test_no_two_cells_have_the_same_name(self) -> None:
        assert len({one.name for one in CELLS}) == len(CELLS)

    def test_goals_name_servers_and_earlier_cells(self) -> None:
        names = [one.name for one in CELLS]
        for one in CELLS:
            for goal in one.goals:
                assert goal.times in ("", BEST_PYTHON, *PEERS)
                assert goal.above in ("", *PEERS)
                assert not goal.cell or names.index(goal.cell) < names.index(one.name)

    def test_a_cell_that_shows_another_figure_measures_the_same(self) -> None:
        for one in CELLS:
            if one.of:
                assert replace(one, name=one.of, figure="cpu_us", goals=(), of="") == replace(
                    cell(one.of), figure="cpu_us", goals=()
                )


class TestCharts:
    def test_each_group_has_a_chart_that_is_xml(self, tmp_path: Path) -> None:
        files = draw(ECHOES, tmp_path / "charts")
        assert [path.name for path in files] == [
            "echo.svg",
            "latency-at-a-fixed-rate.svg",
            "echo-many-connections.svg",
            "tls-echo.svg",
        ]
        for path in files:
            assert ET.fromstring(path.read_text()).tag.endswith("svg")

    def test_the_best_bar_is_on_top_and_one_that_is_cut_is_marked(self) -> None:
        texts = [node.text for node in ET.fromstring(chart(ECHOES, "echo")).iter("{http://www.w3.org/2000/svg}text")]
        assert texts[2:10] == ["limit", "6", "picows", "7", "wshost", "7.7", "slow", "70 »"]

    def test_the_scale_ends_at_six_times_the_best_peers_figure(self) -> None:
        assert scale([1.0, 100.0], 2.0) == 12.0
        assert scale([1.0, 3.0], 2.0) == 3.0
        assert scale([1.0, 100.0], None) == 100.0

    def test_a_chart_draws_a_goal_at_the_best_peers_or_its_own_figure(self) -> None:
        assert goal_value(ECHOES, cell("echo-64-1")) == 7.0
        assert goal_value(ECHOES, cell("echo-64-16")) == 0.7
        assert goal_value(ECHOES, cell("latency")) == 54.0
        assert goal_value(ECHOES, cell("tls-64-1")) == 0.9 * 12.0
        assert goal_value(ECHOES, cell("broadcast-1")) is None
