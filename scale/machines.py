"""Makes machines of network namespaces, and pulls their cables. Does not know what runs there.

The machines are joined by a switch. Linux has namespaces for everybody where its administrator allows it; root needs no
leave. Files and Unix sockets are the same in all of them, so a row reaches a server that is cut off.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from enum import Enum

from benchmarks.building import UnavailableError
from torture.processes import running

#: The addresses of machines, of which the last part is missing.
_NET = "10.77.0."


class Cut(Enum):
    """How a machine is cut off. In no case does anybody get a RST."""

    #: The switch's end of the cable is down, so the machine's end has no carrier.
    CABLE = "cable"
    #: The cable is as it was, but the switch lets nothing through, in either direction.
    SILENT = "silent"
    #: The machine's end is down, so it has no route.
    INTERFACE = "interface"


class Machine:
    """One machine.

    :param number: from 1.
    :param enter: the words before a command that runs there.
    :param switch: the words before a command that runs at the switch.
    """

    def __init__(self, number: int, enter: Sequence[str], switch: Sequence[str]) -> None:
        self.address = f"{_NET}{number}"
        self.enter = enter
        self._switch = switch
        self._cable = f"m{number}"

    def cut(self, how: Cut) -> None:
        """Cut it off."""
        self._set(how, {Cut.CABLE: "down", Cut.SILENT: "nomaster", Cut.INTERFACE: "down"}[how])

    def join(self, how: Cut) -> None:
        """Undo a cut."""
        self._set(how, {Cut.CABLE: "up", Cut.SILENT: "master switch", Cut.INTERFACE: "up"}[how])

    def _set(self, how: Cut, words: str) -> None:
        if how is Cut.INTERFACE:
            _run(self.enter, f"ip link set eth0 {words}")
        else:
            _run(self._switch, f"ip link set {self._cable} {words}")


def _run(enter: Sequence[str], command: str) -> None:
    """Run a command. :raises RuntimeError: when it fails."""
    ended = subprocess.run([*enter, *command.split()], capture_output=True, text=True, check=False)
    if ended.returncode:
        raise RuntimeError(f"{command}: {ended.stderr.strip()}")


def _namespace(stack: ExitStack, enter: Sequence[str], how: Sequence[str]) -> int:
    """Make a namespace, which lasts until the stack ends; return a process that is in it.

    :param enter: the words before a command that runs where it is made.
    :param how: the options of unshare.
    :raises PermissionError: when that is not permitted.
    """
    process = stack.enter_context(
        running(
            [*enter, "unshare", *how, "sh", "-c", "echo made; exec sleep infinity"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
    )
    assert process.stdout is not None
    assert process.stderr is not None
    if not process.stdout.readline():
        said = process.stderr.read().decode(errors="replace").strip()
        raise PermissionError(f"no network namespaces are permitted here: {said}")
    return process.pid


def _enter(pid: int, *how: str) -> list[str]:
    return ["nsenter", f"--target={pid}", *how, "--net", "--"]


@contextmanager
def machines(count: int) -> Iterator[Sequence[Machine]]:
    """Make so many machines, at a switch of their own.

    :raises UnavailableError: when a program is missing.
    :raises PermissionError: when namespaces are not permitted.
    """
    for program, package in (("ip", "iproute2"), ("unshare", "util-linux"), ("nsenter", "util-linux")):
        if shutil.which(program) is None:
            raise UnavailableError(f"{program} is not found; on Debian: apt install {package}")
    # Without root, the namespaces belong to a user namespace, in which we are root.
    make, join = ([], []) if os.geteuid() == 0 else (["--map-root-user"], ["--user", "--preserve-credentials"])
    with ExitStack() as stack:
        switch = _enter(_namespace(stack, [], [*make, "--net"]), *join)
        _run(switch, "ip link add switch type bridge")
        _run(switch, "ip link set switch up")
        made = []
        for number in range(1, count + 1):
            pid = _namespace(stack, switch, ["--net"])
            machine = Machine(number, _enter(pid, *join), switch)
            made.append(machine)
            _run(switch, f"ip link add m{number} type veth peer name eth0 netns {pid}")
            _run(switch, f"ip link set m{number} master switch up")
            _run(machine.enter, f"ip address add {machine.address}/24 dev eth0")
            _run(machine.enter, "ip link set lo up")
            _run(machine.enter, "ip link set eth0 up")
        yield made
