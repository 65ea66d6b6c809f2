from __future__ import annotations

import pytest

from wshost.reloading import Reloaded


@pytest.mark.parametrize(
    ("reloaded", "line"),
    [
        (Reloaded(), "nothing"),
        (Reloaded(certificates=1), "1 certificate"),
        (Reloaded(handlers=("chat",), connections=1), "handler chat (1 connection goes over)"),
        (Reloaded(handlers=("chat", "feed"), connections=0), "handlers chat, feed (0 connections go over)"),
        (
            Reloaded(certificates=2, handlers=("chat",), connections=3),
            "2 certificates, handler chat (3 connections go over)",
        ),
    ],
)
def test_one_line_says_what_was_read_again(reloaded: Reloaded, line: str) -> None:
    assert str(reloaded) == line
