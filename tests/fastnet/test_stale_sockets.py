from __future__ import annotations

import errno
import gc
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from twisted.internet.error import CannotListenError

from wshost.fastnet.stale_sockets import replacing_stale_socket


@pytest.fixture
def path(tmp_path: Path) -> Iterator[Path]:
    """A short one: the names of sockets have 108 bytes at most."""
    directory = Path(f"/tmp/vacant-{os.getpid()}")
    directory.mkdir()
    yield directory / "x"
    for left in directory.iterdir():
        left.unlink()
    directory.rmdir()


def bound(path: Path, kind: int = socket.SOCK_STREAM) -> socket.socket:
    server = socket.socket(socket.AF_UNIX, kind)
    server.bind(str(path))
    return server


def leave(path: Path) -> None:
    """As a server does that is killed: the socket, and a lock that names a process which lives."""
    bound(path).close()
    lock(path).symlink_to(str(os.getppid()))


def lock(path: Path) -> Path:
    return path.with_name(f"{path.name}.lock")


def left(path: Path) -> list[str]:
    return sorted(one.name for one in path.parent.iterdir())


class TestWhatNobodyListensOn:
    def test_a_stale_socket_is_removed_with_its_lock(self, path: Path) -> None:
        leave(path)
        with replacing_stale_socket(os.fsencode(path)):
            assert left(path) == []

    def test_a_stale_socket_without_a_lock_is_removed(self, path: Path) -> None:
        bound(path).close()
        with replacing_stale_socket(str(path)):
            assert left(path) == []

    def test_a_stale_lock_without_its_socket_is_removed(self, path: Path) -> None:
        leave(path)
        path.unlink()
        with replacing_stale_socket(str(path)):
            assert left(path) == []

    def test_a_free_path_is_left_to_the_block(self, path: Path) -> None:
        with replacing_stale_socket(str(path)):
            assert left(path) == []
            bound(path).close()
        assert left(path) == ["x"]

    def test_a_relative_path_is_one_in_the_current_directory(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        leave(path)
        monkeypatch.chdir(path.parent)
        with replacing_stale_socket("x"):
            assert left(path) == []

    def test_a_path_without_a_directory_is_left_alone(self, path: Path) -> None:
        for name in (str(path.with_name("none") / "x"), "\0abstract", b"\0abstract"):
            with replacing_stale_socket(name):
                assert left(path) == []
            assert left(path) == []


class TestAServerThatLives:
    def test_a_living_servers_socket_is_kept(self, path: Path) -> None:
        with bound(path) as server:
            server.listen()
            lock(path).symlink_to("999999999")
            with pytest.raises(CannotListenError) as caught, replacing_stale_socket(os.fsencode(path)):
                pytest.fail("it was told to listen")
        assert str(caught.value.socketError) == "a server listens there already"
        assert left(path) == ["x", "x.lock"]

    def test_a_busy_servers_socket_is_kept(self, path: Path) -> None:
        with bound(path) as server, socket.socket(socket.AF_UNIX) as client:
            server.listen(0)
            client.connect(str(path))
            with (
                pytest.raises(CannotListenError, match="a server listens there already"),
                replacing_stale_socket(str(path)),
            ):
                pytest.fail("it was told to listen")


class TestWhatIsKept:
    @pytest.mark.parametrize("what", ["a file", "a directory", "a link to a file", "a pipe"])
    def test_what_is_no_socket_is_kept(self, path: Path, what: str) -> None:
        target = path.with_name("target")
        if what == "a file":
            path.write_text("x", encoding="ascii")
        elif what == "a directory":
            path.mkdir()
        elif what == "a link to a file":
            target.write_text("x", encoding="ascii")
            path.symlink_to(target)
        else:
            os.mkfifo(path)
        before = left(path)
        with replacing_stale_socket(str(path)):
            assert left(path) == before
        if path.is_dir():
            path.rmdir()

    def test_another_kind_of_socket_is_kept(self, path: Path) -> None:
        with bound(path, socket.SOCK_DGRAM), replacing_stale_socket(str(path)):
            assert left(path) == ["x"]

    def test_a_socket_that_can_not_be_connected_to_is_kept(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        bound(path).close()

        class Refused(socket.socket):
            def connect(self, address: object) -> None:
                raise PermissionError

        with monkeypatch.context() as patch:
            patch.setattr(socket, "socket", Refused)
            with replacing_stale_socket(str(path)):
                assert left(path) == ["x"]

    def test_a_path_that_can_not_be_seen_is_kept(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        leave(path)

        def lstat(self: Path) -> os.stat_result:
            raise OSError(errno.EACCES, "Permission denied")

        with monkeypatch.context() as patch:
            patch.setattr(Path, "lstat", lstat)
            with replacing_stale_socket(str(path)):
                pass
        assert left(path) == ["x", "x.lock"]

    @pytest.mark.parametrize("target", ["a-file", "12x", ""])
    def test_a_lock_that_is_not_twisteds_is_kept(self, path: Path, target: str) -> None:
        bound(path).close()
        if target:
            lock(path).symlink_to(target)
        else:
            lock(path).write_text("mine")
        with replacing_stale_socket(str(path)):
            assert left(path) == ["x.lock"]


class TestTwoThatStartAtOnce:
    def test_a_starting_server_waits_for_another_in_the_same_directory(
        self, path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Between the first one's binding and its listening nobody seems to listen."""
        first = replacing_stale_socket(str(path))
        first.__enter__()
        server = bound(path)

        def sleep(seconds: float) -> None:
            server.listen()
            first.__exit__(None, None, None)

        monkeypatch.setattr(time, "sleep", sleep)
        with pytest.raises(CannotListenError), replacing_stale_socket(str(path)):
            pytest.fail("it was told to listen")
        assert left(path) == ["x"]
        server.close()

    def test_a_starting_server_does_not_wait_for_ever(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        slept: list[float] = []
        now = 0.0

        def sleep(seconds: float) -> None:
            nonlocal now
            slept.append(seconds)
            now += seconds

        monkeypatch.setattr(time, "sleep", sleep)
        monkeypatch.setattr(time, "monotonic", lambda: now)
        bound(path).close()
        # Or the collector might close what tests before this have left.
        gc.collect()
        before = len(list(Path("/proc/self/fd").iterdir()))
        with replacing_stale_socket(str(path)):
            bound(path).close()
            with replacing_stale_socket(str(path)):
                assert left(path) == []
        assert 0.9 < sum(slept) < 1.1
        assert len(list(Path("/proc/self/fd").iterdir())) == before
