"""What several processes cost, and what they survive: each figure with its goal. `make scale` runs it.

`rows.py` lists the rows. A row starts brokers (`brokers.py`) and servers (`nodes.py`), makes clients (`crowd.py`), and
yields figures of `torture`. All servers of a row share one core; clients and brokers have another one. A cost is the
CPU time of processes, as the kernel counts it, so that a busy machine changes it little; the rows measure in turns, and
show the least and the median. What servers do at a client's word is in `handler.py`; other servers are in `servers/`.

Nothing here is for `make test`: these rows take time and measure it. What can be said without a clock is said in
`tests/`. Nothing of wshost may import this package.
"""
