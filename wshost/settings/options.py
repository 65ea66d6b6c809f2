"""All options, each once: kind, range, default and help. The command, files, code, modules and documentation use these.

Knows no code that uses an option.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, Generic, Self, TypeVar, overload

from wshost.results import ConfigurationError
from wshost.settings import wsserver
from wshost.settings.kinds import (
    Anything,
    Choice,
    Flag,
    Integer,
    Kind,
    Module,
    Network,
    OneOrSeveral,
    Processes,
    Seconds,
    Several,
    Size,
    Table,
    Text,
    mapping,
)

_DAY = 86_400
_MOST = 10_000_000
_COUNT = Integer(1, _MOST)
_SIZE = Size(1, 1 << 31)
_TIME = Seconds(0.001, _DAY)
_FILE = Text("FILE")

#: What may happen to messages of references when a client is slow.
WHEN_SLOW = ("close", "drop_new", "drop_old", "conflate")
#: The titles of the groups of `--help`, by the first option of each group.
GROUPS = {
    "port": "Where it listens",
    "handler": "What it serves",
    "max_message_size": "Limits",
    "handshake_timeout": "Times, in seconds",
    "workers": "Processes and machines",
    "access_log": "Log",
}

T = TypeVar("T")


class Option(Generic[T]):
    """One option, as a descriptor: an instance of `Settings` returns the option's value, the class the option itself.

    :param default: the value when the option is not given.
    :param text: what the option does, in one sentence or more.
    :param shown: the default in words, if the value itself is not clear.
    :param command_only: the option is about the process, not about the server. `wshost.service` does not take it.
    """

    #: The name in `Settings`, and on the command line; empty for an option that only a module's own mapping has.
    name = dashed = ""

    def __init__(self, kind: Kind[T], default: T, text: str, shown: str = "", *, command_only: bool = False) -> None:
        self.kind = kind
        self.default = default
        self.text = text
        self.command_only = command_only
        #: The default as `--help` and the documentation show it; empty when there is no default.
        self.shown = shown or ("" if default in (None, (), {}) else kind.show(default))

    def __set_name__(self, owner: type, name: str) -> None:
        self.name, self.dashed = name, name.replace("_", "-")

    @property
    def help(self) -> str:
        """The text in `--help`."""
        return f"{self.text} Repeatable." if self.kind.repeatable else self.text

    @overload
    def __get__(self, settings: None, owner: type) -> Self: ...
    @overload
    def __get__(self, settings: Settings, owner: type) -> T: ...
    def __get__(self, settings: Settings | None, owner: type) -> Self | T:
        return self if settings is None else settings.given.get(self.name, self.default)


@dataclass(init=False)
class Settings:
    """The value of each option: the given one, or else the default.

    :param given: checked values, by name; None means that the option was not given.
    :raises TypeError: for a name that is not an option.
    """

    #: Only the given values, by name.
    given: Mapping[str, Any]

    port = Option(Integer(0, 65535, "PORT"), 8080, "TCP port; 0 picks a free one.")
    interface = Option(Text("ADDRESS"), "127.0.0.1", "Address to bind to; 0.0.0.0 or :: for all.")
    listen = Option(
        Several(Text("ENDPOINT")),
        (),
        "Twisted server endpoint, such as unix:/run/chat.sock, systemd:domain=INET:index=0 or haproxy:tcp:8080; "
        "replaces --port and --interface.",
    )
    trust_proxy = Option(
        Several(Network()),
        (),
        "Address or network of a proxy in front, 10.0.0.0/8 or unix: it names its clients by Forwarded, "
        "X-Forwarded-For or, with haproxy:, the PROXY protocol, which then no other peer may speak.",
    )
    tls_cert = Option(
        OneOrSeveral(_FILE),
        (),
        "Certificate in PEM, followed by its chain. All listeners then speak TLS. Of several, a client gets the one "
        "that has the name it asks for, or else the first.",
    )
    tls_key = Option(
        OneOrSeveral(_FILE), (), "Private key in PEM, in the order of the certificates.", "in the certificate's file"
    )
    tls_client_ca = Option(_FILE, None, "Demand client certificates that these authorities (PEM) have signed.")

    admin = Option(
        Text("ENDPOINT"),
        None,
        "Endpoint for operators, apart from that of clients: unix:/run/chat/admin.sock, or a TCP port on the loopback. "
        "It has /healthz, /readyz, /metrics and /connections.",
    )

    handler = Option(Anything("HANDLER"), None, "Your handler: package.module, module:attribute or path/to/file.py.")
    handler_option = Option(
        Table("KEY=VALUE"), {}, "Option for the handler's init; on the command line, its value is a string."
    )
    route = Option(
        Table("PATH=HANDLER"),
        {},
        "Handler for one path, or for all paths below one: /feed/*. A path without a route goes to --handler; without "
        "that, it gets 404.",
    )
    health_path = Option(
        Text("PATH"),
        None,
        "Path on which GET, HEAD and OPTIONS get 200, for the health checks of load balancers: /healthz.",
    )
    on_crash = Option(
        Choice("WHAT", "close", "restart"),
        "close",
        "When a handler crashes: close its connection with 1011, or restart it: the connection stays, and init runs "
        "again. A handler's own on_crash comes first.",
    )
    when_slow = Option(
        Choice("POLICY", *WHEN_SLOW),
        "close",
        "When a client reads more slowly than its handler's references send: drop the new messages and, soon, the "
        "client; drop only the new messages, or the oldest; or keep only the last message of each key. A handler's own "
        "when_slow comes first.",
    )
    origin = Option(
        Several(Text("ORIGIN")), (), "Web origin whose pages may connect, besides the server's own; * for any."
    )
    host = Option(
        Several(Text("NAME")),
        (),
        "Name of this server, chat.example.com or *.example.com; * for any. A browser that asks for another name gets "
        "421. Without --host, every name is served; over a loopback address, only loopback names are.",
    )
    subprotocol = Option(Several(Text("NAME")), (), "Subprotocol to agree to, the preferred one first.")
    compress = Option(Flag(), False, "Agree to permessage-deflate.")
    server_no_context_takeover = Option(
        Flag(),
        False,
        "Compress each message by itself. Larger messages, but no state per connection; broadcasts are compressed "
        "once.",
    )
    protocol_module = Option(
        Several(Module()),
        (("http", {}), ("websocket", {})),
        "Protocol module and its options. The chain has the modules in this order.",
        "http, websocket",
    )

    max_message_size = Option(
        _SIZE, 1 << 20, "Largest message from a client, decompressed; larger ones close with 1009."
    )
    max_connections = Option(_COUNT, 10_000, "Connections at one time; more get 503.")
    max_connections_per_address = Option(
        Integer(0, _MOST), 0, "Connections at one time from one IP address; 0 for no limit."
    )
    connection_rate = Option(
        Integer(0, _MOST),
        0,
        "Connections a second from one IP address, or from one /64 network of IPv6; more get 429. 0 for no limit.",
    )
    message_rate = Option(
        Integer(0, _MOST),
        0,
        "Messages a second from one client; more wait, and 10 seconds of waiting close with 1008. 0 for no limit.",
    )
    byte_rate = Option(
        Size(0, 1 << 31), 0, "Bytes a second from one client, as with --message-rate; 0 for no limit.", "0"
    )
    max_output = Option(_SIZE, 1 << 20, "Output buffered for one client before reading from it pauses.")

    max_output_total = Option(
        Size(0, 1 << 40),
        0,
        "Output buffered for all slow clients together; beyond it, the slowest are dropped. 0 for no limit.",
        "0",
    )

    handshake_timeout = Option(_TIME, 5.0, "Refuse a client that takes longer for TLS and its request.")
    init_timeout = Option(_TIME, 5.0, "Refuse a client when the handler's init takes longer.")
    ping_interval = Option(Seconds(0, _DAY), 20.0, "Ping a client after this much silence; 0 for never.")
    ping_timeout = Option(_TIME, 20.0, "Drop a client that stays silent this long after a ping.")
    stall_timeout = Option(_TIME, 10.0, "Drop a client that reads too little of its pending output for this long.")
    close_timeout = Option(_TIME, 5.0, "Drop a client that takes longer to answer a close, or to end its connection.")
    drain_timeout = Option(
        Seconds(0, _DAY), 10.0, "When the server stops, drop clients that are still there after this long."
    )
    drain_spread = Option(
        Seconds(0, _DAY),
        0.0,
        "When the server stops, close the connections in random order over this long, so that not all clients come "
        "back at once.",
    )
    drain_code = Option(
        Choice("CODE", "1001", "1012"),
        "1001",
        "Code of the Close that clients get when the server stops: 1001 (going away) or 1012 (service restart).",
    )
    takeover = Option(
        Text("PATH"),
        None,
        "Unix socket by which a new process takes over from the running one, with its sockets and its connections. "
        "Both name the same path; the first one waits there.",
        command_only=True,
    )

    workers = Option(
        Processes(1, 64),
        1,
        "Processes that serve, each with connections of its own; auto: one for each processor. With 1, this process "
        "serves.",
        command_only=True,
    )
    preload = Option(
        Flag(),
        False,
        "Import the handlers before the workers are forked: these then share the memory. The import must start no "
        "thread.",
        command_only=True,
    )
    worker_timeout = Option(
        Seconds(0, _DAY),
        10.0,
        "Kill and replace a worker that does nothing but one turn of its reactor for this long; 0 for never.",
        command_only=True,
    )
    worker_max_rss = Option(
        Size(0, 1 << 40),
        0,
        "Replace a worker that has more memory than this: once its successor serves, it drains. 0 for never.",
        "0",
        command_only=True,
    )
    worker_max_age = Option(
        Seconds(0, 366 * _DAY),
        0.0,
        "Replace a worker that is older than this, give or take 10 %, in the same way; 0 for never.",
        command_only=True,
    )
    backplane = Option(
        Several(Text("URL")),
        (),
        "Broker that connects this process with others, nats://10.0.0.5:4222 or redis://10.0.0.5: what is published in "
        "one reaches the subscribers of all, and references work from each. Several are servers of one cluster.",
    )
    backplane_ca = Option(_FILE, None, "Authorities (PEM) that sign the brokers' certificates.", "the system's")
    backplane_cert = Option(_FILE, None, "Certificate in PEM that is shown to brokers.")
    backplane_key = Option(_FILE, None, "Its private key in PEM.", "in the certificate's file")
    backplane_credentials = Option(_FILE, None, "File with credentials for the brokers, such as a .creds file of NATS.")
    backplane_buffer = Option(
        Size(65_536, 1 << 31), 8 << 20, "Bytes for other processes that may wait; what is more is dropped."
    )
    backplane_patience = Option(
        Seconds(0, 3_600), 5.0, "While no broker is connected, drop what has waited for this long."
    )
    cluster = Option(
        Text("NAME"), "wshost", "Name of the cluster: processes meet only those of the same name on a broker."
    )
    node = Option(Text("NAME"), None, "Name of this machine in references.", "its host name")

    access_log = Option(
        Flag(), False, "Log one line for each connection at its end, and so for each client that was refused."
    )
    slow_turn = Option(
        Seconds(0, _DAY),
        0.25,
        "Log what holds a turn of the reactor for longer than this: all clients wait meanwhile. 0 for never.",
    )
    log_format = Option(
        Choice("FORMAT", "text", "json"), "text", "Format of the log's lines: text or json.", command_only=True
    )
    log_level = Option(
        Choice("LEVEL", "debug", "info", "warning", "error"),
        "info",
        "The least level that is logged: debug, info, warning or error.",
        command_only=True,
    )
    log_file = Option(
        _FILE,
        None,
        "File for the log; it is opened again at SIGHUP and SIGUSR1.",
        "stderr; twistd's --logfile",
        command_only=True,
    )

    def __init__(self, **given: Any) -> None:
        if not given.keys() <= OPTIONS.keys():
            raise TypeError(f"no options: {', '.join(given.keys() - OPTIONS.keys())}")
        self.given = {name: value for name, value in given.items() if value is not None}


#: The options of the command, by name.
OPTIONS: Mapping[str, Option[Any]] = {
    name: option for name, option in vars(Settings).items() if isinstance(option, Option)
}

#: The options of wshost's protocol modules, by the names in their mappings. Some are options of the command, too.
MODULES: Mapping[str, Mapping[str, Option[Any]]] = {
    "http": {
        "paths": Option(
            Several(Text("PATTERN")),
            None,
            "Path patterns that are served; other paths get 404. --route sets it.",
            "all",
        ),
        "health_path": Settings.health_path,
        "upgrade": Option(Text("MODULE"), None, "Module that gets WebSocket upgrades.", "the next one"),
        "otherwise": Option(
            Text("MODULE"), None, "Module that gets all other requests, on any path.", "none: they get 426"
        ),
        "max_head_size": Option(_SIZE, 16_384, "Largest request head; larger ones get 431."),
        "max_headers": Option(_COUNT, 100, "Header lines of a request; more get 431."),
        "timeout": Settings.handshake_timeout,
    },
    "websocket": {
        "handler": Settings.handler,
        "origins": Settings.origin,
        "hosts": Settings.host,
        "subprotocols": Settings.subprotocol,
        "compress": Settings.compress,
        "server_no_context_takeover": Settings.server_no_context_takeover,
        "fast_lane": Option(
            Flag(),
            os.environ.get("WSHOST_FAST_LANE") != "off",
            "Read plain frames without the slower engine. WSHOST_FAST_LANE=off in the environment turns this off, too.",
            "true",
        ),
        "max_message_size": Settings.max_message_size,
        "max_frame_size": Option(
            _SIZE,
            None,
            "Largest frame from a client, before decompression; larger ones close with 1009.",
            "max_message_size; in a compressed message twice that plus 1 KiB, as incompressible data grows",
        ),
        "max_fragments": Option(_COUNT, 1_024, "Frames of one message; more close with 1009."),
        "ping_interval": Settings.ping_interval,
        "ping_timeout": Settings.ping_timeout,
        "close_timeout": Settings.close_timeout,
        "drain_code": Settings.drain_code,
        "message_rate": Settings.message_rate,
        "byte_rate": Settings.byte_rate,
        "message_timeout": Option(_TIME, 120.0, "Close with 1008 when one message takes longer to arrive."),
    },
    "factory": {
        "factory": Option(Anything("FACTORY"), None, "IProtocolFactory, or the dotted path of one."),
    },
}

#: Options by their other names.
_ALIASES = {"protocol_modules": "protocol_module", **wsserver.OPTIONS}


class WrongOption(ConfigurationError):
    """An option has an unknown name or a wrong value.

    :param key: the option's name, as it was given.
    """

    def __init__(self, key: str, line: str) -> None:
        super().__init__(line)
        self.key = key


def check(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the checked options of a file or a mapping, by their names in `Settings`.

    :param given: values by name, with dashes or underscores.
    :raises WrongOption: for the first wrong option.
    """
    return _check(given, OPTIONS, _ALIASES)


def module_options(module: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return all options of one of wshost's protocol modules: the given ones, checked, and defaults for the others.

    :param module: the module's short name.
    :param given: the module's own mapping.
    :raises ConfigurationError: for the first wrong option.
    """
    known = MODULES[module]
    try:
        checked = _check(mapping(given), known, {})
    except ValueError as error:
        raise ConfigurationError(f"{module}: {error}") from None
    return {name: checked.get(name, option.default) for name, option in known.items()}


def _check(given: Mapping[str, Any], known: Mapping[str, Option[Any]], aliases: Mapping[str, str]) -> dict[str, Any]:
    checked: dict[str, Any] = {}
    for key, value in given.items():
        name = key.replace("-", "_")
        name = aliases.get(name, name)
        if name not in known:
            close = [one if "_" in key else one.replace("_", "-") for one in get_close_matches(name, known, 1)]
            hint = f"; did you mean {close[0]}?" if close else ""
            raise WrongOption(key, f"unknown option {key!r}{hint}")
        if name in checked:
            raise WrongOption(key, f"{key} is given twice, by two names")
        try:
            checked[name] = known[name].kind.check(value)
        except ValueError as error:
            raise WrongOption(key, f"{key}: {error}") from None
    return checked


def settle(*given: Mapping[str, Any]) -> Settings:
    """Merge options into `Settings`, and check them together.

    :param given: checked values by name. Later ones win: those of the command line over those of the file.
    :raises ConfigurationError: when two options exclude each other, or an option needs another that is missing.
    """
    merged: dict[str, Any] = {}
    for over in given:
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
    for option in (Settings.tls_key, Settings.tls_client_ca):
        if option.name in merged and "tls_cert" not in merged:
            raise ConfigurationError(f"{option.dashed} needs tls-cert")
    certs, keys = len(merged.get("tls_cert") or ()), len(merged.get("tls_key") or ())
    if keys not in {0, certs}:
        raise ConfigurationError(
            f"tls-cert names {certs} and tls-key {keys}: give each certificate its key, in the same order, or no keys "
            "at all if they are in the certificates' files"
        )
    settings = Settings(**merged)
    # The rest of the time is for answers to the last Closes: see `wshost.connections.drain`.
    if settings.drain_spread and settings.drain_spread >= 0.9 * settings.drain_timeout:
        raise ConfigurationError("drain-spread must be shorter than 90 % of drain-timeout")
    if 0 < settings.max_output_total < settings.max_output:
        one = Settings.max_output.kind.show(settings.max_output)
        raise ConfigurationError(
            f"max-output-total must be max-output or more, here {one}: one client may need that much"
        )
    return settings
