"""wshost's answers to unusual handshakes and closings, beside those of three other servers.

All are asked what `answers.py` asks. Where wshost's answer is not that of websockets, aiohttp or Node's ws, the reason
is here: a client that is made for them has to get on with wshost, too.
"""

from __future__ import annotations

import json
import logging
from typing import Any

import pytest

from tests.integration.answers import CLOSINGS, HANDSHAKES, RECORDED, STARTS, answers, in_a_thread
from tests.integration.server import running_server

WS, WEBSOCKETS, AIOHTTP = "ws", "websockets", "aiohttp"

_OFFERED = (
    "client_max_window_bits is answered by 12, or less where less is offered (RFC 7692 §7.1.2.2): it saves us"
    " memory. So does websockets, which says its own window unasked; ws and aiohttp leave the choice to the client"
)
_ECHO = "the peer's code is echoed (RFC 6455 §5.5.1), as ws and websockets do; aiohttp's own answer is always 1000"

#: Where wshost answers otherwise: who does so, and why.
EXPLAINED: dict[str, tuple[set[str], str]] = {
    # Handshakes
    "HTTP/1.0": ({WS, WEBSOCKETS, AIOHTTP}, "Upgrade counts for nothing in HTTP/1.0 (RFC 9110 §7.8): 426 says how"),
    "no Host": ({WS, WEBSOCKETS}, "RFC 9112 §3.2 demands 400"),
    "no Upgrade": ({AIOHTTP}, "426 is for that (RFC 9110 §15.5.22), as ws and websockets say"),
    "no Connection": ({AIOHTTP}, "as without Upgrade"),
    "Upgrade: h2c": ({WS, AIOHTTP}, "as without Upgrade"),
    "version 8": (
        {WS, WEBSOCKETS, AIOHTTP},
        "426 with the version that is spoken, as RFC 6455 §4.4 has it; 8 is a draft's",
    ),
    "version 14": ({WS, WEBSOCKETS, AIOHTTP}, "as version 8"),
    "a subprotocol twice": ({WEBSOCKETS, AIOHTTP}, "they must differ (RFC 6455 §4.1), as ws says, too"),
    "a subprotocol that is no token": ({AIOHTTP}, "RFC 6455 §4.1; ws and websockets refuse it, too"),
    "another origin": (
        {WS, WEBSOCKETS, AIOHTTP},
        "their users have to look at the Origin; ours are guarded by default",
    ),
    "extensions that are malformed": ({AIOHTTP}, "RFC 6455 §9.1; ws and websockets refuse them, too"),
    "deflate": ({WEBSOCKETS}, "it says its own window unasked; all clients can do with any"),
    "client_max_window_bits": ({WS, WEBSOCKETS, AIOHTTP}, _OFFERED),
    "client_max_window_bits=15": ({WS, WEBSOCKETS, AIOHTTP}, _OFFERED),
    "client_max_window_bits=9": ({WEBSOCKETS, AIOHTTP}, _OFFERED),
    "client_max_window_bits=8": ({WEBSOCKETS, AIOHTTP}, _OFFERED),
    'client_max_window_bits="10"': ({WEBSOCKETS, AIOHTTP}, f"{_OFFERED}; aiohttp reads no quotes"),
    "client_max_window_bits=09": ({WS, AIOHTTP}, "RFC 7692 §7.1.2.2 has no leading zeros: declined"),
    "server_max_window_bits=8": ({WS}, "no zlib deflates with 8 bits; ws says so, and fails later"),
    "no takeover": (
        {WEBSOCKETS, AIOHTTP},
        "Go's gorilla insists on client_no_context_takeover, which aiohttp leaves out",
    ),
    "an unknown parameter": ({WS}, "RFC 7692 §5.1: declined, not failed"),
    "a parameter twice": ({WS, AIOHTTP}, "RFC 7692 §7.1: declined; neither failed nor accepted"),
    "a second offer": (
        {WS, WEBSOCKETS, AIOHTTP},
        "RFC 7692 §5.1: where the first can't be accepted, it is the next's turn",
    ),
    # Closings
    "without a code": ({AIOHTTP}, _ECHO),
    **dict.fromkeys(("1001", "1003", "1011", "1014", "3000", "4999", "4000 bye"), ({AIOHTTP}, _ECHO)),
    "1006, which is none": ({AIOHTTP}, "RFC 6455 §7.4.1: nobody may send it"),
    "5000, which is none": ({AIOHTTP}, "RFC 6455 §7.4.2: nobody may send it"),
    "between fragments": (
        {WEBSOCKETS, AIOHTTP},
        "a control frame may be there (RFC 6455 §5.4); ws echoes its code, too",
    ),
    "no mask": ({AIOHTTP}, "RFC 6455 §5.1: the connection is failed"),
    "2^63 bytes": (
        {WS, WEBSOCKETS, AIOHTTP},
        "the first bit has to be 0 (RFC 6455 §5.2): no message, and none too large",
    ),
    "a length in more bytes than need be": (
        {WS, WEBSOCKETS, AIOHTTP},
        "RFC 6455 §5.2: as few as possible, so it is wrong",
    ),
}


@pytest.fixture(scope="module")
def all_answers() -> dict[str, dict[str, Any]]:
    """What each of them answers, by its name, and by the question."""
    # What they log of bad clients is theirs.
    logging.disable(logging.CRITICAL)
    try:
        with running_server("--compress", "--subprotocol=chat") as server:
            found = {"wshost": answers(server.port)}
        for name, start in STARTS.items():
            with in_a_thread(start) as port:
                found[name] = answers(port)
    finally:
        logging.disable(logging.NOTSET)
    found[WS] = json.loads(RECORDED.read_text())
    return {name: {**kinds["handshakes"], **kinds["closings"]} for name, kinds in found.items()}


def test_every_server_answered_every_question(all_answers: dict[str, dict[str, Any]]) -> None:
    assert len(HANDSHAKES) >= 30
    assert len(CLOSINGS) >= 20
    for answered in all_answers.values():
        assert answered.keys() == HANDSHAKES.keys() | CLOSINGS.keys()


@pytest.mark.parametrize("question", [*HANDSHAKES, *CLOSINGS])
def test_where_another_server_answers_otherwise_a_reason_is_written_down(
    question: str, all_answers: dict[str, dict[str, Any]]
) -> None:
    ours = all_answers["wshost"][question]
    others = {name for name in (WS, WEBSOCKETS, AIOHTTP) if all_answers[name][question] != ours}
    explained, reason = EXPLAINED.get(question, (set(), "nothing is to be explained"))
    assert others == explained, (ours, {name: all_answers[name][question] for name in all_answers}, reason)


def test_reasons_are_written_down_for_existing_questions_only() -> None:
    assert EXPLAINED.keys() <= HANDSHAKES.keys() | CLOSINGS.keys()
