"""The command line of each server program."""

from __future__ import annotations

import argparse
import ssl
from dataclasses import dataclass

from benchmarks.servers.answers import ANSWERS, Answer


@dataclass(frozen=True)
class Arguments:
    """The arguments of one server."""

    port: int
    #: Give each message to all connections, the sender's included, instead of back to its sender.
    broadcast: bool
    #: Agree to permessage-deflate.
    deflate: bool
    #: The async handler, one of `answers.STYLES`.
    style: str
    #: A file with the private key and the certificate, for TLS; or empty.
    cert: str

    def tls(self) -> ssl.SSLContext | None:
        """Return the server's TLS context; None without TLS."""
        if not self.cert:
            return None
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(self.cert)
        return context

    def answer(self) -> Answer | None:
        """Return the work of the async handler; None for an echo."""
        return None if self.style == "echo" else ANSWERS[self.style]


def read_arguments() -> Arguments:
    """Read the command line of this process."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--broadcast", action="store_true")
    parser.add_argument("--deflate", action="store_true")
    parser.add_argument("--style", default="echo")
    parser.add_argument("--cert", default="")
    return Arguments(**vars(parser.parse_args()))
