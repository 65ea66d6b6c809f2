"""The log of the commands: what comes into it, what a line looks like, where it goes. Knows no connection, no option.

- `entry` is one event as all formats see it; it is made of an event of Twisted's.
- `standard_logging` turns records of Python's `logging`, and warnings, into events of Twisted's.
- `formats` makes a line of an entry: text or JSON.
- `output` writes lines to a file or a stream, and opens the file again when it was moved.
- `limit` and `text` limit what peers can cause: the events of each kind, and the characters of a text.
"""
