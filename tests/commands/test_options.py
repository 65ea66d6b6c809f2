from __future__ import annotations

import re
from pathlib import Path

import pytest
from twisted.scripts._twistd_unix import ServerOptions

import wshost
from tests.commands.given import parsed
from wshost.commands.foreground import Options as ForegroundOptions
from wshost.commands.one_line import Exit
from wshost.commands.twistd import Options
from wshost.process import passed_sockets
from wshost.process.passed_sockets import FIRST, PassedSocket, PassedSockets
from wshost.results import ConfigurationError
from wshost.settings.options import OPTIONS, Settings


class TestTheCommandLine:
    def test_options_become_settings(self) -> None:
        options = parsed(
            *("--port", "0", "--origin", "https://a.example", "--origin=https://b.example", "--compress"),
            *("--handler", "chat", "--handler-option", "room=1", "--handler-option", "size=2", "--route", "/a=b"),
            *("--max-message-size", "64KiB", "--ping-interval", "2.5", "--protocol-module", "http,timeout=2.5"),
            *("--protocol-module", "websocket"),
        )
        assert options.settings() == Settings(
            port=0,
            origin=["https://a.example", "https://b.example"],
            compress=True,
            handler="chat",
            handler_option={"room": "1", "size": "2"},
            route={"/a": "b"},
            max_message_size=65_536,
            ping_interval=2.5,
            protocol_module=[("http", {"timeout": 2.5}), ("websocket", {})],
        )

    def test_options_win_over_those_of_the_file(self) -> None:
        Path("chat.toml").write_text("port = 1\ncompress = true\norigin = ['*']\n", encoding="ascii")
        options = parsed("--config", "chat.toml", "--port", "2", "--origin", "https://a.example")
        assert options.settings() == Settings(port=2, compress=True, origin=["https://a.example"])

    def test_a_value_may_look_like_an_option(self) -> None:
        assert parsed("--handler", "--port").settings() == Settings(handler="--port")

    def test_options_of_the_file_win_over_the_environments(self, monkeypatch: pytest.MonkeyPatch) -> None:
        Path("chat.toml").write_text("port = 1\ncompress = true\n", encoding="ascii")
        monkeypatch.setenv("WSHOST_PORT", "3")
        monkeypatch.setenv("WSHOST_INTERFACE", "::1")
        monkeypatch.setenv("WSHOST_COMPRESS", "0")
        options = parsed("--config", "chat.toml", "--max-connections", "9")
        assert options.settings() == Settings(port=1, interface="::1", compress=True, max_connections=9)

    def test_a_variable_may_name_the_file(self, monkeypatch: pytest.MonkeyPatch) -> None:
        Path("chat.toml").write_text("port = 1\n", encoding="ascii")
        Path("other.toml").write_text("port = 2\n", encoding="ascii")
        monkeypatch.setenv("WSHOST_CONFIG", "chat.toml")
        assert parsed().settings() == Settings(port=1)
        assert parsed("--config=other.toml").settings() == Settings(port=2)

    def test_sockets_that_systemd_passes_are_listened_on_unless_options_say_where(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        one = PassedSocket(FIRST, "chat", "INET", (-1, -1))
        monkeypatch.setattr(passed_sockets, "PASSED", PassedSockets((one,)))
        found = parsed("--handler=chat").layers()
        assert found["systemd"] == {"listen": ["systemd:domain=INET:index=0"]}
        assert list(found)[-1] == "systemd"
        assert parsed("--handler=chat").settings().listen == ["systemd:domain=INET:index=0"]
        monkeypatch.setenv("WSHOST_PORT", "3")
        assert parsed("--handler=chat").settings() == Settings(handler="chat", port=3)

    def test_a_wrong_variable_is_a_wrong_option(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("WSHOST_PORT", "tcp://10.0.0.1:8080")
        with pytest.raises(ConfigurationError, match=r"^WSHOST_PORT: 'tcp://10\.0\.0\.1:8080' is not a whole number"):
            parsed().settings()

    def test_handlers_that_are_files_may_lie_beside_the_file(self, tmp_path: Path) -> None:
        folder = tmp_path / "etc"
        folder.mkdir()
        (folder / "chat.py").touch()
        text = "handler = 'chat.py:live'\n[route]\n'/a' = 'chat.py'\n'/b' = 'none.py'\n'/c' = 'chat'\n"
        (folder / "chat.toml").write_text(text, encoding="ascii")
        settings = parsed("--config", "etc/chat.toml").settings()
        assert settings.handler == f"{folder / 'chat.py'}:live"
        assert settings.route == {"/a": str(folder / "chat.py"), "/b": "none.py", "/c": "chat"}

    @pytest.mark.parametrize("name", OPTIONS)
    def test_every_option_can_be_given(self, name: str) -> None:
        option = OPTIONS[name]
        text = {
            "KEY=VALUE": "a=1",
            "PATH=HANDLER": "/a=b",
            "SIZE": "64KiB",
            "FORMAT": "json",
            "LEVEL": "debug",
            "NETWORK": "10.0.0.0/8",
            "WHAT": "restart",
            "CODE": "1012",
            "POLICY": "conflate",
        }.get(option.kind.metavar, "1")
        options = parsed(f"--{option.dashed}{'=' * bool(option.kind.metavar)}{text * bool(option.kind.metavar)}")
        assert options[name] == option.kind.add(None, text)

    @pytest.mark.parametrize(
        ("given", "complaint"),
        [
            (["--prt", "1"], "unknown option --prt; did you mean --port?"),
            (["--por=1"], "unknown option --por; did you mean --port?"),
            (["--m", "1"], "unknown option --m; did you mean --max-message-size?"),
            (["--compress", "--prt", "1"], "unknown option --prt; did you mean --port?"),
            (["--=1"], "unknown option --; see --help"),
            (["--Ω"], "unknown option --Ω; see --help"),
            (["-p", "1"], "option -p not recognized; see --help"),
            (["--port"], "option --port requires argument; see --help"),
            (["--port", "http"], "--port: 'http' is not a whole number from 0 to 65535"),
            (["--compress=yes"], "option --compress must not have an argument; see --help"),
            (["--max-output", "5MB"], "--max-output: '5MB' is not a size from 1 to 2147483648, such as 65536 or 64KiB"),
            (["--route", "/chat"], "--route: '/chat' is not PATH=HANDLER"),
            (["chat"], "unexpected argument 'chat'; see --help"),
        ],
    )
    def test_a_wrong_option_ends_the_process_with_one_line(
        self, capfd: pytest.CaptureFixture[str], given: list[str], complaint: str
    ) -> None:
        with pytest.raises(Exit) as caught:
            parsed(*given)
        assert caught.value.code == 1
        assert capfd.readouterr() == ("", f"wshost: {complaint}\n")

    def test_version_prints_the_version_and_which_form_runs(self, capsys: pytest.CaptureFixture[str]) -> None:
        with pytest.raises(SystemExit) as caught:
            parsed("--version")
        assert caught.value.code == 0
        assert capsys.readouterr().out == f"wshost {wshost.__version__} ({wshost.compiled.form()})\n"


class TestTheHelp:
    def test_help_prints_the_help_and_ends_the_process(self, capsys: pytest.CaptureFixture[str]) -> None:
        with pytest.raises(SystemExit) as caught:
            ServerOptions().parseOptions(["wshost", "--help"])
        assert caught.value.code == 0
        assert capsys.readouterr().out.startswith("Usage: twistd [options] wshost [options]\n")

    @pytest.mark.parametrize("name", [*OPTIONS, "config", "version", "help"])
    def test_the_help_lists_every_option_once(self, name: str) -> None:
        shown = OPTIONS[name].dashed if name in OPTIONS else name
        assert len(re.findall(rf"^  --{shown}(?![\w-])", Options().getUsage(), re.MULTILINE)) == 1

    def test_the_help_of_wshost_has_its_own_options_commands_and_examples(
        self, capsys: pytest.CaptureFixture[str]
    ) -> None:
        with pytest.raises(SystemExit) as caught:
            ForegroundOptions().parseOptions(["--help"])
        assert caught.value.code == 0
        text = capsys.readouterr().out
        assert text.startswith("Usage: wshost [check | publish TOPIC TEXT] [options]\n")
        assert text.count("\n  --reload ") == 1
        assert "twistd" not in text.partition("Examples:")[2]

    @pytest.mark.parametrize("name", OPTIONS)
    def test_the_help_shows_an_option_as_the_table_says(self, name: str) -> None:
        option = OPTIONS[name]
        shown = Options().getUsage().partition(f"  --{option.dashed}")[2].partition("\n  --")[0].partition("\n\n")[0]
        takes = f"={option.kind.metavar} " if option.kind.metavar else " "
        default = f" [{option.shown}]" if option.kind.metavar and option.shown else ""
        assert " ".join(shown.split()) == f"{takes}{option.help}{default}".strip()

    @pytest.mark.parametrize("columns", [None, 60, 132])
    def test_the_helps_lines_fit_the_terminal(self, monkeypatch: pytest.MonkeyPatch, columns: int | None) -> None:
        monkeypatch.setenv("COLUMNS", "100")
        table = Options().getUsage(columns).partition("Sizes are")[0]
        assert 50 < max(map(len, table.splitlines())) <= (columns or 100)

    def test_the_helps_examples_can_be_run(self, monkeypatch: pytest.MonkeyPatch) -> None:
        Path("limits.toml").write_text("max-connections = 5\n", encoding="ascii")
        examples = re.findall(r"^  twistd .*wshost ((?:.*\\\n)*.*)", Options().getUsage(), re.MULTILINE)
        made = [parsed(*re.sub(r"[\\']", "", example).split()).settings() for example in examples]
        assert [(one.port, one.listen, one.max_connections) for one in made] == [
            (8080, Settings.listen.default, Settings.max_connections.default),
            (8080, ["tcp:443"], 5),
        ]
