"""The tree is a table of contents: the names in paths lead from a question to the one file that answers it.

`first_try` does what a newcomer does: of all paths below `wshost` it takes the one with the most words of the question.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "wshost"
#: Every source, without the second form of those that have one.
SOURCES = {
    path.relative_to(PACKAGE).with_suffix("").as_posix(): path
    for form in ("**/*.pyx", "**/*.py")
    for path in sorted(PACKAGE.glob(form))
    if path.name != "__init__.py"
}
#: Packages of ours that hold modules.
PACKAGES = sorted({path.parent for path in SOURCES.values()} - {PACKAGE})

#: What a newcomer asks; where the answer is; and the words of the code, which stand in no other file, that are it.
QUESTIONS = [
    ("Which settings and options are there, such as ping-interval?", "settings/options", "ping_interval = Option("),
    ("How does the keepalive drop a silent peer?", "protocols/websocket/keepalive", "is silent and answers no ping"),
    ("Which HTTP driver answers a plain request with 426?", "protocols/http/driver", '426, "This is a WebSocket'),
    ("What reads the settings in a TOML file?", "settings/file", "import tomllib"),
    ("Which stream writes to a connection's socket?", "connections/stream", "self.transport.write("),
    ("Which stream drops peers that are slow to read?", "connections/stream", "did not read what it was sent"),
    ("Where is a publication to a topic joined for many?", "topics/publication", "def join("),
    ("Who has subscriptions to a topic?", "topics/subscriptions", "len(subscriber.topics) >="),
    ("Where are certificates loaded?", "listening/certificates", "def _private_key("),
    ("What reads settings from the environment?", "settings/environment", "shlex.shlex("),
    ("Which commands check what would be wrong?", "commands/check", "It would start."),
    ("Which command does reload a changed handler?", "commands/reload", "run_process("),
    ("Which formats do the lines of the logs have?", "logs/formats", "def json_line("),
    ("Where does the output of the logs survive a full disk?", "logs/output", "os.O_APPEND"),
    ("Which session runs the handler?", "handlers/session", "self._handle(item, self._state)"),
    ("What do a handler's answers mean?", "handlers/answers", "FORMS = ("),
    ("Where does admission refuse connections, as too many?", "connections/admission", "MAX_REFUSED ="),
    ("Where are messages and close codes found wrong before they are sent?", "messages", "def check_close("),
    (
        "Which engine knows what breaks the protocol, and its close code?",
        "protocols/websocket/autobahn_engine",
        "fail(1007",
    ),
    ("What happens at the end of a turn, and in which order?", "connections/turn", "def flush_at_end("),
    ("How does a call come in from another thread?", "connections/thread", "def post("),
    ("Where are the timers of all connections?", "connections/timers", "class Schedule"),
    ("Which origin may connect?", "protocols/websocket/origin", "class Origins"),
    ("Which routes are served?", "protocols/http/routes", "class Routes"),
    ("Where is the header of a proxy read?", "listening/proxy_header", "_SIGNATURE ="),
    ("What finds a handler holding the thread?", "handlers/holding", "co_varnames"),
    ("Which watchdog of the process looks for long turns?", "process/watchdog", "def beat("),
    ("Which link connects a backplane to its broker again and again?", "backplanes/link", "self._random.uniform("),
    ("What does NATS send over the wire?", "backplanes/nats_wire", "_HMSG ="),
    ("What builds the chain?", "chain", "def _put_handler("),
    ("Which names of the original, wsserver, are known?", "settings/wsserver", '"number_of_workers"'),
]


def words(text: str) -> set[str]:
    """The words of a question or a path: in lower case, and in the singular."""
    return {word.removesuffix("s") for word in re.findall(r"[a-z0-9]+", text.lower())}


def first_try(question: str, paths: Iterable[str] = SOURCES) -> list[str]:
    """The paths that have most words of the question: one, or the tree leaves a newcomer in doubt."""
    asked = words(question)
    found = {path: len(asked & words(path)) for path in paths}
    most = max(found.values())
    return [path for path, count in found.items() if most and count == most]


class TestQuestions:
    @pytest.mark.parametrize(("question", "path", "answer"), QUESTIONS, ids=[path for _, path, _ in QUESTIONS])
    def test_a_question_leads_to_the_one_file_that_answers_it(self, question: str, path: str, answer: str) -> None:
        assert first_try(question) == [path]
        assert [one for one, source in SOURCES.items() if answer in source.read_text()] == [path]

    def test_a_question_that_names_no_path_leads_nowhere(self) -> None:
        assert first_try("Where is the ping?", ["connections/stream", "topics/pending"]) == []

    def test_a_question_that_fits_two_paths_leads_to_both(self) -> None:
        assert first_try("Which stream?", ["connections/stream", "fastnet/stream"]) == [
            "connections/stream",
            "fastnet/stream",
        ]


class TestPackages:
    @pytest.mark.parametrize("package", PACKAGES, ids=lambda package: package.relative_to(PACKAGE).as_posix())
    def test_a_packages_docstring_names_each_of_its_modules(self, package: Path) -> None:
        """Each module by its name."""
        text = ast.get_docstring(ast.parse((package / "__init__.py").read_text())) or ""
        modules = {path.stem for path in SOURCES.values() if path.parent == package}
        assert sorted(module for module in modules if f"`{module}`" not in text) == []
