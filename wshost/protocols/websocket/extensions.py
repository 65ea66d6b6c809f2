"""What is agreed on about permessage-deflate (RFC 7692 §7.1). Knows no connection, and deflates nothing."""

from __future__ import annotations

from typing import NamedTuple

from wshost.protocols.websocket.deflate import MAX_WINDOW_BITS, WINDOW_BITS

#: The extension's name (RFC 7692 §7).
DEFLATE = "permessage-deflate"

# The values that a window may have; nothing else is one, not even with a leading zero (RFC 7692 §7.1.2).
_WINDOWS = {str(bits): bits for bits in range(8, MAX_WINDOW_BITS + 1)}
#: The smallest window that zlib and ISA-L deflate with: zlib takes 8 for 9, and a peer that has asked for 8 would fail.
MIN_WINDOW_BITS = 9


class Agreement(NamedTuple):
    """What was agreed on."""

    #: The Sec-WebSocket-Extensions of the response.
    response: str
    #: The LZ77 windows of what we send, and of what comes.
    server_window_bits: int
    client_window_bits: int
    #: Messages that we send refer back to those before.
    server_takeover: bool
    #: Messages that come may refer back to those before.
    client_takeover: bool


def negotiate(extensions: str, takeover: bool = True) -> Agreement | None:
    """Agree on extensions (RFC 6455 §9.1), in time linear in their size.

    The client's first offer of permessage-deflate that can be accepted is; others, and other extensions, are declined
    without a word (RFC 7692 §5.1).

    :param extensions: the Sec-WebSocket-Extensions of the request, of which the form was checked.
    :param takeover: whether we want our messages to refer back to those before, where the client doesn't mind.
    :returns: None when there is nothing to agree on.
    """
    for offer in extensions.split(","):
        name, *parameters = offer.split(";")
        if name.strip(" \t").lower() == DEFLATE:
            agreed = _accept(parameters, takeover)
            if agreed is not None:
                return agreed
    return None


def _accept(parameters: list[str], takeover: bool) -> Agreement | None:
    """Accept one offer; None where it has to be declined (RFC 7692 §7.1)."""
    # With four names and none twice, there can be no more: whatever a client writes, it is not read further.
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
        # A server may say so unasked, too (RFC 7692 §7.1.1.1).
        response.append("server_no_context_takeover")
    # Allowed is to leave this out (RFC 7692 §7.1.1.2), but there are clients that insist: Go's gorilla.
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
        # Never more than the client has said (RFC 7692 §7.1.2.2); without a value it leaves the choice to us.
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
    """Return a parameter's value: what is quoted there, or escaped in quotes, is a token, too (RFC 6455 §9.1)."""
    value = value.strip(" \t")
    return value[1:-1].replace("\\", "") if value.startswith('"') else value
