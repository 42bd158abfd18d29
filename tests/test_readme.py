"""The README keeps its word: its examples run as they stand, and its commands are where `.ci/run` looks for them."""

from __future__ import annotations

import ast
import asyncio
import inspect
import re
import threading
from pathlib import Path

import pytest

from rxupload import receiver

README = (Path(__file__).parent.parent / "README.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"^```python\n(.*?)^```$", README, re.DOTALL | re.MULTILINE)


@pytest.fixture
def in_folder_with_photo(tmp_path, monkeypatch):
    """A working directory with the photo that the examples upload."""
    monkeypatch.chdir(tmp_path)
    Path("beach.jpg").write_bytes(bytes(1 << 20))


def test_examples(in_folder_with_photo, capfd):
    """The examples run one after the other, against the receiver in place of port 8000."""
    names: dict[str, object] = {}

    async def run(source: str) -> None:
        code = compile(source, "README.md", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
        result = eval(code, names)
        if inspect.iscoroutine(result):
            await result

    with receiver.running() as url:
        others = set(threading.enumerate())
        for example in EXAMPLES:
            asyncio.run(run(example.replace("http://127.0.0.1:8000/", url)))
            assert names.get("error") is None
            for thread in set(threading.enumerate()) - others:
                if type(thread) is threading.Thread and not thread.name.startswith("asyncio"):
                    thread.join(
                        10
                    )  # of an upload that the example left running; not tqdm's, nor the receiver's
        assert names["response"].status_code == 200
    names["client"].close()
    assert "answered 200" in capfd.readouterr().out


@pytest.mark.parametrize("name", ["demo", "tests", "demo-windows", "tests-windows"])
def test_commands(name):
    """Each command is one line in a code block of its own, behind the marker that `.ci/run` looks for."""
    block = re.search(rf"<!-- command: {name} -->\n```\w+\n(.*)\n```\n", README)
    assert block
    assert "\n" not in block[1]
    assert ".venv-" + name.partition("-")[0] in block[1]
