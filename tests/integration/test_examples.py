"""Each example of the documentation, run as it says there: a real server, and real clients."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosedError, InvalidStatus
from websockets.sync.client import ClientConnection, connect
from websockets.typing import Subprotocol

from tests import programs
from tests.integration.server import Server, running_server
from tests.memory import MemoryHost, link, request
from wshost.handlers import echo
from wshost.handlers.adapter import HandlerAdapter
from wshost.protocols import factory
from wshost.protocols.http import module as http
from wshost.protocols.websocket import module as websocket

DOCS = Path(__file__).parent.parent.parent / "docs"
EXAMPLES = DOCS / "examples"

#: For a message that is on its way, in seconds.
SOON = 10


@contextmanager
def example(*options: str, handler: str, reactor: str | None = None) -> Iterator[Server]:
    """Run a server in the directory of the examples, as a reader who has saved them in one."""
    with running_server(f"--handler={handler}", *options, reactor=reactor, cwd=EXAMPLES) as server:
        yield server


@contextmanager
def chain(*modules: str, handler: str | None = None) -> Iterator[Server]:
    """Run a server in the directory above, where `examples` is a package."""
    options = [f"--protocol-module={module}" for module in modules]
    if handler is not None:
        options.append(f"--handler={handler}")
    with running_server(*options, cwd=DOCS) as server:
        yield server


def dial(server: Server) -> socket.socket:
    """Return a plain socket, connected to the server."""
    return socket.create_connection(("127.0.0.1", server.port), SOON)


def says(client: ClientConnection) -> str | bytes:
    return client.recv(timeout=SOON)


class TestCounter:
    def test_the_counter_counts_per_connection(self) -> None:
        with example(handler="counter") as server, connect(server.url) as one, connect(server.url) as other:
            one.send("hello")
            assert says(one) == "1: hello"
            one.send("again")
            assert says(one) == "2: again"
            other.send("hello")
            assert says(other) == "1: hello"


class TestSums:
    def test_a_crash_begins_the_sum_again_and_the_connection_stays(self) -> None:
        with example(handler="sums") as server, connect(server.url) as client:
            for number, total in [("2", "2"), ("3", "5"), ("many", None), ("4", "4")]:
                client.send(number)
                if total is not None:
                    assert says(client) == total
            assert "ValueError: invalid literal for int() with base 10: 'many'" in server.log

    def test_the_fourth_crash_in_a_row_closes_with_1011(self) -> None:
        with example(handler="sums") as server, connect(server.url) as client:
            for _ in range(4):
                client.send("many")
            with pytest.raises(ConnectionClosedError) as closed:
                says(client)
            assert closed.value.rcvd is not None
            assert closed.value.rcvd.code == 1011


class TestCart:
    def test_the_cart_answers_each_item_with_the_sum(self) -> None:
        with example(handler="cart") as server, connect(server.url) as client:
            client.send('{"item": "tea", "price": 3}')
            assert says(client) == '{"items":1,"total":3}'
            client.send('{"item": "milk", "price": 1.5}')
            assert says(client) == '{"items":2,"total":4.5}'

    @pytest.mark.parametrize("text", ["", "tea", "[]", "7", '{"item": "tea"}', '{"item": [], "price": 3}', "NaN"])
    def test_the_cart_refuses_what_is_no_item(self, text: str) -> None:
        with example(handler="cart") as server, connect(server.url) as client:
            client.send(text)
            with pytest.raises(ConnectionClosedError) as closed:
                says(client)
            assert closed.value.rcvd is not None
            assert (closed.value.rcvd.code, closed.value.rcvd.reason) == (1007, "an item and its price, as JSON")


class TestExport:
    @pytest.mark.parametrize("reactor", [None, "epoll"])
    def test_the_export_sends_all_of_a_long_list(self, reactor: str | None) -> None:
        with example(handler="export", reactor=reactor) as server:
            with connect(server.url, max_size=None) as client:
                client.send("2000")
                for number in range(2_000):
                    assert says(client) == f"{number:>9,}" * 1_000
                assert says(client) == "done"
            assert "Traceback" not in server.log


class TestTicker:
    def test_the_ticker_tells_each_client_the_prices_of_all_symbols(self) -> None:
        with example(handler="ticker") as server:
            with connect(server.url) as one, connect(server.url) as other:
                for client in (one, other):
                    symbols = {str(says(client)).split()[0] for _ in range(40)}
                    assert symbols == {f"SYM{number}" for number in range(20)}
            assert "Traceback" not in server.log


class TestChat:
    def test_the_chat_tells_all_what_one_says(self) -> None:
        with example(handler="chat") as server, connect(f"{server.url}/?name=Ada") as ada:
            with connect(f"{server.url}/?name=Charles") as charles:
                assert says(ada) == "Charles comes in"
                charles.send("Good evening")
                assert says(ada) == says(charles) == "Charles: Good evening"
            assert says(ada) == "Charles leaves"

    def test_the_chat_tells_twenty_clients_in_one_order_what_several_say_at_once(self) -> None:
        with example(handler="chat") as server, ExitStack() as stack:
            clients = [
                stack.enter_context(connect(f"{server.url}/?name={number}", max_queue=None)) for number in range(20)
            ]
            for number in range(20):
                for client in clients[: number + 1]:
                    client.send(f"{number}")
            heard: list[list[str | bytes]] = [[] for _ in clients]
            for number, client in enumerate(clients):
                # The arrival of those who came after it, and what all have said.
                heard[number] = [says(client) for _ in range(19 - number + sum(range(1, 21)))]
            for one in heard:
                assert one[-210:] == heard[0][-210:]
            for number in range(20):
                said = [text for text in heard[0] if str(text).startswith(f"{number}: ")]
                assert said == [f"{number}: {text}" for text in range(number, 20)]

    def test_who_connects_to_all_rooms_hears_each_room(self) -> None:
        with (
            example(handler="rooms") as server,
            connect(f"{server.url}/rooms") as all_rooms,
            connect(f"{server.url}/rooms/7") as seven,
            connect(f"{server.url}/rooms/8") as eight,
        ):
            all_rooms.send("not in a room")
            for client, text in ((seven, "Hello"), (eight, "Hi")):
                client.send(text)
                expected = f"{7 if client is seven else 8}: {text}"
                assert [one.recv(SOON) for one in (client, all_rooms)] == [expected] * 2

    @pytest.mark.parametrize("path", ["/", "/rooms/*", "/rooms/7.8", "/rooms/7/8"])
    def test_the_rooms_refuse_a_client_that_names_no_room(self, path: str) -> None:
        with example(handler="rooms") as server, pytest.raises(InvalidStatus) as refused:
            connect(f"{server.url}{path}")
        assert refused.value.response.status_code == 404

    def test_the_chat_refuses_a_client_without_a_name(self) -> None:
        with example(handler="chat") as server, pytest.raises(InvalidStatus) as refused:
            connect(server.url)
        response = refused.value.response
        assert (response.status_code, response.body) == (400, b"Who are you? Connect to /?name=Ada\n")


class TestDoor:
    @pytest.fixture(scope="class")
    @classmethod
    def server(cls) -> Iterator[Server]:
        with example("--handler-option=token=sesame", handler="door") as server:
            yield server

    @pytest.mark.parametrize("cookie", ["", "token=", "token=other"])
    def test_the_door_refuses_a_client_without_the_token(self, server: Server, cookie: str) -> None:
        with pytest.raises(InvalidStatus) as refused:
            connect(server.url, additional_headers={"Cookie": cookie})
        response = refused.value.response
        assert (response.status_code, response.body) == (401, b"Log in first.\n")
        assert response.headers["WWW-Authenticate"] == 'Cookie realm="chat"'

    def test_the_door_opens_for_the_token(self, server: Server) -> None:
        with connect(server.url, additional_headers={"Cookie": "token=sesame"}) as client:
            client.send("Ada")
            assert says(client) == "Hello, Ada"
            assert client.subprotocol is None

    def test_the_door_greets_by_the_subprotocol(self, server: Server) -> None:
        offered = [Subprotocol("greeting.v1"), Subprotocol("greeting.v2")]
        cookie = {"Cookie": "token=sesame"}
        with connect(f"{server.url}/hall", subprotocols=offered, additional_headers=cookie) as client:
            client.send("Ada")
            assert says(client) == "Welcome, Ada"
            assert client.subprotocol == "greeting.v2"
            assert client.response is not None
            assert client.response.headers["X-Room"] == "/hall"


class TestAlarm:
    def test_the_alarm_rings_after_the_seconds_asked_for(self) -> None:
        with example(handler="alarm") as server, connect(server.url) as client:
            client.send("0.2")
            client.send("0.1")
            assert [says(client), says(client)] == ["0.1 s are over", "0.2 s are over"]

    def test_the_alarm_ends_only_the_connection_that_sends_no_number(self) -> None:
        with example(handler="alarm") as server, connect(server.url) as client, connect(server.url) as other:
            client.send("soon")
            with pytest.raises(ConnectionClosedError) as closed:
                says(client)
            assert closed.value.rcvd is not None
            assert (closed.value.rcvd.code, closed.value.rcvd.reason) == (1011, "")
            server.wait_for("could not convert string to float: 'soon'")
            other.send("0.1")
            assert says(other) == "0.1 s are over"


class TestLobby:
    def test_the_lobby_knows_who_is_here_by_name(self) -> None:
        with example(handler="lobby") as server, connect(f"{server.url}/ann") as ann:
            assert says(ann) == '["ann"]'
            with connect(f"{server.url}/bob") as bob:
                assert says(ann) == says(bob) == '["ann", "bob"]'
                bob.send("@ann hello")
                assert says(ann) == "bob: hello"
                with pytest.raises(InvalidStatus) as refused:
                    connect(f"{server.url}/ann")
                assert refused.value.response.status_code == 409
            assert says(ann) == '["ann"]'
            ann.send("@bob are you there?")
            assert says(ann) == "bob is not here"


class TestDigest:
    @pytest.mark.parametrize("reactor", [None, "epoll"])
    def test_the_digest_answers_in_order(self, reactor: str | None) -> None:
        passwords = ["one", "two", "three"]
        digests = [hashlib.scrypt(one.encode(), salt=b"docs", n=2**14, r=8, p=1).hex() for one in passwords]
        with example(handler="digest", reactor=reactor) as server, connect(server.url) as client:
            for password in passwords:
                client.send(password)
            assert [says(client) for _ in passwords] == digests


class TestLineEcho:
    def test_the_line_echo_needs_no_http(self) -> None:
        with chain("examples.line_echo") as server, dial(server) as client, client.makefile("rb") as lines:
            assert server.url.startswith("tcp://")
            assert lines.readline() == b"Say something.\n"
            client.sendall(b"one\ntwo\nquit\nnever read\n")
            assert lines.read() == b"one\ntwo\nGood-bye.\n"

    def test_the_line_echo_limits_the_length_of_a_line(self) -> None:
        with chain("examples.line_echo") as server, dial(server) as client:
            assert client.recv(100) == b"Say something.\n"
            client.sendall(bytes(1_025))
            with pytest.raises(ConnectionResetError):
                client.recv(100)

    def test_the_line_echo_says_goodbye_when_the_server_stops(self) -> None:
        with chain("examples.line_echo") as server, dial(server) as client, client.makefile("rb") as lines:
            assert lines.readline() == b"Say something.\n"
            os.kill(server.pid, signal.SIGTERM)
            assert lines.read() == b"The server stops.\n"

    def test_the_line_echos_own_test_passes(self) -> None:
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "examples/test_line_echo.py"]
        done = subprocess.run(command, cwd=DOCS, check=False, capture_output=True, text=True)
        assert "1 passed" in done.stdout, done.stdout + done.stderr


class TestKnock:
    MODULES = ("examples.knock,word=sesame", "http", "websocket")

    @pytest.fixture(scope="class")
    @classmethod
    def server(cls) -> Iterator[Server]:
        with chain(*cls.MODULES, handler="examples.counter") as server:
            yield server

    def test_the_knock_lets_through_a_client_that_knows_the_word(self, server: Server) -> None:
        knocking = dial(server)
        knocking.sendall(b"sesame\n")
        with connect(server.url, sock=knocking) as client:
            client.send("hello")
            assert says(client) == "1: hello"

    def test_the_knock_loses_nothing_that_comes_with_the_word(self, server: Server) -> None:
        with dial(server) as client:
            client.sendall(b"sesame\n" + request())
            assert client.recv(12) == b"HTTP/1.1 101"

    def test_the_knock_hangs_up_on_a_client_that_does_not_know_the_word(self, server: Server) -> None:
        with dial(server) as client:
            client.sendall(request())
            with pytest.raises(ConnectionResetError):
                client.recv(100)

    @pytest.mark.parametrize("options", ["", ",word=1", ",word=a,wrod=b"])
    def test_the_knock_checks_its_options_when_the_server_starts(self, options: str) -> None:
        modules = (f"examples.knock{options}", "http", "websocket")
        complaint = "wshost: knock: give it a word and nothing else, as in knock,word=sesame\n"
        with pytest.raises(AssertionError, match=complaint), chain(*modules, handler="examples.counter"):
            """It does not start."""

    def test_the_knock_is_found_by_its_short_name(self, tmp_path: Path) -> None:
        """As an installed distribution would have it."""
        plugins = tmp_path / "twisted" / "plugins"
        plugins.mkdir(parents=True)
        shutil.copy(EXAMPLES / "wshost_knock.py", plugins)
        shutil.copy(EXAMPLES / "knock.py", tmp_path)
        options = [f"--protocol-module={module}" for module in ("knock,word=sesame", "http", "websocket")]
        options.append(f"--handler={EXAMPLES / 'counter.py'}")
        with running_server(*options, env={"PYTHONPATH": str(tmp_path)}) as server, dial(server) as client:
            client.sendall(b"sesame\n" + request())
            assert client.recv(12) == b"HTTP/1.1 101"


class TestWebsite:
    @pytest.fixture(
        scope="class",
        params=[
            ("http,otherwise=factory", "websocket", "factory,factory=examples.website.factory"),
            ("http,otherwise=examples.website.factory", "websocket", "examples.website.factory"),
        ],
        ids=["the module factory", "by dotted path"],
    )
    @classmethod
    def server(cls, request: pytest.FixtureRequest) -> Iterator[Server]:
        with chain(*request.param, handler="examples.chat") as server:
            yield server

    def test_the_website_answers_plain_http_requests(self, server: Server) -> None:
        client = HTTPConnection("127.0.0.1", server.port)
        for _ in range(2):
            client.request("GET", "/chat.html")
            response = client.getresponse()
            assert response.status == 200
            assert response.read() == (EXAMPLES / "website" / "chat.html").read_bytes()
        client.close()

    @pytest.mark.parametrize(
        "path",
        [
            "/website.py",
            "/website/chat.html",
            "/../website.py",
            "/%2e%2e/website.py",
            "/..%2fwebsite.py",
            "/..%5cwebsite.py",
            "//etc/passwd",
            "/%2fetc%2fpasswd",
            "/twistd.log",
            "/chat.html/",
            "/chat.html%00",
            "/%00",
            "/%ff",
            "/%ed%a0%80",
            "/" + "a" * 5_000,
            "/",
            "/.",
        ],
    )
    def test_the_website_serves_nothing_outside_its_folder(self, server: Server, path: str) -> None:
        before = server.log
        client = HTTPConnection("127.0.0.1", server.port)
        client.request("GET", path)
        response = client.getresponse()
        assert response.status == 404
        assert b"import" not in response.read()
        client.close()
        assert server.log == before

    @pytest.mark.parametrize(
        "headers",
        [
            {"If-Modified-Since": ";x"},
            {"Range": "bytes=1-0"},
            {"Range": "\xff"},
            {"Range": "bytes=0-1," + "3-4," * 500 + "9-"},
            {"Cookie": "\xff=\xfe"},
        ],
        ids=str,
    )
    def test_no_header_makes_the_website_log_a_traceback(self, server: Server, headers: dict[str, str]) -> None:
        before = server.log
        for method, path, status in (("GET", "/chat.html", 200), ("HEAD", "/chat.html", 200), ("HEAD", "/no", 404)):
            client = HTTPConnection("127.0.0.1", server.port)
            client.request(method, path, headers=headers)
            assert client.getresponse().status == status
            client.close()
        assert server.log == before

    @pytest.mark.parametrize("first", [b"", b"GET /chat.html HTTP/1.1\r\nHost: a\r\n\r\n"])
    @pytest.mark.parametrize("body", [b"Content-Length: 5\r\n\r\n", b"Transfer-Encoding: chunked\r\n\r\n"])
    def test_the_website_refuses_a_request_body(self, server: Server, first: bytes, body: bytes) -> None:
        before = server.log
        with dial(server) as client, client.makefile("rb") as answers:
            client.sendall(first + b"POST /chat.html HTTP/1.1\r\nHost: a\r\n" + body)
            assert b"HTTP/1.1 413 " in answers.read()
        assert server.log == before

    def test_the_website_follows_no_symlink(self, tmp_path: Path) -> None:
        site = tmp_path / "website"
        (site / "below").mkdir(parents=True)
        (site / ".git").mkdir()
        (tmp_path / "secret").write_text("secret")
        for path in (site / "index.html", site / "below" / "page.html", site / ".hidden", site / ".git" / "config"):
            path.write_text("page")
        for path in (site / "out", site / "below" / "out"):
            path.symlink_to(tmp_path / "secret")
        (site / "up").symlink_to(tmp_path)
        (site / "loop").symlink_to("loop")
        os.mkfifo(site / "pipe")
        for name in ("website.py", "website.toml", "chat.py"):
            shutil.copy(EXAMPLES / name, tmp_path)
        with running_server("--config=website.toml", "--port=0", cwd=tmp_path) as server:
            found = {}
            asked = (
                "",
                "index.html",
                "below/page.html",
                "below",
                "below/",
                "out",
                "below/out",
                "up/secret",
                "loop",
                "pipe",
            )
            for name in (*asked, ".hidden", ".git/config"):
                client = HTTPConnection("127.0.0.1", server.port)
                client.request("GET", f"/{name}")
                found[name] = client.getresponse().status
                client.close()
        assert {name for name, status in found.items() if status == 200} == {"", "index.html", "below/page.html"}
        assert set(found.values()) == {200, 404}

    @pytest.mark.parametrize(
        ("first", "more"),
        [
            (b"GET /chat.html HTTP/1.1\r\nHost: a\r\n\r\n", b""),
            (b"GET /chat.html HTTP/1.1\r\nHost: a\r\n\r\nGET /", b"x"),
            (b"GET /chat.html HTTP/1.1\r\nHost: a\r\n\r\nGET / HTTP/1.1\r\nX:", b"x"),
        ],
        ids=["silent", "the line dribbles", "the head dribbles"],
    )
    def test_the_website_drops_idle_clients(self, first: bytes, more: bytes) -> None:
        spec = importlib.util.spec_from_file_location("website", EXAMPLES / "website.py")
        assert spec is not None
        assert spec.loader is not None
        website = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(website)
        options = {"handler": HandlerAdapter(echo, {})}
        host = MemoryHost(
            chain=[
                link("http", http, {"otherwise": "site"}),
                link("websocket", websocket, options),
                link("site", factory, {"factory": website.factory}),
            ]
        )
        website.factory.reactor = host.reactor
        peer = host.connect()
        peer.send(first)
        assert peer.take().startswith(b"HTTP/1.1 200 OK\r\n")
        for _ in range(19):
            peer.turn(1)
            assert not peer.transport.half_closed
            if more:
                peer.send(more)
        peer.turn(1.1)
        assert peer.transport.half_closed or peer.gone
        peer.leave()
        website.factory.doStop()

    def test_the_website_leaves_websocket_upgrades_to_wshost(self, server: Server) -> None:
        with connect(f"{server.url}/?name=Ada") as client:
            client.send("hello")
            assert says(client) == "Ada: hello"

    def test_the_website_runs_from_its_toml_file(self) -> None:
        with running_server("--config=website.toml", "--port=0", cwd=EXAMPLES) as server:
            client = HTTPConnection("127.0.0.1", server.port)
            client.request("GET", "/chat.html")
            assert client.getresponse().read() == (EXAMPLES / "website" / "chat.html").read_bytes()
            client.close()
            with connect(f"{server.url}/?name=Ada") as websocket:
                websocket.send("hello")
                assert says(websocket) == "Ada: hello"


class TestEmbedded:
    def test_the_embedded_server_runs_with_the_options_of_wsserver(self, tmp_path: Path) -> None:
        application = (EXAMPLES / "embedded.tac").read_text()
        assert '"port": 8080' in application
        (tmp_path / "embedded.tac").write_text(application.replace('"port": 8080', '"port": 0'))
        shutil.copy(EXAMPLES / "counter.py", tmp_path)
        with running_server(application="embedded.tac", cwd=tmp_path) as server, connect(server.url) as client:
            client.send("hello")
            assert says(client) == "1: hello"


class Page:
    """A page in Chromium, by its DevTools protocol."""

    def __init__(self, tools: ClientConnection) -> None:
        self._tools = tools
        self._count = 0

    def evaluate(self, expression: str) -> Any:
        """Return the value of an expression in the page."""
        self._count += 1
        asked = {"id": self._count, "method": "Runtime.evaluate", "params": {"expression": expression}}
        self._tools.send(json.dumps(asked))
        while (answer := json.loads(says(self._tools))).get("id") != self._count:
            pass
        return answer["result"]["result"].get("value")

    def wait_for(self, text: str) -> None:
        """Wait until the page has this text."""
        deadline = time.monotonic() + SOON
        while text not in (shown := self.evaluate("document.body?.innerText ?? ''")):
            assert time.monotonic() < deadline, f"no {text!r} in {shown!r}"
            time.sleep(0.05)


@contextmanager
def browser(profile: Path, port: int, url: str) -> Iterator[Page]:
    """Open a page in headless Chromium.

    :param port: of the server that stands for localhost:8080, which the tutorial's page names.
    """
    chromium = programs.find("chromium", "chromium-browser", "google-chrome", package="chromium")
    own = ["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", f"--user-data-dir={profile}"]
    rules = f"--host-resolver-rules=MAP localhost:8080 127.0.0.1:{port}"
    process = subprocess.Popen(
        [chromium, *own, "--remote-debugging-port=0", rules, url],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        with connect(find_page(profile / "DevToolsActivePort"), max_size=None) as tools:
            yield Page(tools)
    finally:
        process.terminate()
        process.wait()


def find_page(file: Path) -> str:
    """Return where the only page is to be had, as soon as the browser has written its port to a file."""
    deadline = time.monotonic() + 3 * SOON
    while time.monotonic() < deadline:
        time.sleep(0.05)
        if file.exists() and (lines := file.read_text().splitlines()):
            client = HTTPConnection("127.0.0.1", int(lines[0]))
            client.request("GET", "/json/list")
            pages = [one for one in json.load(client.getresponse()) if one["type"] == "page"]
            client.close()
            if pages:
                return str(pages[0]["webSocketDebuggerUrl"])
    raise TimeoutError("Chromium shows no page")


@pytest.mark.uninstrumented
class TestChatPage:
    def test_the_chat_page_talks_to_the_chat_room(self, tmp_path: Path) -> None:
        modules = ("http,otherwise=examples.website.factory", "websocket", "examples.website.factory")
        url = "http://localhost:8080/chat.html?name=Ada"
        with chain(*modules, handler="examples.chat") as server, browser(tmp_path, server.port, url) as page:
            page.wait_for("You are in.")
            with connect(f"{server.url}/?name=Charles") as charles:
                page.wait_for("Charles comes in")
                page.evaluate("document.querySelector('#text').value = 'Good evening'")
                page.evaluate("document.querySelector('button').click()")
                assert says(charles) == "Ada: Good evening"
                charles.send("Good night")
                page.wait_for("Charles: Good night")
            page.wait_for("Charles leaves")

    @pytest.mark.parametrize(("allowed", "text"), [(True, "You are in."), (False, "The connection is closed: 1006")])
    def test_the_chat_page_of_another_website_needs_its_origin_allowed(
        self, tmp_path: Path, allowed: bool, text: str
    ) -> None:
        """As in the tutorial: the page from one server, the chat room on another."""
        with chain("examples.website.factory") as website:
            origin = f"http://localhost:{website.port}"
            options = [f"--origin={origin}"] if allowed else []
            url = f"{origin}/chat.html?name=Ada"
            with example(*options, handler="chat") as server, browser(tmp_path, server.port, url) as page:
                page.wait_for(text)
