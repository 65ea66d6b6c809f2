"""Who may import whom: the rule of docs/architecture.md, checked on the source and on what an import brings in."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import resolve_name
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

#: What everything speaks in, and the little these modules import of ours.
VOCABULARY: dict[str, set[str]] = {
    "wshost.exact": set(),
    "wshost.control": {"wshost.exact"},
    "wshost.request": set(),
    "wshost.results": {"wshost.exact", "wshost.request"},
    "wshost.interfaces": {"wshost.request", "wshost.results"},
    "wshost.importing": {"wshost.results"},
    "wshost.log_limit": set(),
}
#: What puts the parts together, and may import them all.
ASSEMBLY = {"wshost", "wshost.chain", "wshost.command", "wshost.server"}
#: Names outside of ours that few modules may import.
CONFINED = {
    "autobahn": {"wshost.protocols._autobahn"},
    "txaio": {"wshost.protocols._autobahn"},
    # Installed and looked up there; everybody else is given it.
    "twisted.internet.reactor": {"wshost.reactors"},
    "uvloop": {"wshost.reactors"},
    # A library of ours within ours: it knows nothing of the rest, and of the rest only one knows it.
    "aiofastnet": {"wshost.fastnet._tls", "wshost.fastnet.transport"},
    "wshost.fastnet": {
        "wshost.fastnet._tls",
        "wshost.fastnet.listening",
        "wshost.fastnet.port",
        "wshost.fastnet.secure",
        "wshost.fastnet.transport",
        "wshost.listeners",
        "wshost.tls",
    },
}


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(path): path for path in sorted(ROOT.glob("wshost/**/*.py"))}
#: Those that have no other form than the compiled one.
COMPILED = {module_name(path) for path in ROOT.glob("wshost/**/*.pyx")} - MODULES.keys()


def named() -> Iterator[str]:
    """Every module of ours that the rule names."""
    yield from VOCABULARY
    for known in VOCABULARY.values():
        yield from known
    yield from ASSEMBLY
    yield from (name for name in CONFINED if within(name, "wshost"))
    for modules in CONFINED.values():
        yield from modules


def package(module: str) -> str:
    return module if MODULES[module].stem == "__init__" else module.rpartition(".")[0]


def imports(module: str, source: str) -> Iterator[str]:
    """The dotted name of everything that an import statement asks for, wherever it stands."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = resolve_name("." * node.level + (node.module or ""), package(module))
            yield from (f"{base}.{alias.name}" for alias in node.names)


def within(name: str, parent: str) -> bool:
    return name == parent or name.startswith(f"{parent}.")


def is_allowed(module: str, name: str) -> bool:
    """Whether the rule lets a module of ours import this name."""
    for confined, modules in CONFINED.items():
        if within(name, confined):
            return module in modules
    if module in ASSEMBLY or not within(name, "wshost"):
        return True
    imported = max((known for known in MODULES.keys() | COMPILED if within(name, known)), key=len)
    if imported in COMPILED:
        return imported.rpartition(".")[0] == package(module)
    if module in VOCABULARY:
        return imported in VOCABULARY[module]
    return imported in VOCABULARY or (imported not in ASSEMBLY and package(imported) == package(module))


@pytest.mark.parametrize(
    ("module", "statement", "allowed"),
    [
        ("wshost.request", "import re", True),
        ("wshost.request", "from wshost.results import Switch", False),
        ("wshost.results", "from wshost.request import TOKEN", True),
        ("wshost.interfaces", "from wshost import results", True),
        ("wshost.interfaces", "from wshost.plugins import find", False),
        ("wshost.protocols.http", "from wshost.interfaces import IContext", True),
        ("wshost.protocols.http", "from . import _autobahn", True),
        ("wshost.protocols.http", "from wshost.protocols.websocket import init", True),
        ("wshost.protocols.http", "from wshost import Reject", False),
        ("wshost.protocols.http", "import wshost.plugins", False),
        ("wshost.protocols.http", "from ..plugins import find", False),
        ("wshost.protocols.http", "from wshost import handlers", False),
        ("wshost.protocols.http", "def f():\n    from wshost.handlers import echo", False),
        ("wshost.protocols.http", "from autobahn.websocket import protocol", False),
        ("wshost.protocols._autobahn", "from autobahn.websocket import protocol", True),
        ("wshost.plugins", "from wshost.results import ConfigurationError", True),
        ("wshost.plugins", "from wshost.protocols import http", False),
        ("wshost.plugins", "from wshost import server", False),
        ("wshost.plugins", "from wshost import refs", True),
        ("wshost.plugins", "from twisted.internet import reactor", False),
        ("wshost.plugins", "import twisted.internet.reactor", False),
        ("wshost.plugins", "def f():\n    from twisted.internet.reactor import callLater", False),
        ("wshost.plugins", "from twisted.internet import defer", True),
        ("wshost.listeners", "from wshost.fastnet.listening import FastReactor", True),
        ("wshost.host", "from wshost.fastnet.listening import FastReactor", False),
        ("wshost.fastnet.transport", "import wshost.sockets", False),
        ("wshost", "from wshost.server import service", True),
        ("wshost.server", "from wshost.protocols import http", True),
        ("wshost.server", "from autobahn.websocket import protocol", False),
    ],
)
def test_the_rule(module: str, statement: str, allowed: bool) -> None:
    assert all(is_allowed(module, name) for name in imports(module, statement)) is allowed


def test_the_rule_names_only_modules_that_exist() -> None:
    """What is permitted to nobody would be permitted to whoever takes the name."""
    assert sorted(set(named()) - MODULES.keys()) == []


def test_the_rule_permits_only_what_is_made_use_of() -> None:
    used = {module: set(imports(module, path.read_text())) for module, path in MODULES.items()}
    idle = [
        (module, name)
        for name, modules in [*CONFINED.items(), *((known, {m}) for m, all_ in VOCABULARY.items() for known in all_)]
        for module in modules
        if not any(within(found, name) for found in used[module])
    ]
    assert idle == []


@pytest.mark.parametrize("module", MODULES)
def test_a_module_imports_only_what_it_may_know(module: str) -> None:
    assert [name for name in imports(module, MODULES[module].read_text()) if not is_allowed(module, name)] == []


@pytest.mark.parametrize("module", MODULES)
def test_a_module_says_first_what_it_owns(module: str) -> None:
    assert ast.get_docstring(ast.parse(MODULES[module].read_text()))


def brought_in_by(statements: str, *names: str) -> list[str]:
    """Which of these modules are there after a fresh interpreter has run the statements."""
    code = f"{statements}\nimport sys\nprint(*({set(names)!r} & sys.modules.keys()))"
    done = subprocess.run([sys.executable, "-c", code], check=False, cwd=ROOT, capture_output=True, text=True)
    assert done.stderr == ""
    return done.stdout.split()


class TestWhatAnImportBringsIn:
    def test_is_seen(self) -> None:
        assert brought_in_by("import json.decoder", "json", "twisted") == ["json"]

    @pytest.mark.parametrize("module", ["wshost", "twisted.plugins.wshost_plugin"])
    def test_of_what_every_twistd_reads_is_nothing_heavy(self, module: str) -> None:
        heavy = ("twisted.internet.reactor", "autobahn", "OpenSSL", "uvloop")
        assert brought_in_by(f"import {module}", *heavy) == []

    def test_of_all_of_ours_is_no_reactor(self) -> None:
        """Or `twistd --reactor` and our own choice would come too late."""
        assert brought_in_by("\n".join(f"import {module}" for module in MODULES), "twisted.internet.reactor") == []
