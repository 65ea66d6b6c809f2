"""Compiles the modules that all messages and connections go through, from their own sources, when a wheel is built.

Without a C compiler, the wheel has Python only. With ``WSHOST_PURE=1``, too. ``CFLAGS`` are passed to the compiler.

`python hatch_build.py [DIRECTORY]` compiles for this checkout, into `wshost/compiled`; or into another directory, which
``WSHOST_COMPILED`` may then name.
"""

from __future__ import annotations

import os
import runpy
import shutil
import sys
import sysconfig
import tempfile
from collections.abc import Iterator, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

ROOT = Path(__file__).parent
#: The modules that all messages and connections go through. Each has a .pxd beside it, with the types.
COMPILED = (
    "wshost/backplanes/nats_wire",
    "wshost/backplanes/output",
    "wshost/backplanes/workers",
    "wshost/cluster/envelope",
    "wshost/cluster/local",
    "wshost/cluster/outside",
    "wshost/cluster/sequence",
    "wshost/cluster/subjects",
    "wshost/connections/connection",
    "wshost/connections/context",
    "wshost/connections/stream",
    "wshost/connections/thread",
    "wshost/connections/timers",
    "wshost/connections/turn",
    "wshost/fastnet/layers",
    "wshost/fastnet/output",
    "wshost/fastnet/poll",
    "wshost/fastnet/socket_transport",
    "wshost/fastnet/syscalls",
    "wshost/fastnet/tls_records",
    "wshost/fastnet/tls_transport",
    "wshost/fastnet/transport",
    "wshost/handlers/awaiting",
    "wshost/handlers/session",
    "wshost/handlers/steps",
    "wshost/handlers/tasks",
    "wshost/handlers/waiting",
    "wshost/topics/pending",
    "wshost/topics/subscriptions",
    "wshost/protocols/http/driver",
    "wshost/protocols/http/fields",
    "wshost/protocols/http/head",
    "wshost/protocols/websocket/deflate",
    "wshost/protocols/websocket/driver",
    "wshost/protocols/websocket/handshake",
    "wshost/protocols/websocket/keepalive",
    "wshost/protocols/websocket/masking",
    "wshost/protocols/websocket/reader",
    "wshost/protocols/websocket/plain_frames",
    "wshost/protocols/websocket/partial_frame",
)
#: The directory of compiled modules, and the code that looks for them there. This code is run, not imported: during a
#: build, the packages that wshost imports may be missing.
PLACE = ROOT / "wshost" / "compiled"
CHOOSER = runpy.run_path(str(PLACE / "__init__.py"))


def compile_into(directory: Path, modules: Sequence[str] = COMPILED) -> dict[str, Path]:
    """Compile modules below a directory. A module that is up to date there is not compiled again.

    :returns: the built files, by the path that each must have in the directory of compiled modules.
    :raises Exception: any error of Cython, setuptools or the compiler.
    """
    from Cython.Build import cythonize  # noqa: PLC0415 - only needed here
    from setuptools import Distribution, Extension  # noqa: PLC0415

    os.environ.setdefault("CFLAGS", "-O3 -g0")
    extensions = []
    for module in modules:
        pyx = Path(f"{module}.pyx")
        source = pyx if (ROOT / pyx).exists() else pyx.with_suffix(".py")
        extensions.append(Extension(module.replace("/", "."), [str(source)]))
    # Before they are read: one that changes meanwhile must not count as compiled.
    sources = list(_sources(modules))
    before = Path.cwd()
    os.chdir(ROOT)
    try:
        distribution = Distribution(
            {
                "name": "wshost",
                "ext_modules": cythonize(
                    extensions,
                    build_dir=str(directory / "c"),
                    language_level=3,
                    quiet=True,
                    # nonecheck: a method call on None raises, as in Python; without the check it would crash.
                    compiler_directives={"annotation_typing": False, "binding": False, "nonecheck": True},
                ),
            }
        )
        command: Any = distribution.get_command_obj("build_ext")
        command.build_lib = str(directory / "lib")
        command.build_temp = str(directory / "o")
        command.parallel = True
        command.ensure_finalized()
        command.run()
    finally:
        os.chdir(before)
        if sources != list(_sources(modules)):
            # By its time, a C file may be newer than the change that it lacks.
            for made in (directory / "c").rglob("*.c"):
                made.unlink()
    built = {str(Path(path).relative_to(directory / "lib" / "wshost")): Path(path) for path in command.get_outputs()}
    built[CHOOSER["SOURCES"]] = directory / "sources"
    built[CHOOSER["SOURCES"]].write_text("".join(sources))
    return built


def _sources(modules: Sequence[str]) -> Iterator[str]:
    """Return the list of the modules' sources, in the format that the chooser reads."""
    for name in (f"{module}.{kind}" for module in modules for kind in ("py", "pyx", "pxd")):
        if (ROOT / name).exists():
            yield f"{sha256((ROOT / name).read_bytes()).hexdigest()}  {name}\n"


class Compile(BuildHookInterface):  # type: ignore[type-arg]
    """Puts compiled modules into a wheel, or the reason why there are none. An editable install gets neither."""

    PLUGIN_NAME = "custom"

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        if version == "editable":
            return
        self._directory = tempfile.TemporaryDirectory()
        directory = Path(self._directory.name)
        compiler = (os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc").split()[0]
        built, why = {}, ""
        if CHOOSER["PURE"]:
            why = "WSHOST_PURE was set when it was built"
        elif shutil.which(compiler) is None:
            why = "no C compiler was found when it was built"
        else:
            try:
                built = compile_into(directory)
            except Exception as error:
                why = f"it could not be compiled: {' '.join(str(error).split())}"
        if why:
            self.app.display_warning(f"wshost will run as pure Python, which is slower: {why}")
            built = {CHOOSER["REASON"]: directory / "reason"}
            built[CHOOSER["REASON"]].write_text(why)
        build_data["pure_python"] = bool(why)
        build_data["infer_tag"] = not why
        build_data["force_include"].update({str(path): f"wshost/compiled/{name}" for name, path in built.items()})

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        if hasattr(self, "_directory"):
            self._directory.cleanup()


def compile_here(place: Path = PLACE) -> None:
    """Compile for this checkout, and put the modules into a directory in which the chooser looks."""
    # Other flags, or another version of this file, get another build directory. Changed sources are seen by their time.
    how = sha256(Path(__file__).read_bytes() + os.environ.get("CFLAGS", "").encode()).hexdigest()
    built = compile_into(ROOT / "build" / how[:12])
    (place / CHOOSER["SOURCES"]).unlink(missing_ok=True)
    for old in place.rglob(f"*{CHOOSER['SUFFIX']}"):
        old.unlink()
    # The list of sources comes last: without it, nothing there is used.
    for name, path in built.items():
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(path, place / name)


if __name__ == "__main__":
    compile_here(*map(Path, sys.argv[1:]))
