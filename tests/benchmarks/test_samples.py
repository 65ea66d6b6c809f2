"""Figures of turns, and what stands for them."""

from __future__ import annotations

from benchmarks.samples import Result, Sample, percentile


def test_percentiles() -> None:
    values = [float(number) for number in range(100, 0, -1)]
    assert percentile(values, 0.5) == 51
    assert percentile(values, 0.99) == 100
    assert percentile([7.0], 0.99) == 7


def test_median_and_minimum_are_those_of_each_figure() -> None:
    result = Result(
        "a cell",
        "a server",
        [Sample(cpu_us=1.0, busy=0.9), Sample(cpu_us=100.0, busy=0.8), Sample(cpu_us=2.0, busy=0.1)],
    )
    assert result.median == Sample(cpu_us=2.0, busy=0.8)
    assert result.minimum == Sample(cpu_us=1.0, busy=0.1)
