"""Machines that can't be made: what is said then."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.building import UnavailableError
from scale.machines import machines


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The only directory with programs."""
    monkeypatch.setenv("PATH", str(tmp_path))
    return tmp_path


def make(directory: Path, *names: str, does: str = "exit 0") -> None:
    for name in names:
        file = directory / name
        file.write_text(f"#!/bin/sh\n{does}\n")
        file.chmod(0o700)


def test_a_missing_program_is_named_with_its_package(programs: Path) -> None:
    make(programs, "unshare", "nsenter")
    with pytest.raises(UnavailableError, match=r"^ip is not found; on Debian: apt install iproute2$"), machines(2):
        pass


def test_machines_that_are_not_permitted_are_refused_in_one_line(programs: Path) -> None:
    make(programs, "ip", "nsenter")
    make(programs, "unshare", does="echo 'unshare: Operation not permitted' >&2; exit 1")
    said = "^no network namespaces are permitted here: unshare: Operation not permitted$"
    with pytest.raises(PermissionError, match=said), machines(2):
        pass


def test_a_network_that_can_not_be_made_is_said_in_one_line(programs: Path) -> None:
    make(programs, "nsenter", does="echo 'Unknown device type.' >&2; exit 2")
    make(programs, "ip")
    make(programs, "unshare", does="echo made")
    with pytest.raises(RuntimeError, match=r"^ip link add switch type bridge: Unknown device type\.$"), machines(2):
        pass
