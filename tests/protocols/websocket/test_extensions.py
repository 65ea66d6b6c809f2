import random
import time
import zlib
from itertools import product
from typing import Any

import pytest
from aiohttp._websocket.helpers import ws_ext_parse
from hypothesis import given
from hypothesis import strategies as st
from websockets.exceptions import NegotiationError
from websockets.extensions.permessage_deflate import ClientPerMessageDeflateFactory
from websockets.headers import parse_extension

from wshost.protocols.websocket.deflate import WINDOW_BITS, Deflater, Inflater
from wshost.protocols.websocket.extensions import DEFLATE, Agreement, negotiate

WITHOUT = ["server_no_context_takeover", "client_no_context_takeover"]


def parameters(response: str) -> dict[str, str | None]:
    """Read what was answered."""
    [(name, pairs)] = parse_extension(response)
    assert name == DEFLATE
    assert len(dict(pairs)) == len(pairs)
    return {str(key): value for key, value in pairs}


class TestAccepted:
    """RFC 7692 §7.1."""

    @pytest.mark.parametrize(
        ("offer", "answer"),
        [
            ("", ""),
            ("; client_max_window_bits", "; client_max_window_bits=12"),
            *(
                (f"; client_max_window_bits={bits}", f"; client_max_window_bits={min(bits, 12)}")
                for bits in range(8, 16)
            ),
            *(
                (f"; server_max_window_bits={bits}", f"; server_max_window_bits={min(bits, 12)}")
                for bits in range(9, 16)
            ),
            ('; client_max_window_bits="9"', "; client_max_window_bits=9"),
            (r'; client_max_window_bits="1\0"', "; client_max_window_bits=10"),
            ('; server_max_window_bits="15"', "; server_max_window_bits=12"),
            (" ;\tClient_Max_Window_Bits \t= \t10 ", "; client_max_window_bits=10"),
            ("; server_no_context_takeover", "; server_no_context_takeover"),
            ("; client_no_context_takeover", "; client_no_context_takeover"),
            (
                f"; client_max_window_bits=9; {WITHOUT[0]}; server_max_window_bits=10; {WITHOUT[1]}",
                f"; {WITHOUT[0]}; {WITHOUT[1]}; server_max_window_bits=10; client_max_window_bits=9",
            ),
        ],
    )
    def test_the_response_answers_the_offered_parameters(self, offer: str, answer: str) -> None:
        agreed = negotiate(DEFLATE + offer)
        assert agreed is not None
        assert agreed.response == DEFLATE + answer

    @pytest.mark.parametrize(
        ("offer", "agreed"),
        [
            ("", Agreement("", WINDOW_BITS, 15, True, True)),
            (
                "; client_max_window_bits",
                Agreement("; client_max_window_bits=12", WINDOW_BITS, WINDOW_BITS, True, True),
            ),
            ("; client_max_window_bits=9", Agreement("; client_max_window_bits=9", WINDOW_BITS, 9, True, True)),
            ("; server_max_window_bits=9", Agreement("; server_max_window_bits=9", 9, 15, True, True)),
            ("; server_no_context_takeover", Agreement("; server_no_context_takeover", WINDOW_BITS, 15, False, True)),
            ("; client_no_context_takeover", Agreement("; client_no_context_takeover", WINDOW_BITS, 15, True, False)),
        ],
    )
    def test_the_agreement_has_windows_and_takeover(self, offer: str, agreed: Agreement) -> None:
        assert negotiate(DEFLATE + offer) == agreed._replace(response=DEFLATE + agreed.response)

    @pytest.mark.parametrize("offer", [DEFLATE, f"{DEFLATE}; server_no_context_takeover"])
    def test_the_server_may_choose_no_context_takeover(self, offer: str) -> None:
        """RFC 7692 §7.1.1.1: a server may say so unasked."""
        agreed = negotiate(offer, takeover=False)
        assert agreed == (f"{DEFLATE}; server_no_context_takeover", WINDOW_BITS, 15, False, True)


class TestDeclined:
    """RFC 7692 §5.1, §7.1: without a word, and the next offer has its turn."""

    @pytest.mark.parametrize(
        "offer",
        [
            "foo",
            "permessage-bzip2",
            "permessage-brotli",
            "x-webkit-deflate-frame",
            "permessage-deflate; foo",
            "permessage-deflate; server_max_window_bits=8",
            *(
                f"permessage-deflate; {name}={value}"
                for name, value in product(
                    ["server_max_window_bits", "client_max_window_bits"],
                    ["0", "7", "16", "010", "09", "+9", "1_0", "-9", "9.0", "0x9", "x", '"16"', '"09"', "9" * 5_000],
                )
            ),
            "permessage-deflate; server_max_window_bits",
            *(f"permessage-deflate; {name}{value}" for name in WITHOUT for value in ("=1", "=true", '="x"')),
            *(f"permessage-deflate; {name}; {name}" for name in [*WITHOUT, "client_max_window_bits"]),
            "permessage-deflate; client_max_window_bits=10; client_max_window_bits=10",
            "permessage-deflate; client_max_window_bits; Client_Max_Window_Bits=10",
            "permessage-deflate; server_max_window_bits=10; server_max_window_bits=11",
        ],
    )
    def test_unacceptable_offers_are_declined(self, offer: str) -> None:
        assert negotiate(offer) is None
        assert negotiate(f"{offer}, {offer}") is None
        following = f"foo, {offer}, {DEFLATE}; server_no_context_takeover, {DEFLATE}"
        agreed = negotiate(following)
        assert agreed is not None
        assert agreed.response == f"{DEFLATE}; server_no_context_takeover"

    def test_the_first_acceptable_offer_is_accepted(self) -> None:
        agreed = negotiate(f"foo, {DEFLATE}, {DEFLATE}; server_max_window_bits=9")
        assert agreed is not None
        assert agreed.response == DEFLATE


@st.composite
def offers(draw: st.DrawFn) -> dict[str, Any]:
    """Draw what a client may offer."""
    return {
        "server_no_context_takeover": draw(st.booleans()),
        "client_no_context_takeover": draw(st.booleans()),
        "server_max_window_bits": draw(st.none() | st.integers(9, 15)),
        "client_max_window_bits": draw(st.none() | st.just(True) | st.integers(9, 15)),
    }


def written(offer: dict[str, Any], quoted: bool) -> str:
    parts = [DEFLATE]
    for name, value in offer.items():
        if value is True:
            parts.append(name)
        elif value:
            parts.append(f'{name}="{value}"' if quoted else f"{name}={value}")
    return "; ".join(parts)


class TestNegotiationByTheValueOffered:
    """Every parameter, present and absent, with a value and without, quoted, and as one of several."""

    @given(offer=offers(), quoted=st.booleans(), takeover=st.booleans(), before=st.sampled_from(["", "foo; a=1, "]))
    def test_each_offered_value_gets_an_answer_that_the_rfc_allows_and_clients_accept(
        self, offer: dict[str, Any], quoted: bool, takeover: bool, before: str
    ) -> None:
        text = written(offer, quoted)
        agreed = negotiate(before + text, takeover)
        assert agreed is not None
        answer = parameters(agreed.response)
        # RFC 7692 §7.1.1.1, §7.1.1.2
        if offer["server_no_context_takeover"]:
            assert "server_no_context_takeover" in answer
        assert ("server_no_context_takeover" in answer) is not agreed.server_takeover
        assert ("client_no_context_takeover" in answer) is offer["client_no_context_takeover"]
        assert agreed.client_takeover is not offer["client_no_context_takeover"]
        # §7.1.2.1, §7.1.2.2
        if offer["server_max_window_bits"]:
            assert int(answer["server_max_window_bits"] or 0) == agreed.server_window_bits
            assert agreed.server_window_bits <= offer["server_max_window_bits"]
        else:
            assert "server_max_window_bits" not in answer
        if offer["client_max_window_bits"] is None:
            assert "client_max_window_bits" not in answer
            assert agreed.client_window_bits == 15
        else:
            assert int(answer["client_max_window_bits"] or 0) == agreed.client_window_bits
            assert agreed.client_window_bits <= (
                15 if offer["client_max_window_bits"] is True else offer["client_max_window_bits"]
            )

        # websockets raises for whatever it has not offered; so does aiohttp.
        factory = ClientPerMessageDeflateFactory(**offer)
        [(_, pairs)] = parse_extension(agreed.response)
        theirs = factory.process_response_params(pairs, [])
        assert theirs.local_max_window_bits <= agreed.client_window_bits
        assert ws_ext_parse(agreed.response) != (0, False)

    def test_websockets_refuses_answers_that_the_rfc_does_not_allow(self) -> None:
        """What this test is for: offered 9 bits, wshost once answered 12."""
        factory = ClientPerMessageDeflateFactory(client_max_window_bits=9)
        with pytest.raises(NegotiationError, match="unsupported client_max_window_bits"):
            factory.process_response_params([("client_max_window_bits", "12")], [])

    @pytest.mark.parametrize("ours", range(9, 16))
    @pytest.mark.parametrize("theirs", range(8, 16))
    def test_messages_keep_to_both_agreed_windows(self, ours: int, theirs: int) -> None:
        agreed = negotiate(f"{DEFLATE}; server_max_window_bits={ours}; client_max_window_bits={theirs}")
        assert agreed is not None
        noise = random.Random(ours * theirs)
        # Whatever comes again does so at a distance that is at the edge of one window or another.
        message = b"".join(noise.randbytes(1 << bits) * 2 for bits in range(8, 16))
        deflater = Deflater(agreed.server_window_bits, agreed.server_takeover)
        inflater = Inflater(agreed.client_window_bits, 1 << 20, agreed.client_takeover)
        # Peers by zlib deflate with 9 bits at least, whatever they have said.
        client = zlib.compressobj(wbits=-max(9, agreed.client_window_bits))
        stream = zlib.decompressobj(-ours)
        for _ in range(2):
            assert stream.decompress(deflater.deflate(message) + b"\0\0\xff\xff") == message
            deflated = client.compress(message) + client.flush(zlib.Z_SYNC_FLUSH)
            assert inflater.inflate(deflated[:-4]) == message


@pytest.mark.parametrize(
    "extensions",
    [
        f"{DEFLATE}; a" * 10_000,
        f"{DEFLATE}; a, " * 10_000,
        DEFLATE + "; a" * 100_000,
        "a," * 100_000,
        " " * 200_000,
        DEFLATE + '; client_max_window_bits="' + "\\9" * 100_000 + '"',
    ],
)
def test_negotiation_takes_linear_time(extensions: str) -> None:
    start = time.process_time()
    assert negotiate(extensions) is None
    assert time.process_time() - start < 1
