"""The distribution: what wheel and sdist hold, and that wshost, installed, is found, works, coexists and goes again."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import sysconfig
import tarfile
import threading
import venv
import zipfile
from collections.abc import Iterable, Iterator
from email.message import Message
from email.parser import Parser
from hashlib import sha256
from importlib.metadata import Distribution, distribution
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from Cython.Build import cythonize
from packaging.requirements import Requirement
from packaging.tags import Tag
from packaging.utils import canonicalize_name, parse_wheel_filename
from websockets.sync.client import connect

import hatch_build
import wshost
from hatch_build import COMPILED, Compile
from tests.programs import need_compiler
from wshost.compiled import REASON, SOURCES, SUFFIX

ROOT = Path(__file__).parent.parent
PLUGIN = "twisted/plugins/wshost_plugin.py"

TWISTD = ("-P", "-c", "from twisted.scripts.twistd import run; run()")
TWIST = ("-P", "-m", "twisted")
PIP = (sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check")

#: Runs a command that permission bits mean something to, also when root runs the tests: CAP_DAC_OVERRIDE (1) is taken
#: away for good by PR_CAPBSET_DROP (24).
WITHOUT_PRIVILEGE = """
import ctypes, os, sys
if os.geteuid() == 0:
    assert ctypes.CDLL(None).prctl(24, 1, 0, 0, 0) == 0, "prctl failed"
os.execv(sys.argv[1], sys.argv[1:])
"""


class Built(NamedTuple):
    wheel: Path
    sdist: Path
    metadata: Message


def environment(**variables: str) -> dict[str, str]:
    """The variables of this process but for those that change what a Python imports or measures."""
    kept = {
        name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "COV", "WSHOST", "CFLAGS"))
    }
    return kept | variables


def run(*command: str | Path, cwd: Path, **variables: str) -> str:
    """What the command prints; it must succeed."""
    done = subprocess.run(
        command,
        check=False,
        cwd=cwd,
        env=environment(**variables),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


def required(requirements: Iterable[str]) -> dict[str, Distribution]:
    """The installed distributions that fulfil these requirements, and theirs in turn, by name."""
    found: dict[str, Distribution] = {}
    done: set[tuple[str, str]] = set()
    todo = [(Requirement(text), "") for text in requirements]
    while todo:
        requirement, extra = todo.pop()
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": extra}):
            continue
        name = canonicalize_name(requirement.name)
        found[name] = distribution(name)
        for wanted in {"", *requirement.extras} - {known for package, known in done if package == name}:
            done.add((name, wanted))
            todo += [(Requirement(text), wanted) for text in found[name].requires or ()]
    return found


class Site:
    """A virtual environment without access to the one that runs the tests, but with copies of what it has installed.

    It holds what wshost's metadata asks for and nothing more: what is not declared is not there.
    """

    def __init__(self, path: Path, requirements: Iterable[str]) -> None:
        venv.EnvBuilder(symlinks=True).create(path)
        variables = {"base": str(path), "platbase": str(path)}
        self.packages = Path(sysconfig.get_path("purelib", "venv", vars=variables))
        self.python = Path(sysconfig.get_path("scripts", "venv", vars=variables), "python")
        self.home = path
        for needed in required(requirements).values():
            for file in needed.files or ():
                if ".." not in file.parts:
                    target = self.packages.joinpath(file)
                    target.parent.mkdir(parents=True, exist_ok=True)
                    shutil.copy2(file.locate(), target)

    def run(self, *arguments: str, **variables: str) -> str:
        return run(self.python, *arguments, cwd=self.home, **variables)

    def install(self, *arguments: str | Path) -> None:
        offline = ("--no-deps", "--no-index", "--no-build-isolation")
        run(*PIP, "--python", self.python, "install", *offline, *arguments, cwd=self.home)

    def uninstall(self, name: str) -> None:
        run(*PIP, "--python", self.python, "uninstall", "--yes", name, cwd=self.home)

    def files(self) -> set[str]:
        """What is installed, but for what Python and Twisted keep beside it to start faster."""
        return {
            path.relative_to(self.packages).as_posix()
            for path in self.packages.rglob("*")
            if path.name != "dropin.cache" and "__pycache__" not in path.parts
        }


def commands(usage: str) -> set[str]:
    """The commands that a --help lists; nothing may have gone wrong on the way there."""
    assert "Traceback" not in usage
    return set(re.findall(r"^    ([\w-]+) ", usage.partition("\nCommands:\n")[2], re.MULTILINE))


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    """The sdist, and the wheel built from it."""
    directory = tmp_path_factory.mktemp("built")
    # It is quickest compiled without being optimized.
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", directory, ROOT, cwd=directory, CFLAGS="-O0 -g0")
    (wheel,) = directory.glob("*.whl")
    (sdist,) = directory.glob("*.tar.gz")
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        return Built(wheel, sdist, Parser().parsestr(archive.read(name).decode()))


@pytest.fixture(scope="session")
def pure(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel built where there is no compiler."""
    directory = tmp_path_factory.mktemp("pure")
    command = ("-m", "build", "--no-isolation", "--wheel", "--outdir", str(directory), str(ROOT))
    run(sys.executable, *command, cwd=directory, CC="/nonexistent/cc")
    (wheel,) = directory.glob("*.whl")
    return wheel


def held_by(wheel: Path) -> set[str]:
    """What a wheel holds beside its metadata."""
    with zipfile.ZipFile(wheel) as archive:
        return {name for name in archive.namelist() if ".dist-info/" not in name}


def sources() -> set[str]:
    """What every wheel holds."""
    ours = {
        path.relative_to(ROOT).as_posix() for kind in ("py", "pyx", "pxd") for path in ROOT.glob(f"wshost/**/*.{kind}")
    }
    return ours | {"wshost/py.typed", PLUGIN}


def built_for(wheel: Path) -> frozenset[Tag]:
    """What a wheel's name says that it runs on."""
    return parse_wheel_filename(wheel.name)[3]


@pytest.fixture(scope="session")
def requirements(built: Built) -> list[str]:
    return built.metadata.get_all("Requires-Dist", [])


@pytest.fixture
def bare(tmp_path: Path, requirements: list[str]) -> Site:
    """A site that lacks only wshost."""
    return Site(tmp_path / "site", requirements)


@pytest.fixture(scope="session")
def installed(built: Built, requirements: list[str], tmp_path_factory: pytest.TempPathFactory) -> Site:
    """A site with wshost in it; not to be changed."""
    site = Site(tmp_path_factory.mktemp("installed"), requirements)
    site.install(built.wheel)
    return site


@pytest.fixture
def read_only(installed: Site) -> Iterator[Site]:
    """The same while its directories can't be written to."""
    (installed.packages / "twisted" / "plugins" / "dropin.cache").unlink(missing_ok=True)
    directories = [installed.packages, *installed.packages.rglob("*/")]
    for directory in directories:
        directory.chmod(0o555)
    yield installed
    for directory in directories:
        directory.chmod(0o755)


class TestWheel:
    def test_a_compiled_wheel_holds_the_package_the_plugin_and_nothing_else(self, built: Built) -> None:
        """Above all no `twisted/plugins/__init__.py`: pip would put it in the place of Twisted's own."""
        need_compiler()
        compiled = {f"{module.replace('wshost', 'wshost/compiled', 1)}{SUFFIX}" for module in COMPILED}
        assert held_by(built.wheel) == sources() | compiled | {f"wshost/compiled/{SOURCES}"}

    def test_a_compiled_wheel_is_for_one_python_and_platform(self, built: Built) -> None:
        need_compiler()
        python = f"cp{sys.version_info.major}{sys.version_info.minor}"
        [tag] = built_for(built.wheel)
        assert (tag.interpreter, tag.abi) == (python, python)
        assert tag.platform.startswith(sys.platform)

    def test_a_pure_wheel_is_for_every_python_and_holds_the_reason(self, pure: Path) -> None:
        assert held_by(pure) == sources() | {f"wshost/compiled/{REASON}"}
        assert built_for(pure) == {Tag("py3", "none", "any")}

    def test_a_wheels_metadata_name_version_python_and_license(self, built: Built) -> None:
        metadata = built.metadata
        assert metadata["Name"] == "wshost"
        assert metadata["Requires-Python"] == ">=3.11"
        assert metadata["License-Expression"] == "Apache-2.0"
        assert metadata["License-File"] == "LICENSE"
        assert metadata["Description-Content-Type"] == "text/markdown"
        assert str(parse_wheel_filename(built.wheel.name)[1]) == metadata["Version"]

    def test_only_the_packages_that_wshost_runs_with_are_required(self, requirements: list[str]) -> None:
        unconditional = {canonicalize_name(Requirement(text).name) for text in requirements if "extra ==" not in text}
        assert unconditional == {"autobahn", "isal", "msgpack", "pyopenssl", "twisted", "uvloop", "zope-interface"}


class TestSdist:
    def test_the_sdist_holds_what_builds_and_tests_the_package(self, built: Built) -> None:
        with tarfile.open(built.sdist) as archive:
            held = {name.partition("/")[2] for name in archive.getnames()}
        tests = {path.relative_to(ROOT).as_posix() for path in ROOT.glob("tests/**/*.py")}
        documents = {"CHANGELOG.md", "CONTRIBUTING.md", "LICENSE", "README.md", "SECURITY.md"}
        assert tests | documents | {"pyproject.toml", "Makefile", "wshost/py.typed", PLUGIN} <= held

    def test_the_sdist_holds_nothing_that_was_made_on_the_way(self, built: Built) -> None:
        with tarfile.open(built.sdist) as archive:
            made = [
                name
                for name in archive.getnames()
                if re.search(r"\.(pyc|so)$|/dropin\.cache$|/\.(venv|coverage)", name)
            ]
        assert made == []


class TestInstalled:
    @pytest.mark.parametrize("command", [TWISTD, TWIST], ids=["twistd", "twist"])
    def test_the_command_wshost_is_listed_beside_twisteds_own(self, installed: Site, command: tuple[str, ...]) -> None:
        assert {"wshost", "web"} <= commands(installed.run(*command, "--help"))

    def test_an_installed_wshost_is_imported_from_its_site(self, installed: Site) -> None:
        found = installed.run("-P", "-c", "import wshost; print(wshost.__file__)")
        assert Path(found.strip()).is_relative_to(installed.packages)

    def test_an_installed_wshost_runs_the_compiled_modules(self, installed: Site) -> None:
        """Also in what serves, below."""
        need_compiler()
        assert installed.run(*TWISTD, "wshost", "--version") == f"wshost {wshost.__version__} (compiled)\n"
        names = ", ".join(module.replace("/", ".") for module in COMPILED)
        files = f"print(*(sys.modules[name].__file__ for name in '{names}'.split(', ')), sep='\\n')"
        found = installed.run("-P", "-c", f"import sys, {names}; {files}")
        for file in map(Path, found.splitlines()):
            assert file.is_relative_to(installed.packages / "wshost" / "compiled")
            assert file.name.endswith(SUFFIX)

    def test_a_wshost_built_without_a_compiler_runs_and_says_that_it_is_slower(self, bare: Site, pure: Path) -> None:
        bare.install(pure)
        assert "wshost" in commands(bare.run(*TWISTD, "--help"))
        said = bare.run(*TWISTD, "wshost", "--version")
        why = "pure Python, which is slower: no C compiler was found when it was built"
        assert said == f"wshost {wshost.__version__} ({why})\n"
        found = bare.run("-P", "-c", "import wshost.connections.connection as it; print(it.__file__)")
        assert Path(found.strip()) == bare.packages / "wshost" / "connections" / "connection.py"

    def test_the_plugins_of_others_are_found_beside_wshosts(self, installed: Site, tmp_path: Path) -> None:
        directory = tmp_path / "twisted" / "plugins"
        directory.mkdir(parents=True)
        (directory / "wshost_thirdparty.py").write_text(
            "from twisted.application.service import ServiceMaker\n"
            "from wshost.plugins import ProtocolModule\n"
            "command = ServiceMaker('third', 'third', 'Theirs.', 'third')\n"
            "module = ProtocolModule('third', 'third')\n"
        )
        usage = installed.run(*TWISTD, "--help", PYTHONPATH=str(tmp_path))
        assert {"wshost", "web", "third"} <= commands(usage)
        names = installed.run(
            "-P", "-c", "from wshost import plugins; print(*plugins.names())", PYTHONPATH=str(tmp_path)
        )
        assert {"factory", "http", "websocket", "third"} <= set(names.split())

    def test_the_command_wshost_is_listed_where_nothing_can_be_written(self, read_only: Site) -> None:
        unprivileged = ("-c", WITHOUT_PRIVILEGE, str(read_only.python))
        plugins = read_only.packages / "twisted" / "plugins"
        with pytest.raises(AssertionError, match="PermissionError"):
            read_only.run(*unprivileged, "-c", f"open({str(plugins / 'dropin.cache')!r}, 'w')")
        assert "wshost" in commands(read_only.run(*unprivileged, *TWISTD, "--help"))
        assert not (plugins / "dropin.cache").exists()

    @pytest.mark.parametrize("how", ["twistd", "wshost", "module"])
    def test_an_installed_wshost_serves(self, installed: Site, how: str, tmp_path: Path) -> None:
        commands: dict[str, list[str | Path]] = {
            "twistd": [installed.python, *TWISTD, "-n", "wshost"],
            "wshost": [installed.python.with_name("wshost")],
            "module": [installed.python, "-P", "-m", "wshost"],
        }
        server = subprocess.Popen(
            [*commands[how], "--port", "0", "--handler", "wshost.handlers.echo"],
            cwd=tmp_path,
            env=environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        # Whatever it waits for in vain, the test ends: the log does when its writer is gone.
        deadline = threading.Timer(20, server.kill)
        deadline.start()
        with server, server.stdout as log:  # type: ignore[union-attr]
            try:
                lines = []
                for line in log:
                    lines.append(line)
                    if listening := re.search(r"wshost listening on (ws://\S+)", line):
                        break
                else:
                    pytest.fail("".join(lines))
                with connect(listening[1], proxy=None) as client:
                    client.send("Grüße")
                    assert client.recv() == "Grüße"
                server.terminate()
                lines += log
                # twistd ends by the signal when it has shut down.
                assert server.wait() == (-signal.SIGTERM if how == "twistd" else 0), "".join(lines)
                assert "Traceback" not in "".join(lines)
            finally:
                server.kill()
                deadline.cancel()


class TestUninstalled:
    def test_uninstalling_leaves_every_file_as_it_was(self, bare: Site, built: Built) -> None:
        before = bare.files()
        bare.install(built.wheel)
        assert "wshost" in commands(bare.run(*TWISTD, "--help"))
        bare.uninstall("wshost")
        after = commands(bare.run(*TWISTD, "--help"))
        assert "web" in after
        assert "wshost" not in after
        assert bare.files() == before
        assert list(bare.packages.rglob("*wshost*")) == []


class TestInstalledEditable:
    def test_an_editable_install_is_listed_and_imported_from_the_checkout(
        self, built: Built, requirements: list[str], tmp_path: Path
    ) -> None:
        with tarfile.open(built.sdist) as archive:
            archive.extraction_filter = getattr(tarfile, "data_filter", None)  # since 3.11.4; the default since 3.14
            archive.extractall(tmp_path)
        (checkout,) = tmp_path.iterdir()
        site = Site(tmp_path / "site", [*requirements, "hatchling"])
        site.install("--editable", checkout)
        assert "wshost" in commands(site.run(*TWISTD, "--help"))
        found = site.run("-P", "-c", "import wshost.connections.connection as it; print(it.__file__)")
        assert Path(found.strip()) == checkout / "wshost" / "connections" / "connection.py"
        said = site.run(*TWISTD, "wshost", "--version")
        why = "pure Python, which is slower: nothing is compiled for this Python"
        assert said == f"wshost {wshost.__version__} ({why})\n"


class App:
    """What hatchling gives to build hooks, as far as ours uses it."""

    def __init__(self) -> None:
        self.warnings: list[str] = []

    def display_warning(self, text: str) -> None:
        self.warnings.append(text)


class TestBuildHook:
    def build(self) -> tuple[dict[str, Any], str, list[str]]:
        """Have a wheel's contents made; return what the hook says of it, why it is pure, and the warnings."""
        app = App()
        data: dict[str, Any] = {"force_include": {}}
        hook = Compile(str(ROOT), {}, None, None, "", "wheel", app)  # type: ignore[arg-type]
        hook.initialize("standard", data)
        [(file, name)] = data["force_include"].items()
        assert name == f"wshost/compiled/{REASON}"
        why = Path(file).read_text()
        hook.finalize("standard", data, "")
        assert not Path(file).exists()
        return data, why, app.warnings

    @pytest.mark.parametrize(
        ("compiler", "why"),
        [
            ("/nonexistent/cc", "no C compiler was found when it was built"),
            (sys.executable, "it could not be compiled: the reason, in two lines"),
        ],
    )
    def test_a_wheel_is_pure_where_compiling_fails(
        self, monkeypatch: pytest.MonkeyPatch, compiler: str, why: str
    ) -> None:
        def fail(directory: Path) -> None:
            raise OSError("the reason,\nin two lines")

        monkeypatch.setenv("CC", compiler)
        monkeypatch.setattr(hatch_build, "compile_into", fail)
        monkeypatch.setitem(hatch_build.CHOOSER, "PURE", False)
        data, reason, warnings = self.build()
        assert (data["pure_python"], data["infer_tag"]) == (True, False)
        assert reason == why
        assert warnings == [f"wshost will run as pure Python, which is slower: {why}"]

    def test_a_wheel_is_pure_where_that_is_asked_for(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(hatch_build.CHOOSER, "PURE", True)
        data, reason, _ = self.build()
        assert (data["pure_python"], data["infer_tag"]) == (True, False)
        assert reason == "WSHOST_PURE was set when it was built"

    def test_an_editable_install_compiles_nothing(self) -> None:
        data: dict[str, Any] = {"force_include": {}}
        hook = Compile(str(ROOT), {}, None, None, "", "wheel", App())  # type: ignore[arg-type]
        hook.initialize("editable", data)
        hook.finalize("editable", data, "")
        assert data == {"force_include": {}}


class TestCompiling:
    @pytest.fixture
    def source(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
        """The source of the one module of a tree."""
        need_compiler()
        monkeypatch.setattr(hatch_build, "ROOT", tmp_path)
        monkeypatch.setenv("CFLAGS", "-O0")
        source = tmp_path / "wshost/number.py"
        source.parent.mkdir()
        source.write_text("NUMBER = 1\n")
        return source

    def build(self, source: Path) -> tuple[str, str]:
        """Compile the tree; return what the module says, and the digest of its source in the list of sources."""
        built = hatch_build.compile_into(source.parent.parent / "build", ["wshost/number"])
        run = [sys.executable, "-c", "import number; print(number.NUMBER)"]
        said = subprocess.run(run, check=True, cwd=built[f"number{SUFFIX}"].parent, capture_output=True, text=True)
        return said.stdout.strip(), built[SOURCES].read_text().partition(" ")[0]

    def test_a_source_that_changes_while_it_is_compiled_counts_as_changed_since(
        self, monkeypatch: pytest.MonkeyPatch, source: Path
    ) -> None:
        before = sha256(source.read_bytes()).hexdigest()

        def cythonize_slowly(*args: Any, **kwargs: Any) -> Any:
            extensions = cythonize(*args, **kwargs)
            # Its time is that of the change, and so before that of the C file.
            time = source.stat()
            source.write_text("NUMBER = 2\n")
            os.utime(source, ns=(time.st_atime_ns, time.st_mtime_ns))
            return extensions

        with monkeypatch.context() as slowly:
            slowly.setattr("Cython.Build.cythonize", cythonize_slowly)
            assert self.build(source) == ("1", before)
        assert self.build(source) == ("2", sha256(source.read_bytes()).hexdigest())
