"""The protocol modules of a connection's chain. Each speaks one protocol with the peer.

`http` reads the request head, and `websocket` drives the connection from then on. `factory` runs any Twisted protocol
as a module. Users may add modules of their own: all modules provide `wshost.interfaces.IProtocolModule`.

A module's `init` is called for each connection, and returns the driver. Bytes from the peer come in by
`handle_connection_in`. Bytes for the peer go out by `context.write`. A driver's method may return a transition:
`Switch` to another module, `Close` or `Stop`. Bytes that it returns are written, too.

Nothing here does I/O, starts a timer of the reactor, or imports its callers. Timers come from the context.
"""
