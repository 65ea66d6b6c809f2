"""The servers that are compared, a program each: echo, or give each message to all; as fast as their docs make them."""
