"""The admin endpoint: shows operators how the server is, and closes connections for them. Only with `--admin`.

`endpoint` says where it may listen, and listens. `site` speaks HTTP there: it has the limits, and refuses pages of
browsers. It gives each request to `pages`, which finds the answer by the path. `here` has it where one process serves:
the state of the server, the numbers of `metrics` for Prometheus, or `connections` as JSON. All of them read what `seen`
has. `totals` adds up the connections, a few in each turn; `sums` adds up the metrics of workers.

Nothing here is called for a message. No number is counted here: each is counted where its event happens, and read here.
Nothing here knows the server, the hub, or the protocols of clients.
"""
