"""The examples in the docstrings run as they stand, in development mode, with every warning an error."""

from __future__ import annotations

import inspect
import re
import subprocess
import sys
import textwrap

import pytest

import rxupload.testing

CLASSES = ("ScriptedServer", "HandCrankedClient", "RecordingObserver")

# A socket that is left open is a warning, and so an error, when it is collected.
CHECK = """
import gc, threading
from rxupload._threads import retire_idle
retire_idle()
for thread in threading.enumerate():
    if thread is not threading.main_thread() and thread.name != "rxupload errands":
        thread.join(10)
        assert not thread.is_alive(), thread
gc.collect()
"""


def examples(name: str) -> list[str]:
    """The blocks after `::` in a docstring."""
    doc = inspect.getdoc(getattr(rxupload.testing, name)) + "\n"
    return [textwrap.dedent(each) for each in re.findall(r"::\n\n((?: {4}.*\n|\n)+)", doc)]


@pytest.mark.parametrize("name", CLASSES)
def test_the_examples_run(name):
    """A class's examples run one after the other, and leave no thread, no socket and no warning."""
    blocks = examples(name)
    assert blocks
    code = "\n".join([*blocks, CHECK])
    done = subprocess.run(
        [sys.executable, "-X", "dev", "-W", "error", "-c", code], capture_output=True, text=True, timeout=120
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_it_needs_no_test_framework():
    """It loads without pytest, hypothesis and trustme, and `import rxupload` does not load it."""
    code = (
        "import sys, rxupload; assert 'rxupload.testing' not in sys.modules; import rxupload.testing;"
        "print(sorted({'pytest', '_pytest', 'hypothesis', 'trustme'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert (done.stdout, done.stderr) == ("[]\n", "")
