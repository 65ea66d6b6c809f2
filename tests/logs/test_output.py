from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from wshost.logs.output import Output

FULL = Path("/dev/full")


def lost(lines: int, why: str) -> str:
    return f"lost {lines}: {why}"


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    os.set_blocking(reading, False)
    yield reading, writing
    os.close(reading)
    os.close(writing)


class TestFiles:
    def test_lines_are_appended(self, tmp_path: Path) -> None:
        (tmp_path / "log").write_text("before\n", encoding="utf-8")
        output = Output(tmp_path / "log", lost)
        output.write("Grüße")
        output.write("again")
        assert (tmp_path / "log").read_text(encoding="utf-8") == "before\nGrüße\nagain\n"

    def test_a_surrogate_is_escaped(self, tmp_path: Path) -> None:
        Output(tmp_path / "log", lost).write("\ud800")
        assert (tmp_path / "log").read_text(encoding="utf-8") == "\\ud800\n"

    def test_a_file_that_was_moved_is_left_when_it_is_opened_again(self, tmp_path: Path) -> None:
        output = Output(tmp_path / "log", lost)
        output.write("one")
        (tmp_path / "log").rename(tmp_path / "log.1")
        output.write("two")
        output.reopen()
        output.write("three")
        assert (tmp_path / "log.1").read_text(encoding="utf-8") == "one\ntwo\n"
        assert (tmp_path / "log").read_text(encoding="utf-8") == "three\n"

    def test_the_file_is_found_again_from_another_directory(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        output = Output(Path("log"), lost)
        assert output.path == tmp_path / "log"
        monkeypatch.chdir("/")
        output.reopen()

    def test_a_file_that_can_not_be_opened_again_stays(self, tmp_path: Path) -> None:
        folder = tmp_path / "logs"
        folder.mkdir()
        output = Output(folder / "log", lost)
        folder.rename(tmp_path / "old")
        with pytest.raises(FileNotFoundError):
            output.reopen()
        output.write("still")
        assert (tmp_path / "old" / "log").read_text(encoding="utf-8") == "still\n"

    def test_a_file_that_can_not_be_opened_is_an_error(self, tmp_path: Path) -> None:
        with pytest.raises(IsADirectoryError):
            Output(tmp_path, lost)


class TestStreams:
    def test_lines_go_to_the_descriptor(self, pipe: tuple[int, int]) -> None:
        output = Output(None, lost, pipe[1])
        output.write("one")
        assert os.read(pipe[0], 100) == b"one\n"
        assert output.path is None

    def test_a_stream_is_not_opened_again(self, pipe: tuple[int, int]) -> None:
        output = Output(None, lost, pipe[1])
        output.reopen()
        output.write("one")
        assert os.read(pipe[0], 100) == b"one\n"


class TestLosses:
    """What can't be written costs lines, nothing else."""

    def test_a_full_disk_costs_lines_and_they_are_counted(self, tmp_path: Path) -> None:
        (tmp_path / "log").symlink_to(FULL)
        output = Output(tmp_path / "log", lost)
        for number in range(5):
            output.write(f"line {number}")
        (tmp_path / "log").unlink()
        output.reopen()
        output.write("there is room")
        assert (tmp_path / "log").read_text(encoding="utf-8") == "lost 5: No space left on device\nthere is room\n"
        output.write("again")
        assert (tmp_path / "log").read_text(encoding="utf-8").endswith("there is room\nagain\n")

    def test_a_part_of_a_line_is_ended_before_the_next(self, pipe: tuple[int, int]) -> None:
        output = Output(None, lost, pipe[1])
        output.write("x" * (1 << 20))
        output.write("nothing of this")
        while True:
            try:
                os.read(pipe[0], 1 << 20)
            except BlockingIOError:
                break
        output.write("there is room")
        assert os.read(pipe[0], 1_000) == b"\nlost 2: Resource temporarily unavailable\nthere is room\n"

    def test_a_closed_stream_costs_lines(self) -> None:
        reading, writing = os.pipe()
        os.close(reading)
        output = Output(None, lost, writing)
        output.write("nobody reads this")
        os.close(writing)
        output.write("nor this")

    def test_a_line_that_is_lost_after_the_loss_was_told_counts_anew(self, pipe: tuple[int, int]) -> None:
        output = Output(None, lost, pipe[1])
        output.write("x" * (1 << 20))
        # Room for the line that tells the loss, not for the whole next one.
        os.read(pipe[0], 1 << 20)
        output.write("y" * (1 << 20))
        os.read(pipe[0], 1 << 20)
        output.write("there is room")
        assert os.read(pipe[0], 1_000) == b"\nlost 1: Resource temporarily unavailable\nthere is room\n"

    def test_a_file_is_given_to_another_user(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        given: list[tuple[int, int]] = []
        monkeypatch.setattr(os, "fchown", lambda _, uid, gid: given.append((uid, gid)))
        Output(tmp_path / "log", lost).give(7, -1)
        Output(None, lost).give(7, -1)
        assert given == [(7, -1)]
