"""What the kernel says of this very process."""

from __future__ import annotations

import mmap
import os
import subprocess
import sys
import threading
import time

import pytest

from benchmarks.accounting import cpu, descendants, own_memory, pss, read_pss


def burn(seconds: float) -> None:
    until = time.thread_time() + seconds
    while time.thread_time() < until:
        pass


def test_the_cpu_time_of_a_thread_counts_after_its_end() -> None:
    before = cpu(os.getpid())
    thread = threading.Thread(target=burn, args=(0.05,))
    thread.start()
    thread.join()
    assert 0.05 <= cpu(os.getpid()) - before < 5.0


def test_the_cpu_time_of_a_process_is_what_its_own_clock_says() -> None:
    ours, theirs = cpu(os.getpid()), time.process_time()
    burn(0.1)
    assert cpu(os.getpid()) - ours == pytest.approx(time.process_time() - theirs, abs=0.05)


def test_a_child_is_a_descendant_of_its_parent() -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        assert child.pid in descendants(os.getpid())
        assert descendants(child.pid) == [child.pid]
        assert child.stdin
        child.stdin.write(b"\n")


def test_the_pss_of_a_process_grows_by_the_memory_it_uses() -> None:
    before = pss(os.getpid())
    # Not from the heap, which may have as much unused. And much, as other processes come and go meanwhile: what this
    # one shares with them is divided by their number.
    with mmap.mmap(-1, 256 << 20) as held:
        for _ in range(256):
            held.write(b"x" * (1 << 20))
        assert 240 << 20 < pss(os.getpid()) - before < 320 << 20


def test_a_descendant_that_has_ended_counts_nothing() -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as child:
        # Until it is waited for, it is still listed.
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        assert child.pid in descendants(os.getpid())
        with pytest.raises(OSError, match="No such process"):
            pss(child.pid)
        assert pss(os.getpid()) > 0
        assert cpu(os.getpid()) > 0


def test_the_pss_is_read_from_smaps_rollup_in_bytes() -> None:
    assert (
        read_pss("a-b ---p 00000000 00:00 0  [rollup]\nRss:   9999 kB\nPss:    1234 kB\nPss_Anon: 5 kB\n") == 1_263_616
    )
    with pytest.raises(ValueError, match="no Pss"):
        read_pss("Rss: 1 kB\n")


def test_memory_counts_as_a_processs_own_when_it_has_written_there() -> None:
    size = 8 << 20
    before = own_memory(os.getpid())
    with mmap.mmap(-1, size) as memory:
        memory.write(b"x" * size)
        assert own_memory(os.getpid()) - before > size // 2
