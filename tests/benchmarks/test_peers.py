"""Which servers there are and how they are started; none is."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from benchmarks.building import UnavailableError
from benchmarks.peers import CORES, PEERS, Launch, Peer, on_core

LAUNCHES = {
    "plain": Launch(),
    "broadcast": Launch(broadcast=True),
    "deflate": Launch(deflate=True),
    "tls": Launch(cert="/some/cert.pem"),
    "async echo": Launch(style="echo"),
    "async JSON": Launch(style="json"),
}


def test_a_server_is_asked_only_for_what_it_can() -> None:
    suited = {name: [kind for kind, launch in LAUNCHES.items() if peer.suits(launch)] for name, peer in PEERS.items()}
    assert suited["limit"] == ["plain", "broadcast", "async echo"]
    assert suited["tornado"] == ["plain", "broadcast", "deflate", "tls", "async echo"]
    assert suited["picows"] == ["plain", "broadcast", "tls"]
    assert suited["wshost"] == list(LAUNCHES)


def test_wshost_runs_as_a_user_runs_it() -> None:
    command = PEERS["wshost"].command(LAUNCHES["plain"], 1234)
    assert command[1:] == ["--nodaemon", "--pidfile=", "wshost", "--port=1234", "--handler=wshost.handlers.echo"]


def test_neither_wshost_nor_the_limit_is_a_rival() -> None:
    assert {name for name, peer in PEERS.items() if not peer.rival} == {
        "wshost",
        "wshost-epoll",
        "wshost-before",
        "limit",
    }


def test_another_commit_runs_from_the_checkout_that_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WSHOST_BEFORE", str(tmp_path))
    with pytest.raises(UnavailableError, match="WSHOST_BEFORE names no checkout"):
        PEERS["wshost-before"].version()
    (tmp_path / "wshost").mkdir()
    assert PEERS["wshost-before"].root() == tmp_path
    assert PEERS["wshost-before"].version() == str(tmp_path)
    assert PEERS["wshost"].root() == Path(__file__).parents[2]


def test_without_a_named_checkout_another_commit_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WSHOST_BEFORE", raising=False)
    with pytest.raises(UnavailableError, match="WSHOST_BEFORE names no checkout"):
        PEERS["wshost-before"].version()


def test_what_is_not_installed_says_so() -> None:
    missing = Peer("x", "no-such-distribution-of-anybody", lambda launch, port: [])
    with pytest.raises(UnavailableError, match="no-such-distribution-of-anybody is not installed"):
        missing.version()


def test_a_core_is_left_again() -> None:
    before = os.sched_getaffinity(0)
    with on_core(CORES[0]):
        assert os.sched_getaffinity(0) == {CORES[0]}
    assert os.sched_getaffinity(0) == before
