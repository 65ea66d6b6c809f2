from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from types import FrameType

from wshost.process.stacks import SHOWN, Stack, read


def frame_in(module: str, inner: Callable[[], FrameType] = lambda: sys._getframe(1)) -> FrameType:
    """Return the innermost frame: of a function of this module, which has called the one given."""
    names = {"__name__": module, "inner": inner}
    exec("def work():\n    return inner()", names)
    frame: FrameType = names["work"]()  # type: ignore[operator]
    return frame


def stack(frame: FrameType | None, held: Callable[[Sequence[FrameType]], str] = lambda frames: "") -> Stack:
    return read(frame, {sys._getframe(1).f_code}, held)


def test_the_innermost_frame_is_shown_last_and_those_of_the_loop_are_left_out() -> None:
    def inner() -> FrameType:
        return sys._getframe()

    def outer() -> FrameType:
        return inner()

    lines = stack(outer()).text.splitlines()
    assert [line.rpartition(" in ")[2] for line in lines if " in " in line] == ["outer", "inner"]
    assert lines[-1].strip() == "return sys._getframe()"
    assert __file__ in lines[0]


def test_what_holds_the_thread_is_found_in_the_frames_the_outermost_first() -> None:
    def inner() -> FrameType:
        return sys._getframe()

    def outer() -> FrameType:
        return inner()

    assert stack(outer(), lambda frames: " ".join(one.f_code.co_name for one in frames)).holder == "outer inner"


def test_only_the_innermost_frames_are_shown() -> None:
    def recurse(left: int) -> FrameType:
        return recurse(left - 1) if left else sys._getframe()

    read_one = stack(recurse(100), lambda frames: str(len(frames)))
    # Python shows three of the lines that are the same, and counts the others.
    assert f"[Previous line repeated {SHOWN - 3} more times]" in read_one.text
    assert read_one.holder == "101"


def test_a_debugger_at_work_is_noticed_wherever_it_is_on_the_stack() -> None:
    assert stack(frame_in("bdb", lambda: frame_in("cmd"))).debugged
    assert stack(frame_in("pydevd")).debugged
    assert not stack(frame_in("chat.pdb", lambda: frame_in("bdbx"))).debugged


def test_a_thread_that_runs_no_code_or_waits_for_events_is_idle() -> None:
    assert stack(None) == Stack("", "", debugged=False, idle=True)
    assert stack(sys._getframe()).idle
    assert stack(frame_in("selectors")).idle
    assert not stack(frame_in("selectors", lambda: frame_in("chat"))).idle
