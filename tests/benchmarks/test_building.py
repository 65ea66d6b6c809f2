"""What is compiled, when, and by which arguments. A shell script stands for each compiler."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from benchmarks import building
from benchmarks.building import HERE, UnavailableError, built, built_by_go

#: Writes down its environment and its arguments, and makes the file that follows -o.
COMPILER = """#!/bin/sh
echo "$GO111MODULE" "$GOPATH" "$@" >>{log}
while [ "$1" != -o ]; do shift; done
echo program >"$2"
"""


@pytest.fixture(name="log")
def _log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file of the compilers' calls. There are no other programs; what they make is in ``made``."""
    log = tmp_path / "log"
    for name in ("cc", "go"):
        program = tmp_path / "bin" / name
        program.parent.mkdir(exist_ok=True)
        program.write_text(COMPILER.format(log=log))
        program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}")
    monkeypatch.delenv("GOPATH", raising=False)
    (tmp_path / "made").mkdir()
    monkeypatch.setattr(building, "cache_directory", lambda: tmp_path / "made")
    return log


def calls(log: Path) -> list[str]:
    return log.read_text().splitlines() if log.exists() else []


def test_a_program_is_compiled_again_only_when_its_source_has_changed(log: Path, tmp_path: Path) -> None:
    assert built("load.c") == built("load.c") == tmp_path / "made" / "load"
    assert len(calls(log)) == 1
    os.utime(tmp_path / "made" / "load", (0, 0))
    built("load.c")
    assert len(calls(log)) == 2


def test_libraries_stand_behind_the_source(log: Path, tmp_path: Path) -> None:
    assert built("load.c", ["-DTLS", "-lssl"], "load-tls") == tmp_path / "made" / "load-tls"
    (call,) = calls(log)
    assert call.endswith(f" {HERE / 'load.c'} -DTLS -lssl")


def test_a_missing_compiler_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UnavailableError, match="no C compiler is found"):
        built("load.c")
    with pytest.raises(UnavailableError, match="go is not found"):
        built_by_go("servers/gorilla_server.go")


def test_go_takes_debians_packages_and_fetches_nothing(
    log: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert built_by_go("servers/gorilla_server.go") == tmp_path / "made" / "gorilla_server"
    monkeypatch.setenv("GOPATH", "/own")
    os.utime(tmp_path / "made" / "gorilla_server", (0, 0))
    built_by_go("servers/gorilla_server.go")
    assert [call.partition(" build -o ")[0] for call in calls(log)] == [
        "off /usr/share/gocode",
        "off /own:/usr/share/gocode",
    ]


def test_a_program_appears_only_when_it_is_complete(log: Path, tmp_path: Path) -> None:
    built("load.c")
    (call,) = calls(log)
    assert f"-o {tmp_path / 'made' / 'load'}." in call
    assert list((tmp_path / "made").iterdir()) == [tmp_path / "made" / "load"]
