"""The server's part of a TLS handshake, record by record. Knows no socket and no time."""

from __future__ import annotations

from ssl import SSLError, SSLObject, SSLWantReadError

from wshost.fastnet.negotiation import NO_APPLICATION_PROTOCOL, ClientHello
from wshost.fastnet.tls_records import Buffers


class Handshake:
    """One handshake.

    :param ssl_object: reads from and writes to `buffers`.
    :param protocols: the protocols that `ssl_object` may select by ALPN. A client that offers only others is refused
        (RFC 7301 §3.2), which `ssl` does not do. If this is empty, no client is refused.
    """

    __slots__ = ("_buffers", "_choose", "_hello", "_protocols", "_ssl_object")

    def __init__(self, ssl_object: SSLObject, buffers: Buffers, protocols: tuple[bytes, ...]) -> None:
        self._ssl_object = ssl_object
        self._buffers = buffers
        self._protocols = protocols
        # Chooses another context by the name that the client asks for; see `ServerContext`.
        self._choose = getattr(ssl_object.context, "choose", None)
        # None once the client's protocols and its name are known.
        self._hello = ClientHello() if protocols or self._choose is not None else None

    def feed(self, data: bytes) -> tuple[bytes, bytes | None, SSLError | None]:
        """Take the next whole records.

        :returns: the bytes to send, which are an alert when the handshake has failed (RFC 8446 §6.2); the client's
            records after the handshake, None until the handshake is done; the error, None unless it has failed.
        """
        if self._hello is not None and not self._admits(self._hello, data):
            return NO_APPLICATION_PROTOCOL, None, SSLError("the client speaks no protocol of ours (ALPN)")
        buffers = self._buffers
        rest = failure = None
        buffers.busy = True
        try:
            buffers.write_incoming(data)
            self._ssl_object.do_handshake()
            rest = buffers.incoming.read()
        except SSLWantReadError:
            pass
        except SSLError as error:
            failure = error
        finally:
            output = buffers.end_call()
        return output, rest, failure

    def _admits(self, hello: ClientHello, data: bytes) -> bool:
        """Choose the context for a client when its first message is whole.

        :returns: False when the client offers ALPN protocols, but none of `protocols`; True until this is known.
        """
        offered = hello.feed(data)
        if offered is None:
            return True
        self._hello = None
        if self._choose is not None:
            self._ssl_object.context = self._choose(hello.server_name)
        return not (offered and self._protocols) or not set(offered).isdisjoint(self._protocols)
