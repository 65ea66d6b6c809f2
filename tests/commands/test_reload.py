from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Any

import pytest
import watchfiles

from wshost.commands import reload
from wshost.commands.foreground import Options
from wshost.results import ConfigurationError
from wshost.settings.options import Settings


def parsed(*given: str) -> Options:
    options = Options()
    options.parseOptions(list(given))
    return options


class TestRun:
    def test_the_command_runs_in_a_process_that_changes_restart(
        self, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
    ) -> None:
        runs: list[Any] = []
        monkeypatch.setattr(watchfiles, "run_process", lambda *paths, **how: runs.append((paths, how)))
        Path("chat.py").touch()
        given = ["--reload", "--handler", "chat", "--handler-option", "title=My chat"]
        assert reload.run(parsed(*given), given) == 0
        [(paths, how)] = runs
        assert paths == (Path.cwd(),)
        assert how["target_type"] == "command"
        assert shlex.split(how["target"]) == [sys.executable, "-m", "wshost", *given[1:]]
        assert capfd.readouterr().err == f"wshost: watching {Path.cwd()}\n"

    def test_without_the_library_it_says_what_to_install(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "watchfiles", None)
        with pytest.raises(ConfigurationError, match=r"pip install 'wshost\[reload\]'$"):
            reload.run(parsed("--reload", "--handler=chat"), [])


class TestWatched:
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
        ],
    )
    def test_the_folder_of_a_handler_is_watched_and_of_a_package_all(self, handler: str, watched: str) -> None:
        assert list(reload.watched(Settings(handler=handler), "etc/chat.toml")) == [
            Path("etc/chat.toml").absolute(),
            Path(watched).absolute(),
        ]

    def test_an_installed_handler_is_watched_where_it_is_installed(self) -> None:
        [path] = reload.watched(Settings(handler="wshost.handlers.echo"), None)
        assert path == Path(reload.__file__).parents[1]

    def test_all_routes_are_watched_each_folder_once(self) -> None:
        settings = Settings(handler=object(), route={"/a": "alone", "/b": "rooms", "/c": "alone.py", "/d": "nowhere"})
        assert list(reload.watched(settings, None)) == [Path.cwd(), Path("rooms").absolute()]
