"""Chooses one of several certificates by the name that a client asks for (RFC 6066 §3). Knows no file and no TLS."""

from __future__ import annotations

from collections.abc import Sequence


class ServerNames:
    """The names of several certificates.

    :param certificates: the names of each: ``chat.example.com``, or ``*.example.com`` for any one label there.
    """

    def __init__(self, certificates: Sequence[Sequence[str]]) -> None:
        self._places: dict[bytes, int] = {}
        for place, names in enumerate(certificates):
            for name in names:
                self._places.setdefault(name.lower().encode(), place)

    def place(self, name: bytes) -> int:
        """Return the place of the certificate for a name: an exact name goes before a wildcard.

        :param name: as it came from the client; empty if it has named none.
        :returns: 0, the first certificate, when no certificate has the name.
        """
        name = name.lower()
        found = self._places.get(name)
        return self._places.get(b"*." + name.partition(b".")[2], 0) if found is None else found

    def serves(self, place: int) -> bool:
        """Say whether the certificate at this place is ever chosen: it is the first, or it has a name of its own."""
        return not place or place in self._places.values()
