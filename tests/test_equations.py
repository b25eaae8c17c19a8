"""Equations and functions lead to each other, and neither end gets lost."""

from __future__ import annotations

import json
import re
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest

from conftest import HTML, ROOT

sys.path.insert(0, str(ROOT / "book" / "ext"))
from nbdev_pages import equation_functions

FUNCTIONS = equation_functions()
LABELLED = re.compile(r"\$\$\s*\((eq-[\w-]+)\)|:label:\s*(eq-[\w-]+)")
STEPS = ROOT / "tests" / "derivations.txt"


def words_of(path: Path) -> str:
    """The prose of a page."""
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".md":
        return text
    return "\n".join(
        "".join(cell["source"])
        for cell in json.loads(text)["cells"]
        if cell["cell_type"] == "markdown"
    )


PAGES = {
    label: path.relative_to(ROOT).with_suffix("").as_posix()
    for suffix in ("ipynb", "md")
    for path in sorted((ROOT / "nbs").rglob(f"*.{suffix}"))
    if ".ipynb_checkpoints" not in path.parts
    for match in LABELLED.finditer(words_of(path))
    for label in [match[1] or match[2]]
}


def steps() -> list[str]:
    """Labels of equations that are steps of a derivation."""
    lines = STEPS.read_text(encoding="utf-8").splitlines()
    return [line for line in lines if line and not line.startswith("#")]


def test_docstrings_name_equations_that_exist() -> None:
    assert not FUNCTIONS.keys() - PAGES.keys()


def test_every_equation_has_a_function_or_is_a_step() -> None:
    """Taking a label out of a docstring, or an equation out, shows here."""
    listed = steps()
    assert listed == sorted(set(listed))
    assert set(listed) == PAGES.keys() - FUNCTIONS.keys(), (
        "name the equation in the docstring of the function that computes "
        f"it, or list it as a step of a derivation in {STEPS.name}"
    )


class Ends(HTMLParser):
    """Which equation stands before each line of functions; all links."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.below: dict[str, list[str]] = {}
        self.links: set[str] = set()
        self._equation, self._line = "", False
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(
        self, tag: str, attrs: list[tuple[str, str | None]]
    ) -> None:
        values = {name: value or "" for name, value in attrs}
        if values.get("id", "").startswith("equation-"):
            self._equation = values["id"].removeprefix("equation-")
        if tag == "p":
            self._line = "computed-by" in values.get("class", "").split()
        if tag == "a":
            link = values.get("href", "")
            self.links.add(link)
            if self._line:
                target = link.partition("#")[2]
                self.below.setdefault(self._equation, []).append(target)

    def handle_endtag(self, tag: str) -> None:
        if tag == "p":
            self._line = False


@pytest.mark.parametrize("page", sorted({PAGES[x] for x in FUNCTIONS}))
def test_equations_lead_to_functions(page: str) -> None:
    path = HTML / f"{page}.html"
    if not path.is_file():
        pytest.skip("the book is not built: run make book")
    expected = {
        label: [name for _, name in owners]
        for label, owners in FUNCTIONS.items()
        if PAGES[label] == page
    }
    assert Ends(path).below == expected


def test_functions_lead_to_equations() -> None:
    path = HTML / "nbs" / "reference.html"
    if not path.is_file():
        pytest.skip("the book is not built: run make book")
    links = Ends(path).links
    wanted = {
        f"{PAGES[label].removeprefix('nbs/')}.html#equation-{label}"
        for label in FUNCTIONS
    }
    assert not wanted - links
