"""`python -m scale` with real servers and brokers: its quickest row, and what other rows rest on."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from scale import partitions
from scale.crowd import until
from scale.machines import Cut, Machine, machines
from torture.server import Target

ROOT = Path(__file__).parent.parent.parent
#: Seconds until a run must have ended.
PATIENCE = 200.0


@pytest.mark.uninstrumented
def test_a_row_runs_and_says_that_its_goals_are_held() -> None:
    command = [sys.executable, "-m", "scale", "--only", "references as text"]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=PATIENCE)
    line, _, table = ended.stdout.partition("\n")
    found = json.loads(line)
    assert (found["test"], found["held"]) == ("references as text", True)
    assert "failure" not in found
    assert "| lost " in table
    assert (ended.returncode, ended.stderr) == (0, "")


@pytest.fixture
def pair() -> Iterator[Sequence[Machine]]:
    """Two machines, where the system permits them."""
    try:
        with machines(2) as made:
            yield made
    except PermissionError as error:
        pytest.skip(str(error))


def reaches(one: Machine, other: Machine) -> bool:
    """Whether a datagram's way is known: the other one answers who has its address."""
    asked = [sys.executable, "-c", ASK, other.address]
    return subprocess.run([*one.enter, *asked], check=False, timeout=PATIENCE).returncode == 0


#: Nobody listens at this port of the other machine: that it says so shows that it is there.
ASK = """
import socket, sys
with socket.socket() as asking:
    asking.settimeout(2)
    try:
        asking.connect((sys.argv[1], 9))
    except ConnectionRefusedError:
        sys.exit(0)
    except OSError:
        sys.exit(1)
"""


@pytest.mark.uninstrumented
@pytest.mark.parametrize("how", list(Cut))
def test_a_machine_that_is_cut_off_is_not_reached_until_it_is_joined_again(pair: Sequence[Machine], how: Cut) -> None:
    one, other = pair
    until(lambda: reaches(one, other), "machines reach each other", PATIENCE)
    other.cut(how)
    assert not reaches(one, other)
    assert not reaches(other, one)
    other.join(how)
    until(lambda: reaches(one, other), "machines reach each other again", PATIENCE)


@pytest.mark.uninstrumented
def test_when_machines_have_met_again_all_is_known_and_nothing_has_come_twice() -> None:
    # How long it takes is for `make scale`: here, other tests may run.
    row = partitions.one_broker(1, [Cut.SILENT])(Target("wshost"))
    try:
        found = {figure.what: figure.value for figure in row}
    except PermissionError as error:
        pytest.skip(str(error))
    assert found["servers that have ended"] == 0
    assert found["of what was so already"] == 0
    assert found["out of order or twice"] == 0
    assert found["of these not counted as lost"] == 0
