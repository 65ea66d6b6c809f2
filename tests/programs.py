"""The programs that tests run. Where one is missing, the test fails, and says how to get it."""

from __future__ import annotations

import os
import shutil
import sysconfig

import pytest


def find(*names: str, package: str) -> str:
    """Return the path of the first of these programs that is there. Fail the test where none is.

    :param package: Debian's, which has it.
    """
    # Debian has servers in /usr/sbin, which is not in every user's path.
    path = os.pathsep.join((os.environ.get("PATH", os.defpath), "/usr/sbin", "/usr/local/sbin"))
    for name in names:
        if found := shutil.which(name, path=path):
            return found
    pytest.fail(f"{names[0]} is not installed; on Debian: apt install {package}")


def need_compiler() -> None:
    """Fail the test where there is no C compiler."""
    find((os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc").split()[0], package="gcc")
