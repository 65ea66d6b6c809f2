"""Runs the user's handler for each connection. Knows no frames, no sockets and no HTTP: a connection is an `IChannel`.

`adapter` makes a `session` for each connection; `router` chooses an adapter by the connection's route. The channel
gives a session the peer's messages, and infos from refs. The session calls `handle` with one at a time. The answer is:

- awaited, if need be: `awaiting` makes a Deferred of it, `waiting` waits and limits the time;
- checked as a whole, and made one value: `answers`;
- asked of the channel, by the session.

The handler is called when the channel calls, or at the end of a turn, but never from within users' code: a session
puts off what may come from there. `echo` is the smallest handler, for trying things out.
"""
