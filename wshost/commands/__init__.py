"""The commands `wshost` and `twistd wshost`: they read options, start a server, and say in one line what is wrong.

- `options` reads the command line, the environment and the file, and prints the help. Both commands have these options.
- `start` makes a server that listens: the same for both commands.
- `passed` makes options of the sockets that systemd has passed.
- `foreground` is the command `wshost`, which runs the server itself. `twistd` is the plugin of Twisted's.
- `check` says what would be wrong at the start, and what is in force. `publish` sends one message to a topic.
- `reload` runs the command `wshost` again when a file has changed.
- `log` begins the log of a command.
- `one_line` ends a command with one line.
"""

# Before anything imports Twisted's endpoints: see `passed_sockets.take`.
from wshost.process import passed_sockets as passed_sockets
