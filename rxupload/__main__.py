"""Runs the command `rxupload` for `python -m rxupload`."""

import sys

from rxupload._cli import main

sys.exit(main())
