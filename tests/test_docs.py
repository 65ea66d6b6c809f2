"""The documentation says what the code says: snippets, tables of options, answers of a handler, and links."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from wshost import config
from wshost.handlers._answers import FORMS
from wshost.options import OPTIONS, settle
from wshost.protocols import factory, http, websocket

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
EXAMPLES = DOCS / "examples"
PAGES = [*ROOT.glob("*.md"), *DOCS.glob("*.md")]

_FENCE = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\]\(([^)\s]+)\)")
_HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)
_ROW = re.compile(r"^\| `(?P<option>\w+)` \|.*\|(?P<default>[^|]*)\|$", re.MULTILINE)
_TAKEN = re.compile(r"reader\.\w+\(\"(?P<option>\w+)\"(?:, (?P<default>[\w. <]+))?")


def options_table() -> Iterator[str]:
    """What the README's table of the command's options must be."""
    yield "| Option | What it says | Default |"
    yield "|---|---|---|"
    for name, option in OPTIONS.items():
        metavar = f" {option.kind.metavar}" if option.kind.metavar else ""
        yield f"| `--{name.replace('_', '-')}{metavar}` | {option.help} | {option.default} |"
    yield "| `--config FILE` | More options by these names, in TOML; those of the command line win. |  |"


def section(page: str, title: str) -> str:
    """The text under a heading, up to the next one."""
    _, found, rest = (DOCS / page).read_text().partition(f"\n## {title}\n")
    assert found, f"{page} has no section {title!r}"
    return rest.partition("\n## ")[0]


class TestReadme:
    def test_shows_a_handler_that_is_tested(self) -> None:
        handler = (EXAMPLES / "counter.py").read_text()
        assert f"```python\n{handler}```" in (ROOT / "README.md").read_text()

    def test_lists_the_options_of_the_command(self) -> None:
        assert "\n".join(options_table()) in (ROOT / "README.md").read_text()


class TestHandlers:
    @pytest.mark.parametrize("form", re.findall(r'\("\w+".*?state\)', FORMS))
    def test_every_answer_is_there(self, form: str) -> None:
        assert f"`{form}`" in section("handlers.md", "What `handle` returns")


class TestModules:
    @staticmethod
    def documented(module: ModuleType) -> dict[str, str]:
        text = section("modules.md", f"The module {module.__name__.rpartition('.')[2]}")
        return {row["option"]: row["default"].strip() for row in _ROW.finditer(text)}

    @staticmethod
    def taken(module: ModuleType) -> dict[str, str]:
        source = inspect.getsource(module.prepare)
        return {found["option"]: found["default"] or "" for found in _TAKEN.finditer(source)}

    @pytest.mark.parametrize("module", [http, websocket, factory], ids=lambda module: module.__name__)
    def test_every_option_of_ours_is_there_and_no_other(self, module: ModuleType) -> None:
        assert sorted(self.documented(module)) == sorted(self.taken(module)) != []

    @pytest.mark.parametrize("module", [http, websocket], ids=lambda module: module.__name__)
    def test_numbers_are_the_defaults(self, module: ModuleType) -> None:
        documented, taken = self.documented(module), self.taken(module)
        numbers = {name: default for name, default in taken.items() if default[:1].isdigit()}
        assert {name: float(documented[name]) for name in numbers} == {
            name: float(eval(default)) for name, default in numbers.items()
        }


class TestArchitecture:
    def test_lists_each_module(self) -> None:
        package = ROOT / "wshost"
        modules = {path.relative_to(package).with_suffix("").as_posix() for path in package.glob("**/*.py")}
        rows = re.findall(r"^\| (`.*?) \|", section("architecture.md", "Who may import whom"), re.MULTILINE)
        listed = [name for row in rows for name in re.findall(r"`([^`]+)`", row)]
        assert sorted(listed) == sorted(name for name in modules if not name.endswith("__init__"))


class TestConfigurationFile:
    """The file that docs/operations.md shows."""

    @pytest.fixture
    def options(self) -> dict[str, Any]:
        return config.read(str(EXAMPLES / "wshost.toml"))

    def test_shows_every_option(self) -> None:
        shown = (EXAMPLES / "wshost.toml").read_text()
        keys = re.findall(r"^(?:# )?([a-z-]+) = ", shown, re.MULTILINE)
        tables = re.findall(r"^\[+([a-z_-]+)\]", shown, re.MULTILINE)
        names = {name.replace("-", "_").replace("modules", "module") for name in keys + tables}
        assert OPTIONS.keys() <= names

    def test_says_the_defaults(self, options: dict[str, Any]) -> None:
        for name, value in options.items():
            default = OPTIONS[name].default
            if default and name != "protocol_module":
                assert OPTIONS[name].kind.add(None, default) == value, name

    def test_is_one(self, options: dict[str, Any]) -> None:
        assert settle(options).handler == "chat"


class TestExamples:
    @pytest.mark.parametrize("example", sorted(path.name for path in EXAMPLES.glob("*.*")))
    def test_are_shown(self, example: str) -> None:
        assert any(f"{{literalinclude}} examples/{example}\n" in page.read_text() for page in PAGES)


class TestLinks:
    @pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
    def test_lead_somewhere(self, page: Path) -> None:
        for link in _LINK.findall(_FENCE.sub("", page.read_text())):
            target, _, fragment = link.partition("#")
            if not re.match(r"[a-z]+:", link):
                file = page.parent / target if target else page
                assert file.exists(), link
                if fragment:
                    headings = [heading.replace("`", "").lower() for heading in _HEADING.findall(file.read_text())]
                    assert fragment in [re.sub(r"[^\w\- ]", "", one).replace(" ", "-") for one in headings], link
