"""The command `wshost publish`: sends one message to the subscribers of a topic, from a shell. Serves nobody."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from itertools import takewhile

from twisted.python import usage

from wshost.client.blocking import connect
from wshost.client.steps import UndeliveredError
from wshost.commands import options
from wshost.commands.one_line import one_line
from wshost.results import ConfigurationError

#: The longest message that is read, in bytes; brokers take less.
MOST = 64 << 20


class Options(options.Options):
    """The options of `wshost publish`: those of a server, of which only the ones about the broker mean something."""

    more = {"binary": "Send the message as binary, not as text."}  # noqa: RUF012 - as in the base class
    longdesc = "\nSends a message to all subscribers of a topic. Its options are those of wshost; it needs --backplane."

    def __init__(self, words: Sequence[str] = ()) -> None:
        super().__init__()
        # The topic and the text, if they stand before the options: Twisted wants them behind.
        self._words = words
        #: Send bytes.
        self.binary = False
        self.topic = self.text = ""

    def opt_binary(self) -> None:
        """Send the message as binary."""
        self.binary = True

    def parseArgs(self, *args: str) -> None:
        words = [*self._words, *args]
        if len(words) != 2:
            raise usage.UsageError("publish takes a topic and a text; the text - is read from stdin")
        self.topic, self.text = words

    def getSynopsis(self) -> str:
        return "Usage: wshost publish TOPIC TEXT [options]"


def main(arguments: Sequence[str]) -> int:
    """Publish one message.

    :param arguments: those behind ``publish``.
    :returns: 0: the broker has it.
    """
    words = list(takewhile(lambda word: not word.startswith("--"), arguments))
    parsed = Options(words)
    parsed.parseOptions(list(arguments[len(words) :]))
    with one_line():
        settings = parsed.settings()
        if not settings.backplane:
            raise ConfigurationError("publish needs a broker: name it with --backplane")
        with connect(
            settings.backplane,
            cluster=settings.cluster,
            ca=settings.backplane_ca,
            cert=settings.backplane_cert,
            key=settings.backplane_key,
            credentials=settings.backplane_credentials,
        ) as cluster:
            try:
                cluster.publish(parsed.topic, _message(parsed))
            except (UndeliveredError, ValueError) as error:
                raise ConfigurationError(str(error)) from error
    return 0


def _message(parsed: Options) -> str | bytes:
    if parsed.text == "-":
        data = sys.stdin.buffer.read(MOST + 1)
        if len(data) > MOST:
            raise ConfigurationError(f"the message on stdin has more than {MOST} bytes")
    else:
        data = os.fsencode(parsed.text)
    if parsed.binary:
        return data
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise ConfigurationError("the text is not UTF-8: send it with --binary") from None
