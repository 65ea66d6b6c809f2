"""The commands as an operator has them: in the foreground and as a daemon, their logs, their signals, the reload."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus, WebSocketException
from websockets.sync.client import connect

from tests.integration.server import PATIENCE, SCRIPTS, Server, running_server

EXAMPLES = Path(__file__).parents[2] / "docs" / "examples"
SOON = 15.0

#: Logs in all ways that there are, when it is told to.
TALKING = """
import logging, warnings
from twisted.logger import Logger
from twisted.python import log

ours, theirs = logging.getLogger("chat.rooms"), Logger("chat.twisted")

def init(options):
    return None

def handle(message, state):
    match message:
        case ("text", "talk"):
            ours.debug("a debug line")
            ours.info("an info %s", "line")
            theirs.warn("a {what} line", what="Twisted")
            log.msg("an older line")
            warnings.warn("an old thing")
            print("a printed line", flush=True)
        case ("text", "fail"):
            raise ValueError("no \\x1b[1m\\nforged: 2026-01-01T00:00:00.000Z")
        case ("text", "break"):
            answer = 6 * 7
            breakpoint()
        case ("text", data):
            return ("reply", data, state)
    return ("noreply", state) if message[0] != "text" else ("reply", "done", state)
"""


#: Answers each message with the same.
ONE = """
def init(options):
    return 0

def handle(message, state):
    return ("reply", "one", state) if message[0] == "text" else ("noreply", state)
"""


#: A log of one's own, for twistd's --logger.
OBSERVING = """
import sys
from twisted.logger import textFileLogObserver

def observer():
    return textFileLogObserver(sys.__stdout__)
"""


@pytest.fixture(autouse=True)
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory."""
    monkeypatch.chdir(tmp_path)
    Path("talking.py").write_text(TALKING, encoding="ascii")
    return tmp_path


def wait_for(found: Callable[[], object], what: str, seconds: float = SOON) -> None:
    deadline = time.monotonic() + seconds
    while not found():
        assert time.monotonic() < deadline, f"not in time: {what}"
        time.sleep(0.02)


def say(url: str, *texts: str) -> list[str]:
    """Send messages, and return the answers; "closed" for the end of the connection."""
    answers = []
    with connect(url) as client, suppress(ConnectionClosed):
        for text in texts:
            client.send(text)
            try:
                answers.append(str(client.recv(timeout=SOON)))
            except ConnectionClosed as error:
                answers.append(f"closed {error.rcvd.code if error.rcvd else None}")
    return answers


@contextmanager
def daemon(*options: str, own: tuple[str, ...] = ()) -> Iterator[tuple[int, str]]:
    """Run `twistd wshost` as a daemon.

    :returns: its process's id, and its URL; its log is in `twistd.log` where no option says otherwise.
    """
    command = [str(SCRIPTS / "twistd"), *own, "wshost", "--port=0", "--handler=talking", *options]
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL, timeout=30)
    wait_for(Path("twistd.pid").exists, "the pid file")
    pid = int(Path("twistd.pid").read_text(encoding="ascii"))
    try:
        logs = [path for name in ("twistd.log", "own.log", "theirs.log") if (path := Path(name)).exists()]
        wait_for(lambda: "listening on" in "".join(log.read_text() for log in logs), "that it listens")
        text = "".join(log.read_text() for log in logs)
        found = re.search(r"listening on (ws://\S+)", text)
        assert found
        yield pid, found[1]
    finally:
        os.kill(pid, signal.SIGTERM)
        wait_for(lambda: not Path("twistd.pid").exists(), "its end")


class TestInTheForeground:
    def test_one_line_says_that_it_serves_where_and_how(self) -> None:
        with running_server(command="wshost") as server:
            [line] = [line for line in server.log.splitlines() if "listening" in line]
            assert re.fullmatch(
                r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z info wshost: wshost listening on ws://127\.0\.0\.1:\d+ "
                rf"\(http -> websocket; (compiled|pure Python.*); on uvloop; pid {server.pid}\)",
                line,
            )
            assert say(server.url, "hello") == ["hello"]

    def test_the_module_is_the_command(self) -> None:
        command = [sys.executable, "-m", "wshost", "--version"]
        done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=30)
        assert done.stdout.startswith("wshost ")

    def test_sigterm_ends_it_with_status_0(self) -> None:
        with running_server(command="wshost") as server, connect(server.url) as client:
            status, log = server.stop()
            with pytest.raises(ConnectionClosed) as caught:
                client.recv(timeout=SOON)
        assert (status, caught.value.rcvd and caught.value.rcvd.code) == (0, 1001)
        assert "Traceback" not in log

    def test_ctrl_c_ends_it_by_the_signal_and_atexit_is_honoured(self) -> None:
        Path("leaving.py").write_text(f"import atexit, pathlib\natexit.register(pathlib.Path('left').touch)\n{ONE}")
        with running_server("--handler=leaving", command="wshost") as server:
            status, log = server.stop(signal.SIGINT)
        assert status == -signal.SIGINT
        assert Path("left").exists()
        assert "Traceback" not in log

    def test_ctrl_c_twice_ends_it_now(self) -> None:
        with (
            running_server("--drain-timeout=60", "--close-timeout=60", command="wshost") as server,
            connect(server.url, close_timeout=0.1),
        ):
            os.kill(server.pid, signal.SIGINT)
            server.wait_for("SIGINT")
            time.sleep(0.1)
            before = time.monotonic()
            status, log = server.stop(signal.SIGINT)
        assert status == -signal.SIGINT
        assert time.monotonic() - before < 5
        assert "Traceback" not in log

    @pytest.mark.parametrize("how", ["wshost", "twistd"])
    def test_a_breakpoint_talks_to_the_terminal(self, how: str) -> None:
        words = [str(SCRIPTS / how), *(["-n", "--pidfile="] if how == "twistd" else [])]
        words += [*(["wshost"] if how == "twistd" else []), "--port=0", "--handler=talking", "--log-file=log"]
        ours, theirs = pty.openpty()
        process = subprocess.Popen(words, stdin=theirs, stdout=theirs, stderr=theirs)
        os.close(theirs)
        shown = b""
        try:
            wait_for(lambda: Path("log").exists() and "listening" in Path("log").read_text(), "that it listens")
            found = re.search(r"ws://\S+", Path("log").read_text())
            assert found
            with connect(found[0]) as client:
                client.send("break")
                while b"(Pdb)" not in shown:
                    shown += os.read(ours, 4096)
                os.write(ours, b"p answer\nc\n")
                assert client.recv(timeout=SOON) == "done"
            while b"42" not in shown:
                shown += os.read(ours, 4096)
        finally:
            process.terminate()
            process.wait(SOON)
            os.close(ours)
        assert b"talking.py" in shown

    def test_a_wrong_option_is_one_line_and_the_status_1(self) -> None:
        done = subprocess.run([SCRIPTS / "wshost", "--prot=1"], check=False, capture_output=True, text=True, timeout=30)
        assert (done.returncode, done.stdout) == (1, "")
        assert done.stderr == "wshost: unknown option --prot; did you mean --port?\n"

    def test_a_variable_is_an_option(self) -> None:
        variables = {"WSHOST_HANDLER": "talking", "WSHOST_PORT": "0", "WSHOST_SUBPROTOCOL": "a b"}
        with (
            running_server("--config=/dev/null", command="wshost", env=variables) as server,
            connect(server.url, subprotocols=["b"]) as client,  # type: ignore[list-item]
        ):
            assert client.subprotocol == "b"

    def test_handlers_lie_beside_the_configuration(self, tmp_path: Path) -> None:
        (tmp_path / "etc").mkdir()
        Path("talking.py").rename("etc/lying.py")
        Path("etc/chat.toml").write_text("port = 0\n[route]\n'/a' = 'lying.py'\n'/b' = 'lying'\n", encoding="ascii")
        with running_server(f"--config={tmp_path}/etc/chat.toml", command="wshost", cwd="/") as server:
            assert say(f"{server.url}/a", "hello") == say(f"{server.url}/b", "hello") == ["hello"]


class TestCheck:
    def check(self, *options: str) -> tuple[int, str, str]:
        command = [str(SCRIPTS / "wshost"), "check", *options]
        done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=30)
        return done.returncode, done.stdout, done.stderr

    def test_what_is_in_force_is_printed(self) -> None:
        status, output, errors = self.check("--port=0", "--handler=talking")
        assert (status, errors) == (0, "")
        assert re.search(r"^handler +talking +the command line$", output, re.MULTILINE)
        assert output.endswith("It would start.\n")

    def test_what_is_wrong_is_one_line(self) -> None:
        status, _, errors = self.check("--port=0", "--handler=nowhere")
        assert status == 1
        assert errors == "wshost: handler 'nowhere' can't be imported: ModuleNotFoundError: No module named 'nowhere'\n"

    def test_the_port_of_a_server_that_runs_is_no_error(self) -> None:
        with running_server() as server:
            status, _, errors = self.check(f"--port={server.port}", "--handler=talking")
        assert status == 0
        assert errors.endswith("no error if that is the server to be replaced\n")


class TestTheLog:
    def test_all_that_is_said_is_in_the_log_of_a_daemon(self) -> None:
        with daemon() as (_, url):
            assert say(url, "talk", "fail") == ["done", "closed 1011"]
            lines = Path("twistd.log").read_text(encoding="utf-8").splitlines()
        said = [line.partition(" ")[2] for line in lines]
        for line in (
            "info chat.rooms: an info line",
            "warning chat.twisted: a Twisted line",
            "info twisted: an older line",
            "info stdout: a printed line",
        ):
            assert line in said
        assert any(re.match(r"warning py\.warnings: .*UserWarning: an old thing", line) for line in said)
        assert any(
            re.match(r"error wshost: \[c1 127\.0\.0\.1:\d+\] the handler's handle failed", line) for line in said
        )
        assert not any("a debug line" in line for line in lines)
        # Only entries begin at the margin, and no control character is let through.
        assert all(re.match(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z | {4}", line) for line in lines)
        assert "\x1b" not in "".join(lines)

    @pytest.mark.parametrize("command", ["wshost", "twistd"])
    def test_json_is_one_object_a_line(self, command: str) -> None:
        options = ("--handler=talking", "--log-format=json", "--log-level=debug", "--log-file=log")
        ready = re.compile("")
        with running_server(*options, command=command, ready=ready) as server:  # type: ignore[arg-type]
            wait_for(lambda: Path("log").exists() and "listening" in Path("log").read_text(), "that it listens")
            found = re.search(r"ws://[\d.:]+", Path("log").read_text())
            assert found
            assert say(found[0], "talk", "fail") == ["done", "closed 1011"]
            server.stop()
        entries = [json.loads(line) for line in Path("log").read_text(encoding="ascii").splitlines()]
        keys = {key for entry in entries for key in entry}
        assert keys == {"time", "level", "logger", "message", "connection", "peer", "traceback"}
        assert {"logger": "chat.rooms", "level": "debug", "message": "a debug line"}.items() <= next(
            entry.items() for entry in entries if entry["message"] == "a debug line"
        )
        [failure] = [entry for entry in entries if "traceback" in entry]
        assert (failure["message"], failure["connection"]) == ("the handler's handle failed", "c1")
        # Users' print() goes to stdout, but in twistd's processes.
        assert ("a printed line" in {entry["message"] for entry in entries}) is (command == "twistd")

    def test_a_level_leaves_out_what_is_less_important(self) -> None:
        with running_server("--handler=talking", "--log-level=debug", command="wshost") as server:
            assert say(server.url, "talk") == ["done"]
            server.wait_for("a debug line")
        with daemon("--log-file=own.log") as (_, url):
            assert say(url, "talk") == ["done"]
        assert "an info line" in Path("own.log").read_text(encoding="utf-8")
        assert "a debug line" not in Path("own.log").read_text(encoding="utf-8")
        assert not Path("twistd.log").exists()

    @pytest.mark.parametrize("how", ["twist", "--logger"])
    def test_another_log_has_the_applications_lines_too_and_outlives_sighup(self, how: str) -> None:
        Path("observing.py").write_text(OBSERVING, encoding="ascii")
        own = ("--nodaemon", "--pidfile=", "--logger=observing.observer")
        with running_server(
            "--handler=talking", command="twist" if how == "twist" else "twistd", own=own, env={"PYTHONPATH": "."}
        ) as server:
            assert say(server.url, "talk") == ["done"]
            server.wait_for(r"chat\.rooms.info. an info line")
            os.kill(server.pid, signal.SIGHUP)
            server.wait_for("SIGHUP: this log is not wshost's")
            assert say(server.url, "hello") == ["hello"]

    def test_a_full_disk_costs_lines_and_nothing_else(self) -> None:
        Path("log").symlink_to("/dev/full")
        with running_server("--handler=talking", "--log-file=log", command="wshost", ready=re.compile("")) as server:
            port = _port_of(server)
            url = f"ws://127.0.0.1:{port}"
            assert say(url, "talk", "fail") == ["done", "closed 1011"]
            Path("log").unlink()
            os.kill(server.pid, signal.SIGHUP)
            wait_for(Path("log").exists, "a new log")
            assert say(url, "talk", "hello") == ["done", "hello"]
            wait_for(lambda: "an info line" in Path("log").read_text(), "a line of the handler's")
            assert server.stop()[0] == 0
        first = Path("log").read_text(encoding="utf-8").splitlines()[0]
        assert re.search(r" error wshost: \d+ lines could not be written before this one: No space left", first)

    @pytest.mark.parametrize("command", ["wshost", "twistd"])
    def test_the_access_log_has_a_line_for_each_connection(self, command: str) -> None:
        options = ("--route=/chat=talking", "--access-log", "--log-format=json", "--log-file=log")
        with running_server(*options, command=command, ready=re.compile("")) as server:  # type: ignore[arg-type]
            wait_for(lambda: Path("log").exists() and "listening" in Path("log").read_text(), "that it listens")
            found = re.search(r"ws://[\d.:]+", Path("log").read_text())
            assert found
            assert say(f"{found[0]}/chat?token=secret", "hello", "fail") == ["hello", "closed 1011"]
            with pytest.raises(InvalidStatus):
                connect(f"{found[0]}/none").__enter__()
            wait_for(lambda: Path("log").read_text().count("wshost.access") == 2, "two lines")
            server.stop()
        text = Path("log").read_text(encoding="ascii")
        entries = [json.loads(line) for line in text.splitlines()]
        served, refused = [entry for entry in entries if entry["logger"] == "wshost.access"]
        assert served.items() >= {"path": "/chat", "code": 1011, "closed_by": "server", "messages_in": 2}.items()
        assert served.items() >= {"route": "/chat", "status": 101, "messages_out": 1, "errors": 1}.items()
        assert refused.items() >= {"path": "/none", "status": 404}.items()
        assert "secret" not in text
        [failure] = [entry for entry in entries if "traceback" in entry]
        assert failure["route"] == "/chat"

    def test_logrotate_rotates_the_log_of_a_daemon(self, tmp_path: Path) -> None:
        text = (EXAMPLES / "logrotate.conf").read_text(encoding="utf-8")
        for ours, theirs in (
            ("/var/log/chat/*.log", f"{tmp_path}/twistd.log"),
            ("/run/chat/pid", f"{tmp_path}/twistd.pid"),
            ("create 640 chat adm", "create 640"),
        ):
            assert ours in text
            text = text.replace(ours, theirs)
        Path("logrotate.conf").write_text(text, encoding="utf-8")
        Path("logrotate.conf").chmod(0o600)
        tmp_path.chmod(0o755)
        with daemon() as (_, url):
            assert say(url, "talk") == ["done"]
            command = ["logrotate", "--force", "--state", str(tmp_path / "state"), "logrotate.conf"]
            subprocess.run(command, check=True, timeout=30)
            wait_for(lambda: "SIGUSR1" in Path("twistd.log").read_text(), "the new log")
            assert say(url, "talk") == ["done"]
            for name in ("twistd.log", "twistd.log.1"):
                assert Path(name).read_text(encoding="utf-8").count("an info line") == 1

    @pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGUSR1])
    def test_signals_that_open_the_log_again_harm_no_connection(self, number: int) -> None:
        with running_server("--handler=talking", command="wshost") as server, connect(server.url) as client:
            for _ in range(50):
                os.kill(server.pid, number)
                client.send("hello")
                assert client.recv(timeout=SOON) == "hello"
            server.wait_for("the log is no file")

    def test_a_terminal_that_is_closed_ends_a_server_in_the_foreground(self) -> None:
        """Also when its log is a file: it would live on unseen, and hold its port."""
        ours, theirs = pty.openpty()
        words = [str(SCRIPTS / "wshost"), "--port=0", "--handler=talking", "--log-file=log"]
        process = subprocess.Popen(words, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True)
        os.close(theirs)
        wait_for(lambda: Path("log").exists() and "listening" in Path("log").read_text(), "that it listens")
        os.close(ours)
        os.kill(process.pid, signal.SIGHUP)
        assert process.wait(SOON) == 0


def _port_of(server: Server) -> int:
    """The port that a process listens on, whose log can't be read."""
    inodes: set[str] = set()

    def find() -> int:
        inodes.clear()
        for link in Path(f"/proc/{server.pid}/fd").iterdir():
            with suppress(OSError):
                inodes.update(re.findall(r"socket:\[(\d+)\]", str(link.readlink())))
        for row in Path(f"/proc/{server.pid}/net/tcp").read_text(encoding="ascii").splitlines()[1:]:
            _, local, _, state, *others = row.split()
            if state == "0A" and others[5] in inodes:
                return int(local.rpartition(":")[2], 16)
        return 0

    wait_for(find, "a port")
    return find()


class TestReload:
    @contextmanager
    def reloading(self, *options: str) -> Iterator[Server]:
        with running_server(
            *options, command="wshost", ready=re.compile(r"listening on (ws://\S+)"), forked=False
        ) as server:
            yield server

    def answers(self, server: Server, text: str) -> Callable[[], bool]:
        def asked() -> bool:
            # The client's own assertion fails if the server ends while the handshake is sent.
            with suppress(OSError, WebSocketException, TimeoutError, AssertionError):
                url = re.findall(r"listening on (ws://\S+)", server.log)[-1]
                return say(url, "hello") == [text]
            return False

        return asked

    def test_a_changed_handler_serves_soon(self) -> None:
        Path("live.py").write_text(ONE, encoding="ascii")
        with self.reloading("--reload", "--handler=live") as server:
            wait_for(self.answers(server, "one"), "the first answer")
            Path("live.py").write_text(ONE.replace("one", "two"), encoding="ascii")
            wait_for(self.answers(server, "two"), "the new answer")

    def test_all_workers_are_started_again(self) -> None:
        Path("live.py").write_text(ONE, encoding="ascii")
        with self.reloading("--reload", "--handler=live", "--workers=2") as server:

            def workers() -> list[str]:
                return list(re.findall(r"2 workers: (\d+), (\d+)", server.log)[-1])

            wait_for(self.answers(server, "one"), "the first answer", PATIENCE)
            old = workers()
            Path("live.py").write_text(ONE.replace("one", "two"), encoding="ascii")
            wait_for(self.answers(server, "two"), "the new answer", PATIENCE)
            new = workers()
            assert not set(old) & set(new)
            wait_for(lambda: not any(Path(f"/proc/{pid}").exists() for pid in old), "the old workers' end", PATIENCE)
            os.kill(server.pid, signal.SIGINT)
            wait_for(lambda: not any(Path(f"/proc/{pid}").exists() for pid in new), "the workers' end", PATIENCE)
            assert "Traceback" not in server.wait()[1]

    @pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
    def test_it_ends_with_the_server_and_leaves_none(self, number: int) -> None:
        Path("live.py").write_text(ONE, encoding="ascii")
        with self.reloading("--reload", "--handler=live") as server:
            found = re.search(r"pid (\d+)\)", server.log)
            assert found
            os.kill(server.pid, number)
            wait_for(lambda: not Path(f"/proc/{found[1]}").exists(), "the server's end")
            assert "Traceback" not in server.wait()[1]

    def test_a_handler_that_is_broken_is_told_and_mended_again(self) -> None:
        Path("live.py").write_text(ONE, encoding="ascii")
        with self.reloading("--reload", "--handler=live") as server:
            Path("live.py").write_text("def init(", encoding="ascii")
            server.wait_for("wshost: handler 'live' can't be imported: SyntaxError")
            Path("live.py").write_text(ONE.replace("one", "two"), encoding="ascii")
            wait_for(self.answers(server, "two"), "the new answer")

    def test_the_configuration_counts_each_time_it_is_replaced(self) -> None:
        Path("etc").mkdir()
        Path("live.py").write_text(ONE, encoding="ascii")
        text = "port = 0\nhandler = 'live'\n[handler-option]\nnumber = {}\n"
        Path("etc/chat.toml").write_text(text.format(0), encoding="ascii")
        with self.reloading("--reload", "--config=etc/chat.toml") as server:
            for number in range(1, 4):
                Path("new").write_text(text.format(number), encoding="ascii")
                Path("new").replace("etc/chat.toml")
                wait_for(lambda number=number: server.log.count("listening on") > number, f"start {number}")  # type: ignore[misc]

    def test_what_the_server_writes_does_not_count(self) -> None:
        Path("live.py").write_text(ONE, encoding="ascii")
        ready = re.compile("watching")
        options = ("--reload", "--handler=live", "--log-file=log")
        with running_server(*options, command="wshost", ready=ready, forked=False):
            wait_for(lambda: Path("log").exists() and "listening" in Path("log").read_text(), "that it listens")
            found = re.search(r"ws://[\d.:]+", Path("log").read_text())
            assert found
            assert say(found[0], "hello") == ["one"]
            time.sleep(2.5)
            assert Path("log").read_text().count("listening on") == 1

    def test_a_template_of_the_handlers_package_counts(self) -> None:
        Path("site").mkdir()
        Path("site/__init__.py").write_text(
            "from pathlib import Path\nTEXT = (Path(__file__).parent / 'page.html').read_text()\n"
            "def init(o): return 0\n"
            "def handle(m, s): return ('reply', TEXT, s) if m[0] == 'text' else ('noreply', s)\n",
            encoding="ascii",
        )
        Path("site").rename("pages")
        Path("pages/page.html").write_text("one", encoding="ascii")
        with self.reloading("--reload", "--handler=pages") as server:
            wait_for(self.answers(server, "one"), "the first answer")
            Path("pages/page.html").write_text("two", encoding="ascii")
            wait_for(self.answers(server, "two"), "the new answer")
