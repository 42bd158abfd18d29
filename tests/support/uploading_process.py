"""Uploads a file with a FileStore, until it is killed: `python -m support.uploading_process URL FILE FOLDER JSON`."""

from __future__ import annotations

import json
import sys

from reactivex.operators import do_action

from rxupload import Progress, resumable, run
from rxupload.resumable import FileStore, Tus, upload_resumable


def main() -> None:
    """Upload. Print a line when bytes have arrived, and the status at the end."""
    url, file, folder, options = sys.argv[1:]
    given = json.loads(options)
    name = given.pop("protocol", "Tus")
    protocol = Tus(parallel=given.pop("parallel", 1)) if name == "Tus" else getattr(resumable, name)()
    up = upload_resumable(url, file, store=FileStore(folder), protocol=protocol, progress_interval=0, **given)
    has_moved = False

    def tell(item: object) -> None:
        nonlocal has_moved
        if not has_moved and isinstance(item, Progress) and item.sent > item.start:
            has_moved = True
            print("moving", flush=True)

    print(run(up.pipe(do_action(tell))).status_code, flush=True)


if __name__ == "__main__":
    main()
