from __future__ import annotations

import pytest

from wshost.commands.one_line import Exit, one_line
from wshost.results import ConfigurationError


class TestOneLine:
    def test_a_handlers_traceback_is_printed_above_the_complaint(self, capfd: pytest.CaptureFixture[str]) -> None:
        class Broken(ConfigurationError):
            traceback_text = "Traceback:\n  their line\n"

        with pytest.raises(Exit), one_line():
            raise Broken("it can't be\nimported")
        assert capfd.readouterr().err == "Traceback:\n  their line\nwshost: it can't be imported\n"

    def test_an_exception_that_is_no_complaint_is_raised(self) -> None:
        with pytest.raises(ZeroDivisionError), one_line():
            1 / 0  # noqa: B018

    def test_a_complaint_is_an_exception_and_ends_the_process(self) -> None:
        """It removes its pid file after an `Exception` only, and prints that it had one on a daemon's terminal."""
        with pytest.raises(Exception, match=r"^a line$") as caught, one_line():
            raise ConfigurationError("a line")
        assert isinstance(caught.value, SystemExit)
        assert caught.value.code == 1
