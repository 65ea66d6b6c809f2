"""Reaches a cluster from programs on asyncio. Knows no broker's protocol."""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, TypeVar, overload

from wshost.client import configuration, forks, requests
from wshost.client.steps import Connect, Pause, Read, StartTLS, Step, Steps, UndeliveredError, Write
from wshost.messages import NORMAL_CLOSE

if TYPE_CHECKING:
    from wshost.connections.ref import Ref
    from wshost.results import Outcome

T = TypeVar("T")

#: So many bytes are read at once.
_CHUNK = 1 << 16


def connect_async(
    url: str | Sequence[str],
    *,
    cluster: str = "wshost",
    ca: str | None = None,
    cert: str | None = None,
    key: str | None = None,
    credentials: str | None = None,
    timeout: float = 5.0,
) -> AsyncCluster:
    """Return a client of a cluster, for asyncio. It connects at its first call.

    The arguments and errors are those of `wshost.connect`.
    """
    return AsyncCluster(configuration.read(url, cluster, configuration.Files(ca, cert, key, credentials), timeout))


class AsyncCluster:
    """A client, for the tasks of one event loop. Otherwise it is as `wshost.client.blocking.Cluster`."""

    def __init__(self, told: configuration.Configuration) -> None:
        self._told = told
        self.begin_anew()
        forks.watch(self)

    def begin_anew(self) -> None:
        """Forget all of the process from which this one was forked."""
        self._lock = asyncio.Lock()
        self._conversation = self._told.converse()
        self._streams = Streams(self._told.tls)

    async def __aenter__(self) -> AsyncCluster:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.disconnect()

    async def disconnect(self) -> None:
        """Close the connection. A later call would make it again."""
        async with self._lock:
            self._streams.close()
            self._conversation = self._told.converse()

    async def publish(self, topic: str, data: str | bytes) -> bool:
        """See `Cluster.publish`."""
        return await self._deliver(requests.publish(topic, data))

    @overload
    async def send(
        self, ref: Ref | str, data: str | bytes, key: str | None = None, confirm: Literal[False] = False
    ) -> bool: ...
    @overload
    async def send(
        self, ref: Ref | str, data: str | bytes, key: str | None = None, *, confirm: Literal[True]
    ) -> Outcome: ...
    async def send(
        self, ref: Ref | str, data: str | bytes, key: str | None = None, confirm: bool = False
    ) -> bool | Outcome:
        """See `Cluster.send`."""
        request = requests.send(ref, data, key)
        if confirm:
            return await self._run(lambda until: self._conversation.confirm(request, until))
        return await self._deliver(request)

    async def info(self, ref: Ref | str, message: Any) -> bool:
        """See `Cluster.info`."""
        return await self._deliver(requests.info(ref, message))

    async def close(self, ref: Ref | str, code: int | None = NORMAL_CLOSE[0], reason: str = NORMAL_CLOSE[1]) -> bool:
        """See `Cluster.close`."""
        return await self._deliver(requests.close(ref, code, reason))

    async def ping(self, ref: Ref | str, data: str | bytes = b"") -> bool:
        """See `Cluster.ping`."""
        return await self._deliver(requests.ping(ref, data))

    async def _deliver(self, request: requests.Request) -> bool:
        await self._run(lambda until: self._conversation.deliver(request, until))
        return True

    async def _run(self, steps: Callable[[float], Steps[T]]) -> T:
        until = time.monotonic() + self._told.timeout
        try:
            async with asyncio.timeout(self._told.timeout):
                await self._lock.acquire()
        except TimeoutError as error:
            raise UndeliveredError("another task still waits for the broker") from error
        try:
            return await self._streams.run(steps(until))
        finally:
            self._lock.release()


class Streams:
    """Carries out steps by the streams of asyncio.

    :param tls: returns the options of TLS.
    """

    def __init__(self, tls: Callable[[], ssl.SSLContext]) -> None:
        self._tls = tls
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def run(self, steps: Steps[T]) -> T:
        """Carry out steps; return their result. Whatever they raise, or a cancellation, closes the connection."""
        try:
            step = next(steps)
            while True:
                try:
                    read = await self._do(step)
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
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None

    async def _do(self, step: Step) -> bytes:
        if isinstance(step, Pause):
            await asyncio.sleep(step.seconds)
            return b""
        try:
            async with asyncio.timeout(step.until - time.monotonic()):
                return await self._do_in_time(step)
        except TimeoutError as error:
            raise TimeoutError("it did not answer in time") from error

    async def _do_in_time(self, step: Connect | StartTLS | Write | Read) -> bytes:
        if isinstance(step, Connect):
            self.close()
            options: dict[str, Any] = {"ssl": self._tls(), "server_hostname": step.host} if step.tls else {}
            try:
                self._streams = await asyncio.open_connection(step.host, step.port, **options)
            except UnicodeError as error:
                raise OSError(f"{step.host} is no host name") from error
            return b""
        if self._streams is None:
            raise ConnectionError("there is no connection")
        reader, writer = self._streams
        match step:
            case StartTLS(_, host):
                await writer.start_tls(self._tls(), server_hostname=host)
            case Write(_, data):
                writer.write(data)
                await writer.drain()
            case _:
                return await reader.read(_CHUNK)
        return b""
