"""Files that change while the protocols beside tus send them, in uploads that break or are killed: never a mixture."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support import google_server as google
from support import ietf_server as ietf
from support.changing_files import CHANGES, Change, ChangingFile, small_steps

from rxupload import SourceChanged
from rxupload.resumable import FileStore, GoogleResumable, IetfResumable, upload_resumable


@dataclass(frozen=True)
class Attempt:
    """An upload that breaks.

    Attributes:
        before: Bytes that the server reads before the file changes.
        change: How it changes.
        during: Bytes that the server reads after that.
        is_killed: Whether the process is killed then. Otherwise the connection breaks.
        after: How the file changes after that.
    """

    before: int
    change: Change | None
    during: int
    is_killed: bool
    after: list[Change]


COUNTS = st.integers(0, 60_000)
AWAY = st.builds(Change, st.sampled_from(["edit", "scribble", "regrow"]), COUNTS)
BACK = st.builds(Change, st.just("restore"), st.just(0)).map(lambda change: [change])
ATTEMPTS = st.builds(Attempt, COUNTS, AWAY, COUNTS, st.booleans(), BACK) | st.builds(
    Attempt, COUNTS, st.none() | CHANGES, COUNTS, st.booleans(), st.lists(CHANGES, max_size=2)
)
many = settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))


def check(
    support: Any, state: Any, method: str, url: str, folder: Path, attempts: Any, **options: Any
) -> bytes:
    """Upload as often as it takes, and return the file as it is at the end."""
    file = ChangingFile(folder)
    states, acting = folder / "state", threading.Lock()
    up = upload_resumable(url, file.path, store=FileStore(states), progress_interval=0, **options)
    for each in attempts:
        killed: dict[Path, bytes] = {}

        def answer(
            connection: Any, asked: Any, server: Any, each: Attempt = each, killed: Any = killed
        ) -> None:
            upload, size = server.only, int(asked.header("Content-Length"))
            with acting:
                came = support.take(connection, asked, upload, min(size, each.before))
                if each.change is not None:
                    file.change(each.change)
                support.take(connection, asked, upload, min(size - came, each.during))
                if each.is_killed:
                    killed.update((path, path.read_bytes()) for path in states.glob("*.json"))
            connection.reset()
            raise support.Gone

        state.answers.clear()
        state.then(method, answer)
        try:
            up.run()
        except (httpx.NetworkError, SourceChanged):
            with acting:  # a client that finds the file too short does not wait for the end of the script
                for path, data in killed.items():
                    path.write_bytes(data)
        else:
            break
        for change in each.after:
            file.change(change)
    else:
        state.answers.clear()
        up.run()
    return file.path.read_bytes()


@many
@given(attempts=st.lists(ATTEMPTS, max_size=3), chunk_size=st.sampled_from([None, google.CHUNK]))
def test_google_gets_one_file(tmp_path_factory, attempts, chunk_size):
    """What ends well is the file as it is, whole."""
    folder = tmp_path_factory.mktemp("google")
    with small_steps(google.CHUNK), google.google_server() as (state, server):
        options: dict[str, Any] = {"protocol": GoogleResumable(), "chunk_size": chunk_size}
        found = check(google, state, "PUT", google.endpoint(server), folder, attempts, **options)
        assert bytes(state.only.content) == found


@many
@given(
    attempts=st.lists(ATTEMPTS, max_size=3),
    chunk_size=st.sampled_from([None, 1 << 15, 50_000]),
    form=st.sampled_from([None, "photo"]),
)
def test_a_server_of_the_draft_gets_one_file(tmp_path_factory, attempts, chunk_size, form):
    """As it is, or in a form."""
    folder = tmp_path_factory.mktemp("ietf")
    with small_steps(), ietf.ietf_server() as (state, server):
        options: dict[str, Any] = {"protocol": IetfResumable(form=form), "chunk_size": chunk_size}
        found = check(ietf, state, "PATCH", f"{server.url}photos", folder, attempts, **options)
        arrived = bytes(state.only.content)
    assert arrived == found if form is None else found in arrived
