"""Proves to a NATS server who we are: user and password, token, or a .creds file. Knows no connection."""

from __future__ import annotations

import binascii
import re
from base64 import b32decode, b32encode, urlsafe_b64encode
from pathlib import Path
from typing import TYPE_CHECKING

from wshost.results import ConfigurationError

if TYPE_CHECKING:
    from wshost.backplanes.settings import Broker

#: The first byte of a user's public key, which makes it begin with U; that of a seed is S, and says whose.
_USER = 20 << 3
_SEED = 18 << 3
_JWT = re.compile(r"-{3,} *BEGIN NATS USER JWT *-{3,}\s*(\S+)\s*-{3,}")
_NKEY = re.compile(r"(?:-{3,} *BEGIN USER NKEY SEED *-{3,}\s*|\A\s*)(S[A-Z2-7]+)\s*(?:-{3,}|\Z)")


def proof(broker: Broker, credentials: str | None, nonce: str) -> dict[str, str]:
    """Return the fields of CONNECT that say who we are.

    :param broker: its URL may hold a user and a password, or a token.
    :param credentials: the path of a file with a JWT and the seed of an nkey, or with the seed alone.
    :param nonce: what the server wants signed.
    :raises ConfigurationError: with one line, when the file can't be read, or is wrong.
    """
    if credentials is not None:
        return _signed(credentials, nonce)
    if broker.password is not None:
        return {"user": broker.username or "", "pass": broker.password}
    return {} if broker.username is None else {"auth_token": broker.username}


def _signed(path: str, nonce: str) -> dict[str, str]:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey  # noqa: PLC0415 - few need it

    try:
        text = Path(path).read_text(encoding="ascii")
    except OSError as error:
        raise ConfigurationError(f"{path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigurationError(f"{path}: these are no credentials of NATS") from error
    jwt, nkey = _JWT.search(text), _NKEY.search(text)
    if nkey is None:
        raise ConfigurationError(f"{path}: there is no seed of a user's nkey in it")
    key = Ed25519PrivateKey.from_private_bytes(_seed(path, nkey[1]))
    signature = urlsafe_b64encode(key.sign(nonce.encode())).decode().rstrip("=")
    if jwt is not None:
        return {"jwt": jwt[1], "sig": signature}
    return {"nkey": _encoded(bytes([_USER]) + key.public_key().public_bytes_raw()), "sig": signature}


def _seed(path: str, text: str) -> bytes:
    """Return the 32 bytes of a seed: it has 2 bytes before them, and a checksum of 2 behind them."""
    try:
        raw = b32decode(text + "=" * (-len(text) % 8))
    except binascii.Error:
        raw = b""
    whole = len(raw) == 36 and _checksum(raw[:-2]) == raw[-2:]
    if not whole or raw[0] & 0xF8 != _SEED or (raw[0] & 7) << 5 | raw[1] >> 3 != _USER:
        raise ConfigurationError(f"{path}: the seed of the nkey in it is damaged, or not a user's")
    return raw[2:-2]


def _encoded(raw: bytes) -> str:
    return b32encode(raw + _checksum(raw)).decode().rstrip("=")


def _checksum(raw: bytes) -> bytes:
    return binascii.crc_hqx(raw, 0).to_bytes(2, "little")
