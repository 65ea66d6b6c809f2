"""Which servers there are and how they are started; none is."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks import peers
from benchmarks.building import UnavailableError
from benchmarks.peers import PEERS, Launch, Peer
from benchmarks.running import CORES, on_core
from benchmarks.servers import wshost_async
from benchmarks.servers.answers import STYLES

LAUNCHES = {
    "plain": Launch(),
    "broadcast": Launch(broadcast=True),
    "deflate": Launch(deflate=True),
    "tls": Launch(cert="/some/cert.pem"),
    "async echo": Launch(style="echo"),
    "async JSON": Launch(style="json"),
}


def test_each_server_suits_only_the_runs_that_it_can_do() -> None:
    suited = {name: [kind for kind, launch in LAUNCHES.items() if peer.suits(launch)] for name, peer in PEERS.items()}
    assert suited["limit"] == ["plain", "broadcast", "async echo"]
    assert suited["tornado"] == ["plain", "broadcast", "deflate", "tls", "async echo"]
    assert suited["picows"] == ["plain", "broadcast", "tls"]
    assert suited["wshost"] == list(LAUNCHES)


def test_wshost_runs_as_a_user_runs_it() -> None:
    command = PEERS["wshost"].command(LAUNCHES["plain"], 1234)
    assert command[1:] == ["--nodaemon", "--pidfile=", "wshost", "--port=1234", "--handler=wshost.handlers.echo"]


def test_all_but_wshost_and_the_limit_are_rivals() -> None:
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


def test_a_server_that_is_not_installed_is_named() -> None:
    missing = Peer("x", "no-such-distribution-of-anybody", lambda launch, port: [])
    with pytest.raises(UnavailableError, match="no-such-distribution-of-anybody is not installed"):
        missing.version()


class TestOtherLanguages:
    """Their programs are where npm has put them, or in the PATH."""

    @pytest.fixture(autouse=True)
    def _nothing_is_installed(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
        monkeypatch.setenv("PATH", str(tmp_path / "bin"))
        monkeypatch.setattr(peers, "cache_directory", lambda: tmp_path)
        for found in (peers.runtime, peers.ws_version):
            found.cache_clear()
        yield
        for found in (peers.runtime, peers.ws_version):
            found.cache_clear()

    def install(self, path: Path, says: str) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"#!/bin/sh\n{says}\n")
        path.chmod(0o755)

    @pytest.mark.parametrize(
        ("name", "why"),
        [
            ("node-ws", "node is not found"),
            ("bun", "bun is not found"),
            ("deno", "deno is not found"),
            ("gorilla", "go is not found"),
            ("libwebsockets", "no C compiler is found"),
        ],
    )
    def test_a_missing_program_is_named(self, name: str, why: str) -> None:
        with pytest.raises(UnavailableError, match=why):
            PEERS[name].version()

    def test_a_program_that_npm_has_installed_comes_first(self, tmp_path: Path) -> None:
        self.install(tmp_path / "bin/bun", "echo 1.0")
        assert PEERS["bun"].version() == "Bun 1.0"
        peers.runtime.cache_clear()
        self.install(tmp_path / "node_modules/.bin/bun", "echo 1.4.5")
        assert PEERS["bun"].version() == "Bun 1.4.5"
        assert PEERS["bun"].command(LAUNCHES["async JSON"], 1234)[:1] == [str(tmp_path / "node_modules/.bin/bun")]

    def test_only_the_version_is_taken_of_what_deno_prints(self, tmp_path: Path) -> None:
        self.install(tmp_path / "bin/deno", "echo 'deno 2.9.6 (stable)'; echo 'v8 15'")
        assert PEERS["deno"].version() == "Deno 2.9.6"
        assert PEERS["deno"].command(LAUNCHES["async JSON"], 1234)[-2:] == ["--port=1234", "--style=json"]

    def test_a_program_that_does_not_run_is_reported(self, tmp_path: Path) -> None:
        self.install(tmp_path / "bin/bun", "echo 'no AVX' >&2; exit 1")
        with pytest.raises(UnavailableError, match=r"bun does not run: \['no AVX'\]"):
            PEERS["bun"].version()

    def test_node_is_measured_only_with_the_package_ws(self, tmp_path: Path) -> None:
        self.install(tmp_path / "bin/node", "")
        with pytest.raises(UnavailableError, match="npm's package ws is not installed"):
            PEERS["node-ws"].version()
        (tmp_path / "node_modules/ws").mkdir(parents=True)
        (tmp_path / "node_modules/ws/package.json").write_text('{"version": "8.23.0"}')
        assert PEERS["node-ws"].version() == "ws 8.23.0"
        assert f"--modules={tmp_path / 'node_modules'}" in PEERS["node-ws"].command(LAUNCHES["plain"], 1234)


def test_wshost_runs_the_handler_that_a_cell_names() -> None:
    command = PEERS["wshost"].command(LAUNCHES["async JSON"], 1234)
    assert "--handler=benchmarks.servers.wshost_async:Json" in command


def test_each_style_has_a_handler_for_wshost() -> None:
    for style in STYLES:
        assert callable(getattr(wshost_async, style.capitalize()).handle)


def test_a_process_may_use_all_its_cores_again_after_on_core() -> None:
    before = os.sched_getaffinity(0)
    with on_core(CORES[0]):
        assert os.sched_getaffinity(0) == {CORES[0]}
    assert os.sched_getaffinity(0) == before
