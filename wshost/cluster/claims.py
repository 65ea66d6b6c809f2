"""Which connection has which name, by the claims of all processes. Knows no thread and no way to other processes."""

from __future__ import annotations

from wshost.cluster.facts import Claim


class Names:
    """The claims to names, by owner. Only `find` may be called in any thread."""

    def __init__(self) -> None:
        # The claims to each name; and the first of them, which counts.
        self._claims: dict[str, dict[str, Claim]] = {}
        self._first: dict[str, Claim] = {}

    def find(self, name: str) -> Claim | None:
        """Return the claim that counts."""
        return self._first.get(name)

    def put(self, owner: str, name: str, claim: Claim) -> None:
        """Note a claim of an owner, which takes the place of the one before."""
        claims = self._claims.setdefault(name, {})
        claims[owner] = claim
        self._first[name] = min(claims.values())

    def remove(self, owner: str, name: str) -> None:
        """Forget the claim of an owner."""
        claims = self._claims[name]
        del claims[owner]
        if claims:
            self._first[name] = min(claims.values())
        else:
            del self._claims[name], self._first[name]
