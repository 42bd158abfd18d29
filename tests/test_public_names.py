"""The names of the package: which there are, and which are loaded only when they are used."""

from __future__ import annotations

import subprocess
import sys

import pytest

import rxupload


def in_own_process(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


@pytest.mark.parametrize(
    ("use", "module"),
    [
        ("rxupload.uploadtask.uploadFile", "rxupload.uploadtask"),
        ("rxupload.receiver.running", "rxupload.receiver"),
        ("rxupload.operators.retry_backoff", "rxupload.operators"),
        ("rxupload.testing.ScriptedServer", "rxupload.testing"),
        ("rxupload.upload_all", "rxupload._batch"),
        ("rxupload.Client", "rxupload._client"),
    ],
)
def test_a_name_is_loaded_on_first_use(use, module):
    """`import rxupload` is enough for every name; what many programs do without is loaded when it is used."""
    code = f"import sys, rxupload; print({module!r} in sys.modules); {use}; print({module!r} in sys.modules)"
    assert in_own_process(code).split() == ["False", "True"]


@pytest.mark.parametrize("name", rxupload.__all__)
def test_each_public_name_exists(name):
    """Each public name exists, and `dir` has it."""
    assert getattr(rxupload, name) is not None
    assert name in dir(rxupload)


@pytest.mark.parametrize("missing", ["starlette", "uvicorn", "python_multipart", "h11"])
def test_help_works_without_the_receiver(missing):
    """`help()` loads each name that `dir` has. The receiver is an extra, which may not be there."""
    code = (
        f"import sys; sys.modules[{missing!r}] = None; import inspect, rxupload; inspect.getmembers(rxupload)"
    )
    assert in_own_process(f"{code}; print('receiver' in dir(rxupload))") == "False\n"


def test_any_other_name_is_an_attribute_error():
    """Any other name is an AttributeError, so that `hasattr` works."""
    assert not hasattr(rxupload, "uploadFile")
    with pytest.raises(AttributeError, match="module 'rxupload' has no attribute 'no_such'"):
        rxupload.no_such  # noqa: B018
