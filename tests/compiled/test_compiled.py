"""Which form of our modules is chosen. That both do the same, all other tests show: `make test` runs them on each."""

from __future__ import annotations

import os
import subprocess
import sys
from hashlib import sha256
from importlib import import_module
from importlib.machinery import ExtensionFileLoader
from importlib.util import find_spec
from pathlib import Path

import pytest

from hatch_build import COMPILED, ROOT
from wshost.compiled import PURE, REASON, SOURCES, SUFFIX, Finder, form

#: Something that is compiled, where that is, and one of its sources.
NAME, FILE = "wshost.protocols.websocket.masking", f"protocols/websocket/masking{SUFFIX}"
SOURCE = "wshost/protocols/websocket/masking.pyx"


@pytest.fixture
def built(tmp_path: Path) -> Path:
    """What a build leaves in its directory, of one module: a file that nobody loads here, and the list of sources."""
    (tmp_path / FILE).parent.mkdir(parents=True)
    (tmp_path / FILE).touch()
    digest = sha256((ROOT / SOURCE).read_bytes()).hexdigest()
    (tmp_path / SOURCES).write_text(f"{digest}  {SOURCE}\n")
    return tmp_path


def finder(directory: Path) -> Finder:
    return Finder(str(directory))


def run(**variables: str) -> subprocess.CompletedProcess[str]:
    """Which form a new process runs: what `form` says, and where an import finds something that can be compiled."""
    kept = {name: value for name, value in os.environ.items() if name not in {"WSHOST_PURE", "WSHOST_COMPILED"}}
    return subprocess.run(
        [sys.executable, "-c", f"import wshost; print(wshost.compiled.form()); import {NAME} as m; print(m.__file__)"],
        check=False,
        cwd=ROOT,
        env=kept | variables,
        capture_output=True,
        text=True,
    )


class TestFinder:
    def test_modules_are_found_where_they_are_compiled(self, built: Path) -> None:
        found = finder(built).find_spec(NAME)
        assert found is not None
        assert (found.name, found.origin) == (NAME, str(built / FILE))
        assert isinstance(found.loader, ExtensionFileLoader)
        assert finder(built).why_not == ""

    @pytest.mark.parametrize("name", ["wshost", "wshost.request", "wshost.protocols", "wshost.protocols.http", "json"])
    def test_other_modules_are_left_to_other_finders(self, built: Path, name: str) -> None:
        assert finder(built).find_spec(name) is None

    def test_nothing_is_used_when_a_source_has_changed(self, built: Path) -> None:
        (built / SOURCES).write_text(f"{sha256(b'before').hexdigest()}  {SOURCE}\n")
        assert finder(built).find_spec(NAME) is None
        assert finder(built).why_not == f"{SOURCE} has changed since it was compiled"

    def test_nothing_is_used_when_a_source_is_gone(self, built: Path) -> None:
        with (built / SOURCES).open("a") as sources:
            sources.write(f"{sha256(b'gone').hexdigest()}  wshost/gone.py\n")
        assert finder(built).find_spec(NAME) is None
        assert finder(built).why_not == "wshost/gone.py has changed since it was compiled"

    def test_nothing_is_used_that_is_for_another_python(self, built: Path) -> None:
        (built / FILE).rename(built / "protocols/websocket/masking.cpython-27m-pdp11.so")
        (built / SOURCES).rename(built / "sources.cpython-27m-pdp11.so.sha256")
        assert finder(built).find_spec(NAME) is None
        assert finder(built).why_not == "nothing is compiled for this Python"

    def test_nothing_is_used_from_a_build_that_did_not_end(self, built: Path) -> None:
        (built / SOURCES).unlink()
        assert finder(built).find_spec(NAME) is None

    def test_a_build_without_a_compiler_says_why_nothing_is_there(self, tmp_path: Path) -> None:
        (tmp_path / REASON).write_text("no C compiler was found when it was built")
        assert finder(tmp_path).why_not == "no C compiler was found when it was built"

    def test_nothing_is_found_in_a_zip_archive(self, tmp_path: Path) -> None:
        (tmp_path / "site.zip").touch()
        assert finder(tmp_path / "site.zip" / "wshost" / "compiled").why_not == "nothing is compiled for this Python"

    def test_nothing_is_used_when_python_is_asked_for(self, built: Path) -> None:
        pure = Finder(str(built), required=True, pure=True)
        assert pure.find_spec(NAME) is None
        assert pure.why_not == "WSHOST_PURE is set"

    def test_what_is_required_and_can_not_be_used_is_an_import_error(self, tmp_path: Path) -> None:
        with pytest.raises(ImportError, match=f"^WSHOST_COMPILED={tmp_path}: nothing is compiled for this Python$"):
            _ = Finder(str(tmp_path), required=True).why_not


class TestEnvironment:
    @pytest.mark.parametrize("compiled", ["", "/nonexistent"])
    def test_wshost_pure_chooses_python(self, compiled: str) -> None:
        said, file = run(WSHOST_PURE="1", WSHOST_COMPILED=compiled).stdout.splitlines()
        assert said == "pure Python, which is slower: WSHOST_PURE is set"
        assert Path(file) == ROOT / "wshost/protocols/websocket/masking.py"

    @pytest.mark.parametrize("value", ["", "0"])
    def test_a_wshost_pure_that_is_empty_or_0_changes_nothing(self, value: str) -> None:
        assert run(WSHOST_PURE=value).stdout == run().stdout != ""

    def test_a_wshost_compiled_that_can_not_be_used_is_an_import_error(self, built: Path) -> None:
        (built / SOURCES).unlink()
        done = run(WSHOST_COMPILED=str(built))
        assert done.stdout == ""
        assert f"ImportError: WSHOST_COMPILED={built}: nothing is compiled for this Python" in done.stderr


class TestThisProcess:
    @pytest.mark.parametrize("module", [module for module in COMPILED if (ROOT / f"{module}.py").exists()])
    def test_all_modules_run_in_one_form(self, module: str) -> None:
        found = import_module(module.replace("/", "."))
        assert found.__file__ is not None
        assert found.__file__.endswith(SUFFIX if form() == "compiled" else ".py")

    def test_names_are_the_same_in_both_forms(self) -> None:
        """So that what is pickled, logged or looked up by its name is, too."""
        module = import_module("wshost.protocols.websocket.partial_frame")
        assert module.__name__ == module.PartialFrame.__module__ == "wshost.protocols.websocket.partial_frame"
        spec = find_spec(module.__name__)
        assert spec is not None
        assert spec.origin == module.__file__

    def test_python_runs_where_it_was_asked_for(self) -> None:
        assert form() == "compiled" or not os.environ.get("WSHOST_COMPILED")
        assert not PURE or form() == "pure Python, which is slower: WSHOST_PURE is set"
