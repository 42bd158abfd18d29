"""tus 1.0.0: uploads that consist of partial uploads."""

from __future__ import annotations

import threading

import pytest
from support.forms import PATIENCE, has_ended
from support.tus import finished, hidden, named, patching

from rxupload.receiver import uploads

MIB4 = 2**22  # the receiver's limit


def parts(tus, *contents):
    return [tus.created(len(content), content, Upload_Concat="partial").path for content in contents]


@pytest.mark.parametrize("absolute", [False, True])
def test_partial_uploads_become_one_file(tus, inbox, absolute):
    """In the order of the list. Partial uploads are no files, and take no room afterwards."""
    first, second = parts(tus, b"01234", b"56789")
    assert finished(inbox) == {}
    assert tus.head(first).headers["Upload-Concat"] == "partial"
    urls = [str(tus.url.join(each)) if absolute else each for each in (second, first)]
    concat = f"final;{' '.join(urls)}"
    response = tus.post(Upload_Concat=concat, **named("beach.jpg"))

    assert response.status_code == 201
    head = tus.head(response.headers["Location"])
    assert head.headers["Upload-Concat"] == concat
    assert (head.headers["Upload-Offset"], head.headers["Upload-Length"]) == ("10", "10")
    assert finished(inbox) == {"beach.jpg": b"5678901234"}
    assert hidden(inbox, ".upload") == []
    assert tus.patch(response.headers["Location"], 10, b"x").status_code == 403


def test_a_concatenation_that_is_repeated_gives_the_same_upload(tus, inbox):
    """A client that missed the response sends it again, and there is one file."""
    concat = f"final;{' '.join(parts(tus, b'01234', b'56789'))}"
    first, second = (tus.post(Upload_Concat=concat) for _ in range(2))

    assert (first.status_code, second.status_code) == (201, 201)
    assert first.headers["Location"] == second.headers["Location"]
    assert finished(inbox) == {"upload": b"0123456789"}


def test_a_part_that_was_used_can_be_asked_for_and_not_be_used_again(tus):
    """Its bytes are in another upload."""
    first, second = parts(tus, b"01234", b"56789")
    tus.post(Upload_Concat=f"final;{first}")

    assert tus.offset(first) == 5
    assert tus.post(Upload_Concat=f"final;{first} {second}").status_code == 410


def test_a_part_may_be_used_twice_in_one_upload(tus, inbox):
    """As the protocol allows."""
    (part,) = parts(tus, b"ab")

    assert tus.post(Upload_Concat=f"final;{part} {part}").status_code == 201
    assert finished(inbox) == {"upload": b"abab"}


def test_a_concatenation_of_what_is_not_whole_or_not_partial_is_refused(tus, inbox):
    """The partial uploads stay as they are."""
    (whole,) = parts(tus, b"01234")
    unfinished = tus.created(5, b"0", Upload_Concat="partial").path
    ordinary = tus.created(5, b"0").path

    for other in (unfinished, ordinary):
        assert tus.post(Upload_Concat=f"final;{whole} {other}").status_code == 400
    assert tus.post(Upload_Concat=f"final;{whole}", Upload_Length=5).status_code == 400
    assert tus.post(Upload_Concat=f"final;{whole} /files/{'A' * 43}").status_code == 404
    assert finished(inbox) == {}
    assert tus.offset(whole) == 5


def test_a_concatenation_keeps_to_the_limit(tus, inbox):
    """The sum counts."""
    urls = parts(tus, bytes(MIB4 // 2), bytes(MIB4 // 2), b"x")

    assert tus.post(Upload_Concat=f"final;{' '.join(urls)}").status_code == 413
    assert finished(inbox) == {}


def test_a_new_request_ends_a_concatenation(tus, inbox, monkeypatch):
    """However long the copying takes. The partial uploads are as they were."""
    part = tus.created(5, b"01234", Upload_Concat="partial")
    is_copying, is_ended = threading.Event(), threading.Event()
    write_all = uploads.write_all

    def write_slowly(stream, data):
        is_copying.set()
        assert is_ended.wait(PATIENCE)
        write_all(stream, data)

    monkeypatch.setattr(uploads, "write_all", write_slowly)
    with patching(tus.endpoint, 0, 0, method="POST", Upload_Concat=f"final;{part.path}") as sock:
        assert is_copying.wait(PATIENCE)
        watcher = threading.Thread(target=lambda: has_ended(sock) and is_ended.set())
        watcher.start()
        assert tus.offset(part) == 5
        watcher.join()

    assert finished(inbox) == {}
    assert len(hidden(inbox)) == 2
