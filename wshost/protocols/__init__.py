"""The protocol modules of a connection's chain: each turns bytes into results, and does no I/O."""
