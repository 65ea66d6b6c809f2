"""Finds on a stack the handler that is at work, and its message. Runs in another thread: it calls no users' code."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial
from inspect import getattr_static
from types import CodeType, FrameType, FunctionType, MethodType
from typing import Any

from wshost.handlers.adapter import HandlerAdapter

#: How many characters or bytes of a message are shown.
SHOWN = 80
#: How many handlers are named that have the same function.
SHOWN_HOLDERS = 3

_FUNCTIONS = ("init", "handle", "code_change")
# How many decorators may be around a function.
_DEPTH = 16
# The kinds of messages (docs/handlers.md).
_KINDS = {"text", "binary", "ping", "pong", "close", "info"}


def held_by(adapters: Sequence[HandlerAdapter], frames: Iterable[FrameType]) -> str:
    """Say which function of a handler is at work, and on what: "handle of chat (text of 5 characters: 'hello')".

    :param adapters: those of the handlers that may be.
    :param frames: the outermost first.
    :returns: "" if it is none of these; "handle of chat or handle of news" if both have the same function.
    """
    owners: dict[tuple[Any, ...], set[str]] = {}
    for adapter in adapters:
        for function in _FUNCTIONS:
            for code in _codes(_found(adapter.terms.handler, function)):
                owners.setdefault(_place(code), set()).add(f"{function} of {adapter.terms.name}")
    holders: set[str] = set()
    message = ""
    for frame in frames:
        found = owners.get(_place(frame.f_code))
        if found is not None:
            # A decorator may be around functions of several handlers: an inner frame tells which.
            holders = holders & found or holders or found
            # A decorator's function may have the message in another form.
            message = message or _message(frame)
    holder = " or ".join(sorted(holders)[:SHOWN_HOLDERS])
    return f"{holder} ({message})" if message else holder


def _place(code: CodeType) -> tuple[Any, ...]:
    """Return what a function's code of before a reload, and of after it, have in common, and no other code has."""
    # Code is equal to that of a copy in another file.
    return code.co_filename, code.co_qualname, code.co_name == "<lambda>" and code.co_firstlineno


def _found(thing: Any, name: str) -> Any:
    """Return an attribute as it is, without what a descriptor or a `__getattr__` would make of it."""
    return getattr_static(thing, name, None)


def _codes(function: Any) -> list[CodeType]:
    """Return the code of a function, and of the functions that its decorators have wrapped."""
    codes: list[CodeType] = []
    for _ in range(_DEPTH):
        if type(function) is FunctionType:
            codes.append(function.__code__)
            function = function.__dict__.get("__wrapped__")
        elif type(function) in {staticmethod, classmethod, MethodType}:
            function = function.__func__
        elif type(function) is partial:
            function = function.func
        else:
            # An object that can be called, or nothing.
            function = _found(type(function), "__call__")
            if type(function) is not FunctionType:
                break
    return codes


def _message(frame: FrameType) -> str:
    """Say what a frame's first argument, or the one behind `self`, is: if it is a message, and the function has it."""
    code = frame.f_code
    values = frame.f_locals
    for name in code.co_varnames[: min(code.co_argcount, 2)]:
        said = _described(values.get(name))
        if said:
            return said
    return ""


def _described(value: Any) -> str:
    # Only exact types: others' methods are users' code.
    if type(value) is str and value == "connection_close":
        return value
    if type(value) is not tuple or len(value) != 2 or type(value[0]) is not str or value[0] not in _KINDS:
        return ""
    kind, data = value
    if type(data) is str:
        return f"{kind} of {len(data):,} characters: {data[:SHOWN]!r}"
    if type(data) is bytes:
        return f"{kind} of {len(data):,} bytes: {data[:SHOWN]!r}"
    return f"{kind}"
