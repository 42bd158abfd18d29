"""`HandCrankedClient`: answers in place, steps of the test, and what ends a request."""

from __future__ import annotations

import asyncio

import httpx
import httpx2
import pytest
import reactivex
from reactivex.scheduler import ImmediateScheduler
from reactivex.testing import TestScheduler
from support.recording_observer import observe
from support.threads import no_thread_left

import rxupload
from rxupload import upload, upload_all
from rxupload.operators import raise_for_status, retry_backoff
from rxupload.testing import HandCrankedClient, RecordingObserver
from rxupload.uploadtask import uploadFile

URL = "http://example.org/"


async def asynchronous(_: object) -> None:
    """Stand for what would never be awaited."""


class TestAnswers:
    def test_answers_are_given_in_order_in_virtual_time(self):
        """In virtual time an exception is raised, a status answers, and each attempt comes when it is due."""
        client = HandCrankedClient(httpx.ConnectError("refused"), 503, 201)
        scheduler, times = TestScheduler(), []

        def note(retry) -> None:
            times.append((scheduler.clock, type(retry.error).__name__))

        observed: RecordingObserver = RecordingObserver()
        source = upload(URL, b"data", client=client).pipe(
            retry_backoff(wait_initial=10, wait_jitter=0, on_retry=note)
        )
        source.subscribe(observed, scheduler=scheduler)
        assert client.requests == []
        scheduler.advance_to(5)
        assert len(client.requests) == 1
        scheduler.advance_to(100)
        assert observed.wait().response.status_code == 201
        assert [name for _, name in times] == ["ConnectError", "HTTPStatusError"]
        assert times[1][0] - times[0][0] == 10
        assert len(client.requests) == 3

    def test_a_script_may_let_virtual_time_pass(self):
        """A function as an answer may advance the virtual clock, as a slow server does."""
        scheduler = TestScheduler()

        def slow(request: httpx.Request) -> httpx.Response:
            body = b"".join(request.stream)
            scheduler.sleep(30)
            return httpx.Response(200, request=request, content=body[:2])

        observed, _ = observe(upload(URL, b"data", client=HandCrankedClient(slow)), scheduler=scheduler)
        scheduler.start()
        assert observed.response.content == b"--"
        assert scheduler.clock >= 30

    def test_a_request_too_many_is_an_error_that_is_not_tried_again(self):
        """A request more than there are answers fails with AssertionError, which `retry_backoff` passes on."""
        client = HandCrankedClient(503)
        with pytest.raises(AssertionError, match="Request 2 came, and HandCrankedClient has 1"):
            rxupload.run(
                upload(URL, b"data", client=client).pipe(retry_backoff(wait_initial=0.01, wait_jitter=0))
            )

    def test_an_exception_has_its_request(self):
        """An httpx error has the request, as a client's own errors have."""
        client = HandCrankedClient(httpx.ReadError("reset"))
        with pytest.raises(httpx.ReadError) as caught:
            upload(URL, b"data", client=client).run()
        assert caught.value.request is client.requests[0]

    @pytest.mark.parametrize("library", [httpx, httpx2])
    def test_a_response_of_a_function_gets_its_request(self, library):
        """A function need not give the request to the response, as with httpx's own transport for tests."""
        client = HandCrankedClient(lambda request: library.Response(418, content=iter([b"a", b"b"])))
        with pytest.raises(library.HTTPStatusError) as caught:
            upload(URL, b"data", client=client).pipe(raise_for_status()).run()
        assert caught.value.response.text == "ab"
        assert caught.value.request is client.requests[0]

    @pytest.mark.parametrize("answer", [200, None, "200"])
    def test_a_function_that_returns_no_response_is_told_so(self, answer):
        """The error names the argument, and what the function returned."""
        client = HandCrankedClient(lambda request: answer)
        with pytest.raises(TypeError, match=f"answers: the function returned {type(answer).__name__}"):
            upload(URL, b"data", client=client).run()

    @pytest.mark.parametrize(
        ("answers", "error", "text"),
        [
            ((asynchronous,), TypeError, "answers: an asynchronous function"),
            (("200",), TypeError, "answers: .* got str"),
            ((False,), TypeError, "answers: .* got bool"),
            ((httpx.ReadError,), TypeError, "answers: got the class ReadError: give an instance"),
            ((199,), ValueError, "answers: .* got 199"),
        ],
    )
    def test_wrong_answers_are_refused(self, answers, error, text):
        """Wrong answers are refused when the client is made."""
        with pytest.raises(error, match=text):
            HandCrankedClient(*answers)

    def test_a_client_with_answers_has_no_steps(self):
        """`next_request` says at once that there is nothing to wait for."""
        with pytest.raises(AssertionError, match="make one without"):
            HandCrankedClient(200).next_request()

    def test_batches_tasks_and_coroutines_take_it(self, tmp_path):
        """A batch, a task with callbacks and a coroutine take the client as an upload does."""
        client = HandCrankedClient(200, 201, 202, 203)
        summary = rxupload.run(upload_all(upload(URL, b"data", client=client) for _ in range(2)))
        assert summary.done == 2
        codes = []
        path = tmp_path / "data"
        path.write_bytes(b"data")
        task = uploadFile(
            url=URL,
            filePath=str(path),
            name="file",
            client=client,
            success=lambda res: codes.append(res["statusCode"]),
        )
        task.result(10)

        async def awaited() -> int:
            return (await upload(URL, b"data", client=client)).status_code

        assert asyncio.run(awaited()) == 203
        assert codes == [202]


class TestSteps:
    def test_a_piece_counts_as_sent_when_the_next_one_is_taken(self):
        """The test takes the body piece by piece, and the progress follows, one piece behind."""
        client = HandCrankedClient()
        with no_thread_left():
            observed, _ = observe(upload(URL, bytes(5 << 20), client=client, progress_interval=0))
            exchange = client.next_request()
            assert client.no_request()
            first = exchange.take()
            exchange.take()
            assert observed.progress[-1].sent == len(first)
            rest = exchange.take_all()
            assert exchange.take() is None
            exchange.respond(201, json={"id": 1})
            assert observed.wait().response.json() == {"id": 1}
            assert observed.progress[-1].percent == 100
            assert len(rest) < 5 << 20
            assert exchange.end() is exchange.end()

    def test_a_step_after_the_end_says_so(self):
        """A step after the response is an AssertionError; after an error it is that error, each time."""
        client = HandCrankedClient()
        observed, _ = observe(upload(URL, b"data", client=client))
        exchange = client.next_request()
        exchange.respond(200)
        observed.wait()
        for _ in range(2):
            with pytest.raises(AssertionError, match="has its response already"):
                exchange.take()
        observed, _ = observe(upload(URL, b"data", client=client))
        exchange = client.next_request()
        error = httpx.ReadError("reset")
        exchange.fail(error)
        assert observed.wait().error is error
        assert exchange.end() is error
        for _ in range(2):
            with pytest.raises(httpx.ReadError, match="reset"):
                exchange.take()

    def test_a_dispose_ends_the_request(self):
        """A dispose ends the request that the test holds."""
        client = HandCrankedClient()
        with no_thread_left():
            observed, subscription = observe(upload(URL, b"data", client=client))
            exchange = client.next_request()
            subscription.dispose()
            assert isinstance(exchange.end(), BaseException)
            assert not observed.ended

    def test_waits_end_by_themselves(self):
        """A wait for a request, and one for its end, are AssertionErrors when their time is over."""
        client = HandCrankedClient()
        with pytest.raises(AssertionError, match=r"within 0\.01 s"):
            client.next_request(timeout=0.01)
        _, subscription = observe(upload(URL, b"data", client=client))
        exchange = client.next_request()
        with pytest.raises(AssertionError, match=r"has not ended within 0\.01 s"):
            exchange.end(timeout=0.01)
        subscription.dispose()
        exchange.end()

    def test_a_request_that_is_left_ends_by_itself(self, monkeypatch):
        """A request that the test leaves fails after some time, so that virtual time without answers does not hang."""
        monkeypatch.setattr("rxupload.testing.client._LEFT", 0.05)
        source = upload(URL, b"data", client=HandCrankedClient())
        with pytest.raises(AssertionError, match=r"give the answers to HandCrankedClient\(\.\.\.\)"):
            source.run(ImmediateScheduler())

    def test_uploads_at_the_same_time_are_told_apart(self):
        """Each upload has a request of its own, which the test answers in any order."""
        client = HandCrankedClient()
        source = reactivex.merge(*(upload(f"{URL}{each}", b"data", client=client) for each in range(3)))
        observed, _ = observe(source)
        exchanges = sorted((client.next_request() for _ in range(3)), key=lambda each: str(each.request.url))
        for number, exchange in reversed(list(enumerate(exchanges))):
            exchange.respond(200 + number)
            exchange.end()
        responses = [item for item in observed.wait().items if isinstance(item, httpx.Response)]
        assert sorted(each.status_code for each in responses) == [200, 201, 202]
        assert len(client.requests) == 3
