from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from wshost.protocols.websocket.on_demand import Engines, load

ROOT = Path(__file__).parents[3]


class Silent:
    """A sink for what engines report."""

    def __getattr__(self, name: str) -> Any:
        return lambda *_: None


def test_engines_have_the_limits_that_were_given() -> None:
    engines = Engines(max_message_size=4, max_frame_size=3, max_deflated_size=2, max_fragments=1)
    sink: Any = Silent()
    one, other = engines(sink), engines(sink)
    assert (one.max_message_size, one.max_frame_size, one.max_deflated_size, one.max_fragments) == (4, 3, 2, 1)
    assert type(one) is type(other)
    assert one is not other


def test_what_is_loaded_may_be_loaded_again() -> None:
    load()
    load()
    assert "wshost.protocols.websocket.autobahn_engine" in sys.modules


@pytest.mark.parametrize(
    ("statement", "imported"),
    [
        ("engines", False),
        ("on_demand.load()", True),
        ("engines(None)", True),
    ],
)
def test_autobahn_is_imported_when_an_engine_is_made_or_by_load(statement: str, imported: bool) -> None:
    lines = (
        "import sys",
        "from wshost.protocols.websocket import module, on_demand",
        "engines = on_demand.Engines(1, 1, 1, 1)",
        statement,
        "print('autobahn' in sys.modules)",
    )
    command = [sys.executable, "-c", "\n".join(lines)]
    done = subprocess.run(command, check=True, cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.split() == [str(imported)]
