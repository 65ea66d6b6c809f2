"""Twisted's ports, endpoints and transports over aiofastnet's. Knows nothing else of wshost."""
