"""The module http: reads one bounded request head, then refuses it or switches to another module. Knows no frames."""
