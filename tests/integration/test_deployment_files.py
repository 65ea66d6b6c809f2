"""The files of docs/examples for several nodes: Compose, Kubernetes, systemd. No container runs, but each command does.

Schemas say what a file may have; the facts that no schema knows, such as which port a probe asks, are compared here.
"""

from __future__ import annotations

import re
import shlex
import subprocess
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest
import yaml
from websockets.sync.client import connect

from tests.integration.brokers import nats_server
from tests.integration.server import PATIENCE, SCRIPTS, running_server
from wshost.admin.pages import PATHS
from wshost.backplanes import urls
from wshost.commands.options import Options
from wshost.settings.options import Settings

EXAMPLES = Path(__file__).parents[2] / "docs/examples"
COMPOSE: dict[str, Any] = yaml.safe_load((EXAMPLES / "compose.yaml").read_text())
OBJECTS: dict[tuple[str, str], dict[str, Any]] = {
    (one["kind"], one["metadata"]["name"]): one
    for name in ("kubernetes.yaml", "nats.yaml")
    for one in yaml.safe_load_all((EXAMPLES / name).read_text())
}
POD: dict[str, Any] = OBJECTS["Deployment", "chat"]["spec"]["template"]["spec"]
BROKERS: dict[str, Any] = OBJECTS["StatefulSet", "nats"]["spec"]["template"]["spec"]
SERVICE = (EXAMPLES / "chat@.service").read_text()
CONFIGURATION: str = OBJECTS["ConfigMap", "nats"]["data"]["nats.conf"]


def container(pod: dict[str, Any]) -> dict[str, Any]:
    """The only one of a pod."""
    (only,) = pod["containers"]
    assert isinstance(only, dict)
    return only


def value(name: str) -> str:
    """A setting of the systemd unit."""
    (found,) = re.findall(rf"^{name}=(.*)$", SERVICE, re.MULTILINE)
    return str(found)


def unit_command() -> list[str]:
    command, *options = shlex.split(value("ExecStart").replace("%i", "8080"))
    assert command == "/srv/chat/.venv/bin/wshost"
    return options


@dataclass(frozen=True)
class Node:
    """What a file runs on each node.

    :param options: of the command.
    :param patience: how many seconds after SIGTERM what is left is killed.
    :param pause: how many of them pass before SIGTERM.
    """

    options: list[str]
    patience: float
    pause: float = 0

    @property
    def settings(self) -> Settings:
        parsed = Options()
        parsed.parseOptions(self.options)
        return parsed.settings()


def seconds(text: str) -> float:
    """A time of Compose."""
    assert re.fullmatch(r"\d+s", text)
    return float(text[:-1])


def grace(pod: dict[str, Any]) -> float:
    return float(pod["terminationGracePeriodSeconds"])


CHAT = container(POD)
NODES = {
    "compose": Node(COMPOSE["x-node"]["command"][1:], seconds(COMPOSE["x-node"]["stop_grace_period"])),
    "kubernetes": Node(CHAT["args"], grace(POD), CHAT["lifecycle"]["preStop"]["sleep"]["seconds"]),
    "systemd": Node(unit_command(), float(value("TimeoutStopSec"))),
}


@pytest.fixture(params=NODES)
def node(request: pytest.FixtureRequest) -> Node:
    return NODES[request.param]


def run(*command: str | Path, cwd: Path = EXAMPLES) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=2 * PATIENCE, check=False)


class TestSchemas:
    def test_the_compose_file_is_one_by_the_schema_of_compose(self) -> None:
        done = run(SCRIPTS / "check-jsonschema", "--builtin-schema", "vendor.compose-spec", "compose.yaml")
        assert done.returncode == 0, done.stdout

    @pytest.mark.parametrize("name", ["kubernetes.yaml", "nats.yaml"])
    def test_the_objects_of_kubernetes_have_what_its_schema_has_and_nothing_else(self, name: str) -> None:
        done = run(SCRIPTS / "kubernetes-validate", "--strict", name)
        assert done.returncode == 0, done.stdout + done.stderr

    def test_an_object_of_kubernetes_with_a_name_that_it_has_not_is_found(self, tmp_path: Path) -> None:
        text = (EXAMPLES / "kubernetes.yaml").read_text()
        (tmp_path / "wrong.yaml").write_text(text.replace("terminationGracePeriodSeconds", "gracePeriod"))
        assert run(SCRIPTS / "kubernetes-validate", "--strict", tmp_path / "wrong.yaml").returncode == 1

    def test_nats_takes_its_configuration(self, tmp_path: Path) -> None:
        (tmp_path / "nats.conf").write_text(CONFIGURATION.replace("/run/nats", str(tmp_path)))
        done = run(SCRIPTS / "nats-server", "--config", tmp_path / "nats.conf", "-t")
        assert (done.returncode, "is valid" in done.stderr) == (0, True), done.stderr


class TestNodes:
    """What holds for the nodes of each file."""

    def test_the_command_would_start(self, node: Node) -> None:
        done = run(SCRIPTS / "wshost", "check", *node.options)
        assert (done.returncode, done.stdout[-16:]) == (0, "It would start.\n"), done.stderr

    def test_a_node_has_time_to_drain_before_it_is_killed(self, node: Node) -> None:
        assert node.patience >= node.pause + node.settings.drain_timeout + 10

    def test_clients_of_a_node_that_goes_come_back_one_after_another(self, node: Node) -> None:
        assert node.settings.drain_spread >= 10

    def test_a_node_is_reached_from_other_machines_and_knows_its_proxies_and_its_name(self, node: Node) -> None:
        settings = node.settings
        assert (settings.interface, settings.port) == ("0.0.0.0", 8080)
        assert settings.trust_proxy
        assert list(settings.host) == ["chat.example.com"]

    def test_two_nodes_serve_one_chat(self, node: Node, tmp_path: Path) -> None:
        with ExitStack() as stack:
            broker = stack.enter_context(nats_server(tmp_path)).port
            servers = [
                stack.enter_context(
                    running_server(*on_the_loopback(node.options, broker), cwd=EXAMPLES, command="wshost")
                )
                for _ in range(2)
            ]
            ada, bob = (
                stack.enter_context(connect(f"{server.url}/?name={name}", proxy=None, ping_interval=None))
                for server, name in zip(servers, ("Ada", "Bob"), strict=True)
            )
            # What is said may reach nobody until the broker knows of the subscription.
            deadline = time.monotonic() + PATIENCE
            heard = ""
            while heard != "Ada: hello":
                assert time.monotonic() < deadline
                ada.send("hello")
                try:
                    heard = str(bob.recv(timeout=0.1))
                except TimeoutError:
                    continue


def on_the_loopback(options: Sequence[str], broker: int) -> list[str]:
    """A command's options, at free ports, and with a broker that is there."""
    text = "\n".join(options)
    for old, new in (
        ("--port[=\n]8080", "--port=0"),
        ("--interface[=\n]0.0.0.0", "--interface=127.0.0.1"),
        ("tcp:9090:interface=0.0.0.0", "tcp:0"),
    ):
        text = re.sub(old, new, text)
    kept = [option for option in text.split("\n") if not option.startswith("--backplane=")]
    assert "--port=0" in kept
    assert "--interface=127.0.0.1" in kept
    return [*kept, f"--backplane=nats://127.0.0.1:{broker}"]


class TestCompose:
    def test_the_nodes_have_the_addresses_that_the_proxy_knows(self) -> None:
        proxy = (EXAMPLES / "haproxy-nodes.cfg").read_text()
        servers = dict(re.findall(r"^    server (\w+) (\S+)$", proxy, re.MULTILINE))
        port = NODES["compose"].settings.port
        nodes = {
            name: f"{address(name)}:{port}"
            for name, service in COMPOSE["services"].items()
            if service["image"] == "chat"
        }
        assert nodes == servers

    def test_the_nodes_trust_the_proxy_and_nobody_else(self) -> None:
        assert NODES["compose"].options.count(f"--trust-proxy={address('haproxy')}") == 1
        assert len(NODES["compose"].settings.trust_proxy) == 1

    def test_the_nodes_know_the_broker(self) -> None:
        (broker,) = urls.read(NODES["compose"].settings.backplane, 4222, False)
        assert broker.host == address("nats")
        assert COMPOSE["services"]["nats"]["command"] == ["--addr", "0.0.0.0", "--port", str(broker.port)]

    def test_the_proxy_finds_its_files(self) -> None:
        proxy = (EXAMPLES / "haproxy-nodes.cfg").read_text()
        mounted = [volume.split(":") for volume in COMPOSE["services"]["haproxy"]["volumes"]]
        assert [(EXAMPLES / source).exists() for source, _, _ in mounted] == [True, False]
        assert [target in proxy for _, target, _ in mounted] == [False, True]
        assert {mode for _, _, mode in mounted} == {"ro"}

    def test_a_node_may_have_more_files_open_than_connections(self) -> None:
        assert COMPOSE["x-node"]["ulimits"]["nofile"] > NODES["compose"].settings.max_connections

    def test_what_is_waited_for_is_there(self) -> None:
        services = COMPOSE["services"]
        for service in services.values():
            assert set(service.get("depends_on", ())) <= services.keys()
            assert service["networks"].keys() == COMPOSE["networks"].keys()


def address(service: str) -> str:
    """Where a service of Compose is."""
    return str(COMPOSE["services"][service]["networks"]["chat"]["ipv4_address"])


PROBES = ("startupProbe", "livenessProbe", "readinessProbe")


def ports(pod: dict[str, Any]) -> dict[str, int]:
    return {port["name"]: port["containerPort"] for port in container(pod)["ports"]}


def labels(kind: str, name: str) -> dict[str, str]:
    """Those of the pods of an object."""
    found = OBJECTS[kind, name]["spec"]["template"]["metadata"]["labels"]
    assert isinstance(found, dict)
    return found


class TestKubernetes:
    def test_the_ports_of_the_pods_are_those_of_the_server(self) -> None:
        settings = NODES["kubernetes"].settings
        assert ports(POD) == {"http": settings.port, "admin": 9090}
        assert settings.admin == "tcp:9090:interface=0.0.0.0"

    def test_probes_ask_for_paths_that_operators_have(self, tmp_path: Path) -> None:
        asked = {name: CHAT[name]["httpGet"] for name in PROBES}
        assert {probe["port"] for probe in asked.values()} == {"admin"}
        assert {probe["path"] for probe in asked.values()} <= set(PATHS)
        with nats_server(tmp_path) as broker:
            options = on_the_loopback(NODES["kubernetes"].options, broker.port)
            with running_server(*options, cwd=EXAMPLES, command="wshost") as server:
                (admin,) = set(server.listening_ports) - {server.port}
                for probe in asked.values():
                    # As the kubelet asks: by the address, without a name.
                    connection = HTTPConnection("127.0.0.1", admin, timeout=PATIENCE)
                    connection.request("GET", probe["path"])
                    assert connection.getresponse().status == 200
                    connection.close()

    def test_a_node_may_wait_for_its_broker_before_it_counts_as_hung(self) -> None:
        from wshost.server import BACKPLANE_TIMEOUT

        startup = CHAT["startupProbe"]
        assert startup["periodSeconds"] * startup["failureThreshold"] > BACKPLANE_TIMEOUT

    def test_a_full_or_draining_node_is_not_restarted(self) -> None:
        """Its health is not its readiness."""
        assert CHAT["livenessProbe"]["httpGet"]["path"] == "/healthz"
        assert CHAT["readinessProbe"]["httpGet"]["path"] == "/readyz"

    @pytest.mark.parametrize(("kind", "name"), [("Deployment", "chat"), ("StatefulSet", "nats")])
    def test_all_that_selects_pods_selects_those_that_are_there(self, kind: str, name: str) -> None:
        here = labels(kind, name)
        assert OBJECTS[kind, name]["spec"]["selector"] == {"matchLabels": here}
        assert OBJECTS["Service", name]["spec"]["selector"] == here
        assert OBJECTS["PodDisruptionBudget", name]["spec"]["selector"] == {"matchLabels": here}
        assert OBJECTS["NetworkPolicy", name]["spec"]["podSelector"] == {"matchLabels": here}

    @pytest.mark.parametrize(("name", "pod"), [("chat", POD), ("nats", BROKERS)])
    def test_services_and_policies_name_ports_that_are_there(self, name: str, pod: dict[str, Any]) -> None:
        here = ports(pod)
        for port in OBJECTS["Service", name]["spec"]["ports"]:
            assert port.get("targetPort", port["name"]) in here
            assert "targetPort" in port or port["port"] == here[port["name"]]
        for rule in OBJECTS["NetworkPolicy", name]["spec"]["ingress"]:
            assert {port["port"] for port in rule["ports"]} <= here.keys()

    def test_the_scaler_scales_the_deployment_that_does_not_say_how_many(self) -> None:
        scaler = OBJECTS["HorizontalPodAutoscaler", "chat"]["spec"]
        target = scaler["scaleTargetRef"]
        deployment = OBJECTS[target["kind"], target["name"]]
        assert target["apiVersion"] == deployment["apiVersion"]
        assert "replicas" not in deployment["spec"]
        assert "cpu" in CHAT["resources"]["requests"]
        assert scaler["minReplicas"] > OBJECTS["PodDisruptionBudget", "chat"]["spec"]["maxUnavailable"]

    def test_the_container_runs_as_the_user_of_its_image(self) -> None:
        (user,) = re.findall(r"^USER (\d+):", (EXAMPLES / "Containerfile").read_text(), re.MULTILINE)
        assert POD["securityContext"]["runAsUser"] == int(user)

    def test_the_nodes_know_all_brokers(self) -> None:
        brokers = OBJECTS["StatefulSet", "nats"]["spec"]
        names = [f"nats-{number}.{brokers['serviceName']}" for number in range(brokers["replicas"])]
        assert OBJECTS["Service", brokers["serviceName"]]["spec"]["clusterIP"] == "None"
        known = urls.read(NODES["kubernetes"].settings.backplane, 4222, False)
        assert [(one.host, one.port) for one in known] == [(name, ports(BROKERS)["clients"]) for name in names]
        routes = re.findall(r"nats://([^:,\]]+):(\d+)", CONFIGURATION)
        assert routes == [(name, str(ports(BROKERS)["routes"])) for name in names]


class TestBrokers:
    def test_the_ports_of_the_pods_are_those_of_the_configuration(self) -> None:
        said = re.findall(r"^ *(\w*port): (\d+)$", CONFIGURATION, re.MULTILINE)
        here = ports(BROKERS)
        assert said == [
            ("port", str(here["clients"])),
            ("http_port", str(here["monitor"])),
            ("port", str(here["routes"])),
        ]

    def test_a_broker_has_time_to_let_its_clients_go(self) -> None:
        (lame,) = re.findall(r"lame_duck_duration: (\d+)s", CONFIGURATION)
        assert grace(BROKERS) >= int(lame) + 10

    def test_what_is_mounted_is_where_the_commands_look(self) -> None:
        broker = container(BROKERS)
        mounts = {mount["name"]: mount["mountPath"] for mount in broker["volumeMounts"]}
        assert mounts.keys() == {volume["name"] for volume in BROKERS["volumes"]}
        assert broker["command"] == ["nats-server", "--config", f"{mounts['configuration']}/nats.conf"]
        (file,) = re.findall(r"pid_file: (\S+)", CONFIGURATION)
        assert file.startswith(mounts["run"])
        assert broker["lifecycle"]["preStop"]["exec"]["command"] == ["nats-server", "--signal", f"ldm={file}"]


class TestSystemd:
    def test_a_node_may_have_more_files_open_than_connections(self) -> None:
        assert int(value("LimitNOFILE")) > NODES["systemd"].settings.max_connections

    def test_a_worker_that_the_kernel_ends_does_not_end_the_others(self) -> None:
        assert NODES["systemd"].settings.workers >= 1
        assert "--workers" in NODES["systemd"].options
        assert value("OOMPolicy") == "continue"
