"""Whether this machine can compile; knows nothing of what is to be compiled."""

from __future__ import annotations

import os
import shutil
import sysconfig

import pytest


def need_compiler() -> None:
    """Skip the test, for all to see, where there is no C compiler."""
    compiler = (os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc").split()[0]
    if shutil.which(compiler) is None:
        pytest.skip(f"there is no C compiler {compiler!r}")
