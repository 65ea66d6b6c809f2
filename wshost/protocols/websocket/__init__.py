"""The module websocket: RFC 6455 and RFC 7692, bytes in and bytes out. Knows no socket and no user's handler."""
