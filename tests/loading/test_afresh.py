from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from wshost.loading.afresh import is_fixed, load_afresh
from wshost.loading.handlers import load
from wshost.loading.importing import UserCodeError
from wshost.results import ConfigurationError

HANDLER = """
{first}
version = {version}

def init(options):
    return None

def handle(message, state):
    return ("noreply", state)
"""


def accept(_: str, __: object) -> None:
    """Find nothing wrong with a handler."""


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty current directory; what is imported from it is forgotten."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", sys.path[:])
    # As for most users: compiled forms are written.
    monkeypatch.setattr(sys, "pycache_prefix", None)
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        del sys.modules[name]


def write(path: str, version: int, first: str = "") -> None:
    """Write a handler; all have the same time, so that Python could take an earlier compiled form for a later one's."""
    file = Path(path)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(HANDLER.format(version=version, first=first), encoding="utf-8")
    os.utime(file, (1_000_000_000, 1_000_000_000))
    importlib.invalidate_caches()


@pytest.mark.parametrize(
    "name",
    [
        "afresh_chat",
        "afresh_chat.py",
        "afresh-chat.py",
        "afresh.chat.py",
        "afresh_pack.rooms.chat",
        "afresh_pack/rooms/chat.py",
    ],
)
def test_a_source_of_the_same_size_and_second_is_read_again(name: str) -> None:
    path = name if name.endswith(".py") else f"{name.replace('.', '/')}.py"
    write(path, 1)
    old = load(name)
    write(path, 2)
    (new,) = load_afresh([name], accept)
    assert (old.version, new.version) == (1, 2)
    assert sys.modules[new.__name__] is new
    assert (sys.pycache_prefix, sys.dont_write_bytecode) == (None, False)


def test_the_whole_package_of_a_handler_is_imported_again() -> None:
    write("afresh_pack/__init__.py", 1)
    write("afresh_pack/tools/text.py", 1)
    write("afresh_pack/chat.py", 1, "from afresh_pack.tools import text; import afresh_beside")
    write("afresh_beside.py", 1)
    old = load("afresh_pack.chat")
    write("afresh_pack/tools/text.py", 2)
    write("afresh_beside.py", 2)
    (new,) = load_afresh(["afresh_pack.chat"], accept)
    assert (old.text.version, new.text.version) == (1, 2)
    assert new.afresh_beside is old.afresh_beside


def test_a_handler_in_no_package_is_imported_with_what_was_imported_from_its_folder(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    write(str(elsewhere / "afresh_outside.py"), 1)
    monkeypatch.syspath_prepend(str(elsewhere))
    write("afresh_tools.py", 1)
    write("afresh_namespace/deep.py", 1)
    write("afresh_chat.py", 1, "import afresh_tools, afresh_outside, json; from afresh_namespace import deep")
    old = load("afresh_chat")
    for path in ("afresh_tools.py", "afresh_namespace/deep.py", str(elsewhere / "afresh_outside.py")):
        write(path, 2)
    (new,) = load_afresh(["afresh_chat"], accept)
    assert (new.afresh_tools.version, new.deep.version) == (2, 2)
    assert new.afresh_outside is old.afresh_outside
    assert new.json is old.json


def test_an_installed_handler_is_imported_again_and_nothing_else_that_is_installed(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("wshost.loading.afresh._LIBRARIES", (here / "lib",))
    monkeypatch.syspath_prepend(str(here / "lib"))
    write("lib/afresh_other.py", 1)
    write("lib/afresh_chat.py", 1, "import afresh_other")
    old = load("afresh_chat")
    write("lib/afresh_chat.py", 2, "import afresh_other")
    (new,) = load_afresh(["afresh_chat"], accept)
    assert new.version == 2
    assert new.afresh_other is old.afresh_other


def test_installed_packages_below_the_folder_of_a_handler_stay(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("wshost.loading.afresh._LIBRARIES", (here / "venv",))
    monkeypatch.syspath_prepend(str(here / "venv"))
    write("venv/afresh_other.py", 1)
    write("afresh_chat.py", 1, "import afresh_other")
    old = load("afresh_chat")
    (new,) = load_afresh(["afresh_chat"], accept)
    assert new is not old
    assert new.afresh_other is old.afresh_other


@pytest.mark.parametrize("folder", ["", "vendor/"])
def test_what_pip_has_put_into_the_folder_of_a_handler_stays(
    here: Path, monkeypatch: pytest.MonkeyPatch, folder: str
) -> None:
    """With its --target: Twisted may be there."""
    monkeypatch.syspath_prepend(str(here / folder))
    write(f"{folder}afresh_other/__init__.py", 1)
    write(f"{folder}afresh_single.py", 1)
    write(f"{folder}afresh_developed.py", 1)
    for name, listed, paths in [
        ("other-1.dist-info", "RECORD", "afresh_other/__init__.py,sha256=AAAA,1\n../bin/other,,\nafresh_single.py,,\n"),
        ("developed.egg-info", "SOURCES.txt", "afresh_developed.py\n"),
    ]:
        Path(folder, name).mkdir()
        Path(folder, name, listed).write_text(paths, encoding="ascii")
    write("afresh_chat.py", 1, "import afresh_other, afresh_single, afresh_developed")
    old = load("afresh_chat")
    (new,) = load_afresh(["afresh_chat"], accept)
    assert new is not old
    assert (new.afresh_other, new.afresh_single) == (old.afresh_other, old.afresh_single)
    assert new.afresh_developed is not old.afresh_developed


def test_several_handlers_share_the_modules_that_are_imported_again() -> None:
    write("afresh_tools.py", 1)
    write("afresh_one.py", 1, "import afresh_tools")
    write("afresh_two.py", 1, "import afresh_tools")
    names = ["afresh_one", "afresh_two"]
    old = [load(name) for name in names]
    one, two = load_afresh(names, accept)
    assert one.afresh_tools is two.afresh_tools is not old[0].afresh_tools


@pytest.mark.parametrize(
    ("source", "error", "line"),
    [
        ("import afresh_new\n1 / 0", UserCodeError, "can't be imported: ZeroDivisionError: division by zero"),
        ("import afresh_new\ndef", UserCodeError, "can't be imported: SyntaxError: invalid syntax"),
        ("import afresh_new\nraise SystemExit", UserCodeError, "can't be imported: SystemExit"),
        ("def init(options): ...", ConfigurationError, "has no callable handle"),
        (
            "def init(options): ...\nhandle = init\ncode_change = 1",
            ConfigurationError,
            "has a code_change that can't be",
        ),
    ],
)
def test_all_modules_stay_when_one_handler_can_not_be_imported(source: str, error: type[Exception], line: str) -> None:
    write("afresh_tools.py", 1)
    write("afresh_good.py", 1, "import afresh_tools")
    write("afresh_bad.py", 1, "import afresh_tools")
    for name in ("afresh_good", "afresh_bad"):
        load(name)
    before = dict(sys.modules)
    write("afresh_new.py", 1)
    Path("afresh_bad.py").write_text(source, encoding="utf-8")
    with pytest.raises(error, match=line):
        load_afresh(["afresh_good", "afresh_bad"], accept)
    assert sys.modules == before
    assert (sys.pycache_prefix, sys.dont_write_bytecode) == (None, False)


def test_a_strange_module_among_the_others_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    class Strange:
        def __getattr__(self, name: str) -> Any:
            raise KeyError(name)

    strange: Any = Strange()
    monkeypatch.setitem(sys.modules, "afresh_strange", strange)
    write("afresh_chat.py", 1)
    load("afresh_chat")
    load_afresh(["afresh_chat"], accept)
    assert sys.modules["afresh_strange"] is strange


@pytest.mark.parametrize(
    ("name", "fixed"), [("wshost.handlers.echo", True), ("wshost_chat", False), ("chat.py:Room", False)]
)
def test_only_wshosts_own_handlers_are_never_imported_again(name: str, fixed: bool) -> None:
    assert is_fixed(name) is fixed


def test_wshosts_own_modules_stay() -> None:
    before = sys.modules["wshost.results"]
    load_afresh(["wshost.handlers.echo"], accept)
    assert sys.modules["wshost.results"] is before


def test_a_handler_that_the_caller_refuses_leaves_all_modules_as_they_were() -> None:
    write("afresh_chat.py", 1)
    before = load("afresh_chat")

    def refuse(name: str, handler: Any) -> None:
        assert (name, handler is before) == ("afresh_chat", False)
        raise ConfigurationError("no")

    with pytest.raises(ConfigurationError, match=r"^no$"):
        load_afresh(["afresh_chat"], refuse)
    assert sys.modules["afresh_chat"] is before
