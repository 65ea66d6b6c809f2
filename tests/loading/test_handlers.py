from __future__ import annotations

import importlib
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from textwrap import dedent
from types import SimpleNamespace
from typing import Any

import pytest

from wshost.handlers import echo
from wshost.loading.handlers import load, name_of, restarts
from wshost.loading.importing import UserCodeError
from wshost.results import ConfigurationError

HANDLER = """
def init(options):
    return None

def handle(message, state):
    return ("noreply", state)
"""
NEEDS = "a handler has init(options) and handle(message, state)"


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty current directory; what is imported from it is forgotten."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setattr(sys, "path", sys.path[:])
    before = set(sys.modules)
    yield Path.cwd()
    for name in set(sys.modules) - before:
        del sys.modules[name]


def write(path: str, source: str = HANDLER) -> Path:
    file = Path(path).absolute()
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(dedent(source))
    importlib.invalidate_caches()
    return file


def problem(handler: Any) -> str:
    """What `load` says is wrong: one line, and no traceback."""
    with pytest.raises(ConfigurationError) as caught:
        load(handler)
    assert not isinstance(caught.value, UserCodeError)
    message = str(caught.value)
    assert "\n" not in message
    return message


def failure(handler: Any) -> tuple[str, str]:
    """What `load` says that the user's code has raised: one line, and the traceback."""
    with pytest.raises(UserCodeError) as caught:
        load(handler)
    message = str(caught.value)
    assert "\n" not in message
    text = caught.value.traceback_text
    # Every file that is named is the user's.
    files = re.findall('File "(.*)", line', text)
    assert files
    assert all(Path(file).is_relative_to(Path.cwd()) for file in files)
    return message, text


class TestAModule:
    def test_a_module_is_imported_by_its_dotted_path(self) -> None:
        assert load("wshost.handlers.echo") is echo

    def test_a_module_is_found_in_the_current_directory(self, here: Path) -> None:
        write("chat_here.py")
        assert load("chat_here").__file__ == str(here / "chat_here.py")
        assert sys.path[0] == str(here)

    def test_a_path_that_has_the_current_directory_is_left_alone(self, here: Path) -> None:
        write("chat_here.py")
        sys.path.append(str(here))
        before = sys.path[:]
        load("chat_here")
        assert sys.path == before

    def test_a_module_may_be_in_a_package_of_the_current_directory(self) -> None:
        write("package_here/__init__.py", "")
        write("package_here/chat.py", "from . import other" + HANDLER)
        write("package_here/other.py", "")
        assert load("package_here.chat").__name__ == "package_here.chat"

    @pytest.mark.parametrize(
        ("name", "missing"),
        [
            ("missing_here", "missing_here"),
            ("missing_here.chat", "missing_here"),
            ("wshost.missing_here", "wshost.missing_here"),
            ("json.decoder.missing_here", "json.decoder.missing_here"),
        ],
    )
    def test_a_module_that_is_not_there_is_named(self, name: str, missing: str) -> None:
        assert problem(name).startswith(
            f"handler {name!r} can't be imported: ModuleNotFoundError: No module named {missing!r}"
        )

    @pytest.mark.parametrize(
        "spec",
        [
            "",
            ":",
            ":chat",
            "chat:",
            "a..b",
            ".chat",
            "chat.",
            "1chat",
            "a b",
            "./chat",
            "a:b:c",
            "chat:a.",
            "chat.txt/x",
        ],
    )
    def test_a_name_that_is_no_dotted_path_is_told_the_forms(self, spec: str) -> None:
        assert problem(spec) == f"handler {spec!r} is neither MODULE[:ATTRIBUTE] nor FILE.py[:ATTRIBUTE]"


class TestAFile:
    @pytest.mark.parametrize("form", ["chat_file.py", "./chat_file.py", "{here}/chat_file.py", "sub/../chat_file.py"])
    def test_a_file_is_imported_by_its_stem(self, form: str, here: Path) -> None:
        write("sub/other.py")
        write("chat_file.py")
        module = load(form.format(here=here))
        assert module.__name__ == "chat_file"
        assert sys.modules["chat_file"] is module

    def test_a_file_can_import_what_lies_beside_it(self, here: Path) -> None:
        write("elsewhere/beside_file.py")
        write("elsewhere/chat_file.py", "from beside_file import init, handle")
        assert load("elsewhere/chat_file.py").handle.__module__ == "beside_file"
        assert sys.path[0] == str(here / "elsewhere")

    def test_a_file_needs_no_name_that_python_could_import(self) -> None:
        write("my-chat.v2.py")
        assert load("my-chat.v2.py").__name__ == "my-chat.v2"

    def test_a_file_is_imported_once(self) -> None:
        write("chat_file.py")
        assert load("chat_file.py") is load("./chat_file.py")

    def test_a_file_that_is_not_there_is_named(self, here: Path) -> None:
        assert problem("chat_file.py") == f"handler 'chat_file.py' can't be found: there is no file {here}/chat_file.py"

    def test_a_directory_is_no_file(self, here: Path) -> None:
        (here / "chat_file.py").mkdir()
        assert "there is no file" in problem("chat_file.py")

    def test_a_file_does_not_replace_another_module(self, here: Path) -> None:
        write("json.py")
        assert problem("json.py") == (
            "handler 'json.py' can't be imported as 'json': that is another module already, "
            f"{sys.modules['json'].__file__}; rename the file"
        )

    def test_a_file_does_not_replace_a_built_in_module(self) -> None:
        write("sys.py")
        assert "another module already, a part of Python; rename the file" in problem("sys.py")


class TestAnAttribute:
    @pytest.mark.parametrize("spec", ["rooms:one.chat", "rooms.py:one.chat", "{here}/rooms.py:one.chat"])
    def test_an_attribute_can_be_the_handler(self, spec: str, here: Path) -> None:
        write("rooms.py", "from types import SimpleNamespace as S\none = S(chat=S(init=print, handle=print))")
        handler = load(spec.format(here=here))
        assert handler is sys.modules["rooms"].one.chat

    def test_an_attribute_that_is_a_class_is_instantiated(self) -> None:
        write("rooms.py", "class Chat:\n    def init(self, options): pass\n    def handle(self, message, state): pass")
        assert type(load("rooms:Chat")).__name__ == "Chat"
        assert not isinstance(load("rooms:Chat"), type)

    def test_an_attribute_that_is_not_there_is_named(self) -> None:
        write("rooms.py")
        assert problem("rooms:Chat") == "handler 'rooms:Chat' can't be found: module 'rooms' has no attribute 'Chat'"
        assert problem("rooms.py:init.Chat") == (
            "handler 'rooms.py:init.Chat' can't be found: 'function' object has no attribute 'Chat'"
        )


class TestWhatIsNoHandler:
    @pytest.mark.parametrize(
        ("source", "missing"),
        [
            ("", "no callable init and no callable handle"),
            ("def init(options): pass", "no callable handle"),
            ("def handle(message, state): pass", "no callable init"),
            ("init = 1\ndef handle(message, state): pass", "no callable init"),
            ("def init(options): pass\nhandle = 'x'", "no callable handle"),
        ],
    )
    def test_a_module_that_is_no_handler_is_told_what_it_lacks(self, source: str, missing: str) -> None:
        write("chat_bare.py", source)
        assert problem("chat_bare") == f"handler 'chat_bare' has {missing}: {NEEDS}"

    @pytest.mark.parametrize("handler", [None, 5, object(), {"init": 1}])
    def test_an_object_that_is_no_handler_is_told_what_it_lacks(self, handler: Any) -> None:
        assert "has no callable init and no callable handle" in problem(handler)

    def test_a_long_object_is_shown_shortened(self) -> None:
        assert len(problem(["x" * 10_000] * 1_000)) < 400


class TestAnObject:
    def test_an_object_can_be_the_handler(self) -> None:
        handler = SimpleNamespace(init=print, handle=print)
        assert load(handler) is handler
        assert load(echo) is echo

    def test_a_class_is_instantiated(self) -> None:
        class Chat:
            def init(self, options: Any) -> None: ...
            def handle(self, message: Any, state: Any) -> None: ...

        assert isinstance(load(Chat), Chat)


class TestTheUsersOwnErrors:
    def test_an_error_of_the_user_is_shown_as_python_would(self, here: Path) -> None:
        write("broken_chat.py", "import broken_room\n")
        write("broken_room.py", "def build():\n    return 1 / 0\n\nbuild()\n")
        message, text = failure("broken_chat")
        assert message == "handler 'broken_chat' can't be imported: ZeroDivisionError: division by zero"
        lines = [line for line in text.splitlines() if not re.fullmatch(r"[ ^~]+", line)]
        assert lines == [
            "Traceback (most recent call last):",
            f'  File "{here}/broken_chat.py", line 1, in <module>',
            "    import broken_room",
            f'  File "{here}/broken_room.py", line 4, in <module>',
            "    build()",
            f'  File "{here}/broken_room.py", line 2, in build',
            "    return 1 / 0",
            "ZeroDivisionError: division by zero",
        ]

    @pytest.mark.parametrize("spec", ["broken_chat", "broken_chat.py"])
    @pytest.mark.parametrize(
        ("statement", "cause"),
        [
            ("import missing_library", "ModuleNotFoundError: No module named 'missing_library'"),
            ("from json import missing", "ImportError: cannot import name 'missing' from 'json'"),
            ("raise SystemExit(3)", "SystemExit: 3"),
            ("raise LookupError('first\\nsecond')", "LookupError: first"),
            ("raise LookupError", "LookupError: "),
            ("import importlib; importlib.import_module('missing_library')", "ModuleNotFoundError: No module"),
        ],
    )
    def test_an_import_error_of_the_user_is_told_from_a_handler_that_is_not_there(
        self, spec: str, statement: str, cause: str
    ) -> None:
        file = write("broken_chat.py", statement)
        message, text = failure(spec)
        assert message.startswith(f"handler {spec!r} can't be imported: {cause}")
        assert text.startswith(f'Traceback (most recent call last):\n  File "{file}", line 1, in <module>\n')

    @pytest.mark.parametrize("spec", ["broken_chat", "broken_chat.py"])
    def test_a_syntax_error_is_shown_with_its_line(self, spec: str) -> None:
        file = write("broken_chat.py", "def init(options:\n")
        message, text = failure(spec)
        assert (
            message == f"handler {spec!r} can't be imported: SyntaxError: '(' was never closed (broken_chat.py, line 1)"
        )
        assert text.startswith(f'  File "{file}", line 1\n    def init(options:\n')

    def test_an_error_is_shown_with_its_cause(self) -> None:
        source = """
        import importlib
        try:
            importlib.import_module("missing_library")
        except ImportError as error:
            raise LookupError("no library") from error
        """
        write("broken_chat.py", source)
        _, text = failure("broken_chat")
        assert text.count("Traceback (most recent call last):") == 2
        assert text.index("ModuleNotFoundError") < text.index("direct cause") < text.index("LookupError: no library")

    def test_an_error_is_shown_with_its_context(self) -> None:
        write("broken_chat.py", "try:\n    1 / 0\nfinally:\n    missing\n")
        _, text = failure("broken_chat.py")
        assert text.index("ZeroDivisionError") < text.index("During handling") < text.index("NameError")

    def test_a_module_that_fails_is_not_left_in_sys_modules(self) -> None:
        write("broken_chat.py", "1 / 0")
        failure("broken_chat.py")
        assert "broken_chat" not in sys.modules
        write("broken_chat.py")
        assert load("broken_chat.py").__name__ == "broken_chat"

    def test_an_error_of_the_users_class_is_shown(self) -> None:
        write("broken_chat.py", "class Chat:\n    def __init__(self):\n        self.room = rooms\n")
        message, text = failure("broken_chat:Chat")
        assert message == "handler 'broken_chat:Chat' can't be instantiated: NameError: name 'rooms' is not defined"
        assert "self.room = rooms" in text

    @pytest.mark.parametrize("attribute", ["init", "handle", "code_change"])
    def test_an_error_of_an_attribute_is_shown(self, attribute: str) -> None:
        write("chat_property.py", f"{HANDLER}\n@property\ndef failing(self):\n    raise ValueError('no')\n")
        with Path("chat_property.py").open("a", encoding="ascii") as file:
            file.write(f"class Chat:\n    init = handle = print\n    {attribute} = failing\n")
        message, text = failure("chat_property:Chat")
        assert message == f"{attribute} of the handler 'chat_property:Chat' can't be read: ValueError: no"
        assert text.endswith("ValueError: no\n")

    def test_an_error_on_the_way_to_an_attribute_is_shown(self) -> None:
        write("chat_made_up.py", "def __getattr__(name):\n    raise ValueError(name)\n")
        message, _ = failure("chat_made_up:chat")
        assert message == "handler 'chat_made_up:chat' can't be read: ValueError: chat"

    def test_a_class_that_wants_arguments_is_no_error_of_the_users_code(self) -> None:
        write("broken_chat.py", "class Chat:\n    def __init__(self, room): pass\n")
        assert problem("broken_chat:Chat") == (
            "handler 'broken_chat:Chat' can't be instantiated: "
            "TypeError: Chat.__init__() missing 1 required positional argument: 'room'"
        )

    def test_a_keyboard_interrupt_is_raised(self) -> None:
        write("broken_chat.py", "raise KeyboardInterrupt")
        with pytest.raises(KeyboardInterrupt):
            load("broken_chat.py")
        assert "broken_chat" not in sys.modules


class TestName:
    def test_a_handler_has_the_name_that_it_was_given(self) -> None:
        assert name_of("chat:Room") == "chat:Room"
        assert name_of("./chat.py") == "./chat.py"

    def test_a_module_a_class_and_an_object_have_the_name_of_their_code(self) -> None:
        assert name_of(echo) == "wshost.handlers.echo"
        assert name_of(SimpleNamespace) == name_of(SimpleNamespace()) == "types:SimpleNamespace"


class TestOnCrash:
    def test_a_module_a_class_or_an_object_says_what_is_to_be_done(self) -> None:
        source = HANDLER + 'on_crash = "restart"\nclass Room:\n    on_crash = "close"\n'
        source += "    def init(self, options): ...\n    def handle(self, message, state): ...\n"
        write("chat.py", source)
        assert restarts("chat", load("chat"), "close")
        assert not restarts("chat:Room", load("chat:Room"), "restart")

    @pytest.mark.parametrize("otherwise", ["close", "restart"])
    def test_a_handler_without_it_does_as_others_say(self, otherwise: str) -> None:
        assert restarts(echo, echo, otherwise) is (otherwise == "restart")

    @pytest.mark.parametrize("wrong", ["Restart", "", None, True, []])
    def test_another_value_is_refused(self, wrong: Any) -> None:
        with pytest.raises(ConfigurationError) as caught:
            restarts("chat", SimpleNamespace(on_crash=wrong), "close")
        assert str(caught.value) == f"handler 'chat': on_crash is {wrong!r}: it must be 'close' or 'restart'"

    def test_one_that_can_not_be_read_is_an_error_of_the_users_code(self) -> None:
        class Broken:
            @property
            def on_crash(self) -> str:
                raise LookupError("no such policy")

        with pytest.raises(UserCodeError) as caught:
            restarts("chat", Broken(), "close")
        assert str(caught.value) == "on_crash of the handler 'chat' can't be read: LookupError: no such policy"
