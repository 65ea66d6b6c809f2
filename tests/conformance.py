"""Runs the Autobahn testsuite, by kosoku, against real servers and prints the verdicts. Knows no internals of wshost.

Usage: ``python -m tests.conformance``; ``--help`` lists the options. The exit status is 0 if every case ran, none
failed and none was non-strict.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import platform
import shutil
import ssl
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import trustme

from hatch_build import PLACE, compile_here
from tests.integration.server import SCRIPTS, running_server
from wshost.process.reactors import new_event_loop

ROOT = Path(__file__).parent.parent
REPORTS = Path("reports", "conformance")

#: What the suite needs beyond the defaults: messages of 16 MiB, messages in 65,536 fragments, and compression.
SERVER = ("--max-message-size=16MiB", "--compress", "--protocol-module=websocket,max-fragments=65536")

#: The number of cases; the costly groups that `--quick` leaves out; the number without them.
CASES = 517
COSTLY = ("9.*", "12.*", "13.*")
QUICK_CASES = 247

#: Servers tested at the same time, and cases at the same time on each.
RUNS_AT_ONCE = 2
CASES_AT_ONCE = 2


@dataclass(frozen=True)
class Run:
    """One run of the suite."""

    #: Over TLS, or over TCP.
    secure: bool
    #: The name for `twistd --reactor`; None is the default reactor.
    reactor: str | None
    #: Whether plain frames are read without the engine.
    fast_lane: bool = True
    #: The form of wshost: compiled, as in a wheel, or pure.
    compiled: bool = True
    #: How many processes serve.
    workers: int = 1


RUNS = {
    "tcp": Run(secure=False, reactor=None),
    "tls": Run(secure=True, reactor=None),
    "tcp-epoll": Run(secure=False, reactor="epoll", fast_lane=False),
    "tls-epoll": Run(secure=True, reactor="epoll", compiled=False),
    "workers": Run(secure=False, reactor=None, workers=2),
}


@dataclass
class Outcome:
    """The result of a run."""

    name: str
    seconds: float
    #: Cases by verdict: ok, informational, non-strict, failed.
    counts: Counter[str] = field(default_factory=Counter)
    #: One line for each case that is neither OK nor informational.
    complaints: list[str] = field(default_factory=list)

    def good(self, cases: int) -> bool:
        """Whether this number of cases ran, without a complaint."""
        return self.counts.total() == cases and not self.complaints


def verdict(behavior: str, behavior_close: str) -> str:
    """Return one word for the testsuite's two verdicts on a case: on the messages, and on the closing."""
    both = {behavior, behavior_close}
    if both == {"OK"}:
        return "ok"
    if both <= {"OK", "INFORMATIONAL"}:
        return "informational"
    return "non-strict" if both <= {"OK", "INFORMATIONAL", "NON-STRICT"} else "failed"


def judge(name: str, seconds: float, report: Path) -> Outcome:
    """Read the ``index.json`` of a report."""
    outcome = Outcome(name, seconds)
    agents: dict[str, dict[str, dict[str, Any]]] = json.loads((report / "index.json").read_text())
    for cases in agents.values():
        for case, result in cases.items():
            word = verdict(result["behavior"], result["behaviorClose"])
            outcome.counts[word] += 1
            if word in {"non-strict", "failed"}:
                outcome.complaints.append(f"{case}: {result['behavior']}, closing {result['behaviorClose']}")
    return outcome


def test(name: str, kosoku: Sequence[str]) -> Outcome:
    """Run the suite once.

    :param name: one of `RUNS`; its report is replaced.
    :param kosoku: more arguments for kosoku.
    """
    run, report = RUNS[name], REPORTS / name
    shutil.rmtree(report, ignore_errors=True)
    report.mkdir(parents=True)
    with ExitStack() as stack:
        options = [*SERVER, "--handler=wshost.handlers.echo"]
        if run.secure:
            directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            trust = certify(directory / "server.pem")
            options.append(f"--tls-cert={directory / 'server.pem'}")
        form = {"WSHOST_COMPILED": str(PLACE)} if run.compiled else {"WSHOST_PURE": "1"}
        environment = {"WSHOST_FAST_LANE": "on" if run.fast_lane else "off", **form}
        if run.workers > 1:
            options += ("--workers", str(run.workers))
        server = stack.enter_context(running_server(*options, reactor=run.reactor, env=environment))
        url = stack.enter_context(tls_relay(server.port, trust)) if run.secure else server.url
        start = time.monotonic()
        command = [str(SCRIPTS / "kosoku"), "--outdir", str(report), *kosoku, url]
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
        seconds = time.monotonic() - start
        log = server.log
    (report / "kosoku.log").write_text(done.stdout + done.stderr)
    (report / "server.log").write_text(log)
    if not (report / "index.json").exists():
        return Outcome(name, seconds, complaints=[f"kosoku reported nothing: {done.stderr.strip()[-500:]}"])
    outcome = judge(name, seconds, report)
    if "Traceback" in log:
        outcome.complaints.append(f"the server logged a traceback: {report / 'server.log'}")
    return outcome


def certify(path: Path) -> ssl.SSLContext:
    """Write a certificate for localhost and its key, and return a context that trusts only it."""
    authority = trustme.CA()
    authority.issue_cert("localhost").private_key_and_cert_chain_pem.write_to_path(str(path))
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return context


@contextmanager
def tls_relay(port: int, trust: ssl.SSLContext) -> Iterator[str]:
    """Relay TCP connections to a TLS server, as kosoku speaks no TLS.

    :param port: the server's port on this machine.
    :param trust: verifies the server's certificate.
    :returns: the URL for kosoku.
    """

    async def relay(client: asyncio.StreamReader, to_client: asyncio.StreamWriter) -> None:
        try:
            server, to_server = await asyncio.open_connection("127.0.0.1", port, ssl=trust, server_hostname="localhost")
            await asyncio.gather(pump(client, to_server), pump(server, to_client))
        finally:
            to_client.close()

    async def finish() -> None:
        listener.close()
        relays = asyncio.all_tasks() - {asyncio.current_task()}
        for task in relays:
            task.cancel()
        await asyncio.gather(*relays, return_exceptions=True)

    loop = new_event_loop()
    listener = loop.run_until_complete(asyncio.start_server(relay, "127.0.0.1", 0))
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        yield f"ws://127.0.0.1:{listener.sockets[0].getsockname()[1]}"
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.run_until_complete(finish())
        loop.close()


async def pump(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
    """Copy from one stream to the other until one ends; then close the target."""
    with suppress(OSError):
        while data := await source.read(65_536):
            target.write(data)
            await target.drain()
    target.close()


def main() -> int:
    """Run what the command line asks for; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tests.conformance", description=__doc__.splitlines()[0])
    parser.add_argument("runs", nargs="*", metavar="RUN", help=f"all by default: {', '.join(RUNS)}")
    parser.add_argument("--quick", action="store_true", help=f"leave out the costly groups: {', '.join(COSTLY)}")
    parser.add_argument("--at-once", type=int, default=RUNS_AT_ONCE, metavar="N", help="runs at one time [%(default)s]")
    arguments = parser.parse_args()
    names = arguments.runs or list(RUNS)
    for name in names:
        if name not in RUNS:
            parser.error(f"there is no run {name!r}: {', '.join(RUNS)}")
    cases = QUICK_CASES if arguments.quick else CASES
    kosoku = ["--parallelism", str(CASES_AT_ONCE)]
    if arguments.quick:
        kosoku += [f"--exclude={group}" for group in COSTLY]

    packages = ("wshost", "autobahn", "Twisted", "uvloop", "kosoku")
    print("Python", platform.python_version(), *(f"· {package} {version(package)}" for package in packages))
    print(
        f"{'run':10} {'form':>8} {'plain frames':>12} {'cases':>6} {'OK':>6} {'informational':>14}"
        f" {'non-strict':>11} {'failed':>7} {'seconds':>8}"
    )
    start = time.monotonic()
    good = True
    if any(RUNS[name].compiled for name in names):
        compile_here()
    with ThreadPoolExecutor(arguments.at_once) as pool:
        for outcome in pool.map(lambda name: test(name, kosoku), names):
            run, counts = RUNS[outcome.name], outcome.counts
            print(
                f"{outcome.name:10} {'compiled' if run.compiled else 'pure':>8}"
                f" {'here' if run.fast_lane else 'Autobahn':>12} {counts.total():6} {counts['ok']:6}"
                f" {counts['informational']:14} {counts['non-strict']:11} {counts['failed']:7} {outcome.seconds:8.0f}"
            )
            if counts.total() != cases:
                print(f"  {counts.total()} cases instead of {cases}")
            for complaint in outcome.complaints:
                print(f"  {complaint}")
            sys.stdout.flush()
            good = good and outcome.good(cases)
    print(f"{time.monotonic() - start:.0f} s; reports: {REPORTS}/{{{','.join(names)}}}/index.html")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
