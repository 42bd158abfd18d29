"""Whether this process is a Jupyter kernel, and what a task shows where it is none."""

from __future__ import annotations

import subprocess
import sys
from types import SimpleNamespace

import pytest
from IPython.core.formatters import DisplayFormatter

from rxupload import upload
from rxupload._kernel import kernel
from rxupload.testing import HandCrankedClient

URL = "http://upload.test/"


@pytest.mark.parametrize(
    ("shell", "expected"),
    [(None, None), (SimpleNamespace(), None), (SimpleNamespace(kernel="the kernel"), "the kernel")],
)
def test_a_kernel_is_a_shell_that_has_one(monkeypatch, shell, expected):
    """IPython in a terminal has a shell without a kernel; a program has no shell."""
    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda: shell))
    assert kernel() == expected


@pytest.mark.parametrize("module", [None, SimpleNamespace()])
def test_without_ipython_there_is_none(monkeypatch, module):
    """There is no kernel without IPython, or while that is being imported."""
    monkeypatch.setitem(sys.modules, "IPython", module)
    assert kernel() is None


def test_outside_of_a_kernel_a_task_is_its_repr():
    """IPython in a terminal shows the repr of a task."""
    task = upload(URL, b"x", client=HandCrankedClient(200)).start()
    task.result()
    assert DisplayFormatter().format(task) == ({"text/plain": repr(task)}, {})


def test_nothing_of_jupyter_is_imported_outside_of_a_kernel():
    """Neither the package nor a bar imports IPython, ipywidgets or the displays."""
    script = (
        "import sys, rxupload, rxupload.operators; rxupload.operators.progress_bar()\n"
        "found = [name for name in sys.modules if name.split('.')[0] in ('IPython', 'ipywidgets')"
        " or name.startswith(('rxupload._notebook', 'rxupload._cards'))]\n"
        "assert not found, found"
    )
    subprocess.run([sys.executable, "-c", script], check=True)
