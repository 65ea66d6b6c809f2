"""Figures of turns, and what stands for them."""

from __future__ import annotations

from benchmarks.samples import Result, Sample, percentile


def test_a_percentile_is_one_of_the_values() -> None:
    values = [float(number) for number in range(100, 0, -1)]
    assert percentile(values, 0.5) == 51
    assert percentile(values, 0.99) == 100
    assert percentile([7.0], 0.99) == 7


def test_each_figure_has_a_median_and_a_minimum_of_its_own() -> None:
    result = Result(
        "a cell",
        "a server",
        [Sample(cpu_us=1.0, busy=0.9), Sample(cpu_us=100.0, busy=0.8), Sample(cpu_us=2.0, busy=0.1)],
    )
    assert result.median == Sample(cpu_us=2.0, busy=0.8)
    assert result.minimum == Sample(cpu_us=1.0, busy=0.1)
