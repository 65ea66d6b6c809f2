"""Processes end with what has started them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from torture.processes import running

#: Says the number of its child, and waits, as the child does.
WAITING = """
import subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], stdout=subprocess.DEVNULL)
print(child.pid, flush=True)
time.sleep(600)
"""


def has_ended(pid: int) -> bool:
    """Gone, or dead and not yet waited for by whoever has inherited it."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0] in "ZX"
    except FileNotFoundError:
        return True


@pytest.mark.parametrize("interrupted", [False, True])
def test_a_process_and_its_children_end(interrupted: bool) -> None:
    child = 0
    with (
        pytest.raises(KeyboardInterrupt) if interrupted else pytest.raises(ValueError, match="in order"),
        running([sys.executable, "-c", WAITING], stdout=subprocess.PIPE) as process,
    ):
        assert process.stdout is not None
        child = int(process.stdout.readline())
        assert not has_ended(child)
        raise KeyboardInterrupt if interrupted else ValueError("in order")
    assert process.returncode == -9
    assert process.stdout is not None
    assert process.stdout.closed
    # A signal is carried out soon, not at once.
    while not has_ended(child):
        pass


def test_a_process_is_in_a_group_of_its_own() -> None:
    """So Ctrl-C does not reach it."""
    code = "import os; print(os.getpgid(0) == os.getpid())"
    with running([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as process:
        assert process.communicate()[0] == "True\n"
