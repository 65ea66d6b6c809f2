"""Where the server listens: endpoints, certificates, and the PROXY protocol.

`listener` makes an endpoint of a description, listens, and is paused and stopped; on asyncio's reactor it has the ports
of `wshost.fastnet`. `certificates` loads and checks the files for TLS. `proxy_header` reads the header by which a proxy
tells the client's address; `proxy_protocol` takes it off a connection. Bytes go from a port's transport through TLS and
`proxy_protocol`, where there are such, to the protocol that the factory given to `Listener.listen` builds.

Nothing here may know what is spoken over a connection, or the chain, the hub and the options that decide where to
listen: those are passed in.
"""
