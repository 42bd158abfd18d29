"""Tells whether this process is a Jupyter kernel. It imports nothing of Jupyter's."""

from __future__ import annotations

import sys
from typing import Any


def kernel() -> Any:
    """Return the kernel that this process is; None if it is none, such as IPython in a terminal."""
    ipython = sys.modules.get("IPython")
    get_shell = getattr(ipython, "get_ipython", None)  # None while IPython is being imported
    return None if get_shell is None else getattr(get_shell(), "kernel", None)
