"""Runs the user's handler for each connection. Knows no frames, no sockets and no HTTP: a connection is an `IChannel`.

`adapter` makes a `session` for each connection; `router` chooses an adapter by the connection's route. The channel
gives a session the peer's messages, and infos from refs. The session calls `handle` with one at a time. The answer is:

- awaited, if it is awaitable: `awaiting` starts it, a coroutine as one of our `tasks`, which takes `steps`; `waiting`
  waits for it and limits the time;
- checked as a whole, and turned into one value: `answers`;
- carried out by the session, through the channel.

The handler is called from within calls of the channel, or at the end of a turn, but never from within users' code: a
session puts off infos, which users' code may send. Sessions of `restarting` call `init` again after a crash. `timed`
times a handler for `--admin`; `holding` names the one that a thread is busy with. `echo` is the smallest handler, for
trying things out.
"""
