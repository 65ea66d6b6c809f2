from __future__ import annotations

import os
import shlex
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import watchfiles

from wshost.commands import reload
from wshost.commands.foreground import Options
from wshost.commands.reload import Sources, folders_of
from wshost.results import ConfigurationError
from wshost.settings.options import Settings


def parsed(*given: str) -> Options:
    options = Options()
    options.parseOptions(list(given))
    return options


class TestRun:
    @pytest.fixture
    def runs(self, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Any]]:
        """The calls of the library."""
        runs: list[Any] = []
        monkeypatch.setattr(watchfiles, "run_process", lambda *paths, **how: runs.append((paths, how)))
        before = signal.signal(signal.SIGINT, signal.SIG_DFL)
        yield runs
        signal.signal(signal.SIGHUP, signal.SIG_DFL)
        signal.signal(signal.SIGINT, before)

    def test_the_command_runs_in_a_process_that_changes_restart(
        self, runs: list[Any], capfd: pytest.CaptureFixture[str]
    ) -> None:
        Path("chat.py").touch()
        given = ["--reload", "--handler", "chat", "--handler-option", "title=My chat", "--drain-timeout=7"]
        assert reload.run(parsed(*given), given) == 0
        [(paths, how)] = runs
        assert paths == (Path.cwd(),)
        assert how["target_type"] == "command"
        assert how["sigint_timeout"] == 10
        assert shlex.split(how["target"]) == [sys.executable, "-m", "wshost", *given[1:]]
        assert capfd.readouterr().err == f"wshost: watching {Path.cwd()}\n"

    def test_the_folder_of_the_configuration_is_watched_for_that_file(
        self, runs: list[Any], capfd: pytest.CaptureFixture[str]
    ) -> None:
        """An editor replaces a file by another."""
        for name in ("etc/chat.toml", "rooms/chat.py"):
            Path(name).parent.mkdir()
            Path(name).touch()
        reload.run(parsed("--config=etc/chat.toml", "--handler=rooms"), [])
        [(paths, how)] = runs
        assert set(paths) == {Path("etc").absolute(), Path("rooms").absolute()}
        counts = how["watch_filter"]
        assert counts(watchfiles.Change.modified, str(Path("etc/chat.toml").absolute()))
        assert not counts(watchfiles.Change.modified, str(Path("etc/other.toml").absolute()))
        assert counts(watchfiles.Change.added, str(Path("rooms/page.html").absolute()))
        assert not counts(watchfiles.Change.added, str(Path("rooms/__pycache__/x.pyc").absolute()))
        assert capfd.readouterr().err.endswith(f"rooms, {Path('etc/chat.toml').absolute()}\n")

    @pytest.mark.usefixtures("runs")
    def test_ctrl_c_reaches_the_library_which_ends_the_process_of_the_server(self) -> None:
        reload.run(parsed("--handler=chat"), [])
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler

    def test_it_ends_with_its_terminal(self, runs: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
        ended: list[int] = []
        before = signal.signal(signal.SIGTERM, lambda number, _: ended.append(number))
        reload.run(parsed("--handler=chat"), [])
        os.kill(os.getpid(), signal.SIGHUP)
        signal.signal(signal.SIGTERM, before)
        assert ended == [signal.SIGTERM]

    def test_without_the_library_it_says_what_to_install(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "watchfiles", None)
        with pytest.raises(ConfigurationError, match=r"pip install 'wshost\[reload\]'$"):
            reload.run(parsed("--reload", "--handler=chat"), [])


class TestSources:
    @pytest.mark.parametrize(
        ("name", "counts"),
        [
            ("chat.py", True),
            ("templates/page.html", True),
            ("settings.toml", True),
            ("server.log", False),
            ("chat.sqlite3-wal", False),
            ("log", False),
            ("../elsewhere.py", False),
        ],
    )
    def test_what_the_server_writes_does_not_count(self, name: str, counts: bool) -> None:
        sources = Sources([Path.cwd()], None, "log")
        assert sources(os.path.normpath(Path.cwd() / name)) is counts

    def test_a_file_that_is_the_output_does_not_count(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """As in: wshost --reload … 2>errors"""
        Path("errors").touch()
        Path("chat.py").touch()
        stat = Path("errors").stat()
        monkeypatch.setattr(os, "fstat", lambda _: stat)
        sources = Sources([Path.cwd()], None, None)
        assert not sources(str(Path("errors").absolute()))
        assert sources(str(Path("chat.py").absolute()))


class TestFolders:
    @pytest.fixture(autouse=True)
    def _files(self) -> None:
        for name in ("rooms/inner/chat.py", "etc/live.py", "alone.py"):
            Path(name).parent.mkdir(parents=True, exist_ok=True)
            Path(name).touch()

    @pytest.mark.parametrize(
        ("handler", "watched"),
        [
            ("alone", "."),
            ("alone.py:live", "."),
            ("rooms.inner.chat:live", "rooms"),
            ("rooms/inner/chat.py", "rooms/inner"),
            ("live", "etc"),
            ("nowhere", "."),
        ],
    )
    def test_the_folder_of_a_handler_is_watched_and_of_a_package_all(self, handler: str, watched: str) -> None:
        assert list(folders_of(Settings(handler=handler), "etc/chat.toml")) == [Path(watched).absolute()]

    def test_an_installed_handler_is_watched_where_it_is_installed(self) -> None:
        [path] = folders_of(Settings(handler="wshost.handlers.echo"), None)
        assert path == Path(reload.__file__).parents[1]

    def test_all_routes_are_watched_each_folder_once(self) -> None:
        settings = Settings(handler=object(), route={"/a": "alone", "/b": "rooms", "/c": "alone.py", "/d": "nowhere"})
        assert list(folders_of(settings, None)) == [Path.cwd(), Path("rooms").absolute()]
