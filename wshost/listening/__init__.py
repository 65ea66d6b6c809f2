"""Where the server listens: endpoints, certificates, and the PROXY protocol.

`listener` makes an endpoint of a description, listens, and can be paused and stopped; on an asyncio reactor it uses the
ports of `wshost.fastnet`. `trial` tries whether that would succeed. `certificates` loads and checks the files for TLS;
by `sni` a client gets that certificate which has the name it asks for. `proxy_header` parses the header in which a
proxy names the client's address; `proxy_protocol` removes the header from a connection. Bytes go from a port's
transport through TLS and that, if the endpoint has them, to the protocol. The factory of protocols is an argument of
`Listener.listen`.

Nothing here may know what protocol a connection speaks, or the chain, the hub or the options. They are passed in.
"""
