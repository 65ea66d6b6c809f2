"""Twisted's ports, endpoints and transports, faster, on an asyncio reactor's event loop.

A connection is made of layers, each of which knows only its neighbours (`layers`): the socket (`socket_transport`, with
its system calls in `syscalls`), TLS where there is some (`tls_transport`, with `tls_records` and `tls_handshake`), and
on top one of Twisted's transports (`transport` with `output`; `secure` with TLS). What a socket receives goes up by
`data_received`, to the protocol. What the protocol writes goes down by `write_nocheck`; the lowest layer keeps what the
kernel does not take. Ports (`port`) accept the sockets, and `reactor` gives the ports to Twisted's endpoints. What TLS
agrees on is in `negotiation`, addresses are in `addresses`, what killed servers have left is for `stale_sockets`.

Nothing here may know of WebSocket, or of wshost's options, connections and handlers: any Twisted program could use it.
"""
