"""Backplanes carry published messages to every hub that has subscribers for them.

`memory` does it within one process, and is what `wshost.publish` uses. Another one, over a broker, is an object that
provides `wshost.interfaces.IBackplane`, and an argument of `wshost.server.Server`.

`publish` gives a message to the backplane, in any thread. The backplane gives it to the `ILocalTopics` of each hub that
has subscribed to the topic. From there on it is the hub's: see `wshost.topics`.

Nothing here knows a connection, a protocol or an option. No backplane blocks: one that waits returns a Deferred.
"""
