"""How protocol modules are found; the plugins are real files in a directory of their own."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import twisted.plugins
from twisted.internet.interfaces import IStreamServerEndpointStringParser
from twisted.plugin import IPlugin, getPlugins
from zope.interface import Interface
from zope.interface.verify import verifyClass, verifyObject

from wshost import plugins
from wshost.loading.importing import UserCodeError
from wshost.results import ConfigurationError, Switch

THIRD_PARTY = """
from wshost.plugins import BackplaneKind, ProtocolModule

demo = BackplaneKind("demo", "upper_module.Upper", 7_000)
upper = ProtocolModule("upper", "upper_module")
incomplete = ProtocolModule("incomplete", "incomplete_module")
renamed = ProtocolModule("renamed", "upper_module.Former")
"""

#: How Twisted says that something is no dotted path.
NO_PATH = "name must be a string giving a '.'-separated list of Python identifiers"


@pytest.fixture
def third_party(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The `sys.path` entry of another distribution that brings protocol modules."""
    directory = tmp_path / "twisted" / "plugins"
    directory.mkdir(parents=True)
    (directory / "wshost_upper.py").write_text(THIRD_PARTY)
    (tmp_path / "upper_module.py").write_text("class Upper:\n    class Inner: pass\n")
    (tmp_path / "incomplete_module.py").write_text("import a_module_that_is_not_installed\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(twisted.plugins, "__path__", [str(directory), *twisted.plugins.__path__])
    importlib.invalidate_caches()
    yield tmp_path
    for name in ("twisted.plugins.wshost_upper", "upper_module"):
        sys.modules.pop(name, None)


class TestNames:
    def test_names_has_our_modules_and_those_of_third_parties(self, third_party: Path) -> None:
        assert {"factory", "http", "websocket", "incomplete", "renamed", "upper"} <= set(plugins.names())

    def test_names_are_sorted(self) -> None:
        assert plugins.names() == sorted(plugins.names())

    def test_names_imports_no_module(self, third_party: Path) -> None:
        plugins.names()
        assert "upper_module" not in sys.modules


class TestEndpointParser:
    def test_an_endpoint_is_imported_when_it_is_used(self, third_party: Path) -> None:
        (third_party / "upper_module.py").write_text("def parse(*args, **kwargs): return args, kwargs\n")
        parser = plugins.EndpointParser("upper", "upper_module.parse")
        assert verifyObject(IStreamServerEndpointStringParser, parser)
        assert verifyObject(IPlugin, parser)
        assert "upper_module" not in sys.modules
        endpoint: object = parser.parseStreamServer(None, "80", interface="::1")
        assert endpoint == ((None, "80"), {"interface": "::1"})

    def test_twisted_finds_our_endpoint(self) -> None:
        found = [parser for parser in getPlugins(IStreamServerEndpointStringParser) if parser.prefix == "fast"]
        assert found == [plugins.EndpointParser("fast", "wshost.fastnet.reactor.parse")]


class TestFindByShortName:
    def test_a_short_name_imports_the_module(self, third_party: Path) -> None:
        assert plugins.find("upper").__name__ == "upper_module"

    @pytest.mark.parametrize(
        ("name", "reason"),
        [
            ("incomplete", "ModuleNotFoundError: No module named 'a_module_that_is_not_installed'"),
            ("renamed", "AttributeError: module 'upper_module' has no attribute 'Former'"),
        ],
    )
    def test_a_plugin_that_leads_nowhere_is_reported_in_one_line(
        self, third_party: Path, name: str, reason: str
    ) -> None:
        with pytest.raises(ConfigurationError) as caught:
            plugins.find(name)
        assert str(caught.value) == f"protocol module {name!r} can't be imported: {reason}"

    @pytest.mark.parametrize("name", ["", "htpp"])
    def test_an_unknown_name_is_told_the_known_ones(self, name: str) -> None:
        with pytest.raises(ConfigurationError) as caught:
            plugins.find(name)
        known = ", ".join(plugins.names())
        assert str(caught.value) == f"no protocol module is named {name!r}; there are: {known}"
        assert "http" in known


class TestFindByDottedPath:
    def test_a_dotted_path_can_lead_to_a_module(self) -> None:
        assert plugins.find("wshost.results").Switch is Switch

    def test_a_dotted_path_can_lead_to_an_object(self) -> None:
        assert plugins.find("wshost.results.Switch") is Switch

    def test_a_dotted_path_can_lead_to_an_object_in_an_object(self, third_party: Path) -> None:
        assert plugins.find("upper_module.Upper.Inner").__qualname__ == "Upper.Inner"

    @pytest.mark.parametrize(
        ("name", "reason"),
        [
            ("nowhere.to.be.found", "ObjectNotFound: 'nowhere.to.be.found' does not name an object"),
            ("wshost.nothing", "AttributeError: module 'wshost' has no attribute 'nothing'"),
            (".relative", f"InvalidName: {NO_PATH}, not '.relative'"),
            ("a..b", f"InvalidName: {NO_PATH}, not 'a..b'"),
        ],
    )
    def test_a_dotted_path_that_leads_nowhere_is_reported_in_one_line(self, name: str, reason: str) -> None:
        with pytest.raises(ConfigurationError) as caught:
            plugins.find(name)
        assert str(caught.value) == f"protocol module {name!r} can't be imported: {reason}"

    @pytest.mark.parametrize("name", ["broken_module", "broken_module.Driver"])
    def test_an_error_in_the_module_itself_is_shown_with_its_own_traceback(self, third_party: Path, name: str) -> None:
        (third_party / "broken_module.py").write_text("1 / 0\n")
        with pytest.raises(UserCodeError, match=r"can't be imported: ZeroDivisionError: division by zero$") as caught:
            plugins.find(name)
        assert caught.value.traceback_text.count("File ") == 1
        assert 'broken_module.py", line 1, in <module>' in caught.value.traceback_text


class TestFindInTheCurrentDirectory:
    @pytest.mark.parametrize("name", ["here_module", "here_module.Driver"])
    def test_modules_are_found_in_the_current_directory(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
    ) -> None:
        (tmp_path / "here_module.py").write_text("class Driver: pass\n")
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry])
        try:
            assert plugins.find(name).__name__ == name.rpartition(".")[2]
        finally:
            del sys.modules["here_module"]


class TestBackplanes:
    def test_a_kind_of_backplane_is_found_by_its_scheme_and_imported_when_it_is_used(self, third_party: Path) -> None:
        kind = plugins.backplane("demo")
        assert (kind.scheme, kind.port, kind.tls) == ("demo", 7_000, False)
        assert "upper_module" not in sys.modules
        assert kind.load().__name__ == "Upper"

    def test_an_unknown_scheme_is_told_the_known_ones(self, third_party: Path) -> None:
        with pytest.raises(ConfigurationError) as caught:
            plugins.backplane("http")
        assert str(caught.value).startswith("backplane: no backplane has URLs with http://; there are: ")
        assert "demo" in str(caught.value)

    def test_where_no_backplane_is_installed_there_is_none(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(plugins, "getPlugins", lambda interface: iter(()))
        with pytest.raises(ConfigurationError, match=r"^backplane: no backplane has URLs with x://; there is none$"):
            plugins.backplane("x")

    @pytest.mark.parametrize("interface", [IPlugin, plugins.IBackplanePlugin])
    def test_a_kind_provides_what_twisted_looks_for(self, interface: type[Interface]) -> None:
        verifyClass(interface, plugins.BackplaneKind)
        verifyObject(interface, plugins.BackplaneKind("x", "wshost.results.Switch", 1, tls=True))


@pytest.mark.parametrize("interface", [IPlugin, plugins.IProtocolPlugin])
def test_protocol_modules_provide_what_twisted_looks_for(interface: type[Interface]) -> None:
    verifyClass(interface, plugins.ProtocolModule)
    verifyObject(interface, plugins.ProtocolModule("switch", "wshost.results.Switch"))
