"""`rxupload demo --resume` kills the process that uploads half way, and goes on in another one."""
# ruff: noqa: T201 - a command prints

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

import httpx
import reactivex
from reactivex import operators as ops
from reactivex.subject import BehaviorSubject

from rxupload import ItemProgress, Progress, UploadEvent, UploadTransport, run
from rxupload.resumable import FileStore, Outcome, upload_resumable

from .bars import choose_report
from .reports import Style
from .texts import amount, fail, sentence, status

LEAST = 1 << 20  # bytes: of a smaller file, one request has too much

_PROCESS = "from rxupload._cli.demo_resumable import upload_here; upload_here()"


@dataclass(slots=True)
class _Seen:
    """What a process has told: its number, how far it has come, and its last line."""

    process: int
    sent: int
    end: dict[str, Any]


def go_on_after_a_kill(url: str, path: Path, sha256: str, inbox: Path, state: Path) -> int:
    """Upload the file by two processes, and print the result. Return 0 if the received file has this SHA-256.

    Args:
        url: Of a receiver.
        path: Of the file.
        sha256: Of the file, in hex.
        inbox: Where the receiver stores files.
        state: The folder for the state of the upload.
    """
    size = path.stat().st_size
    first = _watch(url, path, state, size // 2)
    if first.end:
        return fail(f"process {first.process}: {first.end.get('error', 'it ended before it was half way')}")
    print(f"Process   {first.process} killed after {amount(first.sent)}")
    second = _watch(url, path, state, None)
    if "start" not in second.end:
        return fail(f"process {second.process}: {second.end.get('error', 'it ended without a response')}")
    start, sent = second.end["start"], second.end["sent"]
    print(f"Process   {second.process} went on at {amount(start)}, and sent {amount(sent)}")
    print(f"Response  {second.end['status']}")
    print(f"SHA-256   {sha256} sent")
    for file in inbox.iterdir():
        if not file.name.startswith("."):  # not one of the receiver's own
            with file.open("rb") as received:
                found = hashlib.file_digest(received, "sha256").hexdigest()
            print(f"          {found} received")
            if found == sha256:
                twice = max(first.sent, start) + sent - size
                print(f"OK        every byte has arrived, and {amount(twice)} were sent twice")
                return 0
    return fail("the receiver got other bytes than were sent")


def _watch(url: str, path: Path, state: Path, kill_at: int | None) -> _Seen:
    """Upload in another process, and show its progress. Kill it when so many bytes have arrived."""
    argv = [sys.executable, "-c", _PROCESS, url, str(path), str(state), str(kill_at or "")]
    # A Ctrl-C of the terminal is for this process alone, which then kills the other one.
    apart: Any = {"start_new_session": True}
    if sys.platform == "win32":
        apart = {"creationflags": subprocess.CREATE_NEW_PROCESS_GROUP}
    source: reactivex.Observable[UploadEvent] = reactivex.never()
    with (
        choose_report([str(path)], Style()) as report,
        subprocess.Popen(  # noqa: S603 - it is this program
            argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, **apart
        ) as process,
    ):
        seen = _Seen(process.pid, 0, {})
        try:
            assert process.stdout is not None
            for line in process.stdout:
                facts = json.loads(line)
                if "attempt" not in facts:
                    seen.end = facts
                    break
                progress = Progress(**facts)
                seen.sent = progress.sent
                report.show(ItemProgress(0, source, progress))
                if kill_at is not None and progress.sent >= kill_at:
                    break
        finally:
            process.kill()
            process.wait()
    return seen


def upload_here() -> None:
    """Upload as the arguments of this process say, and print each Progress and the end as a JSON line."""
    url, path, state, stop_at = sys.argv[1:]
    is_paused = BehaviorSubject(value=False)

    def show(event: UploadEvent) -> None:
        if isinstance(event, Progress):
            print(json.dumps(asdict(event)), flush=True)
            if stop_at and event.sent >= int(stop_at):
                is_paused.on_next(True)
                sys.stdin.read()  # it is killed here; or the other process has gone
                os._exit(1)

    # With a limit, no socket takes the second half of a small file at once.
    rate_limit = int(stop_at) if stop_at else None
    with httpx.Client(transport=UploadTransport(), timeout=60) as client:  # it ignores the proxy variables
        source = upload_resumable(
            f"{url}files",
            path,
            store=FileStore(state),
            rate_limit=rate_limit,
            pause=is_paused,
            client=client,
        )
        try:
            response = cast("httpx.Response", run(source.pipe(ops.do_action(show))))
        except Exception as error:  # noqa: BLE001 - the other process reports it
            print(json.dumps({"error": sentence(error)}), flush=True)
            return
    end: dict[str, object] = {"status": status(response)}
    outcome = response.extensions["rxupload"]["resumable"]
    if response.is_success and isinstance(outcome, Outcome):
        end |= {"start": outcome.resumed_at, "sent": outcome.sent_now}
    else:
        end["error"] = f"the receiver answered {status(response)}: {response.text[:1000]}"
    print(json.dumps(end), flush=True)
