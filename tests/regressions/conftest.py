"""What every regression test has: its own clock for Autobahn's timers, and, asked for, the log."""

from __future__ import annotations

import io
from collections.abc import Iterator

import pytest
import trustme
from twisted.internet.ssl import CertificateOptions
from twisted.logger import ILogObserver, LogEvent, eventAsText, globalLogPublisher
from txaio import tx
from zope.interface import implementer

from wshost.listening.certificates import Certificates


@implementer(ILogObserver)
class Log:
    """All that is logged, as twistd would write it."""

    def __init__(self) -> None:
        self._text = io.StringIO()

    def __call__(self, event: LogEvent) -> None:
        # Autobahn's debug messages: txaio drops them in a server, too.
        if event["log_level"].name != "debug":
            self._text.write(eventAsText(event) + "\n")

    @property
    def text(self) -> str:
        """The log so far."""
        return self._text.getvalue()


@pytest.fixture
def log() -> Iterator[Log]:
    """The log of this test."""
    log = Log()
    globalLogPublisher.addObserver(log)
    yield log
    globalLogPublisher.removeObserver(log)


@pytest.fixture(autouse=True)
def _autobahn_timers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Autobahn takes its clock from a global: what a test's server sets it to ends with the test."""
    monkeypatch.setattr(tx.config, "loop", None)


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> CertificateOptions:
    """What a server shows with TLS, and nobody has reason to trust."""
    path = tmp_path_factory.mktemp("tls") / "server.pem"
    trustme.CA().issue_cert("localhost").private_key_and_cert_chain_pem.write_to_path(path)
    return Certificates([str(path)]).context_factory()
