"""Negotiation of TLS with clients: version, ciphers, and a protocol by ALPN (RFC 7301). Knows no socket."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from twisted.internet.interfaces import IProtocolNegotiationFactory
from twisted.protocols.policies import WrappingFactory

#: The type of handshake records, and the size of a record's header (RFC 8446 §5.1).
#: The type of a ClientHello, the size of a handshake message's header (§4), and the longest one that OpenSSL accepts.
_HANDSHAKE, _RECORD_HEAD = 22, 5
_CLIENT_HELLO, _MESSAGE_HEAD, _LONGEST = 1, 4, 1 << 18
#: The extension with the protocols that a client offers (RFC 7301 §3.1).
_ALPN = 16
#: The extension with the name that a client asks for (RFC 6066 §3). It has one name: there is one type of names.
_SERVER_NAME = 0
#: The alert for a client that offers only other protocols (RFC 7301 §3.2), as a record: level fatal, number 120.
NO_APPLICATION_PROTOCOL = b"\x15\x03\x03\x00\x02\x02\x78"


def acceptable_protocols(factory: Any) -> tuple[bytes, ...]:
    """Return a factory's `acceptableProtocols`, the favourite first; empty when it has no such method.

    A factory that wraps another, such as the PROXY protocol's, accepts the same protocols as the inner one.
    """
    while True:
        negotiating = IProtocolNegotiationFactory(factory, None)
        if negotiating is not None:
            return tuple(negotiating.acceptableProtocols())
        if not isinstance(factory, WrappingFactory):
            return ()
        factory = factory.wrappedFactory


class ClientHello:
    """The first message of a client, collected from its records. Only the offered protocols and the name are read.

    Python's `ssl` tells which protocol was selected, but not which protocols a client has offered. OpenSSL checks
    whether the message is valid.
    """

    __slots__ = ("_message",)

    def __init__(self) -> None:
        self._message = bytearray()

    def feed(self, records: bytes) -> tuple[bytes, ...] | None:
        """Take the next whole records.

        :returns: None while the message is not whole; then the offered protocols. They are empty when the client uses
            no ALPN, and when the message is no ClientHello.
        """
        message = self._message
        start, size = 0, len(records)
        while size - start >= _RECORD_HEAD:
            end = start + _RECORD_HEAD + (records[start + 3] << 8 | records[start + 4])
            # Records of other types may follow, such as early data. OpenSSL checks whether they are allowed.
            if records[start] == _HANDSHAKE:
                message += records[start + _RECORD_HEAD : end]
            start = end
        if len(message) < _MESSAGE_HEAD:
            return None
        end = _MESSAGE_HEAD + int.from_bytes(message[1:_MESSAGE_HEAD])
        if message[0] != _CLIENT_HELLO or end > _LONGEST:
            return ()
        return None if len(message) < end else _offered(bytes(message[:end]))

    @property
    def server_name(self) -> bytes:
        """The name that the client asks for (RFC 6066 §3), once the message is whole; empty when there is none."""
        # The length of the list, the type of its first entry, 0 for a name, and the name after its length.
        return _extension(bytes(self._message), _SERVER_NAME)[5:]


def _offered(hello: bytes) -> tuple[bytes, ...]:
    """Return the protocols in a ClientHello (RFC 8446 §4.1.2)."""
    if _ALPN.to_bytes(2) not in hello:
        # Most clients of WebSocket use no ALPN. This search is faster than the walk through all extensions.
        return ()
    return _names(_extension(hello, _ALPN)[2:])


def _extension(hello: bytes, wanted: int) -> bytes:
    """Return the data of an extension in a ClientHello; empty when there is none."""
    try:
        # Skip the version and the random bytes; then session id, ciphers and compressions, each after its length.
        at = _MESSAGE_HEAD + 2 + 32
        at += 1 + hello[at]
        at += 2 + (hello[at] << 8 | hello[at + 1])
        at += 1 + hello[at]
        at += 2
        while at < len(hello):
            kind = hello[at] << 8 | hello[at + 1]
            end = at + 4 + (hello[at + 2] << 8 | hello[at + 3])
            if kind == wanted:
                return hello[at + 4 : end]
            at = end
    except IndexError:
        pass
    return b""


def _names(listed: bytes) -> tuple[bytes, ...]:
    names = []
    at = 0
    while at < len(listed):
        end = at + 1 + listed[at]
        names.append(listed[at + 1 : end])
        at = end
    # OpenSSL refuses a list with a name that is empty or cut short.
    return tuple(names) if at == len(listed) and all(names) else ()


class ServerContext(ssl.SSLContext):
    """A context that may leave connections to others, by the name that their clients ask for.

    Python's own callback for that prints a traceback for each name that is not in ASCII: any client could cause it.
    """

    #: Returns the context for a name, empty when the client has named none. None: there is one context for all.
    choose: Callable[[bytes], ssl.SSLContext] | None = None


def server_context() -> ServerContext:
    """Return a context for TLS 1.2 and later, with Python's choice of ciphers, and no certificate yet."""
    default = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context = ServerContext(ssl.PROTOCOL_TLS_SERVER)
    context.verify_mode, context.verify_flags, context.options = ssl.CERT_NONE, default.verify_flags, default.options
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION
    # A client needs one ticket to resume its session. OpenSSL's default is two; each takes 6 % of a handshake's time.
    context.num_tickets = 1
    return context


def openssl_reason(error: ssl.SSLError) -> str:
    """Return OpenSSL's reason for an error, in words."""
    return error.reason.lower().replace("_", " ")


def server_answers(context: ssl.SSLContext) -> Callable[[bytes], bytes]:
    """Return a function for `check_ciphers`: it takes a ClientHello, and returns the answer of a server."""

    def answer(hello: bytes) -> bytes:
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        server = context.wrap_bio(incoming, outgoing, server_side=True)
        incoming.write(hello)
        with suppress(ssl.SSLWantReadError):
            server.do_handshake()
        return outgoing.read()

    return answer


def check_ciphers(answer: Callable[[bytes], bytes]) -> None:
    """Check that a server and a client can agree on a cipher for the server's certificate.

    The client accepts every cipher that OpenSSL has, and any certificate. It has OpenSSL's default curves and
    signatures, like nearly all clients: a certificate on another curve would suit only special clients.

    :param answer: returns the server's answer to a ClientHello, or raises the server's error.
    :raises ssl.SSLError: the server's or the client's error, when they can't agree.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_ciphers("ALL:@SECLEVEL=0")
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = context.wrap_bio(incoming, outgoing)
    with suppress(ssl.SSLWantReadError):
        client.do_handshake()
    incoming.write(answer(outgoing.read()))
    with suppress(ssl.SSLWantReadError):
        client.do_handshake()
