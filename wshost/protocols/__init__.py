"""The protocol modules of a connection's chain. Each turns the peer's bytes into what its protocol means.

`http` takes the request head, `websocket` the connection after that; `factory` makes a module of any Twisted protocol.
Modules of users are their equals: all of them provide `wshost.interfaces.IProtocolModule`.

A module's `init` is called for each connection, and returns the driver. Bytes from the peer come in by
`handle_connection_in`. Bytes for the peer go out by `context.write`. What a driver returns says how the connection goes
on: `Switch` to another module, `Close` or `Stop`; bytes in it are written, too.

Nothing here does I/O, starts a timer of the reactor's, or imports what calls it. Times come from the context.
"""
