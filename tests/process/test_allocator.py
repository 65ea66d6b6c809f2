import ctypes
import subprocess
import sys

import pytest

from wshost.process.allocator import KEPT, keep_memory


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MALLOC_ARENA_MAX", "MALLOC_TRIM_THRESHOLD_", "GLIBC_TUNABLES"):
        monkeypatch.delenv(name, raising=False)


class Library:
    """A C library."""

    def __init__(self, answer: int) -> None:
        self.asked: list[tuple[int, int]] = []
        self._answer = answer

    def mallopt(self, parameter: int, value: int) -> int:
        self.asked.append((parameter, value))
        return self._answer


def test_glibc_is_told_what_to_keep(monkeypatch: pytest.MonkeyPatch) -> None:
    library = Library(1)
    monkeypatch.setattr(ctypes, "CDLL", lambda name: library)
    assert keep_memory()
    assert library.asked == [(-1, KEPT), (-3, 8 << 20)]


@pytest.mark.parametrize("library", [Library(0), object()])
def test_another_c_library_is_left_alone(library: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ctypes, "CDLL", lambda name: library)
    assert not keep_memory()


@pytest.mark.parametrize("name", ["MALLOC_TRIM_THRESHOLD_", "MALLOC_ARENA_MAX", "GLIBC_TUNABLES"])
def test_environment_variables_of_the_user_win(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    library = Library(1)
    monkeypatch.setattr(ctypes, "CDLL", lambda name: library)
    monkeypatch.setenv(name, "1")
    assert not keep_memory()
    assert not library.asked


def test_on_another_system_than_posix_nothing_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.name", "nt")
    assert not keep_memory()


@pytest.mark.skipif(
    sys.platform != "linux" or not hasattr(ctypes.CDLL(None), "gnu_get_libc_version"), reason="no glibc"
)
@pytest.mark.uninstrumented
def test_memory_of_large_blocks_is_not_faulted_in_again() -> None:
    program = """
import resource, sys
from wshost.process.allocator import keep_memory
if sys.argv[1:]:
    assert keep_memory()
for _ in range(3):
    first, second = bytes(3_000_000), bytes(3_000_001)
    del first, second
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(20):
    first, second = bytes(3_000_000), bytes(3_000_001)
    del first, second
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""

    def faults(*arguments: str) -> int:
        return int(subprocess.check_output([sys.executable, "-c", program, *arguments]))

    assert faults("keep") < faults() // 10
