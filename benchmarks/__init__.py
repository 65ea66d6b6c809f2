"""Compares wshost with its peers, side by side: `make bench`, or ``python -m benchmarks --help``.

Each server is one process on the first core; the load is one process on the last core. The load compares every byte
that comes back: first with the frames in their shortest form; if a server frames in another way, the load parses. A
cell starts all its servers, each with the settings that its documentation calls fastest. Then every round measures one
server after the other, after a warm-up. The figure that counts is the server's CPU time for each message: the median
over the rounds. The kernel counts this time in nanoseconds. Other programs on the machine affect it less than rate and
latency, but still do, through caches and shared cores. "busy" is the part of the time in which the server was on its
core. If it is low, the load was the limit, the rate says little, and the server woke up for fewer messages at a time
than under more load. "k in flight" means that k messages leave in one write, and the next k when all k answers have
arrived. picows and the limit do not check that a text is UTF-8. In the deflate cells a server may trade size for speed:
see the bytes in the JSON.
"""
