"""Several processes that serve as one: a supervisor, a template and the workers (`--workers`).

- `supervisor` is the service: it puts the roles together, and hears what workers say. It runs no users' code.
- `staffing` keeps as many workers as there are to be; `forking` is where they come from. `stopping` has them all drain
  and end. `reloads` has them reload, in `rounds`: one after another.
- `passing` accepts connections in the supervisor, and passes each to the worker with the fewest.
- `crew` is what the supervisor knows of its workers; `health` finds those that hang; `deaths` says how soon a dead one
  is replaced.
- `endpoints` are those for clients, and that for operators: all accept at the same time.
- `succession` is the way to the process that takes over, and to the one before. `resigning` leaves the endpoints to the
  first, and `giving` has the workers give it their connections; `adopting` passes those of the second on to workers.
- `template` is the process that the workers are forked from; `worker` is a server in a worker.
- `verdicts` counts connections for all workers, in the supervisor, and brings its decision to a worker; by `asks`, a
  worker asks about clients that proxies have named.
- `overview` shows operators all workers as one: it asks each, and `answers` has what it says.
- `line` is one end of the connection between two of these processes, `packets` the form of what goes over it; `kit` is
  what each worker has to know; `ports` are the listening sockets.

Connections and commands go from the supervisor to a worker, reports go back. Workers share no memory but what the
template had when it forked. Nothing here may read or write a client's socket, or know a protocol or a handler.
"""
