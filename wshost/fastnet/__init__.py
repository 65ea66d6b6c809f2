"""Twisted's ports, endpoints and transports, faster, on an asyncio reactor's event loop.

A connection is made of layers, each of which knows only its neighbours (`layers`): the socket (`socket_transport`, with
its system calls in `syscalls`), TLS if the port has it (`tls_transport`, with `tls_records` and `tls_handshake`), and
on top a transport with Twisted's interfaces (`transport` with `output`; `secure` with TLS). Received bytes go up to the
protocol by `data_received`. Written bytes go down by `write_nocheck`; the lowest layer keeps those that the kernel does
not take yet. Ports (`port`) accept the sockets, and `reactor` gives them to Twisted's endpoints; `client` does both for
connections that this process makes. `poll` watches all sockets. `negotiation` negotiates ciphers and ALPN in TLS,
`addresses` converts addresses, `stale_sockets` removes sockets of killed servers, `adopted` has ports for sockets that
listen already.

Nothing here may know of WebSocket, or of wshost's options, connections and handlers: any Twisted program could use this
package.
"""
