"""Backplanes carry published messages to every hub that has subscribers for them.

`memory` works within one process; `wshost.publish` uses it. It is an `IExchange`; another one may be given to
`wshost.server.Server` as an argument. An exchange gives messages to the `ILocalTopics` of hubs that have subscribed.

`nats` is an `IBackplane`: it carries bytes to other processes, and knows no topics. Its bytes are made in `nats_wire`,
its proof of who we are in `nats_credentials`. Backplanes over a broker share `link`, which keeps a `connection`, maybe
with `tls`, to one of the brokers in `settings`; what waits is in `output`. `conformity` checks any `IBackplane`.

Nothing here knows a client's connection, or reads an option. No backplane may block: one that waits returns a Deferred.
"""
