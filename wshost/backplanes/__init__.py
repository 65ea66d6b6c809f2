"""Backplanes carry published messages to every hub that has subscribers for them.

`memory` works within one process; `wshost.publish` uses it. It is an `IExchange`; another one may be given to
`wshost.server.Server` as an argument. An exchange gives messages to the `ILocalTopics` of hubs that have subscribed.

`nats` and `redis` are each an `IBackplane`: they carry bytes to other processes, and know no topics. The bytes for NATS
are made in `nats_wire`, its proof of who we are in `nats_credentials`. Those for Redis are made in `resp`;
`redis_speaker` says them, `redis_subscriptions` makes patterns of ours its own, `subjects` matches ours again, and
`sentinel` asks for the master. Backplanes over a broker share `link`, which keeps a `connection`, maybe with `tls`, to
one of the brokers in `settings`; what waits is in `output`. `conformity` checks any `IBackplane`.

Nothing here knows a client's connection, or reads an option. No backplane may block: one that waits returns a Deferred.
"""
