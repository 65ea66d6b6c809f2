"""All processes and machines that serve together: what is published in one reaches the subscribers of all.

`exchange` is what a process publishes to, and subscribes with. It brings each message to the hubs of its own process
first, which `local` knows, then `outside`: to its backplanes (`wshost.backplanes`), which carry bytes by subject.
`subjects` makes subjects of topics and of homes; `envelope` makes bytes of messages; `sequence` numbers them, so that
lost ones are counted, and none comes twice. `elsewhere` stands for the connections of other processes, so that
references act on them; `reach` finds out that a request reaches nobody.

`directory` knows names and presences of connections, and who monitors whom; `holdings` is its side of this process, and
`moving` has them go over with connections. Of these, `claims`, `presence` and `monitors` are parts. This process's own
`facts` are in its `ledger`; `members` tells them to all others, and keeps theirs.

Nothing here knows a broker, a protocol or a handler. What comes from a backplane is checked before it is used.
"""
