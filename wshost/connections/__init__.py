"""Connections: who is let in, what drives each one, what it writes, and how it ends.

`hub` makes connections, and drains them when the server stops. It also makes the values that they `shared`: limits,
`timers`, the reactor's `turn`, `failures`, and the `registry` in which a `ref` finds its connection. A connection has
these values, and not the hub. `admission` counts connections; `thread` is the way in from other threads.

Bytes come from the transport to `connection`. Its `context` gives them to the driver of the current protocol module.
What the module writes goes to `stream`, and from there, once a turn, to the transport. No other file writes to it.
`kernel` asks the operating system how much of it the peer has taken. `address` makes text of addresses.

Nothing here knows what a protocol's bytes mean, or imports a protocol, a handler, an option or a listener.
"""
