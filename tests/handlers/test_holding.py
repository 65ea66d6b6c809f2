from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Iterator, Mapping
from types import FrameType, SimpleNamespace
from typing import Any

import pytest
from twisted.internet.defer import inlineCallbacks

from wshost.handlers.adapter import HandlerAdapter
from wshost.handlers.holding import held_by

MESSAGE = ("text", "hello")
HELD = "handle of chat (text of 5 characters: 'hello')"


def held(handler: Any, message: Any = MESSAGE) -> str:
    """Say what holds a thread that handles a message; the handler's functions look for themselves, by `look`."""
    look.said = []
    handler.handle(message, None)
    return held_by(
        [HandlerAdapter(SimpleNamespace(), {}, name="other"), HandlerAdapter(handler, {}, name="chat")], look.said
    )


class Look:
    said: list[FrameType]

    def __call__(self) -> None:
        """Keep the frames of now, the outermost first."""
        frame: FrameType | None = sys._getframe(1)
        frames = []
        while frame is not None:
            frames.append(frame)
            frame = frame.f_back
        self.said = frames[::-1]


look = Look()


@pytest.fixture(autouse=True)
def nothing_is_kept() -> Iterator[None]:
    """Frames keep all that is in them."""
    yield
    look.said = []


def handle(message: Any, state: Any) -> None:
    look()


class Room:
    def handle(self, message: Any, state: Any) -> None:
        look()

    @staticmethod
    def static(message: Any, state: Any) -> None:
        look()

    @classmethod
    def of_class(cls, message: Any, state: Any) -> None:
        look()


class Inherited(Room):
    """Its handle is another class's."""


class Overridden(Room):
    def handle(self, message: Any, state: Any) -> None:
        super().handle(message, state)


class AnObject:
    def __call__(self, message: Any, state: Any) -> None:
        look()


def decorated(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def wrapper(*args: Any) -> Any:
        return function(*args)

    return wrapper


@inlineCallbacks
def in_steps(message: Any, state: Any) -> Any:
    look()
    yield


async def coroutine(message: Any, state: Any) -> None:
    look()


def step(function: Any) -> Any:
    """A handler's function is called by wshost, which then takes the first step."""

    def handle(message: Any, state: Any) -> None:
        with pytest.raises(StopIteration):
            function(message, state).send(None)

    return handle


class Curried:
    """What is a partial, or a bound method, in the class itself."""

    handle = staticmethod(functools.partial(lambda extra, message, state: look(), 0))


@pytest.mark.parametrize(
    "handler",
    [
        SimpleNamespace(handle=handle),
        SimpleNamespace(handle=Room().handle),
        SimpleNamespace(handle=decorated(decorated(handle))),
        SimpleNamespace(handle=in_steps),
        SimpleNamespace(handle=AnObject()),
        Room(),
        Inherited(),
        Overridden(),
        type("Static", (), {"handle": Room.__dict__["static"]})(),
        type("OfClass", (), {"handle": Room.__dict__["of_class"]})(),
    ],
)
def test_a_function_is_found_as_it_was_defined_with_its_message(handler: Any) -> None:
    assert held(handler) == HELD


def test_a_partial_is_found() -> None:
    """The message is not its first argument, but the one behind that, as with methods."""
    assert held(Curried()) == HELD


def test_a_coroutine_is_found_at_each_of_its_steps() -> None:
    look.said = []
    step(coroutine)(MESSAGE, None)
    assert held_by([HandlerAdapter(SimpleNamespace(handle=coroutine), {}, name="chat")], look.said) == HELD


def test_an_init_is_found() -> None:
    def init(options: Mapping[str, Any]) -> None:
        look()

    init({"message": MESSAGE})
    assert held_by([HandlerAdapter(SimpleNamespace(init=init), {}, name="chat")], look.said) == "init of chat"


def test_a_code_change_is_found() -> None:
    def code_change(version: Any, state: Any) -> None:
        look()

    code_change(1, None)
    adapter = HandlerAdapter(SimpleNamespace(code_change=code_change), {}, name="chat")
    assert held_by([adapter], look.said) == "code_change of chat"


def written(source: str, file: str) -> Any:
    """What this source, in a file of this name, has as its `Handler`."""
    names: dict[str, Any] = {"look": look}
    exec(compile(source, file, "exec"), names)
    return names["Handler"]()


CHAT = "class Handler:\n    def handle(self, message, state):\n        look()\n"


def test_code_of_before_a_reload_is_found() -> None:
    """Connections run it until they go over, and a coroutine of it may go on for long."""
    old = written(CHAT, "chat.py")
    adapter = HandlerAdapter(old, {}, name="chat")
    adapter.renew(written(f"# New.\n{CHAT}        return 1\n", "chat.py"))
    old.handle(MESSAGE, None)
    assert held_by([adapter], look.said) == HELD


def test_the_same_code_in_another_file_is_another_handlers() -> None:
    chat, copy = written(CHAT, "chat.py"), written(CHAT, "copy.py")
    chat.handle(MESSAGE, None)
    assert held_by([HandlerAdapter(chat, {}, name="chat"), HandlerAdapter(copy, {}, name="copy")], look.said) == HELD


def test_a_decorator_that_has_the_message_is_not_taken_for_the_last_function_that_it_decorates() -> None:
    def logged(function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def wrapper(message: Any, state: Any) -> Any:
            return function(message, state)

        return wrapper

    def news(message: Any, state: Any) -> None: ...

    chat = SimpleNamespace(handle=logged(handle), init=logged(news))
    others = [HandlerAdapter(SimpleNamespace(handle=logged(news)), {}, name="news")]
    chat.handle(MESSAGE, None)
    assert held_by([HandlerAdapter(chat, {}, name="chat"), *others], look.said) == HELD


def test_a_function_that_several_handlers_have_is_said_to_be_one_of_theirs() -> None:
    adapters = [HandlerAdapter(Room(), {}, name="chat"), HandlerAdapter(Inherited(), {}, name="news")]
    Room().handle(MESSAGE, None)
    said = "handle of chat or handle of news (text of 5 characters: 'hello')"
    assert held_by(adapters, look.said) == said


def test_what_is_no_handlers_is_not_found() -> None:
    look()
    assert (
        held_by([HandlerAdapter(Room(), {}), HandlerAdapter(SimpleNamespace(init=None, handle=print), {})], look.said)
        == ""
    )


def test_decorators_without_end_are_not_followed_for_ever() -> None:
    def handle(message: Any, state: Any) -> None:
        look()

    handle.__wrapped__ = handle  # type: ignore[attr-defined]
    assert held(SimpleNamespace(handle=handle)) == HELD


@pytest.mark.parametrize(
    ("message", "said"),
    [
        (("text", "x" * 1_000), f"text of 1,000 characters: {'x' * 80!r}"),
        (("binary", b"\x00" * 1_000), f"binary of 1,000 bytes: {bytes(80)!r}"),
        (("close", (1000, "bye")), "close"),
        (("info", {"a": 1}), "info"),
        ("connection_close", "connection_close"),
    ],
)
def test_a_message_is_shown_by_its_kind_its_size_and_its_beginning(message: Any, said: str) -> None:
    assert held(SimpleNamespace(handle=handle), message) == f"handle of chat ({said})"


@pytest.mark.parametrize("message", [None, "", ("text",), ("other", "x"), (1, 2), ["text", "x"]])
def test_what_is_no_message_is_not_shown(message: Any) -> None:
    assert held(SimpleNamespace(handle=handle), message) == "handle of chat"


def test_a_message_that_the_function_does_not_have_any_more_is_not_shown() -> None:
    def forgetful(message: Any, state: Any) -> None:
        del message
        look()

    assert held(SimpleNamespace(handle=forgetful)) == "handle of chat"


def test_no_code_of_users_is_called() -> None:
    """The thread that looks is another one, and users' code hangs."""

    class Text(str):
        def __repr__(self) -> str:
            raise AssertionError

        __len__ = __eq__ = __hash__ = __getitem__ = __repr__  # type: ignore[assignment]

    class Info:
        __repr__ = __len__ = __eq__ = __hash__ = property(lambda self: 1 / 0)

    class Handler:
        def __getattribute__(self, name: str) -> Any:
            if looking:
                raise AssertionError
            return super().__getattribute__(name)

        def handle(self, message: Any, state: Any) -> None:
            look()

    looking = False
    handler = Handler()
    for message in (("text", Text("x")), ("info", Info()), (Text("text"), "x"), Info()):
        handler.handle(message, None)
        looking = True
        said = held_by([HandlerAdapter(handler, {}, name="chat")], look.said)
        looking = False
        assert said.startswith("handle of chat")
