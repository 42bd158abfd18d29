"""`python -m rxupload`: the same as the command `rxupload`."""

import sys

from rxupload._cli import main

sys.exit(main())
