"""The names that users rely on: those of the package, and those of the plugins by which Twisted finds it."""

from __future__ import annotations

import subprocess
import sys
from importlib import import_module
from typing import Any

import pytest
from twisted.application.service import IServiceMaker
from twisted.plugin import IPlugin
from twisted.plugins import wshost_plugin
from zope.interface.verify import verifyObject

import wshost
from wshost import plugins

#: The classes among the public names, and the modules that define them.
CLASSES = {
    "Accept": "wshost.results",
    "ConnectionInfo": "wshost.request",
    "Outcome": "wshost.results",
    "Ref": "wshost.connections.ref",
    "Reject": "wshost.results",
    "Sent": "wshost.results",
    "UndeliveredError": "wshost.client.steps",
}
#: The functions that know names and presences.
WHEREABOUTS = ["present", "register", "track", "unregister", "untrack", "whereis"]


class TestPublicNames:
    def test_wshost_exports_its_public_names_and_no_others(self) -> None:
        functions = ["connect", "connect_async", "publish", "service", *WHEREABOUTS]
        assert wshost.__all__ == sorted([*CLASSES, *functions])

    @pytest.mark.parametrize(("name", "module"), CLASSES.items())
    def test_a_public_name_is_the_class_that_its_module_defines(self, name: str, module: str) -> None:
        assert getattr(wshost, name) is getattr(import_module(module), name)

    @pytest.mark.parametrize("before", ["", "import wshost.server", "import wshost.commands.twistd"])
    def test_service_makes_a_service_whatever_was_imported_before(self, before: str) -> None:
        """A module named wshost.service would take the name as soon as it is imported: there must be none."""
        code = f"{before}\nfrom wshost import service\nprint(service({{'handler': 'wshost.handlers.echo'}}))"
        done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)
        assert done.stderr == ""
        assert done.stdout.startswith("<wshost.server.Server object")

    def test_publish_is_the_servers_publish(self) -> None:
        assert wshost.publish is import_module("wshost.server").publish

    @pytest.mark.parametrize("name", WHEREABOUTS)
    def test_names_and_presences_are_those_of_the_whereabouts(self, name: str) -> None:
        assert getattr(wshost, name) is getattr(import_module("wshost.whereabouts"), name)

    def test_connect_and_connect_async_are_those_of_the_client(self) -> None:
        assert wshost.connect is import_module("wshost.client.blocking").connect
        assert wshost.connect_async is import_module("wshost.client.asynchronous").connect_async

    def test_an_unknown_name_is_an_attribute_error(self) -> None:
        with pytest.raises(AttributeError, match=r"^module 'wshost' has no attribute 'nothing'$"):
            wshost.nothing  # noqa: B018

    def test_the_version_has_three_numbers(self) -> None:
        assert [part.isdigit() for part in wshost.__version__.split(".")] == [True, True, True]


class TestPlugins:
    """Twisted's cache has the variables by name: renaming one breaks every installation that is upgraded."""

    def test_the_plugins_have_their_variables_and_no_others(self) -> None:
        variables = {name for name, value in vars(wshost_plugin).items() if IPlugin(value, None) is not None}
        assert variables == {
            "factory",
            "fast",
            "http",
            "nats",
            "nats_tls",
            "redis",
            "redis_cluster",
            "redis_cluster_tls",
            "redis_sentinel",
            "redis_sentinel_tls",
            "redis_tls",
            "uvloop",
            "websocket",
            "wshost",
        }

    def test_the_command_is_a_service_maker(self) -> None:
        assert verifyObject(IServiceMaker, wshost_plugin.wshost)
        assert wshost_plugin.wshost.tapname == "wshost"

    def test_the_command_leads_to_options_and_a_service(self) -> None:
        assert callable(wshost_plugin.wshost.options)
        assert callable(wshost_plugin.wshost.makeService)

    @pytest.mark.parametrize("module", [wshost_plugin.factory, wshost_plugin.http, wshost_plugin.websocket])
    def test_a_protocol_module_leads_to_its_module(self, module: Any) -> None:
        assert plugins.find(module.name) is import_module(module.path)
