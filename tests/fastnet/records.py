"""Records of TLS 1.3 that the standard library does not send, behind a handshake of its: RFC 8446 §4.6.3, §5, §7."""

from __future__ import annotations

import hmac
from hashlib import sha256, sha384
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

HANDSHAKE, DATA = 22, 23


class Records:
    """A client's side.

    :param client: has shaken hands, and sent nothing since.
    :param keys: its context's `keylog_filename`.
    """

    def __init__(self, client: Any, keys: Path) -> None:
        name = client.cipher()[0]
        assert name.startswith("TLS_AES_"), name
        self._hash, self._key_size = (sha384, 32) if "256" in name else (sha256, 16)
        [secret] = [line for line in keys.read_text().splitlines() if line.startswith("CLIENT_TRAFFIC_SECRET_0")]
        self._change(bytes.fromhex(secret.split()[2]))

    def record(self, payload: bytes, kind: int = DATA) -> bytes:
        """Return one record."""
        head = bytes((DATA, 3, 3)) + (len(payload) + 17).to_bytes(2, "big")
        nonce = self._nonce ^ self._number
        self._number += 1
        return head + self._key.encrypt(nonce.to_bytes(12, "big"), payload + bytes((kind,)), head)

    def key_update(self, requested: bool = False) -> bytes:
        """Return a record that brings a new key of ours, and may ask for one of theirs."""
        record = self.record(bytes((24, 0, 0, 1, requested)), HANDSHAKE)
        self._change(self._expand(self._secret, b"traffic upd", len(self._secret)))
        return record

    def _change(self, secret: bytes) -> None:
        self._secret = secret
        self._key = AESGCM(self._expand(secret, b"key", self._key_size))
        self._nonce = int.from_bytes(self._expand(secret, b"iv", 12), "big")
        self._number = 0

    def _expand(self, secret: bytes, label: bytes, size: int) -> bytes:
        label = b"tls13 " + label
        info = size.to_bytes(2, "big") + bytes((len(label),)) + label + b"\0"
        # None of them is longer than one block.
        return hmac.digest(secret, info + b"\1", self._hash().name)[:size]
