from __future__ import annotations

import runpy
import signal
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from wshost import __main__
from wshost.commands import foreground


@pytest.fixture(autouse=True)
def interrupts() -> Iterator[None]:
    before = signal.getsignal(signal.SIGINT)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_the_module_is_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(foreground, "run", lambda options: options["port"])
    monkeypatch.setattr(sys, "argv", ["wshost", "--port", "7"])
    with pytest.raises(SystemExit) as caught:
        runpy.run_path(__main__.__file__, run_name="__main__")
    assert caught.value.code == 7


def test_an_import_runs_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(foreground, "main", lambda: pytest.fail("it runs"))
    runpy.run_path(__main__.__file__, run_name="wshost.__main__")


@pytest.mark.parametrize(
    ("before", "meanwhile"), [(signal.default_int_handler, signal.SIG_DFL), (signal.SIG_IGN, signal.SIG_IGN)]
)
def test_while_it_is_imported_an_interrupt_leaves_no_traceback(
    monkeypatch: pytest.MonkeyPatch, before: Any, meanwhile: Any
) -> None:
    """What was started with SIGINT ignored continues to ignore it."""
    signal.signal(signal.SIGINT, before)
    monkeypatch.setattr(foreground, "main", lambda: signal.getsignal(signal.SIGINT))
    assert __main__.main() == meanwhile
