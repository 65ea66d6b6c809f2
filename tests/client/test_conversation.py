from __future__ import annotations

from random import Random
from typing import Any

import pytest

from tests.backplanes.redis_cluster_in_memory import LOADED, TWO, hello, slots, smessage
from tests.client.brokers import Nats, Network, Redis, answer_with, read
from wshost.backplanes.cluster_visitor import ClusterVisitor
from wshost.backplanes.nats import NatsBackplane
from wshost.backplanes.redis import RedisBackplane
from wshost.backplanes.settings import BackplaneSettings, Broker
from wshost.backplanes.shards import PARTS, part_of
from wshost.client import requests
from wshost.client.conversation import Conversation
from wshost.client.steps import Connect, Pause, StartTLS, UndeliveredError
from wshost.cluster.envelope import Codec
from wshost.results import ConfigurationError, Outcome

REF = "web-1.hD3kP0aQ9zE.c17"
REFUSED = ConnectionRefusedError(111, "Connection refused")


def conversation(network: Network, *hosts: str, make: Any = NatsBackplane, scheme: str = "nats", **of: Any) -> Any:
    brokers = tuple(Broker(host, 4222, **of) for host in hosts or ["a"])
    settings = BackplaneSettings(scheme=scheme, brokers=brokers)
    return Conversation(make, settings, "wshost", network.clock, Random(1))


def publish(network: Network, with_: Any, data: str | bytes = "hi", seconds: float = 5) -> None:
    network.run(with_.deliver(requests.publish("room", data), network.now + seconds))


class TestDelivery:
    def test_a_message_is_published_on_the_topics_subject_in_an_envelope(self) -> None:
        broker = Nats()
        network = Network(broker)
        publish(network, conversation(network))
        ((subject, payload),) = broker.published
        assert subject == "wshost.t.room"
        envelope = read(payload)
        assert envelope.messages == ["hi"]
        assert (envelope.machine, envelope.epoch, envelope.before) == (envelope.sender, 1, 0)

    def test_the_next_message_takes_the_same_connection_and_the_next_number(self) -> None:
        broker = Nats()
        network = Network(broker)
        client = conversation(network)
        publish(network, client)
        publish(network, client)
        assert [read(payload).before for _, payload in broker.published] == [0, 1]

    def test_an_action_goes_to_the_home_of_the_connection(self) -> None:
        broker = Redis()
        network = Network(broker)
        client = conversation(network, make=RedisBackplane, scheme="redis")
        network.run(client.deliver(requests.close(REF, 4000, "bye"), 105.0))
        words = broker.commands[-2]
        assert words[:2] == [b"PUBLISH", b"wshost.h.hD3kP0aQ9zE"]
        assert read(words[2]).messages == [["close", "c17", 4000, "bye"]]

    def test_a_lost_connection_is_made_again_and_the_message_keeps_its_number(self) -> None:
        first, second = Nats(), Nats()
        network = Network(first, second)
        client = conversation(network)
        publish(network, client)
        network.end()
        publish(network, client)
        assert [read(payload).before for _, payload in second.published] == [1]
        assert not [step for step in network.steps if isinstance(step, Pause)]

    def test_another_broker_is_tried_at_once_and_all_again_after_a_pause(self) -> None:
        network = Network(REFUSED, REFUSED, Nats())
        publish(network, conversation(network, "a", "b"))
        kinds = [type(step) for step in network.steps]
        assert kinds == [Connect, Connect, Pause, Connect]
        assert {step.host for step in network.steps[:2]} == {"a", "b"}

    def test_a_broker_that_is_silent_is_left_for_another(self) -> None:
        silent, good = Nats(), Nats()
        silent.greeting = b""
        network = Network(silent, good)
        publish(network, conversation(network, "a", "b"))
        assert len(good.published) == 1
        assert network.now == 102.0

    def test_without_a_broker_in_time_it_says_which_was_the_last_and_why(self) -> None:
        network = Network(*[REFUSED] * 100)
        with pytest.raises(UndeliveredError) as raised:
            publish(network, conversation(network), seconds=0.35)
        assert str(raised.value) == "no broker has taken it in time; the last one a:4222: Connection refused"
        assert network.now <= 100.35

    def test_a_connection_that_falls_silent_is_lost_when_the_time_is_up(self) -> None:
        network = Network(Nats(), Nats())
        client = conversation(network)
        publish(network, client)
        network.broker.feed = lambda _: b""
        with pytest.raises(UndeliveredError, match=r"^no broker has taken it in time; the last one: it did not answer"):
            publish(network, client)
        publish(network, client)
        assert network.left == []

    @pytest.mark.parametrize("greeting", [b"-ERR 'slow'\r\n", b"HTTP/1.1 400\r\n"])
    def test_what_is_no_broker_is_left(self, greeting: bytes) -> None:
        strange, good = Nats(), Nats()
        strange.greeting = greeting
        network = Network(strange, good)
        publish(network, conversation(network, "a", "b"))
        assert len(good.published) == 1

    def test_a_message_that_is_too_large_for_the_broker_is_a_value_error(self) -> None:
        network = Network(Nats(), Nats())
        client = conversation(network)
        with pytest.raises(ValueError, match=r"^a message of \d+ bytes is too large: 1000 are the most$"):
            publish(network, client, "x" * 1_001)
        publish(network, client)

    @pytest.mark.parametrize(("message", "error"), [(object(), TypeError), (1 << 70, ValueError)])
    def test_an_info_that_can_not_go_to_another_process_raises(self, message: Any, error: type[Exception]) -> None:
        client = conversation(Network())
        with pytest.raises(error):
            client.deliver(requests.info(REF, message), 105.0)


class TestRefusals:
    def test_a_wrong_password_is_a_configuration_error(self) -> None:
        broker = Nats()
        broker.greeting += b"-ERR 'Authorization Violation'\r\n"
        network = Network(broker)
        with pytest.raises(ConfigurationError, match="a:4222 does not let us in: Authorization Violation"):
            publish(network, conversation(network))

    def test_a_forbidden_topic_of_nats_is_undelivered(self) -> None:
        network = Network(Nats(answer=lambda *_: b"-ERR 'Permissions Violation'\r\n"))
        with pytest.raises(UndeliveredError, match=r"^the broker a:4222 refuses it: Permissions Violation$"):
            publish(network, conversation(network))

    def test_a_forbidden_topic_of_redis_is_undelivered(self) -> None:
        network = Network(Redis(PUBLISH=b"-NOPERM no channel\r\n"))
        with pytest.raises(UndeliveredError, match=r"^the broker a:4222 refuses it: NOPERM no channel$"):
            publish(network, conversation(network, make=RedisBackplane, scheme="redis"))

    def test_a_file_with_credentials_that_is_not_there_is_a_configuration_error(self) -> None:
        network = Network()
        settings = BackplaneSettings(scheme="nats", brokers=(Broker("a", 1),), credentials="/nowhere.creds")
        with pytest.raises(ConfigurationError, match="No such file"):
            publish(network, Conversation(NatsBackplane, settings, "wshost", network.clock))


class TestBrokers:
    def test_tls_begins_when_the_nats_server_has_spoken(self) -> None:
        broker = Nats(info=',"tls_required":true')
        network = Network(broker)
        publish(network, conversation(network))
        assert network.steps == [Connect(105.0, "a", 4222, False), StartTLS(105.0, "a")]
        assert broker.lines[0].startswith(b"CONNECT ")

    def test_tls_begins_first_with_redis(self) -> None:
        network = Network(Redis())
        publish(network, conversation(network, make=RedisBackplane, scheme="rediss", tls=True))
        assert network.steps == [Connect(105.0, "a", 4222, True)]

    def test_a_sentinel_names_the_master(self) -> None:
        master = Redis()
        network = Network(Redis(SENTINEL=b"*2\r\n$1\r\nm\r\n$4\r\n7777\r\n"), master)
        publish(network, conversation(network, make=RedisBackplane, scheme="redis+sentinel", path="main"))
        assert [(step.host, step.port) for step in network.steps] == [("a", 4222), ("m", 7777)]
        assert b"PUBLISH" in [words[0] for words in master.commands]

    def test_a_server_that_goes_out_of_service_is_left_after_the_message(self) -> None:
        first = Nats(answer=lambda *_: b'INFO {"ldm":true,"connect_urls":["b:1"]}\r\n')
        network = Network(first, Nats())
        client = conversation(network)
        publish(network, client)
        publish(network, client)
        assert network.left == []


class TestClusters:
    """The masters of a Redis Cluster are at the host ``m``: one has the first half of all parts, the other the rest."""

    def topics(self, *, second: bool = False) -> list[str]:
        """Two topics that one of the masters has."""
        found = (topic for topic in map(str, range(99)) if (part_of(f"wshost.t.{topic}") >= PARTS // 2) is second)
        return [next(found), next(found)]

    def publish(self, network: Network, client: Any, topic: str) -> None:
        network.run(client.deliver(requests.publish(topic, "hi"), network.now + 5))

    def connected(self, network: Network) -> list[tuple[str, int]]:
        return [(step.host, step.port) for step in network.steps if isinstance(step, Connect)]

    def test_a_message_goes_to_the_master_of_its_topic(self) -> None:
        brokers = [Node(), Node(), Node()]
        network = Network(*brokers)
        client = conversation(network, make=ClusterVisitor)
        first, second = self.topics(), self.topics(second=True)
        for topic in [*first, *second]:
            self.publish(network, client, topic)
        assert self.connected(network) == [("a", 4222), ("m", 1), ("m", 2)]
        assert [broker.topics for broker in brokers] == [[], first, second]

    def test_a_message_that_a_master_refuses_is_sent_again_with_its_number(self) -> None:
        before = Node(EVALSHA=b"-ERR Script attempted to access a non local key\r\n")
        anyone, after = Node(CLUSTER=slots((0, 16_383, 3))), Node(CLUSTER=slots((0, 16_383, 3)))
        network = Network(Node(), before, anyone, after)
        topic, _ = self.topics()
        self.publish(network, conversation(network, make=ClusterVisitor), topic)
        assert self.connected(network) == [("a", 4222), ("m", 1), ("a", 4222), ("m", 3)]
        assert before.payloads == after.payloads
        assert len(after.payloads) == 1

    def test_a_master_that_does_not_answer_is_asked_for_again(self) -> None:
        anyone, after = Node(CLUSTER=slots((0, 16_383, 3))), Node(CLUSTER=slots((0, 16_383, 3)))
        network = Network(Node(), REFUSED, anyone, after)
        topic, _ = self.topics()
        self.publish(network, conversation(network, make=ClusterVisitor), topic)
        assert after.topics == [topic]

    @pytest.mark.parametrize("boot", ["hD3kP0aQ9zE", "AAAAAAAAAAA"])
    def test_an_answer_comes_over_the_connection_to_the_same_master(self, boot: str) -> None:
        master = Node()
        network = Network(Node(), master)
        client = conversation(network, make=ClusterVisitor)
        for _ in range(2):
            request = requests.send(f"web-1.{boot}.c17", "hi", None)
            assert network.run(client.confirm(request, network.now + 5)) is Outcome.WRITTEN
        port = 1 if part_of(f"wshost.h.{boot}") < PARTS // 2 else 2
        assert self.connected(network) == [("a", 4222), ("m", port)]
        assert len([words for words in master.commands if words[0] == b"SSUBSCRIBE"]) == 1


class Node(Redis):
    """One connection to a server of a Redis Cluster. It answers a message as the process that has the connection."""

    def __init__(self, **answers: bytes) -> None:
        given = {"HELLO": hello(), "SCRIPT": LOADED, "CLUSTER": TWO, "EVALSHA": b":0\r\n", **answers}
        super().__init__(**given)

    @property
    def payloads(self) -> list[bytes]:
        """What was published."""
        return [words[5] for words in self.commands if words[0] == b"EVALSHA"]

    @property
    def topics(self) -> list[str]:
        """Where."""
        return [words[3].decode().rpartition(".")[2] for words in self.commands if words[0] == b"EVALSHA"]

    def feed(self, data: bytes) -> bytes:
        count = len(self.commands)
        answers = super().feed(data)
        for words in self.commands[count:]:
            match words:
                case [b"EVALSHA", *_, payload] if read(payload).messages[0][0] == "send":
                    *_, asker, number, _ = read(payload).messages[0]
                    codec = Codec()
                    reply = codec.enclose("m", "s", 1, 0, [codec.pack(("answer", number, "written"))])
                    channel = next(one[1] for one in self.commands if one[0] == b"SSUBSCRIBE")
                    assert channel.decode().endswith(f"wshost.h.{asker}")
                    answers += smessage(channel.decode(), reply)
        return answers


class TestConfirmation:
    def confirm(self, network: Network, client: Any, seconds: float = 5) -> Any:
        return network.run(client.confirm(requests.send(REF, "hi", None), network.now + seconds))

    @pytest.mark.parametrize("outcome", [Outcome.WRITTEN, Outcome.GONE])
    def test_the_answer_says_what_became_of_the_message(self, outcome: Outcome) -> None:
        broker = Nats(answer=answer_with(outcome.value))
        network = Network(broker)
        client = conversation(network)
        assert self.confirm(network, client) is outcome
        assert self.confirm(network, client) is outcome
        action, id, data, key, asker, number, seconds = read(broker.published[-1][1]).messages[0]
        assert (action, id, data, key, number) == ("send", "c17", "hi", None, 2)
        assert seconds == pytest.approx(4.8)
        subscriptions = [line for line in broker.lines if line.startswith(b"SUB")]
        assert subscriptions == [b"SUB wshost.h.%b 1" % asker.encode()]

    def test_a_connection_that_is_there_already_subscribes_to_answers(self) -> None:
        broker = Nats(answer=lambda subject, payload: b"" if ".t." in subject else written(subject, payload))
        written = answer_with("written")
        network = Network(broker)
        client = conversation(network)
        publish(network, client)
        assert self.confirm(network, client) is Outcome.WRITTEN

    @pytest.mark.parametrize(
        "answer",
        [
            lambda *_: b"",
            answer_with("written", number=7),
            answer_with("nonsense"),
            answer_with(3),
            lambda *_: b"MSG wshost.h.x 1 1\r\n\x00\r\n",
        ],
    )
    def test_without_an_answer_in_time_nothing_is_known(self, answer: Any) -> None:
        network = Network(Nats(answer=answer), Nats())
        client = conversation(network)
        assert self.confirm(network, client) is Outcome.TIMEOUT
        assert network.now == 105.0
        publish(network, client)
