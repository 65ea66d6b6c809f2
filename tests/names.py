"""What the names on the pages are: each that stands in `code` is looked up where such are, or listed as another's.

Where a name is looked up depends on its form: an option, a file, a target of make, or something in Python. Of what is
in Python, every identifier must be one of ours or Python's, and behind `wshost.`, `context.`, `ref.` or `connection.`
one that is there.
"""

from __future__ import annotations

import ast
import builtins
import dataclasses
import importlib
import inspect
import keyword
import logging
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from twisted.scripts import twistd
from zope.interface.interface import InterfaceClass

import wshost
from tests import metrics
from wshost.cluster import monitors
from wshost.commands import foreground, publish
from wshost.connections.account import FACTS
from wshost.handlers.answers import FORMS
from wshost.interfaces import IContext, IRef
from wshost.request import TLS, ConnectionInfo, Proxy
from wshost.settings import environment, wsserver
from wshost.settings.options import MODULES, OPTIONS, WHEN_SLOW

ROOT = Path(__file__).parent.parent

_WORDS = """
    . .. ? /* /chat /chat/ \\: \\x80 \\x85 \\x9f \\xa0 \\xb2 -n null None True False match TypeError ValueError
    127.0.0.1:50000 [::1]:50000 [::1] localhost example.com:8080 chat.example.com *.example.com c1 c2 sesame limit
    w2 w2c7
    tcp: tcp6: unix: unix:/path fast: ssl: tls: systemd: haproxy: haproxy:ssl: data: mode= unix:/run/chat.sock:mode=666
    https://app.example.com https://*.example.com http://localhost:3000 http://tauri.localhost tauri://localhost
    capacitor://localhost ionic://localhost app://x file:// vscode-webview://… vscode-webview://*
    chrome-extension://… safari-web-extension://… moz-extension://… moz-extension://*
    wshost.access nohup logging.config logging.basicConfig
    UNKNOWN LOCAL check-send-proxy haproxy:unix:/run/chat.sock h2 no_application_protocol internal_error
    tcp:8080 tcp6:8080:interface=\\:\\: unix:/run/chat.sock haproxy:tcp:8080 systemd:domain=INET:name=chat index=0
    haproxy:systemd:… FileDescriptorName=admin StateDirectory
    RestrictAddressFamilies SystemCallFilter MemoryDenyWriteExecute LoadCredential
    HEALTHCHECK terminationGracePeriodSeconds preStop
    fail_timeout net.ipv4.ip_local_port_range /healthz /readyz chat@8080 OOMPolicy=continue
    ssl:443:privateKey=key.pem:certKey=cert.pem fast:8080 fast:443:cert=chat.pem:key=chat.key fast:unix=/run/chat.sock
    nats://user:password@host:4222 nats://token@host tls://host:4222 redis://:password@host:6379 rediss://host:6379
    redis+sentinel://host:26379,host2:26379/master rediss+sentinel
    redis+cluster://host:6379,host2:6379 redis+cluster rediss+cluster redis:// cluster-preferred-endpoint-type
    cluster-require-full-coverage no hostname +@pubsub +@scripting +hello
    +cluster|slots &* .creds web-1.hD3kP0aQ9zE.c17
    > rooms rooms.7 rooms.7* rooms.7.staff rooms.7.* rooms.7.> rooms.8 rooms.* rooms.> a..b a.*.b
    chat chat:Room package.chat path/to/chat.py website.factory twistd.log twistd.pid
    wshost-epoll close ssl isal nc openssl strace twistd pip TCP_NOTSENT_LOWAT TimeoutStopSec Group=www-data
    true false yes LimitNOFILE LimitNOFILE= Forwarded X-Forwarded-For X-Forwarded-Proto GLIBC_TUNABLES MALLOC_…
    Type=notify WatchdogSec Restart systemctl
    IProtocolFactory IConsumer ISSLTransport connectionLost deferToThread
    Clock Site verifyObject twisted.web urllib.parse.parse_qs OpenSSL.crypto.X509
    .pxd .pyx .tac .venv docs/_build doc feature fix removal pyproject.toml PORT= HANDLER= ARGS=--help
    ARGS=--ends PATH starting draining none peer server code reason prometheus_client 3xxx 4xxx interface= *
    changes/<issue>.<type>.<number>.md reports/conformance/<run>/index.html
    twisted/plugins/__init__.py twisted/plugins/wshost_<distribution>.py
"""
#: Names of others, examples, and words that are no names of ours. Who adds one makes sure that it is not ours.
OTHERS = frozenset(_WORDS.split()) | {
    '", "',
    '"; "',
    "async def",
    "version",
    "nc localhost 7000",
    'on_crash = "restart"',
    "pip install .",
    "pip install 'wshost[reload]'",
    "pip install 'wshost[admin]'",
    "GET /healthz",
    "GET /readyz",
    "GET /metrics",
    "GET /connections",
    "GET /connections/c7",
    "DELETE /connections/c7",
    "enableServiceLinks: false",
    'handler = "chat.py"',
    "pip install --force-reinstall --no-cache-dir",
    "make PYTHON=/path/to/python",
    "make bench ARGS='--servers wshost,wshost-before'",
    "make VENV=.venv-3.13",
    ".venv/bin/towncrier build --draft",
    "options[…]",
    (
        "apt install caddy chromium curl gcc haproxy iproute2 libssl-dev logrotate nginx npm openssl redis-server "
        "strace systemd"
    ),
    (
        "apt install caddy chromium curl faketime gcc haproxy iproute2 libssl-dev logrotate nginx npm openssl "
        "redis-server strace systemd"
    ),
    "apt install golang-go golang-github-gorilla-websocket-dev",
    "apt install libwebsockets-dev",
    "ulimit -Hn",
    "systemctl reload chat",
    "systemctl restart chat@8080",
    "pip wheel --no-deps .",
    "docker compose stop chat1",
    "docker stop",
    "podman stop",
    "systemd-analyze security chat.service",
    "--tls-cert ${CREDENTIALS_DIRECTORY}/chat.pem",
    "server … ssl send-proxy-v2",
    'Site(…, logPath="access.log")',
    '.encode("latin-1")',
    'ws.close(4000, "bye")',
}
# Of these the first word is what is looked up.
_COMMANDS = {"raise", "return"}
_FENCE = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
_CODE = re.compile(r"(?<!`)`([^`]+)`(?!`)")


def spans(page: Path) -> list[str]:
    """What stands in `code` on a page."""
    return _CODE.findall(_FENCE.sub("", page.read_text()))


def _members(value: Any) -> Iterator[str]:
    """The names that something has, and those of its functions' parameters."""
    if isinstance(value, InterfaceClass):
        for name in value.names(all=True):
            yield name
            yield from getattr(value[name], "positional", ())
    elif inspect.isclass(value):
        yield from dir(value)
        yield from getattr(value, "__annotations__", ())
        for function in [value, *(member for _, member in inspect.getmembers(value, inspect.isroutine))]:
            yield from _parameters(function)
    elif inspect.isroutine(value):
        yield from _parameters(value)


def _parameters(function: Any) -> Iterator[str]:
    try:
        yield from inspect.signature(function).parameters
    except (TypeError, ValueError):
        return


def _known() -> set[str]:
    """Every identifier of ours that a page may name: modules, what is in them, and what that has."""
    found = {
        *dir(builtins),
        *keyword.kwlist,
        *(level.lower() for level in logging.getLevelNamesMapping()),
        "wshost",
        *OPTIONS,
        *FACTS,
        "protocol_modules",
        *WHEN_SLOW,
        *wsserver.OPTIONS,
    }
    found.update(*MODULES.values())
    for path in (ROOT / "wshost").glob("**/*.py"):
        parts = path.relative_to(ROOT).with_suffix("").parts
        module = importlib.import_module(".".join(parts[:-1] if parts[-1] == "__init__" else parts))
        found.update(parts)
        for name, value in vars(module).items():
            found.add(name)
            if getattr(value, "__module__", "").startswith("wshost"):
                found.update(_members(value))
    return found


KNOWN = _known()
#: What names stand for on the pages, and what these have.
ROOTS: dict[str, set[str]] = {
    "context": set(IContext.names(all=True)),
    "IContext": set(IContext.names(all=True)),
    "ref": set(IRef.names(all=True)),
    "connection": {name for name in dir(ConnectionInfo) if not name.startswith("_")},
    "proxy": {field.name for field in dataclasses.fields(Proxy)},
    "tls": {field.name for field in dataclasses.fields(TLS)},
}
_OWN_ACTIONS = {"drain", "drained", "reload", "shutdown"}
#: The infos that wshost sends, and the reasons that it has itself.
_INFOS = {"down", "lost", "presence", "unregistered", monitors.GONE, monitors.UNREACHABLE}
_MESSAGES = {"text", "binary", "ping", "pong", "close", "info", "connection_close"}
_STRINGS = {
    *re.findall(r'"(\w+)"', FORMS),
    *_MESSAGES,
    *_INFOS,
    *_OWN_ACTIONS,
    *WHEN_SLOW,
    "send",
    "worker",
    "connection",
}
_OPTIONS: Any = twistd.ServerOptions  # type: ignore[attr-defined]
_TWISTD = {"--" + name.rstrip("=") for name in _OPTIONS().longOpt} | {"--reactor"}


def is_there(name: str) -> bool:
    """Whether something is called so."""
    if name in OTHERS or _is_file(name):
        return True
    if name.startswith("wshost_"):
        return name in {one.name for one in metrics.OURS}
    first, _, rest = name.partition(" ")
    if first.startswith("--"):
        option = first.partition("=")[0]
        ours = {*OPTIONS, *foreground.Options.more, *publish.Options.more, "config", "help", "version"}
        return option[2:].replace("-", "_") in ours or option in _TWISTD | {"--clean"}
    if first == "make":
        target = rest.partition(" ")[0]
        return any(line.startswith(f"{target}:") for line in (ROOT / "Makefile").read_text().splitlines())
    if first == "twistd":
        return all(
            word in {"wshost", "…", "-n", "-y", "epoll"} or is_there(word) or word == "--help" for word in rest.split()
        )
    if first == "wshost" and rest:
        return all(word in {"check", "…"} or is_there(word) for word in rest.split())
    if name == "python -m wshost":
        return (ROOT / "wshost/__main__.py").exists()
    if first == "python":
        return _is_file(rest.split(" ")[0]) or _is_file(rest.removeprefix("-m ").replace(".", "/") + ".py")
    if first.startswith(".venv/bin/"):
        return all(_is_file(word) for word in rest.split())
    return _is_python(name)


def _is_file(name: str) -> bool:
    if not name.strip("./") or name.startswith("/"):
        return False
    examples = ROOT / "docs/examples"
    bases = (
        ROOT,
        ROOT / "docs",
        examples,
        examples / "website",
        *(ROOT / "wshost", *(ROOT / "wshost").glob("[a-z]*/")),
    )
    return any(any(base.glob(form)) for base in bases for form in (name, f"{name}.py"))


def _is_python(name: str) -> bool:
    text = name.replace("…", "...").replace("=false", "=False")
    if text.startswith("WSHOST_"):
        variable = text.partition("=")[0]
        if variable in {environment.variable(option) for option in OPTIONS.values()}:
            return True
        return any(f'"{text.partition("=")[0]}"' in path.read_text() for path in ROOT.glob("[wb]*/**/*.py"))
    first, _, rest = text.partition(" ")
    try:
        tree = ast.parse(rest if first in _COMMANDS else text.replace("-", "_"))
    except SyntaxError:
        return False
    return all(_exists(node) for node in ast.walk(tree))


def _exists(node: ast.AST) -> bool:
    match node:
        case ast.Name(id):
            return id in KNOWN or id in ROOTS or id in {"anything", "message"}
        case ast.keyword(arg=str(arg)):
            return arg in KNOWN
        case ast.Constant(value=str(value)):
            # What is empty names nothing.
            return value in _STRINGS or value in {"", "Normal close"}
        case ast.Attribute(value=ast.Name(id="wshost")):
            return _resolves(ast.unparse(node))
        case ast.Attribute(value=ast.Name(id=root), attr=attr) if root in ROOTS:
            return attr in ROOTS[root]
        case ast.Attribute(value=ast.Attribute() as inner, attr=attr):
            path = ast.unparse(node)
            return _resolves(path) if path.startswith("wshost.") else attr in ROOTS.get(inner.attr, KNOWN)
        case ast.Attribute(attr=attr):
            return attr in KNOWN
    return True


def _resolves(path: str) -> bool:
    found: Any = wshost
    for name in path.split(".")[1:]:
        try:
            found = getattr(found, name)
        except AttributeError:
            try:
                found = importlib.import_module(f"{found.__name__}.{name}")
            except ImportError:
                return False
    return True
