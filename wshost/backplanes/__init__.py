"""Backplanes carry bytes between processes, by subject; `wshost.interfaces.IBackplane` is the contract.

`workers` connects the processes of one machine with each other. `urls` reads which brokers there are, and `settings` are
what a backplane is told of them. `subjects` says which subjects a subscription means.

`wshost.cluster` makes subjects and payloads of topics and references, and gives them to a backplane. That gives the
payloads which come from other processes back.

Nothing here knows a topic, a connection, a protocol or an option. No backplane may block: one that waits returns a
Deferred.
"""
