"""The options of a server: their names, kinds, ranges and help, for the command, for files and for code alike.

It knows the parts' defaults only as text for the help: an option that is not given is not passed on.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Annotated, Any, get_type_hints

from wshost.results import ConfigurationError
from wshost.settings.kinds import Anything, Flag, Integer, Kind, Module, Seconds, Several, Size, Table, Text

#: Seconds.
_DAY = 86_400

LISTENING = "Where it listens"
SERVING = "What it serves"
LIMITS = "Limits"
TIMES = "Times, in seconds"


@dataclass(frozen=True)
class Option:
    """One option, but for its name."""

    group: str
    kind: Kind
    help: str
    #: What holds when it is not given; empty when that goes without saying.
    default: str = ""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What was asked for. None: nothing was, and the default of the part that uses it holds."""

    port: Annotated[int, Option(LISTENING, Integer(0, 65535, "PORT"), "TCP port; 0 picks a free one.", "8080")] = 8080
    interface: Annotated[
        str, Option(LISTENING, Text("ADDRESS"), "Address to bind; 0.0.0.0 or :: for all.", "127.0.0.1")
    ] = "127.0.0.1"
    listen: Annotated[
        list[str] | None,
        Option(
            LISTENING,
            Several(Text("ENDPOINT")),
            "A Twisted server endpoint, such as unix:/run/chat.sock, systemd:domain=INET:index=0 or haproxy:tcp:8080; "
            "replaces --port and --interface. Repeatable.",
        ),
    ] = None
    tls_cert: Annotated[
        str | None,
        Option(LISTENING, Text("FILE"), "Certificate in PEM, followed by its chain: all listeners speak TLS."),
    ] = None
    tls_key: Annotated[
        str | None, Option(LISTENING, Text("FILE"), "Its private key in PEM.", "in the certificate's file")
    ] = None
    tls_client_ca: Annotated[
        str | None,
        Option(LISTENING, Text("FILE"), "Demand client certificates that these authorities (PEM) have signed."),
    ] = None

    handler: Annotated[
        Any,
        Option(SERVING, Anything("HANDLER"), "Your handler: package.module, module:attribute or path/to/file.py."),
    ] = None
    handler_option: Annotated[
        dict[str, Any] | None,
        Option(SERVING, Table("KEY=VALUE"), "An option for the handler's init, a string. Repeatable."),
    ] = None
    route: Annotated[
        dict[str, Any] | None,
        Option(
            SERVING,
            Table("PATH=HANDLER"),
            "A handler for one path, or for /all/below/*. Paths that match no route go to --handler; without it they "
            "get 404. Repeatable.",
        ),
    ] = None
    origin: Annotated[
        list[str] | None,
        Option(
            SERVING,
            Several(Text("ORIGIN")),
            "A web origin whose pages may connect, beside those of the server's own; * for any. Repeatable.",
        ),
    ] = None
    host: Annotated[
        list[str] | None,
        Option(
            SERVING,
            Several(Text("NAME")),
            "A name of this server, *.example.com, or * for any; browsers that ask for others get 421. Without it: "
            "any, but where a connection comes by a loopback address, localhost and the like. Repeatable.",
        ),
    ] = None
    subprotocol: Annotated[
        list[str] | None,
        Option(SERVING, Several(Text("NAME")), "A subprotocol to agree to, the preferred first. Repeatable."),
    ] = None
    compress: Annotated[bool | None, Option(SERVING, Flag(), "Agree to permessage-deflate.")] = None
    server_no_context_takeover: Annotated[
        bool | None,
        Option(SERVING, Flag(), "Compress each message by itself: larger, but with no memory kept, and once for many."),
    ] = None
    protocol_module: Annotated[
        list[tuple[str, dict[str, Any]]] | None,
        Option(
            SERVING,
            Several(Module()),
            "A protocol module and its options; in their order, they are the chain. Repeatable.",
            "http, websocket",
        ),
    ] = None

    max_message_size: Annotated[
        int | None, Option(LIMITS, Size(1, 1 << 31), "Of one message from a client.", "1MiB")
    ] = None
    max_connections: Annotated[
        int | None, Option(LIMITS, Integer(1, 10_000_000), "At one time; others get 503.", "10000")
    ] = None
    max_connections_per_address: Annotated[
        int | None, Option(LIMITS, Integer(0, 10_000_000), "From one IP address; 0 for no limit.", "0")
    ] = None
    max_output: Annotated[
        int | None,
        Option(LIMITS, Size(1, 1 << 31), "Waiting for one client, until it is not read from any more.", "1MiB"),
    ] = None

    handshake_timeout: Annotated[
        float | None, Option(TIMES, Seconds(0.001, _DAY), "For a client to complete TLS and its request.", "5")
    ] = None
    init_timeout: Annotated[float | None, Option(TIMES, Seconds(0.001, _DAY), "For the handler's init.", "5")] = None
    ping_interval: Annotated[
        float | None, Option(TIMES, Seconds(0, _DAY), "Of silence until a client is pinged; 0 for never.", "20")
    ] = None
    ping_timeout: Annotated[
        float | None, Option(TIMES, Seconds(0.001, _DAY), "For a sign of life after a ping.", "20")
    ] = None
    stall_timeout: Annotated[
        float | None,
        Option(TIMES, Seconds(0.001, _DAY), "That a client may take too little of what waits for it.", "10"),
    ] = None
    close_timeout: Annotated[
        float | None,
        Option(TIMES, Seconds(0.001, _DAY), "For a client to answer a close, and for a connection to end.", "5"),
    ] = None
    drain_timeout: Annotated[
        float | None, Option(TIMES, Seconds(0, _DAY), "For all clients to leave when the server stops.", "10")
    ] = None


#: By name.
OPTIONS: Mapping[str, Option] = {
    name: hint.__metadata__[0] for name, hint in get_type_hints(Settings, include_extras=True).items()
}

#: Other names for some; but for the first they are wsserver's.
_ALIASES = {
    "protocol_modules": "protocol_module",
    "protocol_modules_options": "protocol_module",
    "number_of_workers": "max_connections",
}


def check(name: str, value: Any) -> tuple[str, Any]:
    """Check an option of a file or a mapping.

    :param name: with dashes or underscores.
    :returns: the name of the field of `Settings`, and its value.
    :raises ConfigurationError: when there is no such option, or the value is none for it.
    """
    field_name = name.replace("-", "_")
    field_name = _ALIASES.get(field_name, field_name)
    if field_name not in OPTIONS:
        close = get_close_matches(field_name, OPTIONS, 1)
        hint = f"; did you mean {close[0].replace('_', '-')}?" if close else ""
        raise ConfigurationError(f"unknown option {name!r}{hint}")
    try:
        return field_name, OPTIONS[field_name].kind.check(value)
    except ValueError as error:
        raise ConfigurationError(f"{name}: {error}") from None


def check_all(table: Mapping[str, Any]) -> dict[str, Any]:
    """Check the options of a file or a mapping, and return them by the names of the fields of `Settings`.

    :raises ConfigurationError: for the first that is wrong.
    """
    checked: dict[str, Any] = {}
    for key, given in table.items():
        name, value = check(key, given)
        if name in checked:
            raise ConfigurationError(f"{key} is there twice, under different names")
        checked[name] = value
    return checked


def settle(given: Mapping[str, Any], over: Mapping[str, Any] | None = None) -> Settings:
    """Return the settings that these options make.

    :param given: checked values by field name.
    :param over: more of them, which win: the command line over the file.
    :raises ConfigurationError: when two of them exclude each other, or one lacks another.
    """
    merged = dict(given)
    if over:
        if not over.keys().isdisjoint({"port", "interface"}):
            merged.pop("listen", None)
        if "listen" in over:
            merged.pop("port", None)
            merged.pop("interface", None)
        merged.update(over)
    if "listen" in merged and not merged.keys().isdisjoint({"port", "interface"}):
        raise ConfigurationError("listen replaces port and interface: give the one or the others")
    if merged.get("listen") == []:
        raise ConfigurationError("listen: an empty list; leave it out to listen on port and interface")
    for name in ("tls_key", "tls_client_ca"):
        if name in merged and "tls_cert" not in merged:
            raise ConfigurationError(f"{name.replace('_', '-')} is of no use without tls-cert")
    return Settings(**merged)
