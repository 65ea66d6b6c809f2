"""socketify: uWebSockets (C++) with a callback in Python; broadcasts by its own topics."""

from __future__ import annotations

from typing import Any

from socketify import App, AppListenOptions, AppOptions, CompressOptions

from benchmarks.servers.arguments import read_arguments

_arguments = read_arguments()
_application = App(
    AppOptions(key_file_name=_arguments.cert, cert_file_name=_arguments.cert) if _arguments.cert else None
)


def echo(connection: Any, message: Any, opcode: Any) -> None:
    connection.send(message, opcode)


def echo_compressed(connection: Any, message: Any, opcode: Any) -> None:
    connection.send(message, opcode, True)


def subscribe(connection: Any) -> None:
    connection.subscribe("all")


def publish(_connection: Any, message: Any, opcode: Any) -> None:
    _application.publish("all", message, opcode)


_behaviour: dict[str, Any] = {
    "compression": CompressOptions.SHARED_COMPRESSOR if _arguments.deflate else CompressOptions.DISABLED,
    "max_payload_length": 1024 * 1024,
    # By default, output of a slow client beyond 64 KiB is dropped.
    "max_backpressure": 64 * 1024 * 1024,
    "idle_timeout": 120,
    "message": echo_compressed if _arguments.deflate else echo,
}
if _arguments.broadcast:
    _behaviour |= {"open": subscribe, "message": publish}
_application.ws("/*", _behaviour)
_application.listen(AppListenOptions(port=_arguments.port, host="127.0.0.1"), lambda _config: None)
_application.run()
