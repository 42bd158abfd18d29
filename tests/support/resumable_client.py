"""A process that uploads a file by a resumable protocol: python -m support.resumable_client PROTOCOL URL FILE STATE."""

from __future__ import annotations

import sys
from typing import Any

from rxupload import resumable


def main(protocol: str, url: str, file: str, state: str) -> None:
    made: Any = getattr(resumable, protocol)
    resumable.upload_resumable(url, file, protocol=made(), store=resumable.FileStore(state)).run()


if __name__ == "__main__":
    main(*sys.argv[1:])
