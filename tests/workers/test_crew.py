from __future__ import annotations

from typing import Any

import pytest

from wshost.workers.crew import Crew, State, Worker


def crew_of(*states: State) -> tuple[Crew, list[Worker]]:
    crew = Crew()
    line: Any = None
    workers = [Worker(crew.next_number(), line, state) for state in states]
    for worker in workers:
        crew.add(worker)
    return crew, workers


def test_the_worker_with_the_fewest_connections_gets_the_next_and_equals_get_it_in_turn() -> None:
    crew, workers = crew_of(State.SERVING, State.SERVING, State.SERVING)
    assert [one.number for one in crew.deal(range(5), ())] == [1, 2, 3, 1, 2]
    assert [one.connections for one in workers] == [{0, 3}, {1, 4}, {2}]
    workers[1].connections.clear()
    assert [one.number for one in crew.deal(range(5, 9), ())] == [2, 3, 2, 1]


def test_only_workers_that_serve_and_have_room_are_chosen() -> None:
    crew, workers = crew_of(State.STARTING, State.LEAVING, State.SERVING)
    assert crew.serving == [workers[2]]
    assert crew.deal([1], ()) == [workers[2]]
    assert crew.deal([2], [workers[2]]) == []
    assert workers[2].connections == {1}


def test_workers_are_counted_and_found_until_they_have_ended() -> None:
    crew, workers = crew_of(State.STARTING, State.LEAVING, State.SERVING)
    assert (len(crew), crew.lasting, crew.started) == (3, 2, 3)
    crew.remove(workers[0])
    assert (len(crew), crew.lasting, crew.started) == (2, 1, 3)
    assert crew.find(1) is None
    assert crew.find(2) is workers[1]
    assert list(crew) == workers[1:]


@pytest.mark.parametrize(("pid", "text"), [(None, "worker 1"), (7, "worker 1 (pid 7)")])
def test_a_worker_is_named_by_its_number_and_its_process(pid: int | None, text: str) -> None:
    _, (worker,) = crew_of(State.STARTING)
    worker.pid = pid
    assert str(worker) == text


def test_all_workers_are_told_those_that_leave_included() -> None:
    told: list[Any] = []

    class Line:
        tell = staticmethod(told.append)

    crew, workers = crew_of(State.STARTING, State.SERVING, State.LEAVING)
    for worker in workers:
        line: Any = Line()
        worker.line = line
    crew.tell_all({"reopen": True})
    assert told == [{"reopen": True}] * 3
