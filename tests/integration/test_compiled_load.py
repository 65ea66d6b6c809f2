"""The load in C counts what came back, and only if it is right."""

from __future__ import annotations

import asyncio
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
import trustme
from wsproto.connection import Connection, ConnectionType
from wsproto.events import CloseConnection, Event, Ping, Pong, TextMessage

from benchmarks import compiled_load
from benchmarks.building import built
from benchmarks.compiled_load import CompiledLoad, program
from benchmarks.frames import BINARY, CLOSE, PING, WrongAnswerError, client_frame, server_frame
from benchmarks.samples import Sample
from tests.programs import need_compiler

MESSAGES = [f"message {number}".encode() for number in range(8)]
ACCEPT = b"HTTP/1.1 101 Switching Protocols\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"

#: What a server answers to a message, and how long it waits before.
Answer = Callable[[bytes], bytes]


@pytest.fixture(autouse=True, scope="module")
def _compiler() -> None:
    need_compiler()


class Server:
    """Answers each message in one way, in a thread of its own."""

    def __init__(
        self,
        answer: Answer = server_frame,
        *,
        refuse: bytes | None = None,
        close: int = 1000,
        drips: bool = False,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._answer = answer
        #: The answer to each handshake, after which the connection is closed.
        self._refuse = refuse
        #: The code that answers a close.
        self._close = close
        #: Each byte leaves alone.
        self._drips = drips
        self._tls = tls
        #: Each message leaves on all connections.
        self.broadcasts = False
        #: Seconds in which the first message of all waits for its answer, and with it all others.
        self.slow = 0.0
        self.events: list[Event] = []
        self.connections = 0
        self._writers: set[asyncio.StreamWriter] = set()
        self._opened: list[asyncio.StreamWriter] = []
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)

    def __enter__(self) -> Server:
        self._thread.start()
        listening = asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=self._tls, backlog=1024)
        self._listener = asyncio.run_coroutine_threadsafe(listening, self._loop).result(10)
        self.port = int(self._listener.sockets[0].getsockname()[1])
        return self

    def __exit__(self, *_: object) -> None:
        asyncio.run_coroutine_threadsafe(self._end(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _end(self) -> None:
        self._listener.close()
        tasks = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for writer in self._opened:
            writer.transport.abort()
        closed = [writer.wait_closed() for writer in self._opened]
        await asyncio.wait_for(asyncio.gather(*tasks, *closed, return_exceptions=True), 5)

    def leave(self) -> None:
        """Close all connections without a word."""
        self._do(lambda writer: writer.transport.abort())

    def say(self, data: bytes) -> None:
        """Write to all connections."""
        self._do(lambda writer: writer.write(data))

    def _do(self, what: Callable[[asyncio.StreamWriter], None]) -> None:
        async def do() -> None:
            for writer in self._writers:
                what(writer)

        asyncio.run_coroutine_threadsafe(do(), self._loop).result(10)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        self._opened.append(writer)
        self.connections += 1
        try:
            await self._converse(reader, writer)
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            self._writers.discard(writer)
            writer.close()

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        if self._refuse is not None:
            writer.write(self._refuse)
            return
        assert "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==" in head
        await self._write(writer, ACCEPT + b"\r\n")
        connection = Connection(ConnectionType.SERVER)
        text = ""
        while data := await reader.read(1 << 16):
            connection.receive_data(data)
            for event in connection.events():
                self.events.append(event)
                if isinstance(event, TextMessage):
                    text += event.data
                    if not event.message_finished:
                        continue
                    time.sleep(self.slow)
                    self.slow = 0.0
                    for one in self._writers if self.broadcasts else {writer}:
                        await self._write(one, self._answer(text.encode()))
                    text = ""
                elif isinstance(event, CloseConnection):
                    writer.write(connection.send(CloseConnection(self._close)))

    async def _write(self, writer: asyncio.StreamWriter, data: bytes) -> None:
        step = 1 if self._drips else len(data) + 1
        for at in range(0, len(data), step):
            writer.write(data[at : at + step])
            await asyncio.sleep(0)

    def messages(self) -> int:
        """How many have come."""
        return sum(isinstance(event, TextMessage) and event.message_finished for event in self.events)


def cpu() -> Callable[[], float]:
    """A server's clock that goes on by a second whenever it is looked at."""
    seconds = iter(range(100))
    return lambda: float(next(seconds))


@contextmanager
def loading(
    mode: str,
    server: Server,
    connections: int,
    *,
    messages: Sequence[bytes] = MESSAGES,
    replies: Sequence[bytes] | None = None,
    **options: int,
) -> Iterator[Callable[[], Sample]]:
    """What takes a turn whenever it is called."""
    load = CompiledLoad(mode, server.port, connections, messages, replies, options=options)
    with closing(load):
        yield lambda: load.turn(0.05, cpu())


def turn(mode: str, server: Server, connections: int, **options: int) -> Sample:
    load = CompiledLoad(mode, server.port, connections, MESSAGES, options=options)
    with closing(load):
        return load.turn(0.05, cpu())


def count_of(sample: Sample) -> int:
    assert sample.per_second
    assert sample.seconds
    return round(sample.per_second * sample.seconds)


def long_lengths(payload: bytes) -> bytes:
    return b"\x81\x7f" + len(payload).to_bytes(8, "big") + payload


def fragments(payload: bytes) -> bytes:
    return server_frame(payload[:3], fin=False) + server_frame(b"?", PING) + server_frame(payload[3:], 0)


def empty_fragments(payload: bytes) -> bytes:
    return server_frame(b"", fin=False) + server_frame(payload, 0, fin=False) + server_frame(b"", 0)


class TestRightAnswers:
    @pytest.mark.parametrize("answer", [server_frame, long_lengths, fragments, empty_fragments])
    @pytest.mark.parametrize("in_flight", [1, 4])
    def test_each_message_is_counted_once(self, answer: Answer, in_flight: int) -> None:
        with Server(answer) as server:
            with loading("echo", server, 3, in_flight=in_flight) as take:
                samples = [take(), take()]
            assert sum(map(count_of, samples)) == server.messages()
        for sample in samples:
            assert sample.cpu_us == pytest.approx(1e6 / count_of(sample))
            assert sample.p50_us
            assert sample.p99_us
            assert sample.p999_us
            assert sample.max_us
            assert 0 < sample.p50_us <= sample.p99_us <= sample.p999_us <= sample.max_us

    def test_all_messages_are_sent_in_turn(self) -> None:
        with Server() as server:
            turn("echo", server, 1)
            said = [event.data.encode() for event in server.events if isinstance(event, TextMessage)]
        first = MESSAGES.index(said[0])
        assert said[:16] == ((MESSAGES * 3)[first:])[:16]

    def test_an_answer_may_differ_from_the_message(self) -> None:
        replies = [message.upper() for message in MESSAGES]
        with (
            Server(lambda payload: server_frame(payload.upper())) as server,
            loading("echo", server, 2, replies=replies) as take,
        ):
            assert count_of(take()) == server.messages()

    def test_a_large_message_is_compared_wholly(self) -> None:
        large = [bytes([65 + number]) * 300_000 for number in range(2)]
        with Server() as server, loading("echo", server, 2, messages=large) as take:
            assert count_of(take()) == server.messages()

    @pytest.mark.parametrize("mode", ["echo", "connect"])
    def test_answers_may_come_byte_by_byte(self, mode: str) -> None:
        with Server(fragments, drips=True) as server:
            assert count_of(turn(mode, server, 2)) == server.messages()

    def test_a_ping_is_answered_between_turns_too(self) -> None:
        with Server() as server, loading("echo", server, 1) as take:
            take()
            server.say(server_frame(b"are you there?", PING))
            for _ in range(500):
                if any(isinstance(event, Pong) for event in server.events):
                    break
                time.sleep(0.01)
            take()
            (pong,) = [event for event in server.events if isinstance(event, Pong)]
        assert pong.payload == b"are you there?"
        assert not any(isinstance(event, Ping) for event in server.events)

    def test_a_broadcast_counts_deliveries(self) -> None:
        with Server() as server:
            server.broadcasts = True
            sample = turn("broadcast", server, 5, in_flight=2)
            assert count_of(sample) == 5 * server.messages()

    @pytest.mark.parametrize("at_once", [1, 7])
    def test_new_connections_echo_once_and_close_with_1000(self, at_once: int) -> None:
        with Server() as server:
            sample = turn("connect", server, at_once)
            closes = [event for event in server.events if isinstance(event, CloseConnection)]
            assert count_of(sample) == server.connections == server.messages() == len(closes)
        assert {event.code for event in closes} == {1000}

    def test_a_rate_is_kept(self) -> None:
        with Server() as server:
            assert count_of(turn("rate", server, 4, rate=2_000)) == 100 == server.messages()

    def test_at_a_fixed_rate_latency_begins_when_a_message_is_due(self) -> None:
        with Server() as server:
            server.slow = 0.04
            sample = turn("rate", server, 4, rate=2_000)
        assert sample.p50_us
        assert sample.max_us
        # All that was due meanwhile waited too, not only the one message.
        assert sample.p50_us > 10_000
        assert sample.max_us > 38_000

    def test_a_storm_ends_when_all_are_open(self) -> None:
        with Server() as server:
            with loading("storm", server, 300, rate=1_000, polite=2) as take:
                samples = [take(), take()]
            assert server.connections == 602
        assert [count_of(sample) for sample in samples] == [300, 300]
        assert server.messages() > 0


class TestWrongAnswers:
    @pytest.mark.parametrize(
        ("answer", "why"),
        [
            (lambda payload: server_frame(payload.replace(b"message", b"massage")), "is not the expected one"),
            (lambda payload: server_frame(payload + b"!"), "longer than the expected one"),
            (lambda payload: b"\x81\x7f" + b"\xff" * 8 + payload, "longer than the expected one"),
            (lambda payload: server_frame(payload[:-1]), "shorter than the expected one"),
            (lambda payload: server_frame(payload) * 2, "is not the expected one"),
            (lambda payload: server_frame(payload, BINARY), "opcode 2 is out of place"),
            (lambda payload: server_frame(payload, 0), "opcode 0 is out of place"),
            (lambda payload: server_frame(payload, compressed=True), "reserved bits: 0xc1"),
            (lambda payload: client_frame(payload, b"abcd"), "masked"),
            (lambda payload: server_frame(bytes(126), PING), "opcode 9 is out of place"),
            (lambda payload: server_frame(b"", PING, fin=False), "opcode 9 is out of place"),
            (lambda _: server_frame(b"\x03\xf0", CLOSE), "closed a connection, code 1008"),
            (lambda _: server_frame(b"", CLOSE), "closed a connection, code 1005"),
        ],
    )
    def test_a_wrong_answer_is_an_error(self, answer: Answer, why: str) -> None:
        with Server(answer) as server, pytest.raises(WrongAnswerError, match=why):
            turn("echo", server, 2)

    @pytest.mark.parametrize("mode", ["echo", "broadcast"])
    def test_a_message_without_a_request_is_an_error(self, mode: str) -> None:
        with Server() as server, loading(mode, server, 1, messages=[b"always the same"]) as take:
            take()
            server.say(server_frame(b"always the same"))
            with pytest.raises(WrongAnswerError, match="a message came that answers none"):
                take()

    def test_a_close_that_reports_an_error_is_an_error(self) -> None:
        with Server(close=1011) as server, pytest.raises(WrongAnswerError, match="closed a connection, code 1011"):
            turn("connect", server, 1)

    @pytest.mark.parametrize(
        ("first", "more"),
        [(b"", b""), (b"", server_frame(b"", PING)), (server_frame(b"", fin=False), server_frame(b"", 0, fin=False))],
        ids=["nothing", "pings", "empty frames"],
    )
    def test_a_server_that_never_answers_is_an_error(
        self, first: bytes, more: bytes, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        impatient = built("load.c", ["-DPATIENCE=1"], directory=tmp_path)
        monkeypatch.setattr(compiled_load, "program", lambda *, tls: impatient)
        ended = threading.Event()

        def go_on() -> None:
            while not ended.wait(0.2):
                server.say(more)

        with Server(lambda _: first) as server, loading("echo", server, 1) as take, ThreadPoolExecutor(1) as pool:
            saying = pool.submit(go_on)
            try:
                with pytest.raises(WrongAnswerError, match="the server says nothing for 1 s"):
                    take()
            finally:
                ended.set()
            saying.result(10)

    def test_a_turn_without_an_answer_is_an_error(self) -> None:
        with Server() as server, pytest.raises(WrongAnswerError, match="no answer came in the time of a turn"):
            turn("rate", server, 1, rate=1)

    def test_the_error_quotes_the_status_of_a_refused_handshake(self) -> None:
        refusal = b"HTTP/1.1 403 Forbidden \xff\r\n\r\n"
        with (
            Server(refuse=refusal) as server,
            pytest.raises(WrongAnswerError, match=r'answered "HTTP/1\.1 403 Forbidden \ufffd"'),
        ):
            turn("echo", server, 1)

    @pytest.mark.parametrize(
        "answer",
        [
            ACCEPT.replace(b"s3p", b"S3p") + b"\r\n",
            ACCEPT + b"Sec-WebSocket-Extensions: permessage-deflate\r\n\r\n",
            ACCEPT + b"\r\n" + server_frame(MESSAGES[0]),
            ACCEPT + b"\r\n\0",
            ACCEPT,
            ACCEPT + b"X: " + b"x" * 3_000,
        ],
        ids=["another accept", "an extension", "a message", "a NUL", "half a head", "a long head"],
    )
    def test_a_wrong_answer_to_the_handshake_is_an_error(self, answer: bytes) -> None:
        with (
            Server(refuse=answer) as server,
            pytest.raises(WrongAnswerError, match=r'answered "HTTP/1\.1 101 Switching'),
        ):
            turn("echo", server, 1)

    def test_a_server_that_closes_before_it_answers_the_handshake_is_an_error(self) -> None:
        with (
            Server(refuse=b"") as server,
            pytest.raises(WrongAnswerError, match="closed a connection before it answered"),
        ):
            turn("echo", server, 1)

    def test_a_server_that_closes_between_turns_is_an_error(self) -> None:
        with Server() as server, loading("echo", server, 2) as take:
            take()
            server.leave()
            with pytest.raises(WrongAnswerError, match="closed a connection"):
                take()

    def test_too_few_files_are_an_error(self, tmp_path: Path) -> None:
        (tmp_path / "messages").write_bytes(b"x\n")
        with Server() as server:
            options = [f"--port={server.port}", "--connections=50", f"--messages={tmp_path / 'messages'}"]
            command = ["sh", "-c", 'ulimit -n 20; exec "$@"', "sh", str(program(tls=False)), "echo", *options]
            ended = subprocess.run(command, input="", capture_output=True, text=True, check=False, timeout=10)
        assert (ended.returncode, ended.stderr) == (1, "load: socket: Too many open files\n")

    def test_a_port_on_which_no_server_listens_is_an_error(self) -> None:
        with Server() as server:
            pass
        with pytest.raises(WrongAnswerError, match="takes no connection: Connection refused"):
            turn("echo", server, 1)


class TestTls:
    @pytest.fixture(autouse=True)
    def _headers(self) -> None:
        if why := compiled_load.missing(tls=True):
            pytest.fail(f"{why}; on Debian: apt install libssl-dev")

    @pytest.fixture(name="authority")
    def _authority(self) -> trustme.CA:
        return trustme.CA()

    @pytest.fixture(name="context")
    def _context(self, authority: trustme.CA) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert("127.0.0.1").configure_cert(context)
        return context

    @pytest.mark.parametrize("mode", ["echo", "connect"])
    def test_messages_are_counted_over_tls_too(
        self, mode: str, authority: trustme.CA, context: ssl.SSLContext, tmp_path: Path
    ) -> None:
        authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
        with (
            Server(tls=context) as server,
            closing(CompiledLoad(mode, server.port, 3, MESSAGES, authority=str(tmp_path / "ca.pem"))) as load,
        ):
            assert count_of(load.turn(0.05, cpu())) == server.messages() > 0

    def test_a_certificate_of_another_authority_is_an_error(self, context: ssl.SSLContext, tmp_path: Path) -> None:
        trustme.CA().cert_pem.write_to_path(str(tmp_path / "ca.pem"))
        with Server(tls=context) as server, pytest.raises(WrongAnswerError, match="TLS handshake fails"):
            CompiledLoad("echo", server.port, 1, MESSAGES, authority=str(tmp_path / "ca.pem"))


class TestBadInput:
    @pytest.mark.parametrize(
        ("arguments", "why"),
        [
            ([], "the first argument is echo, broadcast, connect, rate or storm"),
            (["dance"], "there is no mode dance"),
            (["echo", "--colour=red"], "there is no option --colour"),
            (["echo", "--port"], "--port: options are given as --name=value"),
            (["echo", "--port=x"], "--port x is no number above 0"),
            (["echo", "--port=inf"], "--port inf is no number above 0, or it is too large"),
            (["echo", "--port=1"], "--port, --connections and --messages are needed"),
            (["rate", "--port=1", "--connections=1", "--messages=x"], "rate needs --rate and one message in flight"),
            (["storm", "--port=1", "--connections=1", "--messages=x", "--rate=1"], "storm needs --polite"),
            (["echo", "--port=1", "--connections=1", "--messages=/no/such"], "/no/such: No such file or directory"),
            (["echo", "--port=1", "--connections=1", "--messages=/dev/null"], "/dev/null: there is no message"),
            (["echo", "--port=1", "--connections=1", "--messages=x", "--tls=x"], "compiled without OpenSSL"),
        ],
    )
    def test_bad_options_are_reported_in_one_line_with_status_1(self, arguments: list[str], why: str) -> None:
        command = [str(program(tls=False)), *arguments]
        ended = subprocess.run(command, capture_output=True, text=True, check=False, timeout=10)
        assert ended.returncode == 1
        assert len(ended.stderr.splitlines()) == 1
        assert ended.stderr.startswith("load: ")
        assert why in ended.stderr

    def test_more_answers_than_messages_are_an_error(self) -> None:
        with pytest.raises(WrongAnswerError, match=r"has 8 lines, .* 9"):
            CompiledLoad("echo", 1, 1, MESSAGES, [*MESSAGES, b"one more"])

    def test_a_line_that_asks_for_no_turn_is_an_error(self, tmp_path: Path) -> None:
        (tmp_path / "messages").write_bytes(b"x\n")
        command = [
            str(program(tls=False)),
            "connect",
            "--port=1",
            "--connections=1",
            f"--messages={tmp_path / 'messages'}",
        ]
        ended = subprocess.run(command, input="dance\n", capture_output=True, text=True, check=False, timeout=10)
        assert (ended.returncode, ended.stderr) == (1, "load: there is no command dance\n")

    def test_the_load_ends_with_its_input(self, tmp_path: Path) -> None:
        (tmp_path / "messages").write_bytes(b"x\n")
        command = [
            str(program(tls=False)),
            "connect",
            "--port=1",
            "--connections=1",
            f"--messages={tmp_path / 'messages'}",
        ]
        ended = subprocess.run(command, input="", capture_output=True, text=True, check=False, timeout=10)
        assert (ended.returncode, ended.stderr) == (0, "")


def test_the_load_compiles_without_a_warning(tmp_path: Path) -> None:
    strict = ["-Wall", "-Wextra", "-Werror"]
    assert built("load.c", strict, directory=tmp_path).exists()
    assert built("load.c", [*strict, "-DTLS", "-lssl", "-lcrypto"], "with-tls", directory=tmp_path).exists()
