"""Makes the way to other processes that the options ask for: which backplane, and how it is told. Knows no server."""

from __future__ import annotations

import re
from typing import cast

from wshost import plugins
from wshost.backplanes import urls
from wshost.backplanes.settings import BackplaneSettings
from wshost.cluster.exchange import Cluster, Way
from wshost.connections.home import MAX_NODE, is_node, this_machine
from wshost.interfaces import IBackplane
from wshost.loading.importing import run
from wshost.results import ConfigurationError
from wshost.settings.options import Settings


def build(settings: Settings) -> Cluster:
    """Return the cluster of a server. Nothing is connected.

    :raises ConfigurationError: with one line that says what is wrong with the options.
    """
    name = settings.cluster
    if not re.fullmatch(r"[A-Za-z0-9_-]{1,63}", name):
        raise ConfigurationError(f"cluster: {name!r} is no name: 1 to 63 letters, digits, - and _")
    if settings.node is not None and not is_node(settings.node):
        raise ConfigurationError(f"node: {settings.node!r} is no name: 1 to {MAX_NODE} letters, digits, - and _")
    if not settings.backplane:
        return Cluster(name)
    kind = plugins.backplane(urls.scheme_of(settings.backplane))
    told = BackplaneSettings(
        scheme=kind.scheme,
        brokers=urls.read(settings.backplane, kind.port, kind.tls),
        ca=settings.backplane_ca,
        cert=settings.backplane_cert,
        key=settings.backplane_key,
        credentials=settings.backplane_credentials,
        buffer=settings.backplane_buffer,
        patience=settings.backplane_patience,
        name=f"wshost-{settings.node or this_machine()}",
    )
    make = run(f"backplane {kind.scheme}:// can't be imported", kind.load)

    def made() -> IBackplane:
        return cast("IBackplane", make(told))

    # What is wrong with the settings is said now.
    made()
    return Cluster(name, [Way(told, made)], buffer=settings.backplane_buffer)
