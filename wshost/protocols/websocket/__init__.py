"""The protocol module websocket: RFC 6455, and compression by RFC 7692.

`module` makes a `driver` for each connection, by its `options`. The driver has the connection's state. First it checks
the request: `handshake`, `browsers`, `origin`, `extensions`. Then the handler's session accepts or rejects it.

Input: `reader` takes the peer's bytes frame by frame. `plain_frames` reads a whole message, `partial_frame` reads a
large one that arrives in pieces. `masking` unmasks, `deflate` inflates. All other frames go to `autobahn_engine`, which
checks them by RFC 6455; `on_demand` imports it when it is needed. All of them report to a `sink`: the driver. It gives
messages to the session.

Output: the driver makes frames of the session's messages, deflated or not; `control` makes control frames; `encodings`
makes frames of published messages. The driver writes frames to its context.

`keepalive` has the limits on times and on pings; `limited` is a driver with limits on messages and bytes a second.
Nothing here knows a socket, or users' code: a session is an `ISession`.
"""
