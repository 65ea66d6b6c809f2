"""Whether this machine can compile."""

from __future__ import annotations

import os
import shutil
import sysconfig

import pytest


def need_compiler() -> None:
    """Fail the test where there is no C compiler."""
    compiler = (os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc").split()[0]
    if shutil.which(compiler) is None:
        pytest.fail(f"there is no C compiler {compiler!r}; on Debian: apt install gcc")
