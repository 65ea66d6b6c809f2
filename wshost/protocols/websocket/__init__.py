"""The module websocket: RFC 6455 and RFC 7692. No socket, and no user's handler."""
