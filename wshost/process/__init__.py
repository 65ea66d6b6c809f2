"""The server's process. Knows no connections, options or handlers, and imports no other package but `logs`.

- `reactors` chooses the reactor and its clock, before anything else imports a reactor.
- `ending` handles signals, SystemExit and KeyboardInterrupt, and decides on the exit status. Code that runs users' code
  tells it of these two exceptions. It tells the server when there is no more time to drain.
- `open_files`, `allocator` and `collector` set the process's limits, once, when the command starts.
- `signals` makes calls at the signals that do not end the process.
- `takeover` passes sockets, and what else is to be known, from a process to its successor.
- `systemd` tells systemd when the server is ready, and when it stops; `passed_sockets` are those that it has passed.
- `watchdog` looks for turns of the reactor that take long; `stacks` reads what the reactor's thread does meanwhile.
"""
