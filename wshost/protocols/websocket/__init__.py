"""The protocol module websocket: RFC 6455, and compression by RFC 7692.

`module` makes a `driver` for each connection, by its `options`. The driver has the connection's state. First it judges
the request: `handshake`, `browsers`, `origin`, `extensions`. Then the handler's session accepts or rejects it.

In: `reader` takes the peer's bytes frame by frame. `plain_frames` reads a whole message, `partial_frame` a large one
that comes in pieces; `masking` unmasks, `deflate` inflates. All other frames go to `autobahn_engine`, the judge.
The driver gives messages to the session. Out: the session's messages become frames, deflated or not, and `control`
frames. `encodings` makes frames of published messages. The driver writes frames to its context.

`keepalive` has the limits in time and rate. Nothing here knows a socket, or users' code: a session is an `ISession`.
"""
