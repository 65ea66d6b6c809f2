from __future__ import annotations

import io
from typing import Any

import pytest

from tests.client.brokers import Nats, Pairs, read
from tests.client.test_blocking import Memory
from wshost.client import blocking
from wshost.commands import foreground, publish
from wshost.commands.one_line import Exit

TO = "--backplane=nats://127.0.0.1"


@pytest.fixture
def broker(monkeypatch: pytest.MonkeyPatch) -> Nats:
    made = Nats()
    Memory.pairs = Pairs(made)
    monkeypatch.setattr(blocking, "Sockets", Memory)
    return made


def published(broker: Nats) -> list[Any]:
    return [(subject, *read(payload).messages) for subject, payload in broker.published]


def stdin(monkeypatch: pytest.MonkeyPatch, data: bytes) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(data)))


def test_a_text_is_published(broker: Nats) -> None:
    assert foreground.main(["publish", "room", "Grüße", TO, "--cluster=other"]) == 0
    assert published(broker) == [("other.t.room", "Grüße")]


def test_a_dash_reads_stdin_and_binary_sends_bytes(broker: Nats, monkeypatch: pytest.MonkeyPatch) -> None:
    stdin(monkeypatch, b"\xff\n")
    assert publish.main(["room", "-", "--binary", TO]) == 0
    assert published(broker) == [("wshost.t.room", b"\xff\n")]


def test_the_broker_may_be_named_by_the_environment(broker: Nats, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WSHOST_BACKPLANE", "nats://127.0.0.1")
    assert publish.main(["room", "hi"]) == 0
    assert published(broker) == [("wshost.t.room", "hi")]


@pytest.mark.parametrize("given", [[TO, "room", "hi"], ["room", TO, "hi"], ["room", "hi", TO]])
def test_options_may_stand_before_and_behind_topic_and_text(broker: Nats, given: list[str]) -> None:
    assert publish.main(given) == 0
    assert published(broker) == [("wshost.t.room", "hi")]


@pytest.mark.parametrize(
    ("given", "complaint"),
    [
        (["room", TO], "publish takes a topic and a text; the text - is read from stdin; see --help"),
        (["room", "hi"], "publish needs a broker: name it with --backplane"),
        (["rooms.*", "hi", TO], "'rooms.*'"),
        (["room", "hi", "--backplane=nats"], "is no URL"),
        (["room", "\udcff", TO], "the text is not UTF-8: send it with --binary"),
        (["room", "x" * 2_000, TO], "is too large: 1000 are the most"),
    ],
)
@pytest.mark.usefixtures("broker")
def test_what_is_wrong_is_one_line(given: list[str], complaint: str, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(Exit) as ended:
        publish.main(given)
    assert ended.value.code == 1
    (line,) = capfd.readouterr().err.splitlines()
    assert line.startswith("wshost: ")
    assert complaint in line


@pytest.mark.usefixtures("broker")
def test_too_much_on_stdin_is_refused(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(publish, "MOST", 3)
    stdin(monkeypatch, b"four")
    with pytest.raises(Exit):
        publish.main(["room", "-", TO])
    assert capfd.readouterr().err == "wshost: the message on stdin has more than 3 bytes\n"


def test_a_broker_that_takes_nothing_is_one_line(broker: Nats, capfd: pytest.CaptureFixture[str]) -> None:
    broker._answer = lambda *_: b"-ERR 'Permissions Violation'\r\n"
    with pytest.raises(Exit):
        publish.main(["room", "hi", TO])
    assert capfd.readouterr().err == "wshost: the broker 127.0.0.1:4222 refuses it: Permissions Violation\n"


def test_the_help_says_how_it_is_used() -> None:
    options = publish.Options()
    assert options.getSynopsis() == "Usage: wshost publish TOPIC TEXT [options]"
    assert "--binary" in options.getUsage()
