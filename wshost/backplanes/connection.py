"""Owns one connection to a broker: its deadlines, its pings and its end. Knows no protocol, and no other broker."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from typing import Protocol as Shape

from twisted.internet.protocol import Protocol, connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure

#: All in seconds. A broker must have let us in after so long;
LOGIN = 4.0
#: is sent a ping so often;
PING = 1.5
#: and has so long to take the last bytes of a connection, and answer the ping behind them.
FINISH = 2.0
#: A broker that has sent nothing while it was sent so many pings is dead: after 4.5 seconds at the latest.
UNANSWERED = 2

_log = Logger("wshost")


class BrokerError(Exception):
    """The broker has sent what it must not, or has refused us. The message says in one line what is wrong."""


class Speaker(Shape):
    """Speaks a broker's protocol, on one connection after the other. Called in the reactor's thread."""

    def begin(self) -> None:
        """A connection to `Link.broker` is open. Greet it by `Link.command`; call `Link.ready` when it lets us in."""

    def read(self, data: bytes) -> None:
        """Handle bytes, cut anywhere. :raises BrokerError: the connection is ended, and made again."""

    def ping(self) -> None:
        """Send the broker a ping, by `Link.command`. Call `Link.answered` when its answer has come."""

    def lost(self, reason: str) -> None:
        """The connection of the last `begin` is gone. :param reason: one line for the log."""

    def dropped(self, payloads: int) -> None:
        """So many payloads have waited too long for a broker, and were dropped."""


class Connection(Protocol):
    """One connection.

    Whatever the speaker raises ends it.

    :param reactor: provides `IReactorTime`.
    :param speaker: gets what the broker sends.
    :param made: called with this connection when it is open, before `Speaker.begin`.
    :param ending: called when it is ended by us: nothing can be sent any more.
    :param gone: called with the reason, in one line, when it is closed.
    """

    def __init__(
        self,
        reactor: Any,
        speaker: Speaker,
        made: Callable[[Connection], None],
        ending: Callable[[], None],
        gone: Callable[[str], None],
    ) -> None:
        self._reactor = reactor
        self._speaker = speaker
        self._made = made
        self._ending = ending
        self._gone = gone
        # The broker has sent something, or taken bytes, since it was last looked at.
        self._heard = False
        self._unanswered = 0
        # Pings that are not answered yet.
        self._pings = 0
        #: The last bytes are written.
        self.finishing = False
        # Why we have ended it.
        self._reason: str | None = None
        self._timer: Any = None
        self.transport: Any = None

    def connectionMade(self) -> None:
        """Called by the transport."""
        # Else the kernel may never tell us that a host has vanished; and a joined write should leave at once.
        self.transport.setTcpKeepAlive(True)
        self.transport.setTcpNoDelay(True)
        self._timer = self._reactor.callLater(LOGIN, self._look, self._judge_login)
        self._speak(self._begin)

    def dataReceived(self, data: bytes) -> None:
        """Called by the transport."""
        if self._reason is not None:
            return
        self._heard = True
        self._speak(self._speaker.read, data)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Called by the transport."""
        self._stop()
        self._gone(self._reason or explain(reason))

    @property
    def can_start_tls(self) -> bool:
        """Whether the transport may speak TLS: the faster one can't."""
        return hasattr(self.transport, "startTLS")

    def start_tls(self, options: Any) -> None:
        """Speak TLS from now on, with options of `ClientTLS`."""
        self.transport.startTLS(options)

    def ready(self) -> None:
        """Send pings from now on: the broker has let us in."""
        self._stop()
        self._timer = self._reactor.callLater(PING, self._tick)

    def progress(self) -> None:
        """Note that the broker lives: it takes bytes."""
        self._heard = True

    def answered(self) -> None:
        """Note that the broker has answered a ping."""
        self._pings -= 1
        if self.finishing and self._pings <= 0:
            self.transport.loseConnection()

    def finish(self, reason: str) -> None:
        """End the connection when the broker has read all that was written, which an answer to a ping says."""
        self._stop()
        self.finishing = True
        self._timer = self._reactor.callLater(FINISH, self.end, reason)
        self._ping()

    def end(self, reason: str) -> None:
        """End the connection at once."""
        if self._reason is None:
            self._stop()
            self._reason = reason
            self.transport.abortConnection()
            self._ending()

    def _begin(self) -> None:
        self._made(self)
        self._speaker.begin()

    def _speak(self, call: Callable[..., None], *arguments: Any) -> None:
        try:
            call(*arguments)
        except BrokerError as error:
            self.end(str(error))
        except Exception:
            _log.failure("speaking with the broker failed")
            self.end("speaking with it failed")

    def _stop(self) -> None:
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        self._timer = None

    def _ping(self) -> None:
        self._pings += 1
        self._speaker.ping()

    def _tick(self) -> None:
        if self._heard:
            self._unanswered = 0
        else:
            self._unanswered += 1
        self._heard = False
        if self._unanswered >= UNANSWERED:
            self._look(self._judge_silence)
        else:
            self._timer = self._reactor.callLater(PING, self._tick)
            self._ping()

    def _look(self, judge: Callable[[], None]) -> None:
        """Judge in two turns: the answer may have come while our own process stood still, and not be read yet."""
        self._timer = self._reactor.callLater(0, self._look_again, judge)

    def _look_again(self, judge: Callable[[], None]) -> None:
        self._timer = self._reactor.callLater(0, judge)

    def _judge_silence(self) -> None:
        if self._heard:
            self._tick()
        else:
            self.end("it answers no pings")

    def _judge_login(self) -> None:
        self.end(f"it did not let us in within {LOGIN:g} seconds")


def explain(failure: Failure) -> str:
    """Say in one line why a connection was lost, or could not be made."""
    error: Any = failure.value
    mismatches = getattr(error, "errors", None)
    if mismatches:
        return "its certificate is not for this host"
    if type(error).__module__.startswith("OpenSSL") and error.args and error.args[0]:
        return f"TLS failed: {error.args[0][-1][-1] or 'no reason given'}"
    text = " ".join(failure.getErrorMessage().split())
    return text.rstrip(".") or type(error).__name__
