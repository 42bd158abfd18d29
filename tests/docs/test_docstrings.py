"""The examples in the docstrings of the public names: each runs as it stands."""

from __future__ import annotations

import inspect
import ssl
import textwrap
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import httpx
import pandas as pd
import pytest
from support.snippets import compiled, run_snippet

import rxupload
from rxupload import operators, receiver, resumable, uploadtask

MODULES: tuple[ModuleType, ...] = (rxupload, operators, uploadtask, receiver, resumable)


def docstrings() -> Iterator[tuple[str, str]]:
    """The public names, and the public methods of the classes among them, with their docstrings."""
    for module in MODULES:
        yield module.__name__, inspect.getdoc(module)
        for name in module.__all__:
            found = getattr(module, name)
            if getattr(found, "__module__", "").startswith("rxupload"):
                yield name, found.__doc__
            if inspect.isclass(found):
                for method, value in vars(found).items():
                    if value.__doc__ and (not method.startswith("_") or method in ("__await__", "__aiter__")):
                        yield f"{name}.{method}", value.__doc__


def example(doc: str) -> str:
    """The code of the literal blocks, which follow "::", without the marble diagrams, which have "---"."""
    found = []
    lines = inspect.cleandoc(doc).splitlines()
    for number, line in enumerate(lines):
        if line.endswith("::"):
            block = []
            for each in lines[number + 1 :]:
                if each.strip() and indent(each) <= indent(line):
                    break
                block.append(each)
            paragraphs = textwrap.dedent("\n".join(block)).strip("\n").split("\n\n")
            found += [each for each in paragraphs if "---" not in each]
    return "\n".join(found)


def indent(line: str) -> int:
    return len(line) - len(line.lstrip())


EXAMPLES = {name: code for name, doc in docstrings() if (code := example(doc or ""))}


def test_examples_are_found():
    """The example of each kind of docstring is found: of a package, a function, a class, and beside a diagram."""
    assert {"rxupload", "rxupload.operators", "upload_all", "Client", "verify_digest"} <= set(EXAMPLES)
    assert {"rxupload.resumable", "upload_resumable", "GoogleResumable"} <= set(EXAMPLES)
    assert example("One::\n\n    a()\n\n    ---P0---|\n\n    b()\n\nText.\n") == "a()\nb()"


@pytest.mark.parametrize("name", EXAMPLES)
def test_examples_run(name, tmp_path, monkeypatch, capsys):
    """Each example compiles, and runs against a receiver."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("platformdirs.user_state_path", lambda *_names, **_options: tmp_path / "state")
    Path("beach.jpg").write_bytes(b"\xff\xd8 a beach")
    Path("video.mp4").write_bytes(bytes(1000))
    names: dict[str, Any] = {
        "httpx": httpx,
        "pandas": pd,
        "rxupload": rxupload,
        "context": ssl.create_default_context(),
        "folder": Path(),
        "parent": "the id of a folder",
        "token": lambda: "a token",
    }
    for module in MODULES:
        names |= {each: getattr(module, each) for each in module.__all__}
    source = EXAMPLES[name]
    compiled(source, name)
    with receiver.running() as url:
        up = rxupload.upload(url, "beach.jpg")
        names |= {"url": url, "up": up, "uploads": [up, up]}
        run_snippet(source.replace("http://127.0.0.1:8000/", url), names, name)
    for each in names.values():
        if isinstance(each, httpx.Client):
            each.close()
