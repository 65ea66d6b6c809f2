"""What each cell sends, and which load sends it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import replace

import pytest

from benchmarks import turns
from benchmarks.cells import CELLS, Cell
from benchmarks.compiled_load import program
from benchmarks.frames import WrongAnswerError
from benchmarks.load import Tally
from benchmarks.samples import Sample
from benchmarks.turns import impossible, kept_back, messages, sample_of, variants


def cell(name: str) -> Cell:
    return next(one for one in CELLS if one.name == name)


def test_the_figures_of_a_turn_are_made_of_its_counts() -> None:
    tally = Tally(messages=1_000, seconds=0.5, cpu=0.25, times=[1_000, 2_000, 90_000])
    assert sample_of(tally) == Sample(
        cpu_us=250.0,
        per_second=2_000.0,
        p50_us=2.0,
        p99_us=90.0,
        p999_us=90.0,
        max_us=90.0,
        busy=0.5,
        seconds=0.5,
    )


def test_a_turn_without_an_answer_is_an_error() -> None:
    with pytest.raises(WrongAnswerError, match="no message came back"):
        sample_of(Tally(seconds=1.0))


@pytest.mark.parametrize("name", ["echo-64-1", "echo-64-16", "echo-1k-16", "echo-64k", "echo-1m"])
def test_all_messages_of_a_cell_differ_and_have_its_size(name: str) -> None:
    asked = cell(name)
    made = variants(asked, None)
    sent = [payload for burst in made for payload in burst.payloads]
    assert len(made) >= 2
    assert {len(payload) for payload in sent} == {asked.size}
    assert len(set(sent)) == len(sent)
    assert {len(burst.payloads) for burst in made} == {asked.in_flight}


@pytest.mark.parametrize("name", ["deflate-200", "deflate-1k", "deflate-16k"])
def test_compressed_messages_come_again_only_beyond_the_largest_window(name: str) -> None:
    asked = cell(name)
    made = variants(asked, 15)
    assert sum(len(burst.payloads[0]) for burst in made) > 3 * 32_768
    assert all(asked.size <= len(burst.payloads[0]) < asked.size + 200 for burst in made)


def test_a_json_handler_answers_with_the_id_and_the_total_of_its_request() -> None:
    requests, replies = messages(cell("async-json-16"))
    assert replies
    assert len(requests) == len(replies)
    assert len(set(replies)) == len(replies)
    for request, reply in zip(requests, replies, strict=True):
        assert 120 < len(request) < 140
        asked, answered = json.loads(request), json.loads(reply)
        assert (answered["id"], answered["ok"], answered["total"]) == (asked["id"], True, sum(asked["amounts"]))
    first = variants(cell("async-json-16"), None)[0]
    assert first.payloads == tuple(replies[:16])


def test_only_compressed_cells_are_kept_from_the_load_in_c() -> None:
    without = [one.name for one in CELLS if kept_back(one)]
    assert without == ["broadcast-deflate", "deflate-200", "deflate-1k", "deflate-16k"]


class TestWithoutACompiler:
    @pytest.fixture(autouse=True)
    def _nothing_is_found(self, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
        monkeypatch.setattr(shutil, "which", lambda _name: None)
        kept_back.cache_clear()
        program.cache_clear()
        yield
        kept_back.cache_clear()

    def test_the_load_in_python_measures_instead(self) -> None:
        asked = cell("echo-64-1")
        assert kept_back(asked) == "no C compiler is found"
        assert not impossible(asked)
        assert not impossible(cell("connect-1"))

    @pytest.mark.parametrize("name", ["latency", "storm", "connect-64"])
    def test_a_cell_that_only_the_load_in_c_can_measure_is_left_out(self, name: str) -> None:
        assert impossible(cell(name)) == "only the load in C can do this: no C compiler is found"


def test_the_cells_of_orjson_are_left_out_without_it(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = cell("async-orjson-1")
    monkeypatch.setattr(turns, "find_spec", lambda _name: None)
    assert impossible(asked) == "orjson is not installed"
    monkeypatch.setattr(turns, "find_spec", lambda _name: object())
    assert not impossible(asked)
    assert not impossible(replace(asked, style="json"))
