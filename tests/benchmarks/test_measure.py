"""Figures made of counts."""

from __future__ import annotations

import pytest

from benchmarks.frames import WrongAnswerError
from benchmarks.load import Tally
from benchmarks.measure import Sample, median, percentile, sample_of, variants


def test_a_percentile_is_one_of_the_values() -> None:
    values = [float(number) for number in range(100, 0, -1)]
    assert percentile(values, 0.5) == 51
    assert percentile(values, 0.99) == 100
    assert percentile([7.0], 0.99) == 7


def test_each_figure_has_a_median_of_its_own() -> None:
    samples = [Sample(cpu_us=1.0, busy=0.9), Sample(cpu_us=100.0, busy=0.8), Sample(cpu_us=2.0, busy=0.1)]
    assert median(samples) == Sample(cpu_us=2.0, busy=0.8)


def test_the_figures_of_a_run_are_made_of_its_counts() -> None:
    tally = Tally(messages=1_000, seconds=0.5, cpu=0.25, times=[1_000, 2_000, 90_000])
    assert sample_of(tally) == Sample(cpu_us=250.0, per_second=2_000.0, p50_us=2.0, p99_us=90.0, busy=0.5)


def test_a_run_without_an_answer_is_an_error() -> None:
    with pytest.raises(WrongAnswerError, match="no message came back"):
        sample_of(Tally(seconds=1.0))


@pytest.mark.parametrize(("size", "in_flight"), [(64, 1), (64, 16), (1024, 16), (65_536, 1), (1 << 20, 1)])
def test_all_messages_of_a_cell_differ_and_have_its_size(size: int, in_flight: int) -> None:
    made = variants(size, in_flight, json=False, window_bits=None)
    payloads = [payload for burst in made for payload in burst.payloads]
    assert len(made) >= 2
    assert {len(payload) for payload in payloads} == {size}
    assert len(set(payloads)) == len(payloads)
    assert {len(burst.payloads) for burst in made} == {in_flight}


@pytest.mark.parametrize("size", [200, 1024, 16_384])
def test_compressed_messages_come_again_only_beyond_the_largest_window(size: int) -> None:
    made = variants(size, 1, json=True, window_bits=15)
    assert sum(len(burst.payloads[0]) for burst in made) > 3 * 32_768
    assert all(size <= len(burst.payloads[0]) < size + 200 for burst in made)
