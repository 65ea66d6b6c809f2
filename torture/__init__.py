"""What wshost survives: attacks and faults against a real server, each figure with its goal. `make torture` runs it.

`tests.py` lists the tests. A test starts a server on one core (`server.py`), attacks it from another one, and yields
figures (`figures.py`). A polite client in a process of its own (`polite.py`) tells what the attack costs others. Where
it is fair, `--peers` runs the same attack against other servers.

Nothing here is for `make test`: these tests take time and measure it. What can be said without a clock is said in
`tests/`. Nothing of wshost may import this package.
"""
