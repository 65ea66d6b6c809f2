from __future__ import annotations

import errno
import re
import socket
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.error import CannotListenError

from tests.commands.given import ECHO
from tests.ports import Reactor
from wshost.commands.check import check
from wshost.commands.foreground import Options
from wshost.process import open_files, passed_sockets
from wshost.process.passed_sockets import PassedSocket, PassedSockets
from wshost.protocols.websocket import on_demand
from wshost.results import ConfigurationError
from wshost.settings.options import OPTIONS

#: As the name of a Unix socket, it is too long.
LONG = "x" * 120


@pytest.fixture(autouse=True)
def prepared(reactor: Reactor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(open_files, "raise_limit", lambda: None)
    monkeypatch.setattr(on_demand, "load", lambda: None)


def checked(*given: str) -> int:
    options = Options()
    options.parseOptions(list(given))
    return check(options)


def rows(output: str) -> dict[str, tuple[str, str]]:
    """Each option's value and source, as printed."""
    found = re.findall(r"^([a-z-]+) {2,}(.*?) {2,}(\S.*)$", output, re.MULTILINE)
    return {name: (value, source) for name, value, source in found}


class TestWhatIsInForce:
    def test_every_option_is_printed_with_its_value_and_source(self, capfd: pytest.CaptureFixture[str]) -> None:
        assert checked(*ECHO) == 0
        printed = rows(capfd.readouterr().out)
        assert list(printed) == [option.dashed for option in OPTIONS.values()]
        assert printed["port"] == ("8080", "default")
        assert printed["max-message-size"] == ("1MiB", "default")
        assert printed["listen"] == ("-", "default")
        assert printed["handler"] == ("wshost.handlers.echo", "the command line")

    def test_the_source_is_the_one_that_has_won(
        self, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.setenv("WSHOST_PORT", "1")
        monkeypatch.setenv("WSHOST_COMPRESS", "1")
        monkeypatch.setenv("WSHOST_MAX_OUTPUT", "2KiB")
        text = "compress = false\nmax-connections = 5\nprotocol-module = ['http,max_headers=9', 'websocket']\n"
        Path("chat.toml").write_text(text, encoding="ascii")
        checked(*ECHO, "--config=chat.toml", "--max-connections=6", "--origin=https://a", "--origin=https://b")
        printed = rows(capfd.readouterr().out)
        assert printed["port"] == ("1", "WSHOST_PORT")
        assert printed["compress"] == ("false", "chat.toml")
        assert printed["max-output"] == ("2KiB", "WSHOST_MAX_OUTPUT")
        assert printed["max-connections"] == ("6", "the command line")
        assert printed["origin"] == ("https://a https://b", "the command line")
        assert printed["protocol-module"] == ("http,max_headers=9 websocket", "chat.toml")

    def test_nothing_in_a_value_reaches_the_terminal(self, capfd: pytest.CaptureFixture[str]) -> None:
        checked(*ECHO, "--handler-option=a\x1b[31m\nb=1")
        assert rows(capfd.readouterr().out)["handler-option"] == (r"a\x1b[31m\nb=…", "the command line")

    def test_a_port_that_replaces_the_files_endpoints_is_in_force_alone(
        self, capfd: pytest.CaptureFixture[str]
    ) -> None:
        Path("chat.toml").write_text("listen = ['tcp:9']\n", encoding="ascii")
        checked(*ECHO, "--config=chat.toml", "--port=8")
        printed = rows(capfd.readouterr().out)
        assert printed["listen"] == ("-", "default")
        assert printed["port"] == ("8", "the command line")

    def test_values_of_a_handlers_options_are_not_printed(self, capfd: pytest.CaptureFixture[str]) -> None:
        checked(*ECHO, "--handler-option=token=s3cret", "--handler-option=room=1", "--route=/a=wshost.handlers.echo")
        output = capfd.readouterr().out
        assert rows(output)["handler-option"] == ("token=… room=…", "the command line")
        assert rows(output)["route"] == ("/a=wshost.handlers.echo", "the command line")
        assert "s3cret" not in output

    def test_its_last_line_says_that_it_would_start(self, capfd: pytest.CaptureFixture[str], reactor: Reactor) -> None:
        checked(*ECHO, "--port=80")
        captured = capfd.readouterr()
        assert captured.out.endswith("\nIt would start.\n")
        assert captured.err == ""
        assert [port for port, *_ in reactor.tcpServers] == [80]


class TestWhatIsWrong:
    @pytest.mark.parametrize(
        ("given", "complaint"),
        [
            ([], "there is no handler"),
            (["--handler=nowhere"], "handler 'nowhere' can't be imported"),
            ([*ECHO, "--tls-cert=none.pem"], "none.pem: No such file or directory"),
            ([*ECHO, "--listen=nope:"], "listen: 'nope:': Unknown endpoint type"),
            ([*ECHO, "--config=none.toml"], "none.toml: No such file or directory"),
            ([*ECHO, "--listen=unix:none/x"], "can't listen on unix:none/x: No such file or directory"),
            ([*ECHO, "--listen=unix:address=none/x"], "can't listen on unix:address=none/x: No such file or directory"),
            ([*ECHO, "--listen=haproxy:unix:none/x:mode=666"], "can't listen on haproxy:unix:none/x"),
            ([*ECHO, "--listen=unix:locked"], "can't listen on unix:locked: what is there is no socket"),
            ([*ECHO, f"--listen=unix:{LONG}"], f"can't listen on unix:{LONG}: AF_UNIX path too long"),
            (
                [*ECHO, "--listen=unix:x", "--listen=unix:./x"],
                "can't listen on unix:./x: another endpoint is there, too",
            ),
            ([*ECHO, "--admin=unix:none/x"], "can't listen on unix:none/x: No such file or directory"),
            ([*ECHO, "--admin=unix:locked"], "can't listen on unix:locked: what is there is no socket"),
            ([*ECHO, "--takeover=none/x"], "takeover: none/x: No such file or directory"),
            ([*ECHO, "--takeover=locked"], "takeover: locked: locked is no socket"),
            ([*ECHO, f"--takeover={LONG}"], f"takeover: {LONG}: AF_UNIX path too long"),
            ([*ECHO, "--log-file=none/log"], "log-file: none/log: No such file or directory"),
            ([*ECHO, "--log-file=."], r"log-file: \.: Is a directory"),
            ([*ECHO, "--log-file=locked"], "log-file: locked: Permission denied"),
        ],
    )
    def test_what_would_prevent_the_start_is_an_error(
        self, monkeypatch: pytest.MonkeyPatch, given: list[str], complaint: str
    ) -> None:
        monkeypatch.setattr("os.access", lambda path, mode: Path(path).name != "locked")
        Path("locked").touch()
        with pytest.raises(ConfigurationError, match=f"^{complaint}"):
            checked(*given)

    def test_the_folder_of_a_unix_socket_must_be_writable(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("os.access", lambda path, mode: False)
        with pytest.raises(ConfigurationError, match=r"^can't listen on unix:x: Permission denied$"):
            checked(*ECHO, "--listen=unix:x")

    def test_a_unix_socket_that_can_be_made_is_not_made(self, reactor: Reactor) -> None:
        assert checked(*ECHO, "--listen=unix:x", "--listen=tcp:0", "--admin=unix:y") == 0
        assert reactor.unixServers == []
        assert list(Path().iterdir()) == []

    def test_a_unix_socket_on_which_a_server_listens_is_no_error(self, capfd: pytest.CaptureFixture[str]) -> None:
        """It may be the server that is to be replaced."""
        with socket.socket(socket.AF_UNIX) as server:
            server.bind("x")
            server.listen()
            assert checked(*ECHO, "--listen=unix:x", "--admin=tcp:0") == 0
        assert capfd.readouterr().err == (
            "wshost: warning: can't listen on unix:x: a server listens there already: "
            "no error if that is the server to be replaced\n"
        )

    def test_a_server_that_can_be_taken_over_is_left_alone(self) -> None:
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as server:
            server.bind("x")
            server.listen()
            assert checked(*ECHO, "--port=0", "--takeover=x") == 0
        assert list(map(str, Path().iterdir())) == ["x"]

    def test_a_log_that_is_not_there_yet_is_not_made(self) -> None:
        checked(*ECHO, "--log-file=log")
        assert not Path("log").exists()

    def test_handlers_beside_the_configuration_are_found(self, tmp_path: Path) -> None:
        folder = tmp_path / "etc"
        folder.mkdir()
        (folder / "handler_beside.py").write_text("init = handle = print\n", encoding="ascii")
        (folder / "chat.toml").write_text("handler = 'handler_beside'\n", encoding="ascii")
        assert checked("--config=etc/chat.toml") == 0

    def test_too_few_descriptors_are_warned_of(
        self, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.setattr(open_files, "raise_limit", lambda: 100)
        assert checked(*ECHO) == 0
        assert capfd.readouterr().err.startswith("wshost: warning: max-connections is 10000, and this process may have")

    def test_a_variable_that_looks_like_an_option_is_warned_of(
        self, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.setenv("WSHOST_PROT", "1")
        assert checked(*ECHO) == 0
        assert capfd.readouterr().err == "wshost: warning: WSHOST_PROT is no option; did you mean WSHOST_PORT?\n"

    def test_a_passed_socket_that_nothing_listens_on_is_warned_of(
        self, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.setattr(passed_sockets, "PASSED", PassedSockets((PassedSocket.of(0, "chat"),)))
        assert checked(*ECHO, "--port=1") == 0
        assert capfd.readouterr().err == (
            "wshost: warning: systemd has passed sockets that nothing listens on: 0 (chat)\n"
        )

    @pytest.mark.parametrize(("number", "is_error"), [(errno.EADDRINUSE, False), (errno.EACCES, True)])
    def test_a_port_in_use_is_no_error(
        self,
        reactor: Reactor,
        monkeypatch: pytest.MonkeyPatch,
        capfd: pytest.CaptureFixture[str],
        number: int,
        is_error: bool,
    ) -> None:
        """The server that is to be replaced has it."""

        def fail(*args: object, **kwargs: object) -> None:
            raise CannotListenError("127.0.0.1", 80, OSError(number, "no"))

        monkeypatch.setattr(reactor, "listenTCP", fail)
        if is_error:
            with pytest.raises(ConfigurationError):
                checked(*ECHO, "--port=80")
            return
        assert checked(*ECHO, "--port=80") == 0
        assert capfd.readouterr().err == (
            "wshost: warning: can't listen on 127.0.0.1:80: no: no error if that is the server to be replaced\n"
        )


class TestWorkers:
    def test_a_server_with_workers_is_checked_as_one_without(self, monkeypatch: pytest.MonkeyPatch) -> None:
        checks: list[Any] = []
        monkeypatch.setattr("wshost.workers.ports.check", lambda _, descriptions: checks.append(list(descriptions)))
        assert checked(*ECHO, "--workers=2", "--listen=tcp:8080") == 0
        assert checks == [["tcp:8080"]]

    def test_what_workers_can_not_do_is_said(self) -> None:
        with pytest.raises(ConfigurationError, match="workers: they need asyncio's reactor"):
            checked(*ECHO, "--workers=2")
