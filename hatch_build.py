"""Builds the compiled modules into the wheel, from the same sources, where a C compiler is found; without, it is pure.

`python hatch_build.py` builds them in place, beside their sources, and `python hatch_build.py --clean` removes them.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

ROOT = Path(__file__).parent
#: What every message goes through, and nothing else. Each has a .pxd beside it, with the types.
COMPILED = (
    "wshost/connections/connection",
    "wshost/topics/pending",
    "wshost/connections/stream",
    "wshost/fastnet/layers",
    "wshost/fastnet/output",
    "wshost/fastnet/socket_transport",
    "wshost/fastnet/syscalls",
    "wshost/fastnet/tls_records",
    "wshost/fastnet/tls_transport",
    "wshost/fastnet/transport",
    "wshost/handlers/session",
    "wshost/protocols/websocket/deflate",
    "wshost/protocols/websocket/driver",
    "wshost/protocols/websocket/reader",
    "wshost/protocols/websocket/plain_frames",
    "wshost/protocols/websocket/partial_frame",
)


def compile_into(directory: Path, modules: Sequence[str] = COMPILED) -> list[Path]:
    """Compile modules into a tree below a directory; return their files.

    :raises Exception: whatever Cython, setuptools or the compiler fail with.
    """
    from Cython.Build import cythonize  # noqa: PLC0415 - only where it is to be used
    from setuptools import Distribution, Extension  # noqa: PLC0415

    extensions = []
    for module in modules:
        pyx = Path(f"{module}.pyx")
        source = pyx if (ROOT / pyx).exists() else pyx.with_suffix(".py")
        extensions.append(Extension(module.replace("/", "."), [str(source)], extra_compile_args=["-O3", "-g0"]))
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
                    # What is called on a None raises, as it does in Python; to trust the types would be a crash.
                    compiler_directives={"annotation_typing": False, "binding": False, "nonecheck": True},
                ),
            }
        )
        command: Any = distribution.get_command_obj("build_ext")
        command.build_lib = str(directory / "lib")
        command.build_temp = str(directory / "o")
        command.ensure_finalized()
        command.run()
        return [Path(path) for path in command.get_outputs()]
    finally:
        os.chdir(before)


class Compile(BuildHookInterface):  # type: ignore[type-arg]
    """Puts the compiled modules into a wheel. An editable install goes without: they would hide what is edited."""

    PLUGIN_NAME = "custom"

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        if version == "editable" or os.environ.get("WSHOST_PURE"):
            return
        self._directory = tempfile.TemporaryDirectory()
        directory = Path(self._directory.name)
        try:
            compiled = compile_into(directory)
        except Exception as error:
            self.app.display_warning(f"wshost will be slower: its compiled modules can't be built: {error}")
            return
        build_data["pure_python"] = False
        build_data["infer_tag"] = True
        build_data["force_include"].update({str(path): str(path.relative_to(directory / "lib")) for path in compiled})

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        if hasattr(self, "_directory"):
            self._directory.cleanup()


def in_place() -> None:
    """Compile the modules beside their sources."""
    with tempfile.TemporaryDirectory() as directory:
        for path in compile_into(Path(directory)):
            # Not by `replace`: it may be another file system.
            shutil.move(path, ROOT / path.relative_to(Path(directory) / "lib"))


def clean() -> None:
    """Remove what `in_place` has built."""
    for module in COMPILED:
        for path in ROOT.glob(f"{module}.*.so"):
            path.unlink()


if __name__ == "__main__":
    clean()
    if "--clean" not in sys.argv[1:]:
        in_place()
