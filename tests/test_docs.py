"""The documentation says what the code says: snippets, tables of options, answers of a handler, and links."""

from __future__ import annotations

import inspect
import re
from configparser import ConfigParser
from pathlib import Path
from signal import Signals
from typing import Any
from xml.etree import ElementTree

import pytest

from tests import figures, names
from wshost.connections.ref import Ref
from wshost.handlers.answers import FORMS
from wshost.process.signals import RELOAD
from wshost.results import Close, Stop, Switch
from wshost.settings import file
from wshost.settings.options import OPTIONS, settle

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
EXAMPLES = DOCS / "examples"
PAGES = [*ROOT.glob("*.md"), *DOCS.glob("*.md")]

_FENCE = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\]\(([^)\s]+)\)")
_HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)


def section(page: str, title: str) -> str:
    """The text under a heading, up to the next one."""
    _, found, rest = (DOCS / page).read_text().partition(f"\n## {title}\n")
    assert found, f"{page} has no section {title!r}"
    return rest.partition("\n## ")[0]


class TestReadme:
    def test_the_readme_shows_a_handler_that_is_tested(self) -> None:
        handler = (EXAMPLES / "counter.py").read_text()
        assert f"```python\n{handler}```" in (ROOT / "README.md").read_text()


class TestOptions:
    """Tables of options say what the one table in the code says."""

    @pytest.mark.parametrize("page", figures.TABLES)
    def test_every_option_is_listed_on_its_page(self, page: str) -> None:
        text = (ROOT / page).read_text()
        assert [table for table in figures.TABLES[page] if "\n".join(table) + "\n\n" not in text] == []


class TestFigures:
    """Numbers in prose are the code's."""

    @pytest.mark.parametrize("page", figures.TIES)
    def test_figures_on_a_page_are_those_of_the_code(self, page: str) -> None:
        reading = figures.Reading(page)
        assert [
            phrase.format(*values) for phrase, values in figures.TIES[page] if not reading.tie(phrase, values)
        ] == []

    @pytest.mark.parametrize("page", figures.PAGES)
    def test_every_figure_on_a_page_is_tied_to_the_code(self, page: str) -> None:
        """Each is tied to the code, in `tests/figures.py`."""
        assert list(figures.read(page).loose()) == []

    def test_a_figure_that_is_not_tied_to_the_code_is_found(self) -> None:
        reading = figures.Reading("docs/handlers.md")
        reading.text += " It waits 17 seconds. Up to 404 messages and 1,000 more."
        assert [around[-38:].strip() for around in figures.tied(reading).loose()] == [
            "waits 17 seconds. Up to 404 messages a",
            "ds. Up to 404 messages and 1,000 more.",
            "ds. Up to 404 messages and 1,000 more.",
        ]

    def test_a_figure_that_differs_from_the_code_is_found(self) -> None:
        reading = figures.Reading("docs/handlers.md")
        assert reading.tie("`init` has {} seconds", ("5",))
        assert not reading.tie("`init` has {} seconds", ("6",))


def call(function: Any) -> str:
    """A call as a page has it: the parameters with their defaults, without self."""
    parameters = [one for one in inspect.signature(function).parameters.values() if one.name != "self"]
    said = [one.name if one.default is one.empty else f"{one.name}={one.default!r}" for one in parameters]
    return f"{function.__name__}({', '.join(said)})".replace("'", '"')


class TestNames:
    @pytest.mark.parametrize(
        "page", [page for page in PAGES if page.stem.lower() != "changelog"], ids=lambda page: page.name
    )
    def test_names_on_a_page_are_those_of_the_code(self, page: Path) -> None:
        assert [name for name in names.spans(page) if not names.is_there(name)] == []

    @pytest.mark.parametrize(
        "name",
        [
            "--max-conections",
            "--compression",
            "protocols/_engine.py",
            "tests/test_nothing.py",
            "make tests",
            "twistd --reactors=epoll",
            "context.performs",
            "ref.publish(topic)",
            "connection.certificate",
            "wshost.services",
            "wshost.results.Closed",
            "max_fragment",
            'Close(dat=b"")',
            '("replay", data, state)',
            "WSHOST_FAST_LANES=off",
            "python hatch_builds.py",
        ],
    )
    def test_a_name_that_the_code_has_not_is_found(self, name: str) -> None:
        assert not names.is_there(name)

    def test_names_of_others_that_are_allowed_are_on_a_page(self) -> None:
        """Or the list would let something through some day."""
        on_pages = {name for page in PAGES for name in names.spans(page)}
        words = {word for name in on_pages for word in name.split(" ")}
        assert sorted(names.OTHERS - on_pages - words) == []

    @pytest.mark.parametrize(
        ("page", "function"),
        [
            *(
                ("handlers.md", getattr(Ref, name))
                for name in (
                    "send",
                    "ping",
                    "close",
                    "info",
                    "subscribe",
                    "unsubscribe",
                    "monitor",
                    "demonitor",
                    "watch",
                    "unwatch",
                )
            ),
            *(("modules.md", result) for result in (Switch, Close, Stop)),
        ],
    )
    def test_calls_on_a_page_have_the_codes_parameters_and_defaults(self, page: str, function: Any) -> None:
        assert f"`{call(function)}`" in (DOCS / page).read_text()


class TestHandlers:
    @pytest.mark.parametrize("form", re.findall(r'\("\w+".*?state\)', FORMS))
    def test_every_answer_of_a_handler_is_on_its_page(self, form: str) -> None:
        assert f"`{form}`" in section("handlers.md", "What `handle` returns")


class TestArchitecture:
    def test_the_tree_of_the_architecture_has_each_package(self) -> None:
        """But protocols, of which it draws what is in it."""
        packages = {
            path.parent.relative_to(ROOT / "wshost").as_posix() for path in ROOT.glob("wshost/*/**/__init__.py")
        }
        drawn = re.findall(r"^  ([a-z/]+)/ ", section("architecture.md", "The tree"), re.MULTILINE)
        assert sorted(drawn) == sorted(packages - {"protocols"})

    def test_the_table_of_the_architecture_has_each_module(self) -> None:
        package = ROOT / "wshost"
        modules = {path.relative_to(package).with_suffix("").as_posix() for path in package.glob("**/*.py")}
        rows = re.findall(r"^\| (`.*?) \|", section("architecture.md", "The tree"), re.MULTILINE)
        listed = [name for row in rows for name in re.findall(r"`([^`]+)`", row)]
        assert sorted(listed) == sorted(name for name in modules if not name.endswith("__init__"))


class TestConfigurationFile:
    """The file that docs/operations.md shows."""

    @pytest.fixture
    def options(self) -> dict[str, Any]:
        return file.read(str(EXAMPLES / "wshost.toml"))

    def test_the_configuration_file_shows_every_option(self) -> None:
        shown = (EXAMPLES / "wshost.toml").read_text()
        keys = re.findall(r"^(?:# )?([a-z-]+) = ", shown, re.MULTILINE)
        tables = re.findall(r"^\[+([a-z_-]+)\]", shown, re.MULTILINE)
        names = {name.replace("-", "_").replace("modules", "module") for name in keys + tables}
        assert OPTIONS.keys() <= names

    def test_the_configuration_file_says_the_defaults(self, options: dict[str, Any]) -> None:
        said = {name: value for name, value in options.items() if OPTIONS[name].shown and name != "protocol_module"}
        assert said == {name: OPTIONS[name].default for name in said}

    def test_the_configuration_file_can_be_used(self, options: dict[str, Any]) -> None:
        assert settle(options).handler == "chat"


class TestImages:
    """Those that are drawn by hand."""

    @pytest.mark.parametrize("image", [path.name for path in sorted((DOCS / "images").glob("*.svg"))])
    def test_names_on_an_image_are_those_of_the_code(self, image: str) -> None:
        texts = [
            one.text or "" for one in ElementTree.parse(DOCS / "images" / image).iter() if one.tag.endswith("}text")
        ]
        words = {word.strip(",:") for text in texts for word in text.split()}
        named = {word for word in words if "_" in word or word.endswith(".py")}
        assert [word for word in sorted(named) if not names.is_there(word)] == []

    def test_the_image_of_a_messages_way_names_its_files(self) -> None:
        shown = (DOCS / "images/way.svg").read_text()
        assert all(name in shown for name in ("connection.py", "plain_frames", "autobahn_engine.py", "session.py"))


class TestExamples:
    @pytest.mark.parametrize("example", sorted(path.name for path in EXAMPLES.glob("*.*")))
    def test_each_example_is_shown_on_a_page(self, example: str) -> None:
        """One that is for a program, and too long to read, can be downloaded there."""
        forms = [f"{{literalinclude}} examples/{example}\n", f"{{download}}`examples/{example}`"]
        assert any(form in page.read_text() for page in PAGES for form in forms[: 1 + example.endswith(".json")])


class TestSystemd:
    def test_the_service_is_reloaded_by_the_signal_at_which_the_server_reloads(self) -> None:
        unit = ConfigParser(interpolation=None, strict=False)
        unit.read(EXAMPLES / "chat.service")
        assert unit["Service"]["ExecReload"].split()[1:] == [f"-{Signals(*RELOAD).name[3:]}", "$MAINPID"]


class TestLinks:
    @pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
    def test_links_lead_to_files_and_headings(self, page: Path) -> None:
        for link in _LINK.findall(_FENCE.sub("", page.read_text())):
            target, _, fragment = link.partition("#")
            if not re.match(r"[a-z]+:", link):
                file = page.parent / target if target else page
                assert file.exists(), link
                if fragment:
                    headings = [heading.replace("`", "").lower() for heading in _HEADING.findall(file.read_text())]
                    assert fragment in [re.sub(r"[^\w\- ]", "", one).replace(" ", "-") for one in headings], link
