"""The project's pages: their headings, links and code blocks, as Markdown has them."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from urllib.parse import unquote, urlsplit

from markdown_it import MarkdownIt
from markdown_it.token import Token

ROOT = Path(__file__).parents[2]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", ROOT / ".github" / "CONTRIBUTING.md", *NOTEBOOKS]


@dataclass(frozen=True)
class Page:
    """A file of Markdown, or a notebook."""

    path: Path

    @cached_property
    def text(self) -> str:
        """The Markdown; of a notebook, that of its Markdown cells."""
        text = self.path.read_text(encoding="utf-8")
        if self.path.suffix == ".ipynb":
            return "\n\n".join("".join(cell["source"]) for cell in _cells(text, "markdown"))
        return text

    @cached_property
    def code_cells(self) -> list[str]:
        """The code of a notebook's cells."""
        return ["".join(cell["source"]) for cell in _cells(self.path.read_text(encoding="utf-8"), "code")]

    @cached_property
    def _tokens(self) -> list[Token]:
        return MarkdownIt("commonmark").enable("table").parse(self.text)

    def _inline(self) -> Iterator[Token]:
        for token in self._tokens:
            yield from token.children or ()

    def blocks(self, language: str) -> list[str]:
        """The fenced code blocks in a language."""
        return [each.content for each in self._tokens if each.type == "fence" and each.info == language]

    @cached_property
    def code_spans(self) -> list[str]:
        """The pieces of code within the prose."""
        return [each.content for each in self._inline() if each.type == "code_inline"]

    @cached_property
    def links(self) -> list[str]:
        """The targets of all links and images."""
        attributes = {"link_open": "href", "image": "src"}
        return [str(each.attrs[attributes[each.type]]) for each in self._inline() if each.type in attributes]

    @cached_property
    def anchors(self) -> set[str]:
        """The anchors that GitHub gives the headings."""
        seen: Counter[str] = Counter()
        found = set()
        for opening, inline in zip(self._tokens, self._tokens[1:], strict=False):
            if opening.type == "heading_open":
                text = "".join(each.content for each in inline.children or ())
                slug = re.sub(r"[^\w\- ]", "", text.lower()).replace(" ", "-")
                found.add(f"{slug}-{seen[slug]}" if seen[slug] else slug)
                seen[slug] += 1
        return found

    def broken_links(self, root: Path = ROOT) -> set[str]:
        """The links that lead nowhere: to no file below the root, to no heading, or to no web address.

        Args:
            root: The folder that all files must be in.
        """
        return {link for link in self.links if not self._holds(link, root)}

    def _holds(self, link: str, root: Path) -> bool:
        parts = urlsplit(link)
        if parts.scheme or parts.netloc:
            return parts.scheme == "https" and re.fullmatch(r"[\w-]+(\.[\w-]+)+", parts.netloc) is not None
        path = (self.path.parent / unquote(parts.path)).resolve() if parts.path else self.path
        if not path.is_relative_to(root):
            return False
        return path.exists() and (not parts.fragment or parts.fragment in Page(path).anchors)


def _cells(text: str, kind: str) -> list[dict[str, list[str]]]:
    return [cell for cell in json.loads(text)["cells"] if cell["cell_type"] == kind]
