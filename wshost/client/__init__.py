"""Lets programs that are no wshost process reach the connections of a cluster, through its broker.

`blocking` is for any thread of any program, and `asynchronous` for asyncio. Both carry out the steps of a
`conversation`, which decides what is written to the broker, and when another one is tried; `steps` are what it asks
for. A `session` is one connection to a broker. It uses a backplane of `wshost.backplanes`, for which `link` stands in
for a connection. `requests` checks what users ask for, `configuration` reads the URLs and the files for TLS, and
`forks` sees that a forked process begins anew.

A request goes through conversation and session to a socket; the answer goes back. Nothing here may start a reactor, or
know a server.
"""
