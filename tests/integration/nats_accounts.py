"""Makes keys and credentials of NATS, as its tool nsc does: an operator, an account and a user. Knows no server."""

from __future__ import annotations

import binascii
import json
import time
from base64 import b32encode, urlsafe_b64encode
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

#: The first bytes of public keys.
OPERATOR, ACCOUNT, USER = 14 << 3, 0, 20 << 3
_SEED = 18 << 3


class Key:
    """An nkey. :param kind: the first byte of its public key. :param private: 32 bytes."""

    def __init__(self, kind: int, private: bytes) -> None:
        self._key = Ed25519PrivateKey.from_private_bytes(private)
        self.public = _encoded(bytes([kind]) + self._key.public_key().public_bytes_raw())
        self.seed = _encoded(bytes([_SEED | kind >> 5, (kind & 31) << 3]) + private)

    def token(self, subject: Key, claims: dict[str, Any]) -> str:
        """Return a JWT about another key, signed by this one."""
        header = {"typ": "JWT", "alg": "ed25519-nkey"}
        body = {
            "jti": "1",
            "iat": int(time.time()),
            "iss": self.public,
            "sub": subject.public,
            "name": "test",
            "nats": {"version": 2, **claims},
        }
        signed = ".".join(_base64(json.dumps(part).encode()) for part in (header, body))
        return f"{signed}.{_base64(self._key.sign(signed.encode()))}"


def _base64(raw: bytes) -> str:
    return urlsafe_b64encode(raw).decode().rstrip("=")


def _encoded(raw: bytes) -> str:
    return b32encode(raw + binascii.crc_hqx(raw, 0).to_bytes(2, "little")).decode().rstrip("=")


def account_and_credentials() -> tuple[str, str]:
    """Return the configuration of a server with an operator and one account, and a user's .creds file for it."""
    operator, account, user = Key(OPERATOR, b"o" * 32), Key(ACCOUNT, b"a" * 32), Key(USER, b"u" * 32)
    counts = ("subs", "conn", "leaf", "imports", "exports", "data", "payload")
    limits = {**dict.fromkeys(counts, -1), "wildcards": True}
    account_token = operator.token(account, {"type": "account", "limits": limits})
    user_limits = {"subs": -1, "data": -1, "payload": -1, "pub": {}, "sub": {}}
    user_token = account.token(user, {"type": "user", **user_limits})
    configuration = (
        f"operator: {operator.token(operator, {'type': 'operator'})}\n"
        f"resolver: MEMORY\nresolver_preload: {{ {account.public}: {account_token} }}\n"
    )
    credentials = (
        f"-----BEGIN NATS USER JWT-----\n{user_token}\n------END NATS USER JWT------\n\n"
        "************************* IMPORTANT *************************\n\n"
        f"-----BEGIN USER NKEY SEED-----\n{user.seed}\n------END USER NKEY SEED------\n"
    )
    return configuration, credentials
