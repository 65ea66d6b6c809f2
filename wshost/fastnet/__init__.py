"""Twisted's ports, endpoints and transports, on an asyncio reactor's event loop. Knows nothing else of wshost.

Below the transports are sockets and TLS of our own; where nothing is compiled, the sockets are aiofastnet's.
"""
