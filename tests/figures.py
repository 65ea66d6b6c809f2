"""What the numbers on the pages are tied to: each is found in its phrase, with the value that the code has.

To tie one, add its phrase to `TIES`, with {} for each number, and the values: taken from the code, never written here.
A page says nothing in numbers that is not tied, but for what `_REFERENCES` lists, the statuses of HTTP and the codes of
WebSocket. Pages of measured figures are tied where they name a constant, and not looked through for others.
"""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http import HTTPStatus
from importlib.util import module_from_spec, spec_from_file_location
from itertools import chain
from math import ceil
from pathlib import Path
from typing import Any

from twisted.web.http import HTTPFactory
from zope.interface import implementer

from tests import conformance, metrics, million
from wshost import messages, server
from wshost.admin import connections, site, totals
from wshost.backplanes import connection as broker
from wshost.backplanes import link, shard_speaker, shards
from wshost.client import blocking
from wshost.cluster import directory, facts, members
from wshost.commands.options import CONFIG
from wshost.connections import (
    admission,
    budget,
    context,
    drain,
    handover,
    home,
    hub,
    kernel,
    outbox,
    rate,
    shared,
    stream,
    timers,
    waiters,
)
from wshost.fastnet import port
from wshost.handlers import holding, restarting, session
from wshost.handlers.adapter import HandlerAdapter
from wshost.interfaces import ISessionFactory
from wshost.listening import listener, proxy_header
from wshost.logs import limit
from wshost.messages import MAX_PAYLOAD, MAX_REASON, NORMAL_CLOSE, sendable
from wshost.process import allocator, ending, watchdog
from wshost.protocols.http import driver as http
from wshost.protocols.http import head
from wshost.protocols.websocket import deflate, driver, handshake, keepalive, limited, options, reader
from wshost.results import Reject
from wshost.settings.options import MODULES, OPTIONS, Option, Settings
from wshost.workers import asks, deaths, overview

ROOT = Path(__file__).parent.parent


def count(number: float) -> str:
    """A number as pages have it."""
    return f"{number:,}" if isinstance(number, int) else f"{number:g}"


def size(number: int) -> str:
    """A number of bytes, in the largest unit that leaves it whole."""
    for unit, power in (("GiB", 30), ("MiB", 20), ("KiB", 10)):
        if number and number % (1 << power) == 0:
            return f"{count(number >> power)} {unit}"
    return f"{count(number)} bytes"


def parameter(function: Callable[..., Any], name: str) -> Any:
    """The default of a parameter."""
    return inspect.signature(function).parameters[name].default


def pure(name: str) -> Any:
    """A module in its form that is not compiled: the other keeps some of its constants to itself."""
    path = (ROOT / name.replace(".", "/")).with_suffix(".py")
    spec: Any = spec_from_file_location(f"pure {name}", path)
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


_masking, _tls = pure("wshost.protocols.websocket.masking"), pure("wshost.fastnet.tls_transport")
_tls_records = pure("wshost.fastnet.tls_records")


@implementer(ISessionFactory)
class _Sessions:
    """Stands for a handler."""

    def session(self, channel: Any, connection: Any) -> Any:
        """Nobody connects."""


_SESSIONS: Any = _Sessions()


_HTTP, _WEBSOCKET = (
    {name: option.default for name, option in MODULES[module].items()} for module in ("http", "websocket")
)

#: What holds where an option of the command is not given.
DEFAULTS: dict[str, Any] = {name: option.default for name, option in OPTIONS.items()}


def _suite() -> tuple[str, str]:
    """What the conformance suite asks for beyond the defaults."""
    settings = dict(argument.removeprefix("--").split("=", 1) for argument in conformance.SERVER if "=" in argument)
    largest = Settings.max_message_size.kind.add(None, settings["max-message-size"])
    _, module = Settings.protocol_module.kind.add(None, settings["protocol-module"])[0]
    return size(largest), count(module["max_fragments"])


def _time(option: str) -> str:
    return count(float(DEFAULTS[option]))


def _deflated() -> tuple[str, str]:
    """How large a frame of a compressed message may be: what is a multiple of the message's limit, and the rest."""
    largest = options.prepare({"handler": _SESSIONS}).engine.max_deflated_size
    rest = largest % DEFAULTS["max_message_size"]
    return size(largest - rest), size(rest)


def _longest_header() -> str:
    """How long a header of the PROXY protocol, version 2, can be."""
    announced = proxy_header._SIGNATURE + bytes((proxy_header._LOCAL, 0, 0xFF, 0xFF))
    header = proxy_header.parse(announced + bytes(0xFFFF))
    return count(header.size if header else 0)


def _website_timeout() -> str:
    """What the example of a website gives each request: read, as running it would install a reactor."""
    tree = ast.parse((ROOT / "docs/examples/website.py").read_text())
    (found,) = (node for node in ast.walk(tree) if isinstance(node, ast.keyword) and node.arg == "timeout")
    return count(ast.literal_eval(found.value))


def _runs(holds: Callable[[int], bool], numbers: range) -> Iterator[tuple[int, int]]:
    """The first and the last of each run of numbers of which something holds."""
    found = [number for number in numbers if holds(number)]
    starts = [number for number in found if number - 1 not in found]
    return zip(starts, [number for number in found if number + 1 not in found], strict=True)


def _rejects(status: int) -> bool:
    """Whether a handler may reject with that."""
    try:
        Reject(status)
    except ValueError:
        return False
    return True


_MAX_OUTPUT = size(DEFAULTS["max_output"])
_CONNECTIONS = count(DEFAULTS["max_connections"])
_MOST_STALLS, _MIN_RATE = count(stream.MAX_SAVED_STALLS), size(stream.MIN_RATE)
_LOGGED = (str(limit.MOST), count(limit.PERIOD))
_ANSWER_TIME = count(drain.ANSWER_TIME * 100)

#: By page: phrases as they stand there, blanks and line ends alike, and what the {} in them are.
TIES: dict[str, list[tuple[str, tuple[str, ...]]]] = {
    "README.md": [
        ("All {} cases of the Autobahn testsuite", (str(conformance.CASES),)),
        ("more wait, and {} seconds of waiting close with 1008", (count(options.MAX_PAUSED),)),
    ],
    "docs/architecture.md": [
        ("hands a slice of at most {} to the engine", (size(reader.SLICE),)),
        (
            "when a connection has had its turn: {} steps, or {} of messages and output; then the other",
            (count(driver.STEPS), size(driver.TURN_SIZE)),
        ),
        ("to keep no more than {} of unsent output", (size(kernel.MAX_UNSENT),)),
        ("is looked at every {} seconds at least, while somebody", (count(waiters.LOOK),)),
        ("the driver gets them, {} at a time", (size(outbox.BATCH),)),
        ("whenever it has grown by {}", (size(budget.STEP),)),
        (
            "at the reactor's time every {} seconds, and counts at most {} seconds from one look",
            (count(timers.LOOK), count(timers.MOST)),
        ),
        ("ends the loop {} seconds later, and the process after {}.", (count(ending.GRACE), count(ending.LIMIT))),
    ],
    "docs/scaling.md": [
        ("`--backplane-buffer`, {}. What has", (size(DEFAULTS["backplane_buffer"]),)),
        ("`--backplane-patience`, {} seconds, is dropped", (_time("backplane_patience"),)),
        ("the start waits {} seconds for it", (count(server.BACKPLANE_TIMEOUT),)),
        ("has taken it within {} seconds", (count(int(parameter(blocking.connect, "timeout"))),)),
        ("Then it waits up to {} seconds more", (str(link.HOLD),)),
        ("is left within {} seconds", (count(ceil((broker.UNANSWERED + 1) * broker.PING)),)),
        ("This needs Redis {}, or Valkey.", (str(shard_speaker.OLDEST),)),
        ("- Topics are in {} parts", (count(shards.PARTS),)),
        ("takes {} subscriptions", (count(shards.PARTS),)),
    ],
    "docs/handlers.md": [
        ("then what changes, at most once in {} seconds.", (str(directory.INTERVAL),)),
        ("A process that is silent for {} seconds is dead to the others", (count(members.DEAD),)),
        (
            "A name has at most {} bytes; `data` is what msgpack has a form for, at most {}.",
            (str(messages.MAX_NAME), size(facts.MAX_DATA)),
        ),
        (
            "A connection may have {} names, be present at {} topics, watch {}, and monitor {} others.",
            (count(facts.MAX_OF_ONE),) * 4,
        ),
        ("A process may have {} names and presences.", (count(facts.MAX_OF_PROCESS),)),
        ("The key has at least {} bytes that nobody else knows", (count(home.MIN_KEY),)),
        ("All three have defaults: {}, empty, none.", (str(parameter(Reject, "status")),)),
        ("`init` has {} seconds (`--init-timeout`)", (_time("init_timeout"),)),
        ("What is said of one connection may be up to {} KiB together.", (count(handover.LARGEST // 1_024),)),
        (
            "In any {} seconds, a connection's handler is started again {} times.",
            (count(restarting.PERIOD), count(restarting.RESTARTS)),
        ),
        ('closing handshake ({} "Normal close" by default)', (str(NORMAL_CLOSE[0]),)),
        (
            "that an endpoint may send (RFC 6455 §7.4): {} to {}, {} to {}, {} to {}.",
            tuple(str(end) for run in _runs(sendable, range(10_000)) for end in run),
        ),
        ("The status is {} to {}.", tuple(str(end) for run in _runs(_rejects, range(1_000)) for end in run)),
        ("Data of a ping or pong is a str or bytes of {} bytes at most.", (str(MAX_PAYLOAD),)),
        ("A reason is cut to the {} bytes that fit.", (str(MAX_REASON),)),
        ("it gets {} more seconds to finish", (count(parameter(HandlerAdapter, "close_grace")),)),
        (
            "or has too much waiting — {} of output (`--max-output`), or {} infos",
            (_MAX_OUTPUT, count(session.MAX_INFOS)),
        ),
        ("or a ping of more than {} bytes.", (str(MAX_PAYLOAD),)),
        ("at most {} callers wait for one connection", (count(waiters.MAX_WAITERS),)),
        ("call of another thread counts {} bytes more than its data", (count(messages.CALL),)),
        ("when the transport is empty, {} at a time", (size(outbox.BATCH),)),
        (
            "in which each message counts {} bytes more than its data, and for {} messages",
            (count(messages.CALL), count(outbox.MAX_MESSAGES)),
        ),
        ("A key is a str of 1 to {} bytes in UTF-8", (str(messages.MAX_KEY),)),
        ("A topic is a str of 1 to {} bytes in UTF-8", (str(messages.MAX_TOPIC),)),
        ("or has {} subscriptions already", (count(parameter(shared.Limits, "max_subscriptions")),)),
        ("like those that are sent by a Ref: {} messages and {} at most", (count(context.MAX_KEPT), _MAX_OUTPUT)),
        ("At most {} connections go over in one turn of the reactor.", (count(hub.RENEWED),)),
        ("at most {} in {} seconds; more are counted", (str(limit.MOST), count(limit.PERIOD))),
        ("still leaves, within {} % of `--drain-timeout`", (_ANSWER_TIME,)),
    ],
    "docs/modules.md": [
        ("more wait, and {} seconds of waiting close with 1008", (count(options.MAX_PAUSED),)),
        ("`twisted.web` waits {} seconds for a peer's next byte", (count(parameter(HTTPFactory, "timeout")),)),
        ("has {} seconds for each request as a whole", (_website_timeout(),)),
    ],
    "docs/operations.md": [
        ("must be longer than `--ping-interval`, {} seconds", (_time("ping_interval"),)),
        ("at most `--drain-timeout`, {} seconds", (_time("drain_timeout"),)),
        (
            "One that is at work is tried {} times in {} seconds.",
            (count(handover.TRIES), count((handover.TRIES - 1) * handover.PAUSE)),
        ),
        ("no later than after {} % of `--drain-timeout`", (_ANSWER_TIME,)),
        ("The spread must be shorter than {} % of `--drain-timeout`", (_ANSWER_TIME,)),
        ("of the server's process may connect: the mode is {}.", (f"{listener.MODE:o}",)),
        ("or has not connected after {} seconds, the log says why", (count(server.BACKPLANE_TIMEOUT),)),
        ("Of each kind, {} are logged in {} seconds", _LOGGED),
        ("Beyond {} kinds, all further events are of one kind.", (count(limit.KINDS),)),
        ("takes longer than `--slow-turn`, {} seconds, a warning", (_time("slow_turn"),)),
        (
            "that has not ended after {} seconds ({} times `--slow-turn`)",
            (count(watchdog.ENDLESS * DEFAULTS["slow_turn"]), count(watchdog.ENDLESS)),
        ),
        ("the log shows the first {} characters or bytes.", (count(holding.SHOWN),)),
        ("Values below {} count as {}.", (count(watchdog.SHORTEST),) * 2),
        ("Of these warnings, {} are logged in {} seconds.", _LOGGED),
        ("`limit` ({} by default, {} at most)", (count(connections.PAGE), count(connections.MOST))),
        ('and `reason`, {} "closed by an administrator"', (str(connections.CLOSE[0]),)),
        ("A scrape adds up {} connections a turn", (count(totals.A_TURN),)),
        ("A worker that does not answer within {} seconds", (count(overview.TIMEOUT),)),
        ("Without an answer within {} seconds, the worker decides alone", (count(asks.LOOKS * asks.EVERY),)),
        (
            "but when {} have died within {} seconds, only after a pause of {} to {} seconds",
            (count(deaths.MANY), count(deaths.WITHIN), count(deaths.FIRST), count(deaths.LONGEST)),
        ),
        ("for `--worker-timeout`, {} seconds", (_time("worker_timeout"),)),
        ("After {} seconds, the reactor's loop ends", (count(ending.GRACE),)),
        ("After {} seconds, the process ends", (count(ending.LIMIT),)),
        ("is still at work; after {}, even if C code does not return.", (count(2 * ending.LIMIT),)),
        ("The same signal within {} milliseconds does not count as a second one", (count(ending.DOUBLED * 1000),)),
        ("For KeyboardInterrupt, the status is {}.", (str(ending.status_of(KeyboardInterrupt())[0]),)),
    ],
    "docs/security.md": [
        ("| {} s (`--handshake-timeout`) | 408", (_time("handshake_timeout"),)),
        ("a worker waits for, and how long | {}, {} s |", (count(asks.MOST_ASKED), count(asks.LOOKS * asks.EVERY))),
        ("reading takes time linear in it | {} |", (size(_HTTP["max_head_size"]),)),
        (
            "| many headers, many query fields | their number | {} each |",
            (str(_HTTP["max_headers"]) if _HTTP["max_headers"] == head._MAX_QUERY_FIELDS else "two numbers",),
        ),
        (
            "{} connection options, {} protocols to upgrade to",
            (count(head._MAX_MEMBERS_OF["connection"]), count(head._MAX_MEMBERS_OF["upgrade"])),
        ),
        (
            "{} subprotocols, {} extensions with {} parameters in all",
            (count(handshake._MAX_MEMBERS), count(handshake._MAX_MEMBERS), count(handshake._MAX_PARAMETERS)),
        ),
        ("{} cookies, {} members of any other list", (count(handshake._MAX_COOKIES), count(head._MAX_MEMBERS))),
        ("empty lines before the request line | {} are ignored", (str(http._EMPTY_LINES),)),
        ("| {} s (`--init-timeout`) | 503", (_time("init_timeout"),)),
        ("| {} (`--max-message-size`) | close 1009", (size(DEFAULTS["max_message_size"]),)),
        ("their number in one message | {} |", (count(_WEBSOCKET["max_fragments"]),)),
        ("time for one message | {} s |", (count(_WEBSOCKET["message_timeout"]),)),
        ("no further than the message's limit | {}; compression is off", (size(DEFAULTS["max_message_size"]),)),
        ("marked as final | {} and {}; {} | close 1009", (*_deflated(), count(deflate.MAX_STREAMS))),
        ("| {} bits, level {}:", (str(deflate.WINDOW_BITS), str(deflate.MEMORY_LEVEL))),
        ("the time until the peer ends | {} s (`--close-timeout`)", (_time("close_timeout"),)),
        ("wait in the kernel | {}; {}; with", (count(port.MADE), count(port.MOST_ACCEPTED))),
        ("| {} a second, {} at once |", (count(keepalive.CONTROL_RATE), count(keepalive.CONTROL_BURST))),
        (
            "compressed bytes count | no limit (`--message-rate`, `--byte-rate`) | reading pauses; after {} seconds of",
            (count(options.MAX_PAUSED),),
        ),
        ("saved up for {} seconds; compressed bytes", (count(options.BURST),)),
        ("of pauses, with never {} seconds of silence", (count(limited.QUIET),)),
        (
            "{} steps a turn, or {} of messages and output, then the others; what Autobahn reads counts as {} more",
            (count(driver.STEPS), size(driver.TURN_SIZE), size(reader.ENGINE_WORK)),
        ),
        ("{} (`--max-connections`); none for an address", (_CONNECTIONS,)),
        (
            "saved up for {} seconds; of IPv6, a /64 network counts as one address; {} addresses are remembered",
            (count(rate.BURST), count(rate.MAX_ADDRESSES)),
        ),
        ("429 with Retry-After, for {} at a time; others are just closed", (count(admission.MAX_REFUSED),)),
        ("503 with Retry-After, for {} at a time; others are just closed", (count(admission.MAX_REFUSED),)),
        ("the output that waits for it | {} (`--max-output`)", (_MAX_OUTPUT,)),
        ("besides the output above | {} (`--max-output`)", (_MAX_OUTPUT,)),
        (
            "| {} s, and a second for each {}, up to {} s in all (`--stall-timeout`, and {} times that)",
            (
                _time("stall_timeout"),
                _MIN_RATE,
                count(float(stream.MAX_SAVED_STALLS * DEFAULTS["stall_timeout"])),
                _MOST_STALLS,
            ),
        ),
        ("and a second for each {} that it has taken", (_MIN_RATE,)),
        ("but never more than {} times `--stall-timeout` at once", (_MOST_STALLS,)),
        ("A peer that reads steadily, {} a second or more", (_MIN_RATE,)),
        ("and after {} times that at the latest", (_MOST_STALLS,)),
        # A kilobyte of a buffer is one of 1,000 bytes here.
        ("it is some {} seconds", (f"{round(DEFAULTS['stall_timeout'] + 64_000 / stream.MIN_RATE, -1):g}",)),
        ("on Linux | {}, besides output that is sent but not acknowledged", (size(kernel.MAX_UNSENT),)),
        (
            "{} s, {} s (`--ping-interval`, `--ping-timeout`)",
            (_time("ping_interval"), _time("ping_timeout")),
        ),
        ("never finishes closing | time for it | {} s (`--close-timeout`)", (_time("close_timeout"),)),
        ("{} failures in {} s, control characters escaped", (str(limit.MOST), count(limit.PERIOD))),
        ("{} of a kind in {} s; {} kinds", (*_LOGGED, count(limit.KINDS))),
        ("strict parsing; {} bytes, in version 2 {};", (str(proxy_header._LINE), _longest_header())),
        ("by HTTP | {} clients, {} s of silence", (count(site.MOST_CLIENTS), count(site.TIMEOUT))),
        ("at a Unix socket | its mode | {} (`mode=`)", (f"{listener.MODE:o}",)),
        ("At most {} seconds of such a time count against any", (count(timers.MOST),)),
        ("as many turns of its loop as {} seconds fit into the limit", (count(timers.MOST),)),
        ("The handshake is in the {} seconds of the request;", (_time("handshake_timeout"),)),
        (
            "it has {} seconds at most, whatever `--handshake-timeout` says, and closing it has {}.",
            (count(_tls.HANDSHAKE_TIMEOUT), count(_tls.SHUTDOWN_TIMEOUT)),
        ),
        (
            "A peer may send {} of them, and one more for each {} of data.",
            (count(_tls._ALLOWANCE // _tls._PRICE), size(_tls._PRICE)),
        ),
        ("one connection has at most {} decrypted in a turn", (count(_tls._GROUPS * _tls_records._AT_ONCE),)),
        ("Answers that TLS sends by itself may wait up to {}.", (size(_tls._MOST_ANSWERS),)),
        (
            "{} connections, each at all its limits, are {} GiB and more",
            (
                _CONNECTIONS,
                str(
                    round(DEFAULTS["max_connections"] * (DEFAULTS["max_message_size"] + DEFAULTS["max_output"]) / 2**30)
                ),
            ),
        ),
        ("The default address, {}, is no protection", (str(DEFAULTS["interface"]),)),
    ],
    "docs/million.md": million.ties(),
    # Pages of measured figures: what of the code they name.
    "docs/performance.md": [
        ("has C in its wheel, does it from {} on", (size(_masking._LARGE),)),
        ("to keep up to {} of freed memory", (size(allocator.KEPT),)),
        ("deflated by ISA-L (`isal`) at level {},", (str(deflate.LEVEL),)),
    ],
    "docs/conformance.md": [
        ("all {} of them, unchanged", (str(conformance.CASES),)),
        ("messages of {}, messages in {} fragments", _suite()),
    ],
}
#: By page: what is said in numbers and is no figure of the code: examples, measured figures, what others have decided.
OTHERS: dict[str, list[str]] = {
    "README.md": ["or 64KiB, 1MiB, 1GiB", "Apache License 2.0"],
    "docs/architecture.md": [
        "A ref enters at step 2",
        "So a burst of 16 messages is answered by one system call",
        "twistd can't exit with another status than 0",
    ],
    "docs/scaling.md": [
        "still gets 200, and",
        "all of `rooms.7.>` is in one part",
        "`rooms.7` and `rooms.8` may be in",
        "such as `rooms.7.*` concerns",
        "exit status is 0 when the broker has",
        "Otherwise it is 1, and one line",
    ],
    "docs/handlers.md": ["A topic is a str of 1 to", "A key is a str of 1 to", "with port 0 if that is not known"],
    "docs/modules.md": ["or have a unit: 64KiB, 1MiB, 1GiB."],
    "docs/operations.md": [
        "the exit status is 1",
        "port 8080 of all IPv4 addresses",
        'it logs "waiting for 3 connections" once a second',
        '"waiting for 3 connections" counts those of all',
        "and the status 1",
        "a worker needs about 11 MB of its own",
        "with it, about 9 MB",
        "`--drain-spread 8` closes the connections one after the other, in random order, over 8 seconds",
        "With `--drain-code 1012` ",
        "A port below 1024 needs root",
        "A shell shows 143 for SIGTERM",
        "1005 for one without a code",
        "secp256k1, secp224r1",
        "in version 1)",
        "unless that was 0,",
    ],
    "docs/security.md": [
        "some 80 KiB a connection that has used both directions",
        "127.0.0.0/8",
        "a /64 network",
        "resolve to 127.0.0.1",
        "in version 2",
        "a receive buffer of 200 KB, a reader of 20 KB a second was seen to be silent for 17 seconds",
        "to have taken 260 KB",
        "the usual buffer of 64 KB",
        "a handler that answers with 100 MiB makes wshost hold 100 MiB",
    ],
    "docs/deployment.md": [
        "The nodes are 10.0.0.11 and 10.0.0.12, the proxy is 10.0.0.2, the broker 10.0.0.5.",
        "One proxy has some 28,000 ports",
        "If the network 10.0.0.0/24 is yours",
        "listens on port 8080",
    ],
    "docs/million.md": ["on 27 November 2026,"],
    "docs/tutorial.md": ["A second client starts at 1 again"],
}
#: Pages that are not looked through for numbers that are not tied.
MEASURED = {"docs/performance.md", "docs/conformance.md", "docs/reliability.md", "docs/changelog.md"}

# What is in numbers, and no figure of ours.
_REFERENCES = [
    # Specifications, and versions of what others make.
    re.compile(
        r"RFC \d+|§\d+(?:\.\d+)*|HTTP/\d\.\d|TLS \d\.\d|: \d\.\d and later|Python \d\.\d+|protocol, version 1 or 2"
    ),
    # Words.
    re.compile(r"\b[A-Za-z]+-?\d+\b"),
]
_NUMBER = re.compile(r"\d[\d,.]*\d|\d")
_UNIT = re.compile(
    r" ?(?:[KMG]i?B|bytes|bits|characters|s|ms|µs|seconds|minutes|hours|messages|frames|fragments|steps|infos|"
    r"connections|subscriptions|times|each|a second|at once|%)\b"
)
_FENCE = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
_CODE = re.compile(r"`[^`]+`")
# What a page does not show: comments, targets of links, the numbers of a list.
_UNSHOWN = re.compile(r"<!--.*?-->|<https?:[^>]*>|\]\([^)]*\)|\]: .*$|^ *\d+\. ", re.MULTILINE | re.DOTALL)


def shown(page: str) -> str:
    """A page's prose and tables: on one line."""
    text = (ROOT / page).read_text()
    return " ".join(_UNSHOWN.sub(" ", _FENCE.sub(" ", text)).split())


#: Those that are.
PAGES = [
    page
    for page in ("README.md", "SECURITY.md", *(f"docs/{path.name}" for path in sorted((ROOT / "docs").glob("*.md"))))
    if page not in MEASURED
]


@dataclass
class Reading:
    """A page, and which of its characters are accounted for."""

    page: str

    def __post_init__(self) -> None:
        self.text = shown(self.page)
        self._known: set[int] = set()

    def know(self, start: int, end: int) -> None:
        self._known.update(range(start, end))

    def tie(self, phrase: str, values: tuple[str, ...]) -> bool:
        """Account for the numbers in a phrase; False when the page does not say it."""
        parts = phrase.split("{}")
        whole = phrase.format(*values)
        at = self.text.find(whole)
        found = at >= 0
        while at >= 0:
            place = at
            for part, value in zip(parts, values, strict=False):
                place += len(part)
                self.know(place, place + len(value))
                place += len(value)
            at = self.text.find(whole, at + 1)
        return found

    def loose(self) -> Iterator[str]:
        """Each number that is accounted for by nothing, with what is around it."""
        for pattern in (*_REFERENCES, _CODE):
            for found in pattern.finditer(self.text):
                self.know(*found.span())
        for found in _NUMBER.finditer(self.text):
            if not self._known.issuperset(range(*found.span())) and not self._is_code(found):
                yield self.text[max(0, found.start() - 50) : found.end() + 30]

    def _is_code(self, found: re.Match[str]) -> bool:
        """Whether it is a status of HTTP or a code of WebSocket, which exist whatever we do."""
        if not found[0].isdecimal() or len(found[0]) < 3 or _UNIT.match(self.text, found.end()):
            return False
        number = int(found[0])
        return sendable(number) or number in {*HTTPStatus} - {100}


def command_table() -> Iterator[str]:
    """What the README's table of the command's options must be."""
    yield "| Option | What it does | Default |"
    yield "|---|---|---|"
    for option in OPTIONS.values():
        metavar = f" {option.kind.metavar}" if option.kind.metavar else ""
        yield f"| `--{option.dashed}{metavar}` | {option.help} | {option.shown if metavar else ''} |"
    yield f"| `--config FILE` | {CONFIG} |  |"


def module_table(module: str) -> Iterator[str]:
    """What the table of a module's options in docs/modules.md must be."""
    yield "| option | what it does | default |"
    yield "|---|---|---|"
    for name, option in MODULES[module].items():
        yield f"| `{name}` | {_module_help(option)} | {option.shown} |"


def _module_help(option: Option[Any]) -> str:
    said = f"{option.text} Takes a list." if option.kind.repeatable else option.text
    return f"{said} `--{option.dashed}` sets it." if option.name else said


def metrics_table() -> Iterator[str]:
    """What the table of metrics in docs/operations.md must be."""
    yield "| metric | kind | labels | what it is |"
    yield "|---|---|---|---|"
    for one in metrics.OURS:
        yield f"| `{one.name}` | {one.kind} | {', '.join(one.labels)} | {one.text} |"


#: The tables of options and metrics, by page.
TABLES = {
    "README.md": [list(command_table())],
    "docs/modules.md": [list(module_table(module)) for module in MODULES],
    "docs/operations.md": [list(metrics_table())],
}


def tied(reading: Reading) -> Reading:
    """Account for what is tied on a page, and for what is compared with the code as a whole."""
    for phrase, values in TIES.get(reading.page, ()):
        reading.tie(phrase, values)
    for phrase in OTHERS.get(reading.page, ()):
        reading.tie("{}", (phrase,))
    for row in chain.from_iterable(TABLES.get(reading.page, ())):
        reading.tie("{}", (" ".join(row.split()),))
    return reading


def read(page: str) -> Reading:
    """Read a page, and account for what is tied there."""
    return tied(Reading(page))
