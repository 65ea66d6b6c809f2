"""Reads the stack of a thread that hangs, in another thread: calls no users' code, keeps no frame. Knows no reactor."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Container, Sequence
from types import CodeType, FrameType
from typing import NamedTuple

#: How many of the innermost frames are shown: users' code may call itself any number of times.
SHOWN = 30
#: While one of these has a frame on the stack, a person is at work.
_DEBUGGERS = {"_pydevd_bundle", "bdb", "pdb", "pydevd"}
#: Where a reactor waits for events. uvloop waits in C, and has no frame.
_WAITING = {
    "selectors",
    "twisted.internet.epollreactor",
    "twisted.internet.kqreactor",
    "twisted.internet.pollreactor",
    "twisted.internet.selectreactor",
}


class Stack(NamedTuple):
    """What a thread was doing at one moment."""

    #: The frames as in a traceback, the innermost last; empty when no Python code was running.
    text: str
    #: What holds the thread, as `held` has found it.
    holder: str
    #: A debugger is at work.
    debugged: bool
    #: No code was running in the turn, or none but what waits for events.
    idle: bool


def read(frame: FrameType | None, loops: Container[CodeType], held: Callable[[Sequence[FrameType]], str]) -> Stack:
    """Read a stack.

    :param frame: the innermost.
    :param loops: the functions that run turns. They are left out, with all that has called them.
    :param held: says what holds the thread, given the frames, the outermost first.
    """
    frames: list[FrameType] = []
    while frame is not None and frame.f_code not in loops:
        frames.append(frame)
        frame = frame.f_back
    modules = [str(one.f_globals.get("__name__")) for one in frames]
    # Not `format_stack`: it would find the frames that were left out.
    shown = traceback.StackSummary.extract((one, one.f_lineno) for one in frames[:SHOWN])
    shown.reverse()
    return Stack(
        text="".join(shown.format()).rstrip(),
        holder=held(frames[::-1]),
        debugged=any(module.partition(".")[0] in _DEBUGGERS for module in modules),
        idle=not modules or modules[0] in _WAITING,
    )
