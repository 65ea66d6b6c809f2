"""Finds protocol modules and backplanes, by the names of Twisted plugins or by dotted paths. Names none itself."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from twisted.internet.interfaces import IStreamServerEndpoint, IStreamServerEndpointStringParser
from twisted.plugin import IPlugin, getPlugins
from twisted.python.reflect import namedAny
from zope.interface import Attribute, Interface, implementer

from wshost.loading.importing import make_importable, run
from wshost.results import ConfigurationError


class IProtocolPlugin(Interface):
    """A protocol module as a Twisted plugin: in a file ``twisted/plugins/wshost_<distribution>.py``."""

    name = Attribute("str: the short name, as in `--protocol-module`")

    def load() -> Any:
        """Import and return the `IProtocolModule`, or a Twisted `IProtocolFactory`."""


@implementer(IPlugin, IProtocolPlugin)
@dataclass(frozen=True)
class ProtocolModule:
    """A protocol module that is imported only when it is used.

    :param name: its short name.
    :param path: the dotted path of a Python module, or of an object in one.
    """

    name: str
    path: str

    def load(self) -> Any:
        return namedAny(self.path)


class IBackplanePlugin(Interface):
    """A kind of backplane as a Twisted plugin: in a file ``twisted/plugins/wshost_<distribution>.py``."""

    scheme = Attribute("str: of its URLs, as in `--backplane`")
    port = Attribute("int: the brokers' port where a URL names none")
    tls = Attribute("bool: the connection begins with TLS")

    def load() -> Any:
        """Import and return what makes an `IBackplane` of `wshost.backplanes.settings.BackplaneSettings`.

        It raises `ConfigurationError` for settings that can't be.
        """


@implementer(IPlugin, IBackplanePlugin)
@dataclass(frozen=True)
class BackplaneKind:
    """A kind of backplane that is imported only when it is used.

    :param scheme: of its URLs.
    :param path: the dotted path of a class, or of another callable, that makes the backplane.
    """

    scheme: str
    path: str
    port: int
    tls: bool = False

    def load(self) -> Any:
        return namedAny(self.path)


@implementer(IPlugin, IStreamServerEndpointStringParser)
@dataclass(frozen=True)
class EndpointParser:
    """A kind of endpoint that is imported only when it is used.

    :param prefix: the first word of the descriptions of such endpoints: ``fast`` for ``fast:8080``.
    :param path: the dotted path of a function that takes a reactor and a description's arguments, and returns the
        endpoint.
    """

    prefix: str
    path: str

    def parseStreamServer(self, reactor: Any, *args: object, **kwargs: object) -> IStreamServerEndpoint:
        endpoint: IStreamServerEndpoint = namedAny(self.path)(reactor, *args, **kwargs)
        return endpoint


def names() -> list[str]:
    """Return the short names of all protocol modules that are installed, sorted."""
    return sorted(plugin.name for plugin in getPlugins(IProtocolPlugin))


def find(name: str) -> Any:
    """Return the protocol module of this name.

    :param name: a plugin's short name, or a dotted path, also from the current directory.
    :raises wshost.loading.importing.UserCodeError: when the module's own code raises an exception.
    :raises ConfigurationError: when there is no such module, or it can't be imported.
    """
    plugin = next((plugin for plugin in getPlugins(IProtocolPlugin) if plugin.name == name), None)
    if plugin is None:
        make_importable(Path.cwd())
        if "." not in name and not (name.isidentifier() and find_spec(name)):
            raise ConfigurationError(f"no protocol module is named {name!r}; there are: {', '.join(names())}")
        plugin = ProtocolModule(name, name)
    return run(f"protocol module {name!r} can't be imported", plugin.load)


def backplane(scheme: str) -> IBackplanePlugin:
    """Return the kind of backplane with this scheme. :raises ConfigurationError: when there is none."""
    kinds = {kind.scheme: kind for kind in getPlugins(IBackplanePlugin)}
    if scheme not in kinds:
        known = f"there are: {', '.join(sorted(kinds))}" if kinds else "there is none"
        raise ConfigurationError(f"backplane: no backplane has URLs with {scheme}://; {known}")
    found: IBackplanePlugin = kinds[scheme]
    return found
