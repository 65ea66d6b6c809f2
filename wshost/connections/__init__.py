"""Connections: their admission, the module that drives each of them, their output, and their end.

`hub` makes connections, and `drain` ends them when the server stops; by `handover`, they go on in another process. The
hub also makes the values that all connections share (`shared`): limits, `timers`, the reactor's `turn`, `failures`, and
the `registry`, where a `ref` finds its connection. `home` says how a ref is written as text, and `homes` which registry
a text means, of this process or of another. A connection knows these values, but not the hub. `admission` counts
connections, `rate` those that an address makes a second. `account` counts refusals and ends, and logs connections at
their end. Other threads call in by `thread`.

Bytes come from the transport to `connection`. Its `context` gives them to the driver of the current protocol module.
What the module writes goes to `stream`, and from there, once a turn, to the transport. No other file writes to the
transport. `waiters` are told when the peer has taken what waited; messages that may be dropped meanwhile are in its
`outbox`. A `confirmation` follows one message until it was written; both are `awaited`, also by asyncio's tasks.
`budget` limits the output of all slow peers together. `kernel` asks the operating system how much output the peer has
taken. `address` formats addresses as text.

Nothing here knows what a protocol's bytes mean, or imports a protocol, a handler, an option or a listener.
"""
