"""The servers that are compared, a program each: echo, or give each message to all; at its fastest documented settings."""
