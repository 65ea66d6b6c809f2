"""Compares wshost with its peers, side by side: `make bench`, or ``python -m benchmarks --help``.

A cell is one row of the table. It starts all its servers, each one process on the first core, with the settings that
its documentation calls fastest. Each server has a load of its own on the last core: a program in C if there is a
compiler, else this process. The load compares every byte that comes back, in whatever frames a server sends it. The
servers take turns of 0.3 seconds, after a turn each to warm up; a server that waits for its turn is stopped. The
figure that counts is the server's CPU time for each message: the median over the turns. The kernel counts this time
in nanoseconds. Other programs on the machine affect it less than rate and latency, but still do, through caches and
shared cores. "busy" is the part of the time in which the server was on its core. If it is low, the load was the
limit, the rate says little, and the server woke up for fewer messages at a time than under more load. "k in flight"
means that k messages leave in one write, and the next k when all k answers have arrived. picows and the limit do not
check that a text is UTF-8. In the deflate cells a server may trade size for speed: see the bytes in the JSON.
"""
