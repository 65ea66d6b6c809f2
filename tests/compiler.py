"""Whether this machine can compile, and how a module is imported that was; knows nothing of what is to be compiled."""

from __future__ import annotations

import importlib.util
import os
import shutil
import sysconfig
from pathlib import Path
from types import ModuleType

import pytest


def need_compiler() -> None:
    """Skip the test, for all to see, where there is no C compiler."""
    compiler = (os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc").split()[0]
    if shutil.which(compiler) is None:
        pytest.skip(f"there is no C compiler {compiler!r}")


def loaded(name: str, path: Path) -> ModuleType:
    """Import a file beside the module of that name that everybody sees."""
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
