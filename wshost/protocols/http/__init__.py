"""The protocol module http: it reads one request head, then refuses it or switches to another module.

`module` is the module, `options` has its checked options, `driver` is its part for one connection. A driver keeps at
most `max_head_size` bytes, for at most `timeout` seconds, until the head is whole. `fields` splits the head, `head`
judges it strictly (RFC 9112), and writes refusals. `forwarded` finds the client behind trusted proxies. `routes` says
which paths are served.

A WebSocket upgrade goes to the next module, or to the module that the option `upgrade` names, with the parsed `Request`
and the bytes after the head. Other requests go to the module that the option `otherwise` names, from their first byte;
without that option they get 426.

Nothing here knows WebSocket beyond the header fields that ask for it. No body is read.
"""
