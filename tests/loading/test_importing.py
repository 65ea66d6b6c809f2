"""How users' code is run for the first time; it is real files, imported for real."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from wshost.loading.importing import UserCodeError, make_importable, run
from wshost.results import ConfigurationError


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], None]]:
    """Writes a module ``users``, to be imported once."""
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])

    def write(text: str) -> None:
        (tmp_path / "users.py").write_text(text)
        importlib.invalidate_caches()

    yield write
    sys.modules.pop("users", None)


def failure() -> ConfigurationError:
    with pytest.raises(ConfigurationError) as caught:
        run("it can't be imported", importlib.import_module, "users")
    return caught.value


class TestRun:
    def test_run_returns_what_the_call_returns(self, write: Callable[[str], None]) -> None:
        write("answer = 42\n")
        assert run("it can't be imported", importlib.import_module, "users").answer == 42

    def test_the_traceback_has_the_users_frames_and_none_of_ours(self, write: Callable[[str], None]) -> None:
        write("def f():\n    raise RuntimeError('no\\nluck')\n\nf()\n")
        error = failure()
        assert isinstance(error, UserCodeError)
        assert str(error) == "it can't be imported: RuntimeError: no"
        lines = error.traceback_text.splitlines()
        assert lines[0] == "Traceback (most recent call last):"
        assert [line.rpartition(", in ")[2] for line in lines if "File " in line] == ["<module>", "f"]
        assert lines[-2:] == ["RuntimeError: no", "luck"]

    @pytest.mark.parametrize("kind", ["SystemExit", "GeneratorExit", "BaseException"])
    def test_whatever_users_code_raises_is_a_configuration_error(self, write: Callable[[str], None], kind: str) -> None:
        write(f"raise {kind}(3)\n")
        assert str(failure()) == f"it can't be imported: {kind}: 3"

    def test_a_keyboard_interrupt_is_raised(self, write: Callable[[str], None]) -> None:
        write("raise KeyboardInterrupt\n")
        with pytest.raises(KeyboardInterrupt):
            run("it can't be imported", importlib.import_module, "users")

    def test_the_traceback_has_the_cause_of_the_exception(self, write: Callable[[str], None]) -> None:
        write("try:\n    1 / 0\nexcept ZeroDivisionError as error:\n    raise KeyError('k') from error\n")
        error = failure()
        assert isinstance(error, UserCodeError)
        assert error.traceback_text.count("File ") == 2
        assert "ZeroDivisionError: division by zero" in error.traceback_text

    def test_a_syntax_error_is_shown_with_its_file(self, write: Callable[[str], None]) -> None:
        write("a b\n")
        error = failure()
        assert isinstance(error, UserCodeError)
        assert "users.py" in error.traceback_text
        assert "Traceback" not in error.traceback_text

    def test_a_system_exit_is_a_configuration_error(self, write: Callable[[str], None]) -> None:
        write("import sys\nsys.exit('enough')\n")
        assert str(failure()) == "it can't be imported: SystemExit: enough"

    def test_a_module_that_is_not_there_has_no_traceback(self) -> None:
        error = failure()
        assert not isinstance(error, UserCodeError)
        assert str(error) == "it can't be imported: ModuleNotFoundError: No module named 'users'"


def test_a_directory_is_made_importable_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", ["elsewhere"])
    make_importable(tmp_path)
    make_importable(tmp_path)
    assert sys.path == [str(tmp_path), "elsewhere"]
