"""Topics: who has subscribed, and what was published to them in the current turn of the reactor.

`subscriptions` has the topics of one hub. It tells the backplane when a topic gets its first subscriber here and loses
its last one. The backplane brings messages to it, in any thread. `pending` keeps them until the turn ends, and then
gives each subscriber's stream what it has not got yet. `publication` encodes each message once for all who use the same
encoding, and joins the messages of a turn.

Nothing here knows a protocol: a module says how its messages are encoded (`IContext.use_encoding`), or is asked to send
each one. Nothing here knows which backplane there is.
"""
