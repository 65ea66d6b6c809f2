"""The way to other processes that the options ask for; the kinds of backplanes are those of a plugin."""

from __future__ import annotations

from typing import Any

import pytest

from wshost import brokers, plugins
from wshost.backplanes.settings import BackplaneSettings, Broker
from wshost.connections.home import this_machine
from wshost.plugins import BackplaneKind
from wshost.results import ConfigurationError
from wshost.settings import options


class Demo:
    """A backplane that has only its settings."""

    def __init__(self, settings: BackplaneSettings) -> None:
        if settings.key == "no such file":
            raise ConfigurationError("backplane_key: no such file")
        self.settings = settings


@pytest.fixture(autouse=True)
def kinds(monkeypatch: pytest.MonkeyPatch) -> None:
    found = [BackplaneKind("demo", f"{__name__}.Demo", 7_000, tls=True), BackplaneKind("gone", "no.such.module", 1)]
    monkeypatch.setattr(plugins, "getPlugins", lambda interface: found)


def build(**given: Any) -> Any:
    return brokers.build(options.settle(options.check({"handler": "echo", **given})))


def wrong(**given: Any) -> str:
    with pytest.raises(ConfigurationError) as caught:
        build(**given)
    return str(caught.value)


class TestAlone:
    def test_without_a_backplane_there_is_no_way_to_other_processes(self) -> None:
        cluster = build(cluster="chat")
        assert (cluster.name, list(cluster.ways)) == ("chat", [])

    @pytest.mark.parametrize("name", ["", "a.b", "*", "ü", "x" * 64, "a\n", "a b"])
    def test_a_name_of_a_cluster_or_a_node_is_one_token(self, name: str) -> None:
        assert wrong(cluster=name).startswith("cluster: ")
        assert wrong(node=name).startswith("node: ")

    def test_both_may_have_63_characters(self) -> None:
        assert build(cluster="x" * 63, node="y" * 63).name == "x" * 63


class TestAWay:
    def test_a_backplane_is_told_what_the_options_say(self) -> None:
        cluster = build(
            backplane=["demo://u:p@a", "demo://b:1"],
            backplane_buffer=100_000,
            backplane_patience=2.5,
            backplane_ca="ca.pem",
            backplane_cert="cert.pem",
            backplane_key="key.pem",
            backplane_credentials="my.creds",
            node="web-1",
        )
        [way] = cluster.ways
        assert (cluster.buffer, way.local) == (100_000, False)
        assert way.make().settings == BackplaneSettings(
            scheme="demo",
            brokers=(Broker("a", 7_000, "u", "p", True), Broker("b", 1, tls=True)),
            ca="ca.pem",
            cert="cert.pem",
            key="key.pem",
            credentials="my.creds",
            buffer=100_000,
            patience=2.5,
            name="wshost-web-1",
        )

    def test_a_backplane_is_made_anew_at_each_start_and_has_the_machines_name(self) -> None:
        [way] = build(backplane=["demo://a"]).ways
        one, other = way.make(), way.make()
        assert one is not other
        assert one.settings.name == f"wshost-{this_machine()}"

    def test_ways_are_equal_by_what_they_are_told(self) -> None:
        names = {
            build(backplane=[url], node=node).ways[0].name for url in ("demo://a", "demo://b") for node in ("x", "x")
        }
        assert len(names) == 2

    def test_a_way_shows_no_password(self) -> None:
        [way] = build(backplane=["demo://user:secret@a"]).ways
        assert "host='a'" in repr(way)
        assert "secret" not in repr(way)
        assert way.name != build(backplane=["demo://user:other@a"]).ways[0].name

    def test_what_is_wrong_is_said_in_one_line_when_it_is_built(self) -> None:
        assert wrong(backplane=["demo://a:0"]) == "backplane: 'demo://a:0': 'a:0' is no host with a port"
        assert wrong(backplane=["demo://a"], backplane_key="no such file") == "backplane_key: no such file"
        assert wrong(backplane=["demo://a", "gone://a"]).startswith("backplane: all brokers belong to one cluster")
        assert wrong(backplane=["other://a"]) == (
            "backplane: no backplane has URLs with other://; there are: demo, gone"
        )
        assert wrong(backplane=["gone://a"]).startswith("backplane gone:// can't be imported: ")
