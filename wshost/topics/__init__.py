"""Topics: their subscribers, and the messages that were published in the current turn of the reactor.

`subscriptions` has the topics of one hub. It tells the backplane when a topic gets its first subscriber here and loses
its last one. The backplane gives messages to `subscriptions`, in any thread. `pending` keeps the messages until the
turn ends, and then writes to each subscriber's stream those that this subscriber has not got yet. `publication` encodes
each message once for all subscribers with the same encoding, and joins the messages of a turn. `patterns` finds the
patterns that match a topic. `losses` tells subscribers how many messages were lost, if they ask for it.

Nothing here knows a protocol: a module says how its messages are encoded (`IContext.use_encoding`), or is asked to send
each one. Nothing here knows which backplane there is.
"""
