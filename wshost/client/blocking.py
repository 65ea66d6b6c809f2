"""Reaches a cluster from any thread of any program, by blocking sockets. Knows no broker's protocol."""

from __future__ import annotations

import socket
import ssl
import time
from collections.abc import Callable, Sequence
from threading import Lock
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, TypeVar, overload

from wshost.client import configuration, forks, requests
from wshost.client.steps import Connect, Pause, StartTLS, Step, Steps, UndeliveredError, Write
from wshost.messages import NORMAL_CLOSE

if TYPE_CHECKING:
    from wshost.connections.ref import Ref
    from wshost.results import Outcome

T = TypeVar("T")

#: So many bytes are read at once.
_CHUNK = 1 << 16


def connect(
    url: str | Sequence[str],
    *,
    cluster: str = "wshost",
    ca: str | None = None,
    cert: str | None = None,
    key: str | None = None,
    credentials: str | None = None,
    timeout: float = 5.0,
) -> Cluster:
    """Return a client of a cluster. It connects at its first call. For asyncio, see `wshost.connect_async`.

    :param url: of the broker, as for ``--backplane``; or several.
    :param cluster: the cluster's name.
    :param ca: a file with authorities (PEM) that sign the brokers' certificates; by default, the system's.
    :param cert: a file with a certificate (PEM) that is shown to brokers.
    :param key: a file with its private key; by default, in the certificate's file.
    :param credentials: a file with credentials, such as a .creds file of NATS.
    :param timeout: seconds that a call may take, at most 300.
    :raises ConfigurationError: with one line that says what is wrong.
    """
    return Cluster(configuration.read(url, cluster, configuration.Files(ca, cert, key, credentials), timeout))


class Cluster:
    """A client, for any thread. It has one connection to a broker, and makes it again at the next call.

    Calls of several threads are done one after the other. A forked process makes its own connection. Each method takes
    no longer than the timeout, and raises `UndeliveredError` if no broker has taken the message by then; it may have
    been taken nevertheless. `ConfigurationError` says that the broker does not let us in.
    """

    def __init__(self, told: configuration.Configuration) -> None:
        self._told = told
        self._sockets = Sockets(told.tls)
        self.begin_anew()
        forks.watch(self)

    def begin_anew(self) -> None:
        """Forget all of the process from which this one was forked."""
        # Another thread of that one may have had the lock.
        self._lock = Lock()
        self._conversation = self._told.converse()
        # This closes the socket in this process only: the broker is told nothing.
        self._sockets.close()

    def __enter__(self) -> Cluster:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.disconnect()

    def disconnect(self) -> None:
        """Close the connection. A later call would make it again."""
        with self._lock:
            self._sockets.close()
            self._conversation = self._told.converse()

    def publish(self, topic: str, data: str | bytes) -> bool:
        """Send one message to all subscribers of a topic.

        :returns: True: the broker has it. This promises no delivery.
        :raises TypeError, ValueError: as `wshost.publish`; a ValueError also if the broker takes no message so large.
        """
        return self._deliver(requests.publish(topic, data))

    @overload
    def send(
        self, ref: Ref | str, data: str | bytes, key: str | None = None, confirm: Literal[False] = False
    ) -> bool: ...
    @overload
    def send(self, ref: Ref | str, data: str | bytes, key: str | None = None, *, confirm: Literal[True]) -> Outcome: ...
    def send(self, ref: Ref | str, data: str | bytes, key: str | None = None, confirm: bool = False) -> bool | Outcome:
        """Send a connection one message.

        :param ref: a reference, or its text.
        :param key: see `wshost.Ref.send`.
        :param confirm: wait until it is known what became of the message.
        :returns: True: the broker has it; with `confirm`, the `Outcome`.
        :raises TypeError, ValueError: as `wshost.Ref.send`, and as `publish`.
        """
        request = requests.send(ref, data, key)
        if confirm:
            return self._run(lambda until: self._conversation.confirm(request, until))
        return self._deliver(request)

    def info(self, ref: Ref | str, message: Any) -> bool:
        """Give a connection's handler ``("info", message)``.

        :param message: None, bool, int, float, str, bytes, or lists, tuples and dicts of these.
        :returns: True: the broker has it.
        :raises TypeError, ValueError: for anything else.
        """
        return self._deliver(requests.info(ref, message))

    def close(self, ref: Ref | str, code: int | None = NORMAL_CLOSE[0], reason: str = NORMAL_CLOSE[1]) -> bool:
        """Close a connection. See `wshost.Ref.close`. :returns: True: the broker has it."""
        return self._deliver(requests.close(ref, code, reason))

    def ping(self, ref: Ref | str, data: str | bytes = b"") -> bool:
        """Send a connection a ping. See `wshost.Ref.ping`. :returns: True: the broker has it."""
        return self._deliver(requests.ping(ref, data))

    def _deliver(self, request: requests.Request) -> bool:
        self._run(lambda until: self._conversation.deliver(request, until))
        return True

    def _run(self, steps: Callable[[float], Steps[T]]) -> T:
        until = time.monotonic() + self._told.timeout
        if not self._lock.acquire(timeout=self._told.timeout):
            raise UndeliveredError("another thread still waits for the broker")
        try:
            return self._sockets.run(steps(until))
        finally:
            self._lock.release()


class Sockets:
    """Carries out steps by a blocking socket.

    :param tls: returns the options of TLS.
    :param dial: connects to a host and a port, within so many seconds.
    """

    def __init__(
        self,
        tls: Callable[[], ssl.SSLContext],
        dial: Callable[[tuple[str, int], float], socket.socket] = socket.create_connection,
    ) -> None:
        self._tls = tls
        self._dial = dial
        self._socket: socket.socket | None = None

    def run(self, steps: Steps[T]) -> T:
        """Carry out steps; return their result. Whatever they raise closes the connection."""
        try:
            step = next(steps)
            while True:
                try:
                    read = self._do(step)
                except OSError as error:
                    step = steps.throw(error)
                else:
                    step = steps.send(read)
        except StopIteration as end:
            result: T = end.value
            return result
        except BaseException:
            steps.close()
            self.close()
            raise

    def close(self) -> None:
        """Close the connection, if there is one."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _do(self, step: Step) -> bytes:
        match step:
            case Pause(seconds):
                time.sleep(seconds)
            case Connect(until, host, port, tls):
                self.close()
                try:
                    self._socket = self._dial((host, port), _left(until))
                except UnicodeError as error:
                    raise OSError(f"{host} is no host name") from error
                if self._socket.family != socket.AF_UNIX:
                    self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                if tls:
                    self._start_tls(host, until)
            case StartTLS(until, host):
                self._start_tls(host, until)
            case Write(until, data):
                self._connected(until).sendall(data)
            case _:
                return self._connected(step.until).recv(_CHUNK)
        return b""

    def _start_tls(self, host: str, until: float) -> None:
        self._socket = self._tls().wrap_socket(self._connected(until), server_hostname=host)

    def _connected(self, until: float) -> socket.socket:
        if self._socket is None:
            raise ConnectionError("there is no connection")
        self._socket.settimeout(_left(until))
        return self._socket


def _left(until: float) -> float:
    left = until - time.monotonic()
    if left <= 0:
        raise TimeoutError("it did not answer in time")
    return left
