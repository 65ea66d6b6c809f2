"""The protocol module http: one request head, then a refusal or a switch to another module.

`module` is the module and its driver. It keeps bytes until the head is whole, at most `max_head_size`, and for at most
`timeout`. `head` parses the head strictly (RFC 9112), and writes refusals. `routes` says which paths are served.

A WebSocket upgrade goes to the next module, or to that of the option `upgrade`, with the parsed `Request` and the bytes
behind the head. Other requests go to the module of the option `otherwise`, from their first byte, or get 426.

Nothing here knows WebSocket beyond the header fields that ask for it. No body is read.
"""
