"""The links of the pages: each leads to a file, a heading or a web address. And the names that the pages mention."""

from __future__ import annotations

import importlib
import re

import pytest
from support.pages import PAGES, Page

each_page = pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)


@each_page
def test_links_hold(path):
    """Each link leads to a file of the project, with its heading if it names one, or to a web address."""
    assert Page(path).broken_links() == set()


def test_broken_links_are_found(tmp_path):
    """A missing file or heading, a file outside the project, and a malformed address are broken links."""
    page = tmp_path / "page.md"
    (tmp_path / "other.md").write_text("# `a_b`: What's *new*?\n## Twice\n## Twice\n")
    good = [
        "other.md",
        "other.md#a_b-whats-new",
        "other.md#twice-1",
        "#the-page",
        "https://example.org/a#b",
    ]
    bad = [
        "missing.md",
        "other.md#twice-2",
        "#no-such",
        "../outside.md",
        "http://example.org/",
        "https://example",
    ]
    links = "".join(f"[text]({link})\n" for link in good + bad)
    page.write_text(f"# The page\n\n`[code](is-no-link.md)` ![image](missing.png)\n\n{links}")
    assert Page(page).broken_links(tmp_path) == {*bad, "missing.png"}


@each_page
def test_names_exist(path):
    """Each `rxupload.name` and `operators.name` in the prose can be imported."""
    for span in Page(path).code_spans:
        if name := re.match(r"(rxupload|operators|uploadtask|receiver)(\.[A-Za-z_]\w*)+", span):
            assert resolve(name[0]) is not None


def resolve(name: str) -> object:
    """The object that a dotted name of the package names."""
    room, *rest = name.removeprefix("rxupload.").split(".")
    found: object = importlib.import_module("rxupload")
    for part in (room, *rest):
        found = getattr(found, part)
    return found
