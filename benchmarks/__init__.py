"""Compares wshost with its peers, side by side: `make bench`, or ``python -m benchmarks --help``.

Each server is one process on the first core; the load is one process for each server, in C where a compiler is found,
on the last core. The load compares every byte that comes back, however a server frames it. A cell starts all its
servers, each with the settings that its documentation names as fastest; then they take turns of 0.3 seconds, after one
turn each to warm up, and who waits is stopped. What counts is the median over the turns of the server's CPU time for
each message, which the kernel books by the nanosecond; other programs on the machine disturb it less than rate and
latency, but they do, through caches and shared cores. "busy" is the part of the time in which the server was on its
core: where it is low, the load was the limit, the rate says little, and the server woke up for fewer messages at a time
than it would under more load.
k in flight: k messages leave in one write, and the next k when all k answers have come. picows and the limit do not
check that a text is UTF-8. In the deflate cells a server may trade size for speed: see the bytes in the JSON.
"""
