"""Runs notebooks and saves their outputs: `python tests/docs/save_notebooks.py [NAME ...]`; without names, all."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import nbformat

sys.path.insert(0, str(Path(__file__).parent.parent))

from support import notebooks
from support.pages import NOTEBOOKS


def main() -> None:
    """Save each in place. One that fails, or has what must not be saved, stays as it is."""
    names = {name.removesuffix(".ipynb") for name in sys.argv[1:]}
    for path in NOTEBOOKS:
        if not names or path.stem in names:
            with tempfile.TemporaryDirectory() as folder:
                notebook = notebooks.run(nbformat.read(path, as_version=4), Path(folder))
            if faults := notebooks.faults(notebook):
                sys.exit("\n".join([f"{path.name} is not saved:", *faults]))
            nbformat.write(notebook, path)
            print(path.name)


if __name__ == "__main__":
    main()
