"""Negotiates permessage-deflate (RFC 7692 §7.1). Knows no connection, and deflates nothing."""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

from wshost.protocols.websocket.deflate import MAX_WINDOW_BITS, WINDOW_BITS

#: The extension's name (RFC 7692 §7).
DEFLATE = "permessage-deflate"

# The valid window sizes; a leading zero is not allowed (RFC 7692 §7.1.2).
_WINDOWS = {str(bits): bits for bits in range(8, MAX_WINDOW_BITS + 1)}
#: The smallest window that zlib and ISA-L deflate with. If asked for 8, zlib uses 9, and a peer with 8 fails.
MIN_WINDOW_BITS = 9


class Agreement(NamedTuple):
    """The parameters agreed on."""

    #: The response's Sec-WebSocket-Extensions.
    response: str
    #: The LZ77 windows, in bits, of the messages that we send and of those that we receive.
    server_window_bits: int
    client_window_bits: int
    #: Whether messages that we send refer back to earlier ones.
    server_takeover: bool
    #: Whether messages that we receive may refer back to earlier ones.
    client_takeover: bool


# Browsers are alike.
@lru_cache(32)
def negotiate(extensions: str, takeover: bool = True) -> Agreement | None:
    """Negotiate extensions (RFC 6455 §9.1), in time linear in their size.

    The client's first acceptable offer of permessage-deflate is accepted. Other offers and other extensions are
    declined by leaving them out (RFC 7692 §5.1).

    :param extensions: the request's Sec-WebSocket-Extensions, already checked to be well-formed.
    :param takeover: whether messages that we send shall refer back to earlier ones, where the client allows it.
    :returns: None when no offer is acceptable.
    """
    for offer in extensions.split(","):
        name, *parameters = offer.split(";")
        if name.strip(" \t").lower() == DEFLATE:
            agreed = _accept(parameters, takeover)
            if agreed is not None:
                return agreed
    return None


def _accept(parameters: list[str], takeover: bool) -> Agreement | None:
    """Accept one offer; return None to decline it (RFC 7692 §7.1)."""
    # The four names may come once each, so this ends after five parameters, however many a client sends.
    offered: dict[str, str | None] = {}
    for parameter in parameters:
        name, equals, value = parameter.partition("=")
        name = name.strip(" \t").lower()
        if name in offered or not _is_valid(name, _unquoted(value) if equals else None):
            return None
        offered[name] = _unquoted(value) if equals else None

    response = [DEFLATE]
    server_takeover = takeover and "server_no_context_takeover" not in offered
    if not server_takeover:
        # A server may include this even if the client did not ask for it (RFC 7692 §7.1.1.1).
        response.append("server_no_context_takeover")
    # This may be left out of the response (RFC 7692 §7.1.1.2), but some clients insist on it, such as Go's gorilla.
    client_takeover = "client_no_context_takeover" not in offered
    if not client_takeover:
        response.append("client_no_context_takeover")
    server_window_bits = WINDOW_BITS
    if "server_max_window_bits" in offered:
        server_window_bits = min(WINDOW_BITS, _WINDOWS[offered["server_max_window_bits"] or ""])
        if server_window_bits < MIN_WINDOW_BITS:
            return None
        response.append(f"server_max_window_bits={server_window_bits}")
    client_window_bits = MAX_WINDOW_BITS
    if "client_max_window_bits" in offered:
        # At most the client's value (RFC 7692 §7.1.2.2). Without a value, the server chooses.
        client_window_bits = min(WINDOW_BITS, _WINDOWS[offered["client_max_window_bits"] or str(MAX_WINDOW_BITS)])
        response.append(f"client_max_window_bits={client_window_bits}")
    return Agreement("; ".join(response), server_window_bits, client_window_bits, server_takeover, client_takeover)


def _is_valid(name: str, value: str | None) -> bool:
    if name in {"server_no_context_takeover", "client_no_context_takeover"}:
        return value is None
    if name == "server_max_window_bits":
        return value in _WINDOWS
    return name == "client_max_window_bits" and (value is None or value in _WINDOWS)


def _unquoted(value: str) -> str:
    """Return a parameter's value without quotes and backslashes; the handshake checked its form (RFC 6455 §9.1)."""
    value = value.strip(" \t")
    return value[1:-1].replace("\\", "") if value.startswith('"') else value
