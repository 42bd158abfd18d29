"""`RecordingObserver`: what it records, which faults it finds, and how its waits end."""

from __future__ import annotations

import threading

import httpx
import httpx2
import pytest
import reactivex
from reactivex import operators as ops
from support.scripted_server import PATIENCE

from rxupload import Progress, upload
from rxupload.testing import HandCrankedClient, RecordingObserver, ScriptedServer

URL = "http://example.org/"


def test_it_records_items_and_the_thread_in_order():
    """Items come in order, the function gets each of them, and the thread is known."""
    seen: list[int] = []
    observer: RecordingObserver[int] = RecordingObserver(seen.append)
    reactivex.of(1, 2, 3).subscribe(observer)
    assert observer.wait() is observer
    assert (observer.items, seen, observer.is_completed, observer.error) == ([1, 2, 3], [1, 2, 3], True, None)
    assert observer.threads == {threading.get_ident()}
    assert observer.ended


def test_it_has_the_progress_and_the_response_of_an_upload():
    """Of an upload it has the progress and the response apart."""
    observer = RecordingObserver()
    upload(URL, b"data", client=HandCrankedClient(201)).subscribe(observer)
    assert observer.wait().response.status_code == 201
    assert observer.items == [*observer.progress, observer.response]
    assert observer.progress[0] == Progress(0, observer.progress[-1].sent)


@pytest.mark.parametrize("library", [httpx, httpx2])
def test_it_has_the_response_of_every_client(library):
    """A response of httpx2 is one, too."""
    observer = RecordingObserver()
    with ScriptedServer(201) as server, library.Client() as client:
        upload(server.url, b"data", client=client).subscribe(observer)
        response = observer.wait().response
    assert isinstance(response, library.Response)
    assert (response.status_code, observer.items[-1]) == (201, response)


def test_a_response_that_did_not_come_is_an_assertion_with_the_error_as_cause():
    """Without a response, `response` says why: the error is the cause."""
    observer = RecordingObserver()
    error = ValueError("mine")
    reactivex.throw(error).subscribe(observer)
    assert observer.wait().error is error
    with pytest.raises(AssertionError, match="mine") as caught:
        observer.response  # noqa: B018
    assert caught.value.__cause__ is error
    for source in (reactivex.empty(), reactivex.of(1)):
        observer = RecordingObserver()
        source.subscribe(observer)
        with pytest.raises(AssertionError, match="no response"):
            observer.wait().response  # noqa: B018


def test_a_wait_ends_by_itself():
    """A wait for an end that does not come is an AssertionError with what has come."""
    observer = RecordingObserver()
    reactivex.never().pipe(ops.start_with("first")).subscribe(observer)
    with pytest.raises(AssertionError, match=r"within 0\.01 s, after \['first'\]"):
        observer.wait(timeout=0.01)


def test_without_a_subscription_it_asks_for_one():
    """What was told nothing at all was probably not subscribed. What has begun, and has not ended, has no error yet."""
    observer: RecordingObserver[int] = RecordingObserver()
    with pytest.raises(AssertionError) as caught:
        observer.response  # noqa: B018
    assert str(caught.value) == "It has not completed, and nothing has come: was it subscribed?"
    with pytest.raises(AssertionError, match=r"within 0 s, and nothing has come: was it subscribed\?$"):
        observer.wait(timeout=0)
    observer.on_next(1)
    with pytest.raises(AssertionError) as caught:
        observer.response  # noqa: B018
    assert str(caught.value) == "It has not completed, after [1]"


class OddError(Exception):
    """An item, or an error, whose repr raises."""

    def __repr__(self):
        raise ValueError


def test_its_messages_have_the_last_items_and_take_any():
    """A message has the last ten items and the number of those before. An item whose repr raises has its type."""
    observer = RecordingObserver()
    reactivex.concat(reactivex.range(100), reactivex.of(OddError()), reactivex.never()).subscribe(observer)
    with pytest.raises(
        AssertionError, match=r"after 91 items and \[91, 92, .* 99, <OddError instance at \w+>\]$"
    ):
        observer.wait(timeout=0.01)
    observer.on_error(OddError())
    with pytest.raises(AssertionError, match=r": <OddError instance at \w+>$"):
        observer.response  # noqa: B018
    observer = RecordingObserver()
    reactivex.of(OddError()).subscribe(observer)
    with pytest.raises(AssertionError, match=r"no response: \[<OddError instance at \w+>\]$"):
        observer.wait().response  # noqa: B018


def test_notifications_of_two_threads_that_overlap_are_a_fault():
    """An item that comes while another thread still brings one is a fault, and `wait` raises it."""
    entered, go_on = threading.Event(), threading.Event()

    def hold(item: str) -> None:
        if item == "first":
            entered.set()
            assert go_on.wait(PATIENCE)

    observer = RecordingObserver(hold)
    first = threading.Thread(target=observer.on_next, args=("first",))
    first.start()
    assert entered.wait(PATIENCE)
    second = threading.Thread(target=observer.on_next, args=("second",))
    second.start()
    reported = threading.Event()
    while not observer.faults:
        assert second.is_alive()
        reported.wait(0.001)
    go_on.set()
    first.join(PATIENCE)
    second.join(PATIENCE)
    observer.on_completed()
    assert observer.items == ["first", "second"]
    assert observer.faults == ["notifications overlap"]
    with pytest.raises(AssertionError, match="notifications overlap"):
        observer.wait()


def test_a_notification_within_another_is_a_fault_and_does_not_hang():
    """An item that comes while the same thread still brings one is a fault too."""
    observer = RecordingObserver(lambda item: observer.on_completed() if item == 1 else None)
    observer.on_next(1)
    assert observer.faults == ["a notification within another"]
    assert observer.is_completed


@pytest.mark.parametrize("late", ["on_next", "on_error", "on_completed"])
def test_a_notification_after_the_end_is_a_fault(late):
    """Whatever comes after the end is a fault."""
    observer = RecordingObserver()
    observer.on_completed()
    getattr(observer, late)(*([] if late == "on_completed" else [ValueError()]))
    assert observer.faults == ["a notification after the end"]
    with pytest.raises(AssertionError, match="after the end"):
        observer.wait()


def test_what_the_function_raises_reaches_the_source():
    """What the function raises reaches the source, and the upload ends with it."""

    def refuse(_: object) -> None:
        raise KeyError("mine")

    observer = RecordingObserver(refuse)
    upload(URL, b"data", client=HandCrankedClient(200)).subscribe(observer)
    assert isinstance(observer.wait().error, KeyError)
