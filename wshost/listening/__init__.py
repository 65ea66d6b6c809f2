"""Where the server listens: endpoints, certificates, the PROXY protocol. No chain and no connection."""
