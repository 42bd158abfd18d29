"""Uploads a file with a FileStore, until it is killed: `python -m support.uploading_process URL FILE FOLDER JSON`.

With `is_paused` in the JSON, no byte of the file goes before the end of its input.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

from reactivex.operators import do_action
from reactivex.subject import BehaviorSubject

from rxupload import Progress, resumable, run
from rxupload.resumable import FileStore, Tus, upload_resumable


@contextlib.contextmanager
def uploading(url: str, file: Path, folder: Path, **options: object) -> Iterator[subprocess.Popen[str]]:
    """Such a process."""
    argv = [
        sys.executable,
        "-m",
        "support.uploading_process",
        url,
        str(file),
        str(folder),
        json.dumps(options),
    ]
    tests = Path(__file__).parents[1]
    with subprocess.Popen(argv, cwd=tests, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def main() -> None:
    """Upload. Print a line when bytes have arrived, and the status at the end."""
    url, file, folder, options = sys.argv[1:]
    given = json.loads(options)
    name = given.pop("protocol", "Tus")
    protocol = Tus(parallel=given.pop("parallel", 1)) if name == "Tus" else getattr(resumable, name)()
    if given.pop("is_paused", False):
        given["pause"] = pause = BehaviorSubject(value=True)
        threading.Thread(target=lambda: (sys.stdin.read(), pause.on_next(False)), daemon=True).start()
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
