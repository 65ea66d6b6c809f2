"""Where a connection lives, and how a reference to it is written: as text, and signed. Knows no connection.

The text is ``node.boot.id``: the machine's name, one run of one server there, and the connection's id in it. A boot is
random, so the reference of a connection that is gone never names a later one.
"""

from __future__ import annotations

import hmac
import re
import secrets
import socket
from base64 import urlsafe_b64encode
from functools import lru_cache
from hashlib import sha256
from typing import NamedTuple

#: The bytes of a boot: so many that no two runs ever have the same (64 bits).
_BOOT = 8
#: The bytes of a signature (128 bits of HMAC-SHA256).
_SIGNED = 16
#: The longest name of a node, as that of a host in the DNS (RFC 1035 §2.3.4).
MAX_NODE = 63
#: The shortest key that may sign references, in bytes.
MIN_KEY = 16

_BOOT_TEXT = r"[A-Za-z0-9_-]{11}"
_TEXT = re.compile(
    rf"(?P<node>[A-Za-z0-9_-]{{1,{MAX_NODE}}})\.(?P<boot>{_BOOT_TEXT})\.(?P<id>(?:w[0-9]{{1,9}})?c[0-9]{{1,19}})"
)


class Home(NamedTuple):
    """One run of one server: all connections in it have different ids."""

    #: The name of the machine, for people.
    node: str
    #: Names the run; in URL-safe base64 (RFC 4648 §5).
    boot: str

    @classmethod
    def new(cls, node: str | None = None) -> Home:
        """Return one that never was. :param node: by default, the machine's name."""
        return cls(this_machine() if node is None else node, _base64(secrets.token_bytes(_BOOT)))


def this_machine() -> str:
    """Return the machine's name, without its domain, in characters that a node's name may have."""
    name = re.sub(r"[^A-Za-z0-9_-]", "-", socket.gethostname().partition(".")[0])
    return name[:MAX_NODE] or "node"


def is_node(name: str) -> bool:
    """Return whether a node may have this name: 1 to 63 of ASCII's letters, digits, ``-`` and ``_``."""
    return re.fullmatch(rf"[A-Za-z0-9_-]{{1,{MAX_NODE}}}", name) is not None


def is_boot(name: str) -> bool:
    """Return whether a run may have this name."""
    return re.fullmatch(_BOOT_TEXT, name) is not None


def write(home: Home, id: str) -> str:
    """Return a reference as text. It has at most 106 characters: letters, digits, ``-``, ``_`` and ``.``."""
    return f"{home.node}.{home.boot}.{id}"


@lru_cache(maxsize=1_024)
def read(text: str) -> tuple[Home, str]:
    """Return the home and the id in a reference's text. Many ask for the same one again and again.

    :param text: an exact str.
    :raises TypeError: when it is no str.
    :raises ValueError: when it is no such text.
    """
    match = _TEXT.fullmatch(text)
    if match is None:
        raise ValueError(f"{text[:120]!r} is not a reference, such as web-1.hD3kP0aQ9zE.c17")
    return Home(match["node"], match["boot"]), match["id"]


def sign(text: str, key: bytes) -> str:
    """Return a text with its signature behind it. :raises ValueError: for a key of less than 16 bytes."""
    return f"{text}.{_signature(text, key)}"


def check_signature(signed: str, key: bytes) -> str:
    """Return the text that was signed.

    :raises TypeError: when it is no str.
    :raises ValueError: when it was not signed with this key.
    """
    text, _, signature = signed.rpartition(".")
    if not hmac.compare_digest(signature.encode(), _signature(text, key).encode()):
        raise ValueError("the reference was not signed with this key")
    return text


def _signature(text: str, key: bytes) -> str:
    if len(key) < MIN_KEY:
        raise ValueError(f"a key that signs references has at least {MIN_KEY} bytes, not {len(key)}")
    # What is signed begins with its purpose: the key may sign other things, too.
    return _base64(hmac.digest(key, b"wshost.Ref\0" + text.encode(), sha256)[:_SIGNED])


def _base64(data: bytes) -> str:
    return urlsafe_b64encode(data).rstrip(b"=").decode("ascii")
