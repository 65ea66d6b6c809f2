"""Backplanes carry published messages to every hub that has subscribers for them.

`memory` works within one process; `wshost.publish` uses it. Another backplane, over a broker for example, is an object
that provides `wshost.interfaces.IExchange`, and is given to `wshost.server.Server` as an argument.

`publish` gives a message to the backplane, in any thread. The backplane gives the message to the `ILocalTopics` of each
hub that has subscribed to the topic, or to a pattern of it. The hub then sends it to its subscribers: see
`wshost.topics`.

Nothing here knows a connection, a protocol or an option. No backplane may block: one that waits returns a Deferred.
"""
