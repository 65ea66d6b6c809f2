"""The units of docs/examples, as systemd's own program sees them; and the server within what they permit."""

from __future__ import annotations

import re
import shutil
import ssl
import subprocess
import sys
from pathlib import Path

import pytest
import trustme
from websockets.sync.client import connect

from tests.integration.server import SCRIPTS, running_server

EXAMPLES = Path(__file__).parents[2] / "docs/examples"
#: Each service, and the units that it needs.
SERVICES = {"chat.service": ("chat.socket",), "chat@.service": ()}

#: Lets no memory become executable, as `MemoryDenyWriteExecute=` does: PR_SET_MDWE, where the kernel has it.
MDWE = "import ctypes, os, sys; ctypes.CDLL(None).prctl(65, 1, 0, 0, 0); os.execv(sys.argv[1], sys.argv[1:])"


def analyze(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["systemd-analyze", *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=60,
        check=False,
    )


def values(name: str, service: str = "chat.service") -> list[str]:
    """The values of one setting of a service."""
    return re.findall(rf"^{name}=(.*)$", (EXAMPLES / service).read_text(), re.MULTILINE)


@pytest.mark.parametrize("service", SERVICES)
def test_the_service_is_hardly_exposed(service: str) -> None:
    """On a scale from 0 to 10; --threshold takes tenths."""
    done = analyze("security", "--offline=true", "--no-pager", "--threshold=20", EXAMPLES / service)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("service", SERVICES)
def test_systemd_finds_nothing_wrong_with_the_units(service: str, tmp_path: Path) -> None:
    for unit in SERVICES[service]:
        shutil.copy(EXAMPLES / unit, tmp_path)
    installed = (EXAMPLES / service).read_text().replace("/srv/chat/.venv/bin/wshost", str(SCRIPTS / "wshost"))
    instance = tmp_path / service.replace("@", "@8080")
    instance.write_text(installed)
    done = analyze("verify", "--man=no", instance, *(tmp_path / unit for unit in SERVICES[service]))
    assert (done.returncode, done.stdout) == (0, "")


def test_the_command_of_the_service_would_start(tmp_path: Path) -> None:
    shutil.copy(EXAMPLES / "chat.py", tmp_path)
    (start,) = values("ExecStart")
    command, *options = start.split()
    assert command == "/srv/chat/.venv/bin/wshost"
    done = subprocess.run(
        [SCRIPTS / "wshost", "check", "--port=0", *options],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def calls(group: str) -> set[str]:
    """The system calls of one of systemd's groups, and of the groups within it."""
    found: set[str] = set()
    for line in analyze("syscall-filter", "--no-pager", group).stdout.splitlines()[1:]:
        word = line.strip()
        if word.startswith("@") and word != group:
            found |= calls(word)
        elif re.fullmatch(r"\w+", word):
            found.add(word)
    return found


def permitted(service: str = "chat.service") -> set[str]:
    """The system calls that a service may make."""
    found: set[str] = set()
    for value in values("SystemCallFilter", service):
        groups = [calls(group) for group in value.removeprefix("~").split()]
        found = found.difference(*groups) if value.startswith("~") else found.union(*groups)
    return found | calls("@default")


def test_a_server_with_tls_makes_only_system_calls_that_the_service_permits(tmp_path: Path) -> None:
    ca = trustme.CA()
    ca.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(tmp_path / "server.pem")
    context = ssl.create_default_context()
    ca.configure_trust(context)
    trace = tmp_path / "trace"
    # -D: the process that gets the signals is the server, not strace.
    before = ("strace", "-D", "-f", "-qq", "-o", str(trace), sys.executable, "-c", MDWE)
    options = ("--tls-cert", str(tmp_path / "server.pem"), "--compress")
    with (
        running_server(*options, before=before, command="wshost") as server,
        connect(server.url, proxy=None, ssl=context, open_timeout=30) as client,
    ):
        client.send("I am in" * 1_000)
        assert client.recv(timeout=30) == "I am in" * 1_000
    used = set(re.findall(r"^\d+ +([a-z]\w*)\(", trace.read_text(), re.MULTILINE))
    assert {"accept4", "epoll_ctl"} <= used
    assert used - permitted() == set()


def test_a_server_with_workers_makes_only_system_calls_that_its_service_permits(tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    before = ("strace", "-D", "-f", "-qq", "-o", str(trace), sys.executable, "-c", MDWE)
    options = ("--workers", "2", "--max-connections", "100")
    with (
        running_server(*options, before=before, command="wshost") as server,
        connect(server.url, proxy=None, open_timeout=60, ping_interval=None) as client,
    ):
        client.send("I am in")
        assert client.recv(timeout=60) == "I am in"
    used = set(re.findall(r"^\d+ +([a-z]\w*)\(", trace.read_text(), re.MULTILINE))
    assert {"accept4", "recvmsg", "epoll_ctl"} <= used
    assert used - permitted("chat@.service") == set()
