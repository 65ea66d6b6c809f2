"""The servers of a cell take turns: small servers, and turns of a moment."""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks import compiled_load, measure, turns
from benchmarks.building import UnavailableError, built
from benchmarks.cells import CELLS, Cell
from benchmarks.measure import Pace, together
from benchmarks.peers import PEERS, Launch, Peer
from benchmarks.running import running
from benchmarks.samples import Result
from tests.programs import need_compiler

PACE = Pace(turns=2, warm_up=0.02, seconds=0.03, rounds=1)
LIMIT = PEERS["limit"]

#: Gives each message to all connections, where it should say back what comes.
LIAR = replace(LIMIT, name="liar", command=lambda _launch, port: LIMIT.command(Launch(broadcast=True), port))
#: Closes each connection, and never sleeps.
CLOSING = """
import socket, sys
listening = socket.create_server(("127.0.0.1", int(sys.argv[1])))
listening.setblocking(False)
while True:
    try:
        listening.accept()[0].close()
    except BlockingIOError:
        pass
"""
#: Ends at once.
GONE = replace(LIMIT, name="gone", command=lambda _launch, _port: [sys.executable, "-c", "exit('no luck')"])


def cell(name: str, **changes: int) -> Cell:
    return replace(next(one for one in CELLS if one.name == name), **changes)  # type: ignore[arg-type]


@pytest.fixture(autouse=True, scope="module")
def _compiler() -> None:
    need_compiler()


@pytest.fixture(name="said")
def _said() -> list[str]:
    return []


@pytest.fixture(name="python_load")
def _python_load(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The load in Python, as where no compiler is found."""

    def missing(*, tls: bool) -> str:
        return "no C compiler is found"

    monkeypatch.setattr(compiled_load, "missing", missing)
    turns.kept_back.cache_clear()
    yield
    turns.kept_back.cache_clear()


def measured(asked: Cell, *peers: Peer, said: list[str]) -> list[Result]:
    return measure.measure(asked, peers, PACE, said.append)


SMALL = (
    cell("echo-64-1", connections=4),
    cell("echo-64-16", connections=4),
    cell("async-echo-64-1", connections=4),
    cell("broadcast-4", connections=20),
    cell("connect-1"),
)


@pytest.mark.parametrize("asked", [*SMALL, cell("latency", connections=4), cell("storm", connections=100)], ids=str)
def test_each_server_has_two_turns_after_one_to_warm_up(asked: Cell, said: list[str]) -> None:
    results = measured(asked, LIMIT, replace(LIMIT, name="twin"), said=said)
    assert said == []
    assert [result.server for result in results] == ["limit", "twin"]
    for result in results:
        assert len(result.rounds) == 2
        assert result.median.cpu_us
        assert result.minimum.cpu_us
        assert 0 < result.minimum.cpu_us <= result.median.cpu_us


@pytest.mark.parametrize("asked", SMALL, ids=str)
@pytest.mark.usefixtures("python_load")
def test_the_load_in_python_takes_the_same_turns(asked: Cell, said: list[str]) -> None:
    (result,) = measured(asked, LIMIT, said=said)
    assert said == []
    assert len(result.rounds) == 2
    assert result.median.cpu_us
    assert result.median.cpu_us > 0


@pytest.mark.usefixtures("python_load")
def test_a_cell_that_the_load_in_python_can_not_measure_is_reported_once(said: list[str]) -> None:
    assert measured(cell("latency"), LIMIT, LIAR, said=said) == []
    assert said == ["latency is left out: only the load in C can do this: no C compiler is found"]


def test_a_server_with_a_wrong_answer_is_left_out(said: list[str]) -> None:
    (result,) = measured(cell("echo-64-1", connections=4), LIAR, LIMIT, said=said)
    assert result.server == "limit"
    assert len(result.rounds) == 2
    (line,) = said
    assert line.startswith("echo-64-1: liar is left out: ")


def test_a_server_that_dies_in_its_turn_is_left_out_with_its_status(said: list[str]) -> None:
    mortal = replace(
        LIMIT, name="mortal", command=lambda launch, port: ["timeout", "0.5", *LIMIT.command(launch, port)]
    )
    results = measure.measure(
        cell("echo-64-1", connections=4), [mortal, LIMIT], replace(PACE, seconds=1.0), said.append
    )
    assert [result.server for result in results] == ["limit"]
    assert said == ["echo-64-1: mortal is left out: it has ended with status 124"]


@pytest.mark.parametrize(
    ("command", "state"),
    [(lambda port: [sys.executable, "-c", CLOSING, str(port)], ""), (lambda port: LIAR.command(Launch(), port), "T")],
    ids=["refuses the load", "answers wrongly"],
)
def test_a_server_that_is_left_out_does_not_run_beside_the_others(
    command: Callable[[int], list[str]], state: str, tmp_path: Path
) -> None:
    pid = tmp_path / "pid"
    noted = ["sh", "-c", f'echo $$ >{pid}; exec "$@"', "sh"]
    peer = replace(LIMIT, name="noted", command=lambda _launch, port: [*noted, *command(port)])
    seen = []

    def say(_line: str) -> None:
        stat = Path(f"/proc/{pid.read_text().strip()}/stat")
        for _ in range(100):  # a signal takes a moment
            found = stat.read_text().rpartition(")")[2].split()[0] if stat.exists() else ""
            if found == state:
                break
            time.sleep(0.05)
        seen.append(found)

    assert measure.measure(cell("echo-64-1", connections=4), [peer], PACE, say) == []
    assert seen == [state]


def test_a_server_that_does_not_start_is_left_out(said: list[str]) -> None:
    (result,) = measured(cell("echo-64-1", connections=4), GONE, LIMIT, said=said)
    assert result.server == "limit"
    assert said == ["echo-64-1: gone is left out: it ended with status 1: ['no luck']"]


def test_a_cell_without_a_server_has_no_result(said: list[str]) -> None:
    assert measured(cell("echo-64-1", connections=4), GONE, said=said) == []


@pytest.mark.parametrize("name", ["start", "memory", "flood-none"])
def test_a_server_that_is_measured_alone_has_the_figure_of_its_cell(name: str, said: list[str]) -> None:
    asked = cell(name, connections=1 if name == "flood-none" else 200)
    (result,) = measured(asked, LIMIT, said=said)
    assert said == []
    assert getattr(result.median, asked.figure) is not None


def test_an_import_is_measured_only_of_python_modules(said: list[str]) -> None:
    (result,) = measured(cell("import"), LIMIT, PEERS["wshost"], said=said)
    assert result.server == "wshost"
    assert result.median.seconds
    assert result.median.seconds > 0


def test_a_server_that_waits_for_its_turn_takes_no_cpu() -> None:
    polling = "import socket, sys; s = socket.create_server(('127.0.0.1', int(sys.argv[1])))\nwhile True: pass"
    peer = replace(LIMIT, command=lambda _launch, port: [sys.executable, "-c", polling, str(port)])
    with running(peer, Launch()) as server:
        server.pause()
        before = server.cpu()
        time.sleep(0.1)
        assert server.cpu() == pytest.approx(before, abs=0.02)
        server.resume()
        time.sleep(0.5)
        assert server.cpu() > before + 0.02


def test_memory_and_open_files_limit_how_many_servers_run_at_the_same_time(monkeypatch: pytest.MonkeyPatch) -> None:
    assert together(cell("echo-64-1")) > 20
    assert together(cell("echo-64-1", connections=10**9)) == 1
    compressed = cell("deflate-1k", connections=1_000)
    monkeypatch.setattr(resource, "getrlimit", lambda _what: (5_500, 20_000))
    assert together(compressed) == 5
    assert together(cell("echo-1k-1", connections=1_000)) > 5


def test_the_server_of_another_commit_has_the_handlers_of_this_one(
    monkeypatch: pytest.MonkeyPatch, said: list[str]
) -> None:
    monkeypatch.setenv("WSHOST_BEFORE", str(Path(__file__).parents[2]))
    (result,) = measured(cell("async-echo-64-1", connections=2), PEERS["wshost-before"], said=said)
    assert said == []
    assert len(result.rounds) == 2


def test_a_program_that_does_not_compile_is_reported(tmp_path: Path) -> None:
    with pytest.raises(UnavailableError, match=r"can't compile load\.c"):
        built("load.c", ["-lno-such-library"], directory=tmp_path)
