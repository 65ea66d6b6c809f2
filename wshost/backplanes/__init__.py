"""Backplanes carry bytes between processes, by subject; `wshost.interfaces.IBackplane` is the contract.

`workers` connects the processes of one machine with each other. `nats` goes over NATS: its bytes are made in
`nats_wire`, its proof of who we are in `nats_credentials`. `redis` goes over Redis: its bytes are made in `resp`;
`redis_speaker` speaks with a server, `redis_subscriptions` knows what is subscribed, `sentinel` finds the master.
`redis_cluster` goes over the masters of a Redis Cluster: `shards` divides the subjects among them, `topology` says who
has which. Each is a `cluster_node`, with its `shard_speaker`; `shard_subscriptions` is for all. `cluster_visitor` does
with one connection.
Backplanes over a broker share `link`, which keeps a `connection`, maybe with `tls`, to one of the brokers in
`settings`; `urls` reads these, `candidates` says which is next, and what waits is in `output`. `asked` has whom to tell
that nobody gets a payload. `subjects` says which subjects a subscription means. `conformity` checks any `IBackplane`.

`wshost.cluster` makes subjects and payloads of topics and references, and gives them to a backplane. That gives the
payloads which come from other processes back.

Nothing here knows a topic or a client's connection, or reads an option. No backplane may block: one that waits returns
a Deferred.
"""
