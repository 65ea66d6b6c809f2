"""The process that the server runs in: its reactor, its end, its files, its memory, its log. No connection."""
