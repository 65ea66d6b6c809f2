"""The server's process. Knows no connections, options or handlers, and imports no other package of wshost.

- `reactors` chooses the reactor and its clock, before anything else imports a reactor.
- `ending` handles signals, SystemExit and KeyboardInterrupt, and decides on the exit status. Code that runs users' code
  tells it of these two exceptions. It tells the server when there is no more time to drain.
- `open_files`, `allocator` and `collector` set the process's limits, once, when the command starts.
- `log_limit` and `log_text` limit what peers can cause in the log: the events of each kind, and the text of an event.
"""
