"""The container file of docs/examples: what its commands do, without a container."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path
from zipfile import ZipFile

import pytest
from websockets.sync.client import connect

from tests.integration.server import SCRIPTS, running_server
from wshost.settings.options import Settings

EXAMPLES = Path(__file__).parents[2] / "docs/examples"
TEXT = (EXAMPLES / "Containerfile").read_text()


def values(instruction: str) -> list[str]:
    return re.findall(rf"^{instruction} (.*)$", TEXT, re.MULTILINE)


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What the image has in its working directory."""
    shutil.copy(EXAMPLES / "chat.py", tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_server_is_what_gets_the_signal_and_has_time_for_it() -> None:
    """An instruction in exec form has no shell around it."""
    assert values("STOPSIGNAL") == ["SIGTERM"]
    (command,) = values("CMD")
    assert json.loads(command)[0] == "wshost"
    (patience,) = re.findall(r"--stop-timeout (\d+)", TEXT)
    assert int(patience) > Settings().drain_timeout


def test_the_server_does_not_run_as_root_and_listens_on_the_port_that_is_exposed() -> None:
    (user,) = values("USER")
    assert all(int(number) >= 1_000 for number in user.split(":"))
    (port,) = values("EXPOSE")
    assert int(port) > 1_023
    assert f'"--port", "{port}"' in values("CMD")[0]
    assert f"--publish {port}:{port}" in TEXT
    assert f"127.0.0.1:{port}/" in values("HEALTHCHECK")[0]


def test_the_command_serves_the_chat_and_its_health_is_seen() -> None:
    (command,) = values("CMD")
    options = json.loads(command)[1:]
    # The tests keep to the loopback, and have a port of their own.
    options[options.index("--interface") + 1] = "127.0.0.1"
    options[options.index("--port") + 1] = "0"
    (health,) = values("HEALTHCHECK")
    flags, _, check = health.partition(" CMD ")
    assert all(re.fullmatch(r"--(interval|timeout|start-period)=\d+s", flag) for flag in flags.split())
    python, *words = json.loads(check)
    assert python == "python"

    def is_healthy(port: int) -> bool:
        asked = [word.replace(":8080/", f":{port}/") for word in words]
        return not subprocess.run([sys.executable, *asked], timeout=60, capture_output=True, check=False).returncode

    with running_server(*options, command="wshost") as server:
        assert is_healthy(server.port)
        with connect(f"{server.url}/?name=Ada", proxy=None) as ada:
            ada.send("hello")
            assert ada.recv(timeout=10) == "Ada: hello"
        os.kill(server.pid, signal.SIGTERM)
        assert server.wait()[0] == 0
    with socket.create_server(("127.0.0.1", 0)) as silent:
        assert not is_healthy(silent.getsockname()[1])


def test_pip_understands_how_the_wheel_is_installed(folder: Path) -> None:
    """A small wheel takes the place of wshost's, and nothing is installed."""
    with ZipFile(folder / "wshost-9-py3-none-any.whl", "w") as wheel:
        for name, text in {
            "METADATA": "Metadata-Version: 2.1\nName: wshost\nVersion: 9\n",
            "WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
            "RECORD": "",
        }.items():
            wheel.writestr(f"wshost-9.dist-info/{name}", text)
    (command,) = values("RUN")
    assert command.startswith("pip install ")
    where = {"PATH": f"{SCRIPTS}:{os.environ['PATH']}", "PIP_DRY_RUN": "1", "PIP_NO_INDEX": "1"}
    done = subprocess.run(
        ["sh", "-c", f"python -m {command}"],
        env={**os.environ, **where},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "Would install wshost-9" in done.stdout
