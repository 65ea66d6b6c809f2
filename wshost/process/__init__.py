"""The process that the server runs in. Knows no connections, options or handlers, and imports nothing else of ours.

- `reactors` chooses the reactor and its clock, before anything else imports one.
- `ending` handles signals, SystemExit and KeyboardInterrupt, and decides on the exit status. Whoever runs users' code
  tells it of these; it tells the server when there is no more time to drain.
- `open_files` and `allocator` set the process's limits, once, when the command starts.
- `log_limit` and `log_text` bound what peers can make the process log: events of a kind, and the text of each.
"""
