"""Random conversations of several peers with one server in memory, and a model that says what must come of them.

- `peer`: one peer, down to the byte: cuts, pauses, FIN, RST.
- `plans`: what a handler does with one message, as data.
- `handler`: the handler that does so.
- `conversation`: what one connection owes its peer and its handler. This is the model.
- `server`: the server in memory.
- `asked`: what the handler and refs ask for, and what that means for the model.
- `world`: the steps, and what must hold after them.
- `machine`: chooses the steps, by hypothesis; it is the command ``python -m torture.stateful.machine``.
- `row`: the test of `make torture`, which runs that command.

Nothing here opens a socket or sleeps. Time is a clock that the steps move.
"""
