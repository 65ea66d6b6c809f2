"""A server says which handler lets all others wait, while it does."""

from __future__ import annotations

import os
import re
import signal
import time
from pathlib import Path

import pytest
from websockets.sync.client import connect

from tests.integration.server import Server, running_server

EXAMPLES = Path(__file__).parent.parent.parent / "docs" / "examples"

HANDLER = """
import asyncio
import time

def init(options):
    if options["connection"].path == "/init":
        time.sleep(0.6)

def sync(message, state):
    if message == ("text", "sync"):
        time.sleep(0.6)
    if message == ("text", "long"):
        time.sleep(1.5)

class Async:
    def init(self, options):
        pass

    async def handle(self, message, state):
        if message == ("text", "async"):
            await asyncio.sleep(0)
            time.sleep(0.6)
        if message == ("text", "callback"):
            asyncio.get_running_loop().call_soon(lambda: time.sleep(0.6))
        return ("noreply", state)

def handle(message, state):
    sync(message, state)
    return ("noreply", state)
"""
STOPPED = 0.7


@pytest.fixture(autouse=True)
def handler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "slow.py").write_text(HANDLER)
    monkeypatch.chdir(tmp_path)


def say(server: Server, text: str, path: str = "/") -> None:
    with connect(server.url + path, open_timeout=15) as client:
        client.send(text)


def test_the_example_of_the_documentation_is_named_with_its_message_and_its_line() -> None:
    with running_server("--handler=slow", cwd=EXAMPLES) as server:
        say(server, "hello")
        found = server.wait_for(
            r"a turn of the reactor took (\d\.\d\d) s or more, (held by .*; the stack, while it hung:)\n"
        )
        # The page says so, too, and breaks the line.
        assert found[2] in " ".join((EXAMPLES.parent / "operations.md").read_text(encoding="utf-8").split())
        # It is looked at now and then while it hangs, the first time after a quarter of a second.
        assert float(found[1]) >= 0.25
        line = r'File ".*/slow\.py", line 11, in handle\n +time\.sleep\(0\.6\)  # nobody else is served meanwhile\n'
        assert re.search(line, server.log[found.end() :])


@pytest.mark.parametrize("reactor", [None, "asyncio", "epoll"])
def test_a_plain_handler_is_named_in_whatever_it_has_called(reactor: str | None) -> None:
    with running_server("--handler=slow", reactor=reactor) as server:
        say(server, "sync")
        server.wait_for(r"held by handle of slow \(text of 4 characters: 'sync'\); the stack, while it hung:\n")
        server.wait_for(r"in handle\n +sync\(message, state\)\n.* in sync\n +time\.sleep\(0\.6\)\n")


def test_an_async_handler_is_named_after_it_has_waited() -> None:
    with running_server("--handler=slow:Async") as server:
        say(server, "async")
        server.wait_for(r"held by handle of slow:Async \(text of 5 characters: 'async'\)")


def test_an_init_is_named() -> None:
    with running_server("--route=/init=slow") as server:
        say(server, "", "/init")
        server.wait_for(r"held by init of slow; the stack, while it hung:\n")


def test_one_that_may_never_end_is_named_before_it_ends() -> None:
    with running_server("--handler=slow", "--slow-turn=0.1") as server:
        say(server, "long")
        server.wait_for(r"a turn of the reactor has not ended after 1\.\d+ s, held by handle of slow")
        server.wait_for(r"a turn of the reactor took 1\.\d+ s or more, as was logged before\n")


def test_what_is_no_handlers_has_no_name() -> None:
    with running_server("--handler=slow:Async") as server:
        say(server, "callback")
        server.wait_for(r"a turn of the reactor took 0\.\d\d s or more; ")


@pytest.mark.skipif(not hasattr(signal, "SIGSTOP"), reason="processes can't be stopped there")
def test_a_server_that_was_stopped_accuses_nobody() -> None:
    with running_server("--handler=slow") as server:
        say(server, "hello")
        # What it imports in a thread is there.
        deadline = time.monotonic() + 15
        while len(list(Path(f"/proc/{server.pid}/task").iterdir())) > 2:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        before = len(server.log)
        for pause in (0.1, 0.13, 0.17):
            os.kill(server.pid, signal.SIGSTOP)
            time.sleep(STOPPED)
            os.kill(server.pid, signal.SIGCONT)
            time.sleep(pause)
        say(server, "hello")
        assert "a turn of the reactor" not in server.stop()[1][before:]


def test_without_the_option_nothing_is_said_and_there_is_no_thread() -> None:
    with running_server("--handler=slow", "--slow-turn=0") as server:
        say(server, "sync")
        assert "a turn of the reactor" not in server.stop()[1]
