"""Who may import whom: the rule of docs/architecture.md, checked on the source and on what an import brings in."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator, Mapping
from graphlib import CycleError, TopologicalSorter
from importlib.util import resolve_name
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

#: The ground floor: what all speak in, and the little that these modules import of ours.
GROUND: dict[str, set[str]] = {
    "wshost.exact": set(),
    "wshost.messages": {"wshost.exact"},
    "wshost.networks": set(),
    "wshost.request": set(),
    "wshost.results": {"wshost.exact", "wshost.request"},
    "wshost.interfaces": {"wshost.request", "wshost.results"},
}
#: What each package, or module beside the packages, imports of ours besides itself and the ground floor: modules, or
#: whole packages. A package that stands in no line knows no other.
KNOWN: dict[str, set[str]] = {
    "wshost.admin": {
        "wshost.cluster.outside",
        "wshost.connections.account",
        "wshost.connections.connection",
        "wshost.connections.shared",
        "wshost.handlers.timed",
        "wshost.listening.listener",
        "wshost.logs.limit",
        "wshost.process.watchdog",
        "wshost.protocols.http.head",
        "wshost.protocols.websocket.browsers",
        "wshost.topics.subscriptions",
    },
    "wshost.backplanes": {
        "wshost.fastnet.client",
        "wshost.logs.limit",
        "wshost.logs.text",
        "wshost.process.reactors",
    },
    "wshost.client": {
        "wshost.backplanes.connection",
        "wshost.backplanes.settings",
        "wshost.backplanes.urls",
        "wshost.cluster.envelope",
        "wshost.cluster.sequence",
        "wshost.cluster.subjects",
        "wshost.connections",
        "wshost.plugins",
        "wshost.topics.patterns",
    },
    "wshost.cluster": {"wshost.connections", "wshost.logs.limit", "wshost.process.reactors", "wshost.topics.patterns"},
    "wshost.connections": {"wshost.logs.limit", "wshost.logs.text", "wshost.topics"},
    "wshost.fastnet": {"wshost.logs.limit"},
    "wshost.listening": {
        "wshost.connections.address",
        "wshost.connections.kernel",
        "wshost.fastnet.adopted",
        "wshost.fastnet.negotiation",
        "wshost.fastnet.reactor",
        "wshost.fastnet.stale_sockets",
    },
    "wshost.plugins": {"wshost.loading.importing"},
    "wshost.process": {"wshost.logs.limit", "wshost.logs.text"},
    "wshost.protocols": {"wshost.loading.importing", "wshost.settings"},
    "wshost.topics": {"wshost.connections"},
}
#: What knows nothing of ours, not even the ground floor.
APART = {"wshost.fastnet", "wshost.logs", "wshost.process"}
#: What puts the parts together, and may import them all.
ASSEMBLY = {
    "wshost",
    "wshost.__main__",
    "wshost.brokers",
    "wshost.chain",
    "wshost.commands",
    "wshost.server",
    "wshost.whereabouts",
    "wshost.workers",
}
#: Names outside of ours that few modules may import.
CONFINED = {
    "prometheus_client": {"wshost.admin.metrics"},
    "autobahn": {"wshost.protocols.websocket.autobahn_engine"},
    "txaio": {"wshost.protocols.websocket.autobahn_engine"},
    # Installed and looked up there; everybody else is given it.
    "twisted.internet.reactor": {"wshost.process.reactors"},
    "uvloop": {"wshost.process.reactors"},
}


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(path): path for path in sorted(ROOT.glob("wshost/**/*.py"))}


def named() -> Iterator[str]:
    """Every module and package of ours that the rule names."""
    yield from GROUND
    yield from KNOWN
    for known in (*GROUND.values(), *KNOWN.values()):
        yield from known
    yield from ASSEMBLY | APART
    for modules in CONFINED.values():
        yield from modules


def package(module: str) -> str:
    return module if MODULES[module].stem == "__init__" else module.rpartition(".")[0]


def part(module: str) -> str:
    """The package below ours that a module is in, or the module itself where it is in none."""
    return ".".join(module.split(".")[:2])


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
    if part(module) in ASSEMBLY or not within(name, "wshost"):
        return True
    imported = max((known for known in MODULES if within(name, known)), key=len)
    if module in GROUND:
        return imported in GROUND[module]
    if part(imported) == part(module):
        return True
    if imported in GROUND:
        return part(module) not in APART
    return any(within(imported, known) for known in KNOWN.get(part(module), ()))


@pytest.mark.parametrize(
    ("module", "statement", "allowed"),
    [
        ("wshost.request", "import re", True),
        ("wshost.request", "from wshost.results import Switch", False),
        ("wshost.results", "from wshost.request import TOKEN", True),
        ("wshost.interfaces", "from wshost import results", True),
        ("wshost.interfaces", "from wshost.plugins import find", False),
        ("wshost.protocols.http.module", "from wshost.interfaces import IContext", True),
        ("wshost.protocols.http.module", "from . import head", True),
        ("wshost.protocols.http.module", "from wshost.protocols.factory import init", True),
        ("wshost.protocols.http.module", "from wshost import Reject", False),
        ("wshost.protocols.http.module", "import wshost.plugins", False),
        ("wshost.protocols.http.module", "from ...plugins import find", False),
        ("wshost.protocols.http.module", "from wshost import handlers", False),
        ("wshost.protocols.http.module", "def f():\n    from wshost.handlers import echo", False),
        ("wshost.protocols.http.module", "from autobahn.websocket import protocol", False),
        ("wshost.protocols.websocket.autobahn_engine", "from autobahn.websocket import protocol", True),
        ("wshost.plugins", "from wshost.results import ConfigurationError", True),
        ("wshost.plugins", "from wshost.protocols import http", False),
        ("wshost.plugins", "from wshost import server", False),
        ("wshost.plugins", "from wshost.connections import ref", False),
        ("wshost.plugins", "from twisted.internet import reactor", False),
        ("wshost.plugins", "import twisted.internet.reactor", False),
        ("wshost.plugins", "def f():\n    from twisted.internet.reactor import callLater", False),
        ("wshost.plugins", "from twisted.internet import defer", True),
        ("wshost.listening.listener", "from wshost.fastnet.reactor import FastReactor", True),
        ("wshost.connections.hub", "from wshost.fastnet.reactor import FastReactor", False),
        ("wshost.fastnet.transport", "import wshost.connections.kernel", False),
        ("wshost", "from wshost.server import service", True),
        ("wshost.server", "from wshost.protocols import http", True),
        ("wshost.server", "from autobahn.websocket import protocol", False),
    ],
)
def test_an_import_is_allowed_by_the_rule_or_not(module: str, statement: str, allowed: bool) -> None:
    assert all(is_allowed(module, name) for name in imports(module, statement)) is allowed


def test_the_rule_names_only_modules_that_exist() -> None:
    """What is permitted to nobody would be permitted to whoever takes the name."""
    assert sorted(set(named()) - MODULES.keys()) == []


def test_the_rule_permits_only_imports_that_exist() -> None:
    used: dict[str, set[str]] = {}
    for module, path in MODULES.items():
        for one in (module, part(module)):
            used.setdefault(one, set()).update(imports(module, path.read_text()))
    permitted = [*GROUND.items(), *KNOWN.items(), *((m, {name}) for name, all_ in CONFINED.items() for m in all_)]
    idle = [(m, name) for m, names in permitted for name in names if not any(within(one, name) for one in used[m])]
    assert idle == []


@pytest.mark.parametrize("module", MODULES)
def test_a_module_imports_only_what_it_may_know(module: str) -> None:
    assert [name for name in imports(module, MODULES[module].read_text()) if not is_allowed(module, name)] == []


def imported_modules(module: str, source: str) -> set[str]:
    """The modules of ours that a module's own statements import, those for type checkers included."""
    names = [name for name in imports(module, source) if within(name, "wshost")]
    return {max((known for known in MODULES if within(name, known)), key=len) for name in names} - {module}


def circle(graph: Mapping[str, set[str]]) -> list[str]:
    """Modules that import each other in a circle, the first one again at the end; none is the best of answers."""
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return list(error.args[1])
    return []


class TestCircles:
    def test_no_modules_import_each_other_in_a_circle(self) -> None:
        assert circle({module: imported_modules(module, path.read_text()) for module, path in MODULES.items()}) == []

    def test_a_circle_is_found(self) -> None:
        assert set(circle({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}})) == {"a", "b", "c"}

    @pytest.mark.parametrize(
        ("statement", "imported"),
        [
            ("from wshost.topics.pending import Topic", {"wshost.topics.pending"}),
            ("from wshost import chain, plugins", {"wshost.chain", "wshost.plugins"}),
            ("if TYPE_CHECKING:\n    from wshost.server import Server", {"wshost.server"}),
            ("def f():\n    import wshost.commands", {"wshost.commands"}),
            ("import json, wshost.connections.hub", set()),
        ],
    )
    def test_every_import_counts_but_a_modules_import_of_itself(self, statement: str, imported: set[str]) -> None:
        assert imported_modules("wshost.connections.hub", statement) == imported


def test_only_the_assembly_and_its_own_package_know_the_hub() -> None:
    hub = "wshost.connections.hub"
    assert {module for module, path in MODULES.items() if hub in imported_modules(module, path.read_text())} == {
        "wshost.server"
    }


def writes_to_a_transport(source: str) -> bool:
    """Whether something called a transport is written to."""
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Attribute(value=ast.Attribute(attr=name) | ast.Name(id=name), attr="write" | "writeSequence"):
                if name.strip("_") == "transport":
                    return True
    return False


@pytest.mark.parametrize(
    ("source", "writes"),
    [
        ("self.transport.write(data)", True),
        ("write = transport.writeSequence", True),
        ("self._context.write(data)", False),
        ("self.transport.loseConnection()", False),
    ],
)
def test_a_write_to_a_transport_is_found(source: str, writes: bool) -> None:
    assert writes_to_a_transport(source) is writes


def test_only_the_stream_the_output_to_brokers_and_other_transports_write_to_a_transport() -> None:
    """Transports over other transports do so, too: those of fastnet, and the one behind a proxy's header."""
    writers = {module for module, path in MODULES.items() if writes_to_a_transport(path.read_text())}
    transports = {module for module in writers if part(module) in {"wshost.fastnet", "wshost.listening"}}
    assert writers - transports == {"wshost.connections.stream", "wshost.backplanes.output"}


@pytest.mark.parametrize("module", MODULES)
def test_a_module_says_first_what_it_owns(module: str) -> None:
    assert ast.get_docstring(ast.parse(MODULES[module].read_text()))


#: The start of `twistd wshost`, up to where it listens.
LISTENING = """
from wshost.commands.twistd import Options, makeService
options = Options()
options.parseOptions(["--port=0", "--handler=wshost.handlers.echo", "--max-connections=9"])
makeService(options)
"""


def brought_in_by(statements: str, *names: str) -> list[str]:
    """Which of these modules are there after a fresh interpreter has run the statements."""
    code = f"{statements}\nimport sys\nprint(*({set(names)!r} & sys.modules.keys()))"
    done = subprocess.run([sys.executable, "-c", code], check=False, cwd=ROOT, capture_output=True, text=True)
    assert done.stderr == ""
    return done.stdout.split()


class TestWhatAnImportBringsIn:
    def test_a_module_that_an_import_brings_in_is_found(self) -> None:
        assert brought_in_by("import json.decoder", "json", "twisted") == ["json"]

    @pytest.mark.parametrize("module", ["wshost", "twisted.plugins.wshost_plugin"])
    def test_what_every_twistd_reads_imports_nothing_heavy(self, module: str) -> None:
        heavy = ("twisted.internet.reactor", "autobahn", "OpenSSL", "uvloop")
        assert brought_in_by(f"import {module}", *heavy) == []

    def test_a_server_listens_before_it_imports_what_it_needs_later(self) -> None:
        """Autobahn, with all that it imports, would take a fifth of the start."""
        later = ("autobahn", "txaio", "pycparser", "click", "cbor2", "hyperlink", "tomllib", "prometheus_client")
        # The first start after an installation lets Twisted import all plugins, Autobahn's too, and write its cache.
        brought_in_by(LISTENING)
        assert brought_in_by(LISTENING, "wshost.protocols.websocket.driver", *later) == [
            "wshost.protocols.websocket.driver"
        ]

    def test_no_module_of_ours_imports_the_reactor(self) -> None:
        """Or `twistd --reactor` and our own choice would come too late."""
        assert brought_in_by("\n".join(f"import {module}" for module in MODULES), "twisted.internet.reactor") == []
